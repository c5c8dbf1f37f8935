"""Masks as they come back from a tool, in the label values of the data set."""

from __future__ import annotations

import difflib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from getam.data.class_names import clean_name, counted
from getam.data.label_values import BACKGROUND, IGNORE
from getam.errors import UserError
from getam.exchange.archive import is_note
from getam.exchange.batch import BACKGROUND_NAME, IGNORED_NAME

_MEANINGS = {BACKGROUND_NAME: BACKGROUND, IGNORED_NAME: IGNORE, "ignore": IGNORE}


class Drawn(NamedTuple):
    """A photo in a tool's file: its name there, and its mask (H, W) uint8; None: not annotated.

    ``where`` is the file that messages name.
    """

    name: str
    labels: np.ndarray | None
    where: Path


class Names:
    """Class names of a tool's file as label values of the data set. Tools number classes anew.

    Args:
        classes: those of the data set, by their values 1..C.
        renamed: name in the tool's file -> name in the data set.

    Raises:
        UserError: ``renamed`` leads to a class that is not there.
    """

    def __init__(self, classes: Sequence[str], renamed: Mapping[str, str]) -> None:
        self.classes = classes
        self.values = {**_MEANINGS, **{name: v for v, name in enumerate(classes, start=1)}}
        self.unknown: Counter[str] = Counter()
        # All of them first: --rename a=b does not change what --rename c=a means.
        found = {new: self._known(clean_name(new)) for new in renamed.values()}
        for old, new in renamed.items():
            value = found[new]
            if value is None:
                raise UserError(
                    f"--rename {old}={new}: the data set has no class {new!r}. Known are "
                    f"{', '.join(classes)}, background and ignored."
                )
            self.values[clean_name(old)] = value

    def value(self, name: str) -> int:
        """The value of a class; an unknown name is kept for ``check`` and gets 255."""
        found = self.find(name)
        if found is None:
            self.unknown[name] += 1
            return IGNORE
        return found

    def find(self, name: str) -> int | None:
        """The value of a class; None: an unknown name."""
        return self._known(clean_name(name))

    def _known(self, name: str) -> int | None:
        return self.values.get(name, _MEANINGS.get(name.casefold()))

    def check(self, file: Path) -> None:
        """Refuse what had unknown names.

        Raises:
            UserError: there were some.
        """
        if not self.unknown:
            return
        name = next(iter(self.unknown))
        near = difflib.get_close_matches(name, self.classes, n=1, cutoff=0) or [self.classes[0]]
        renamed = shlex.quote(f"{name}={near[0]}")
        raise UserError(
            f"{file}: got shapes of the unknown classes {', '.join(map(repr, self.unknown))}; the "
            f"classes of the data set are {', '.join(self.classes)}. If a class has another name "
            f"in the tool, say so: --rename {renamed} (background and ignored are "
            f"possible as well)."
        )


class Canvas:
    """Shapes drawn over each other: where two overlap, the later one counts."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.labels = np.zeros(size, np.uint8)
        self._drawn = np.zeros(size, bool)
        self.overlaps = False
        self.unseen = 0

    def draw(self, shape: np.ndarray, value: int) -> None:
        """Give the pixels of a shape (H, W) bool a value."""
        self.unseen += not shape.any()
        before = self.labels[shape & self._drawn]
        self.overlaps = self.overlaps or bool((before != value).any())
        self.labels[shape] = value
        self._drawn |= shape


class Reading:
    """What a reader needs, and what it counts for the notes at the end.

    Args:
        wanted: whether a photo of this name in the tool's file is imported. A reader passes over
            the others, whatever is drawn in them.

    Attributes:
        sampled: names of photos that the tool's file says were drawn at random, wanted or not.
        unread: files of masks that a reader passes over.
        shaped, bare: photos that someone has submitted, with a shape and without any.
        unseen: shapes that cover no pixel.
    """

    def __init__(self, names: Names, wanted: Callable[[str], bool] = lambda name: True) -> None:
        self.names, self.wanted = names, wanted
        self.overlaps = self.several = self.parts = self.shaped = self.bare = self.unseen = 0
        self.sampled: list[str] = []
        self.unread: list[Path] = []

    def notes(self) -> list[str]:
        notes = []
        if self.overlaps:
            notes.append(
                f"{counted(self.overlaps, 'photo has', 'photos have')} shapes of different classes "
                f"that overlap: the shape that was drawn last counts there."
            )
        if self.several:
            notes.append(
                f"{counted(self.several, 'photo has', 'photos have')} several annotations: the one "
                f"that was changed last counts."
            )
        if self.parts:
            notes.append(
                f"{counted(self.parts, 'part of a polygon is', 'parts of polygons are')} left out: "
                f"expected x and y of three points or more, with no number missing. Draw these "
                f"shapes again if pixels are missing."
            )
        if self.unseen:
            notes.append(
                f"{counted(self.unseen, 'shape covers', 'shapes cover')} no pixel: too small, or "
                f"outside of the photo. Draw them again if something is missing."
            )
        if self.unread:
            notes.append(
                f"{counted(len(self.unread), 'file is', 'files are')} not read, {self.unread[0]} "
                f"first: expected masks that end in .png. If it is a mask that you edited, save "
                f"it as PNG."
            )
        return notes


def files_in(place: Path, *suffixes: str) -> Iterator[Path]:
    """The files with one of these suffixes in a folder and below it, in the order of their names.

    Without a suffix: all files. Notes of systems are passed over.
    """
    for file in sorted(place.rglob("*")):
        fits = not suffixes or file.suffix.lower() in suffixes
        if fits and not is_note(file.relative_to(place).parts) and file.is_file():
            yield file


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: this is no JSON file ({error}). Export it from the tool again."
        ) from None
