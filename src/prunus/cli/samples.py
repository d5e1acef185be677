"""What --data names on the command line: a dataset of the zoo, or a folder."""

from typing import TYPE_CHECKING

# torch is imported where it is needed, so that --help comes at once.
if TYPE_CHECKING:
    from prunus.training import Data
    from prunus.types import Example


def check(data: str) -> None:
    """Refuse what is no dataset, before anything takes long.

    Raises:
        ValueError: There is no such dataset.
    """
    from prunus import zoo

    zoo.check_dataset(data)


def read(data: str, example: "Example", batch_size: int) -> "Data":
    """Read a dataset; images of a folder as large as those of the example.

    Raises:
        DataError: Files are missing or damaged.
    """
    from torch import Tensor

    from prunus import zoo

    side = None
    if data.startswith("folder:") and isinstance(example, Tensor) and example.ndim == 4:
        side = example.shape[-1]
    return zoo.dataset(data, batch_size=batch_size, image_size=side)
