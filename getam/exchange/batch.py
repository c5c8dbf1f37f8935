"""Photos and their labels on the way to an annotation tool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from getam.cache import atomic_write_bytes
from getam.data.corrections import SAMPLE
from getam.data.index import Record
from getam.data.label_values import IGNORE
from getam.data.palette import class_colour
from getam.errors import UserError

BACKGROUND_NAME, IGNORED_NAME = "background", "ignored"


class Labelled(NamedTuple):
    """A photo, and what reads its labels: (H, W) uint8, 0 background, class ids, 255 ignore."""

    record: Record
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Batch:
    """What is exported.

    ``classes`` are the names of the class ids 1..C. ``told`` says in words which labels these are.
    ``sample`` are the ids of photos that were drawn at random, in the order of the draw.
    ``with_photos`` says whether a folder gets copies of the photos. ``track`` shows progress.
    """

    classes: tuple[str, ...]
    photos: Sequence[Labelled]
    told: str
    sample: tuple[str, ...] = ()
    with_photos: bool = True
    track: Callable[..., Iterator[Any]] = iter

    def tracked(self) -> Iterator[Labelled]:
        return self.track(self.photos)

    def check_sample(self, folder: Path) -> None:
        """Whether ``write_sample`` may write into this folder.

        Raises:
            UserError: the folder has the list of another sample.
        """
        file = folder / SAMPLE
        if self.sample and file.exists() and file.read_bytes() != self._list():
            raise UserError(
                f"{file}: this file has the list of another sample, and only that list says which "
                f"photos it was. Choose another place with -o, or move the file."
            )

    def write_sample(self, folder: Path) -> None:
        """Write ``sample.txt``, one id a line; nothing if the photos were not drawn at random.

        It is written before the masks: an export that is interrupted has none that seem to teach.
        """
        if self.sample:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(folder / SAMPLE, self._list())

    def _list(self) -> bytes:
        return "".join(f"{image_id}\n" for image_id in self.sample).encode()


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """A colour as tools write it.

    >>> hexadecimal((128, 0, 255))
    '#8000ff'
    """
    return "#" + bytes(colour).hex()


def colours(classes: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Name -> colour (R, G, B) of VOC's palette: background, the classes, ignored.

    >>> colours(["cat"])
    {'background': (0, 0, 0), 'cat': (128, 0, 0), 'ignored': (224, 224, 192)}
    """
    named = {name: class_colour(value) for value, name in enumerate((BACKGROUND_NAME, *classes))}
    return {**named, IGNORED_NAME: class_colour(IGNORE)}
