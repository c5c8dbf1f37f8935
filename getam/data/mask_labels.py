"""Masks against image-level labels: photos where the two contradict each other, and a likely cause.

A mask contradicts the labels of its photo if it shows a class that is not labelled, or none of the
labelled ones. Labels that lack a class are usual in a few photos; masks whose values do not mean
what the class ids mean contradict the labels of nearly all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from getam.data.label_values import BACKGROUND, IGNORE

if TYPE_CHECKING:
    import numpy as np

    from getam.data.index import Record

MOST = 0.9  # of the photos must agree with a cause for it to be named


class Photo(NamedTuple):
    """What is labelled in a photo, and the values of its mask."""

    labels: frozenset[int]
    values: frozenset[int]

    @property
    def shown(self) -> frozenset[int]:
        """The classes in the mask."""
        return self.values - {BACKGROUND, IGNORE}

    @property
    def shows_other(self) -> bool:
        return bool(self.shown - self.labels)

    @property
    def shows_none(self) -> bool:
        """None of the classes that are labelled."""
        return bool(self.labels) and not self.shown & self.labels


class MaskLabels:
    """The masks of some photos against their labels; unlabelled photos do not count.

    >>> found = MaskLabels()
    >>> found.photos = {"a": Photo(frozenset({1}), frozenset({0, 2}))}
    >>> found.sentence("train", ("cat", "dog")).split(".")[0]
    'train: the masks of 1 of 1 photos contradict their labels'
    """

    def __init__(self) -> None:
        self.photos: dict[str, Photo] = {}

    def add(self, record: Record, values: Collection[int]) -> None:
        """Count a photo with the values that its mask has; a second time changes nothing."""
        if record.labels is not None:
            self.photos[record.id] = Photo(frozenset(record.labels), frozenset(values))

    def __add__(self, other: MaskLabels) -> MaskLabels:
        """The photos of both, for instance of two processes."""
        total = MaskLabels()
        total.photos = self.photos | other.photos
        return total

    def contradicting(self) -> dict[str, Photo]:
        """The photos whose masks contradict their labels."""
        return {i: p for i, p in self.photos.items() if p.shows_other or p.shows_none}

    def is_systematic(self, classes: Sequence[str]) -> bool:
        """Whether the masks mean something else, rather than a few labels being incomplete."""
        return bool(self.contradicting()) and self._cause(classes) is not None

    def sentence(self, split: str, classes: Sequence[str]) -> str | None:
        """How many photos contradict their masks, an example and the likely cause; None: none."""
        wrong = self.contradicting()
        if not wrong:
            return None
        first, photo = next(iter(wrong.items()))
        others = sum(photo.shows_other for photo in wrong.values())
        none = sum(photo.shows_none for photo in wrong.values())
        cause = self._cause(classes) or (
            "Either these labels lack classes that are in the photos, or the masks are those of "
            "other photos."
        )
        return (
            f"{split}: the masks of {len(wrong)} of {len(self.photos)} photos contradict their "
            f"labels. {others} show a class that is not labelled, {none} show none of the labelled "
            f"classes; {first!r} first: labelled {_named(photo.labels, classes)}, the mask shows "
            f"{_named(photo.shown, classes)}. {cause}"
        )

    def _cause(self, classes: Sequence[str]) -> str | None:
        """What the values of the masks seem to mean, if nearly all photos agree."""
        values = frozenset().union(*(photo.values for photo in self.photos.values()))
        if values <= {BACKGROUND, IGNORE}:
            return (
                f"The masks hold nothing but {' and '.join(map(str, sorted(values)))}. 0 means "
                f"background and 255 ignore: write the id of the class (1 to {len(classes)}) where "
                f"an object is."
            )
        if self._all_as(lambda labels: {label - 1 for label in labels} - {BACKGROUND}):
            return (
                "The class ids in the masks seem to count from 0. Count from 1, as 0 is the "
                "background: add 1 to each class id."
            )
        if self._all_as(lambda labels: {1} | {label + 1 for label in labels}):
            return (
                "The background of the masks seems to be 1. It is 0, and the classes count from "
                "1: subtract 1 from each value."
            )
        labelled = frozenset().union(*(photo.labels for photo in self.photos.values()))
        if labelled > {1} and self._all_as(lambda labels: {1}):
            return (
                "The masks seem to tell object (1) from background (0) alone: write the id of the "
                f"class (1 to {len(classes)}) where an object is."
            )
        return self._permutation(classes)

    def _all_as(self, expected: Callable[[frozenset[int]], set[int | None]]) -> bool:
        """Whether nearly all labelled photos show ``expected(labels)``, and some show a class."""
        photos = [photo for photo in self.photos.values() if photo.labels]
        agree = [photo for photo in photos if photo.shown == expected(photo.labels)]
        return len(agree) >= MOST * len(photos) and any(photo.shown for photo in agree)

    def _permutation(self, classes: Sequence[str]) -> str | None:
        """Each class stands under another's id."""
        votes: dict[int, Counter[int]] = {}
        for photo in self.photos.values():
            for label in photo.labels:
                counts = votes.setdefault(label, Counter())
                for value in photo.shown:
                    counts[value] += 1 / len(photo.labels)
        of = {label: max(c, key=c.get) for label, c in sorted(votes.items()) if c}
        moved = {label: value for label, value in of.items() if label != value}
        if not moved or len(set(of.values())) < len(of):
            return None
        if not self._all_as(lambda labels: {of.get(label) for label in labels}):
            return None
        pairs = [f"{classes[label - 1]} has {value}" for label, value in [*moved.items()][:5]]
        listed = [f"{classes[label - 1]} is {label}" for label in [*moved][:5]]
        return (
            f"The masks seem to have other ids: in them {', '.join(pairs)}, but by the order of "
            f"the classes {', '.join(listed)}. List the classes in classes.txt in the order of the "
            f"ids in the masks."
        )


def values_of(mask: np.ndarray) -> list[int]:
    """The values that a mask (H, W) uint8 has."""
    import numpy as np

    return np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()


def _named(ids: Collection[int], classes: Sequence[str]) -> str:
    return " and ".join(classes[class_id - 1] for class_id in sorted(ids)) or "nothing"
