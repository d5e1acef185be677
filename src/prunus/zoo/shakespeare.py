"""Shakespeare's plays, character by character, whole or by speaking role."""

import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from prunus.errors import DataError
from prunus.zoo.tokens import TokenStream, numbered

Role = tuple[str, str]
"""The play's file without its suffix, and the name before a speech."""

_STEPS = 80  # characters of a window, as in LEAF
_TEST = 0.1  # the last share of every role's words


def shakespeare(folder: Path, *, batch_size: int, seed: int, augment: bool) -> TokenStream:
    """Read `folder/shakespeare.zip`: everything that is spoken, role after role.

    The last tenth of every role is for testing; `seed` and `augment` play no part.

    Raises:
        DataError: The file is missing or damaged.
    """
    speeches = read_roles(folder)
    characters, parts = _numbered(speeches)
    train, test = (torch.cat([part[k] for part in parts.values()]) for k in (0, 1))
    return TokenStream(
        "shakespeare",
        {"train": train, "test": test},
        len(characters),
        batch_size=batch_size,
        steps=_STEPS,
    )


def roles(folder: Path, *, batch_size: int, seed: int, least: int = 2000) -> dict[str, TokenStream]:
    """Return one stream per speaking role that has so many characters or more.

    A role trains on the first nine tenths of its words and is tested on the rest.

    Source: Caldas et al., "LEAF", 2018, arXiv:1812.01097, section 3.

    Raises:
        DataError: The file is missing or damaged.
    """
    speeches = read_roles(folder)
    characters, parts = _numbered(speeches)
    return {
        "/".join(role): TokenStream(
            f"shakespeare {'/'.join(role)}",
            {"train": train, "test": test},
            len(characters),
            batch_size=batch_size,
            steps=_STEPS,
        )
        for role, (train, test) in parts.items()
        if len(train) + len(test) >= least
    }


def read_roles(folder: Path) -> dict[Role, str]:
    """Return what each role says, line by line, without stage directions.

    Raises:
        DataError: The file is missing or damaged.
    """
    path = folder / "shakespeare.zip"
    try:
        with ZipFile(path) as archive:
            plays = {name: archive.read(name).decode() for name in sorted(archive.namelist())}
    except (OSError, BadZipFile, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path} ({error}); restore the file, or remove its folder."
        ) from error
    speeches: dict[Role, list[str]] = {}
    for name, text in plays.items():
        who = ""
        _, _, acts = text.partition("\nACT I\n")
        for line in re.sub(r"\[[^\]]*\]", "", acts).splitlines():
            head, tab, said = line.partition("\t")
            if head:
                who = head if tab and not head.startswith(("ACT", "SCENE")) else ""
            if who and said.strip():
                role = (name.removesuffix(".txt"), who)
                speeches.setdefault(role, []).append(said.strip())
    return {role: "\n".join(lines) + "\n" for role, lines in speeches.items()}


def _numbered(speeches: dict[Role, str]) -> tuple[list[str], dict[Role, tuple[Tensor, Tensor]]]:
    """Return the characters, and of each role those to train on and those to test on."""
    characters = ["\n", *sorted(set().union(*speeches.values()) - {"\n"})]
    parts = {}
    for role, text in speeches.items():
        numbers = numbered(text, characters)
        cut = len(numbers) - int(_TEST * len(numbers))
        parts[role] = (numbers[:cut], numbers[cut:])
    return characters, parts
