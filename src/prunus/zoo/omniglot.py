"""Omniglot: handwritten characters of many alphabets, whole, by alphabet or by writer."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from prunus.errors import DataError
from prunus.training import ArrayData

_SIDE = 28  # pixels, from 105
_TEST_DRAWERS = (17, 18, 19, 20)


@dataclass(frozen=True)
class Drawings:
    """All drawings, in order of alphabet, character and drawer.

    Args:
        images: uint8 (count, 1, 28, 28), ink is 255.
        labels: int64 (count,): the character, counted over all alphabets.
        alphabets: Of each drawing.
        drawers: From 1 to 20, of each drawing; each alphabet has its own twenty people.
    """

    images: Tensor
    labels: Tensor
    alphabets: tuple[str, ...]
    drawers: tuple[int, ...]

    def some(self, chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Return the images and labels at these places."""
        return self.images[chosen], self.labels[chosen]


def omniglot(folder: Path, *, batch_size: int, seed: int, augment: bool) -> ArrayData:
    """Read `folder/images_background_small{1,2}.zip`: which of 242 characters of eight alphabets?

    Of each character's 20 drawings the last four are for testing. `augment` plays no part.

    Source: Lake, Salakhutdinov and Tenenbaum, Science 2015.

    Raises:
        DataError: A file is missing or damaged.
    """
    drawings = read_drawings(folder)
    train = [k for k, drawer in enumerate(drawings.drawers) if drawer not in _TEST_DRAWERS]
    return _data(drawings, "omniglot", train, batch_size, seed)


def clients(
    folder: Path, *, by: Literal["alphabet", "writer"], batch_size: int, seed: int
) -> dict[str, ArrayData]:
    """Return the training drawings of each alphabet, or of each person, with all classes.

    All of them share the test drawings of `omniglot`.

    Raises:
        DataError: A file is missing or damaged.
    """
    drawings = read_drawings(folder)
    members: dict[str, list[int]] = {}
    for k, (alphabet, drawer) in enumerate(zip(drawings.alphabets, drawings.drawers, strict=True)):
        if drawer not in _TEST_DRAWERS:
            client = alphabet if by == "alphabet" else f"{alphabet}/{drawer:02}"
            members.setdefault(client, []).append(k)
    return {
        client: _data(drawings, f"omniglot {client}", chosen, batch_size, seed)
        for client, chosen in members.items()
    }


def read_drawings(folder: Path) -> Drawings:
    """Read both archives; characters that lie in both are taken once.

    Raises:
        DataError: A file is missing or damaged.
    """
    found: dict[tuple[str, str, int], Tensor] = {}
    for part in (1, 2):
        path = folder / f"images_background_small{part}.zip"
        try:
            with ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".png"):
                        _, alphabet, character, file = name.split("/")
                        key = (alphabet, character, int(file[-6:-4]))
                        if key not in found:
                            found[key] = _image(archive.read(name))
        except (OSError, BadZipFile, UnidentifiedImageError, ValueError) as error:
            raise DataError(
                f"cannot read {path} ({error}); restore the file, or remove its folder."
            ) from error
    keys = sorted(found)
    characters = {key: k for k, key in enumerate(dict.fromkeys(key[:2] for key in keys))}
    return Drawings(
        torch.stack([found[key] for key in keys]).unsqueeze(1),
        torch.tensor([characters[key[:2]] for key in keys]),
        tuple(key[0] for key in keys),
        tuple(key[2] for key in keys),
    )


def _image(data: bytes) -> Tensor:
    """Return uint8 (28, 28), ink 255 on 0."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return 255 - torch.from_numpy(np.array(small))


def _data(drawings: Drawings, name: str, train: list[int], batch_size: int, seed: int) -> ArrayData:
    test = [k for k, drawer in enumerate(drawings.drawers) if drawer in _TEST_DRAWERS]
    return ArrayData(
        *(name, drawings.some(train), drawings.some(test), int(drawings.labels.max()) + 1),
        mean=(0.0807,),
        std=(0.2362,),
        batch_size=batch_size,
        seed=seed,
    )
