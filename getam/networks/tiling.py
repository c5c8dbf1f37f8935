"""Labels photos of any size, in memory that does not grow with the number of classes.

A photo that is larger than a tile is cut into overlapping tiles, and the middle of each tile is
kept. A tile is reduced to ``WORKING`` pixels before the network and the dense CRF get it. Its
probabilities have the size of the network's input until they are enlarged, one class at a time.

The module imports neither networks nor torch, because processes that only label import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

from getam.data.resizing import Second, enlarged, enlarged_argmax, reduced
from getam.labels.crf import dense_crf
from getam.labels.own_classes import as_present, own_shares

WORKING = 1024  # pixels of the long side; larger than the input of these networks
OVERLAP = 1 / 4  # least overlap of two neighbouring tiles, as a share of the side of a tile
TINY = 1e-12
NONE = 255  # a pixel about which a second opinion says nothing
LATTICES = 8  # classes whose arrays take as much memory as what the CRF keeps for all classes

Crf = Mapping[str, Any] | None
Room = Callable[[int], AbstractContextManager[None]]


class Tile(NamedTuple):
    """Rows and columns that the network gets (``window``), and those that are kept (``core``)."""

    window: tuple[slice, slice]
    core: tuple[slice, slice]


def tiles(size: tuple[int, int], side: int) -> list[Tile]:
    """Overlapping windows of at most ``side`` pixels. Their cores cover ``size`` (H, W) once.

    >>> [tile.window[1] for tile in tiles((60, 100), 60)]
    [slice(0, 60, None), slice(40, 100, None)]
    >>> [tile.core[1] for tile in tiles((60, 100), 60)]
    [slice(0, 50, None), slice(50, 100, None)]
    """
    rows, columns = (_spans(length, side) for length in size)
    return [Tile((r[0], c[0]), (r[1], c[1])) for r in rows for c in columns]


def _spans(length: int, side: int) -> list[tuple[slice, slice]]:
    if length <= side:
        return [(slice(0, length), slice(0, length))]
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP))))
    starts = [round(n * (length - side) / (count - 1)) for n in range(count)]
    cuts = [(here + side + following) // 2 for here, following in pairwise(starts)]
    bounds = [0, *cuts, length]
    return [
        (slice(start, start + side), slice(low, high))
        for start, low, high in zip(starts, bounds, bounds[1:])
    ]


class Part(NamedTuple):
    """A tile, its pixels, reduced to at most ``WORKING``, and its probabilities at each scale.

    ``classes`` are the class ids of the probabilities (K, h, w), background (0) first; None: 0 to
    K - 1.
    """

    tile: Tile
    image: np.ndarray
    grids: list[np.ndarray]
    classes: np.ndarray | None = None

    def among(self, classes: Sequence[int]) -> Part:
        """The part with background and these classes alone, and their probabilities.

        They share the probabilities of all other classes. If there are many, this saves memory.
        """
        own = np.array([0, *classes], np.uint8)
        return self._replace(grids=[own_shares(g, own) for g in self.grids], classes=own)


class Cut(NamedTuple):
    """A photo as the network gets it: its size (H, W), and of each tile its reduced pixels."""

    size: tuple[int, int]
    tiles: list[tuple[Tile, np.ndarray]]


def cut(image: np.ndarray, side: int) -> Cut:
    """Cut an image (H, W, 3) into tiles of at most ``side`` pixels, each reduced to ``WORKING``.

    The result of a large photo is much smaller than the photo, so that many can be in memory.
    """
    size = image.shape[:2]
    return Cut(size, [(tile, reduced(image[tile.window], WORKING)) for tile in tiles(size, side)])


def label_parts(
    parts: Sequence[Part],
    size: tuple[int, int],
    classes: Sequence[int] | None = None,
    crf: Crf = None,
    room: Room = nullcontext,
    second: Second | None = None,
    present: bool = False,
) -> np.ndarray:
    """The labels (H, W) uint8 of an image of ``size``: the most probable class of each pixel.

    Args:
        classes: the class ids that the image may have besides background (0), as in
            :meth:`Part.among`. None: those of the parts.
        crf: arguments of ``getam.dense_crf`` to smooth the labels with. None: do not smooth.
        room: a context in which probabilities of so many values are smoothed. It may wait until
            there is memory for them.
        second: another opinion about each pixel of the image: class ids (H, W) uint8, 255 for
            none, and what is added to the probability of that class.
        present: True if each of these classes is known to be in the image
            (:func:`getam.labels.own_classes.as_present`).
    """
    labels = np.zeros(size, np.uint8)
    if classes is not None:
        parts = [part.among(classes) for part in parts]
    if present:
        found = zip(*(as_present(grids) for grids in zip(*(part.grids for part in parts))))
        parts = [part._replace(grids=[*grids]) for part, grids in zip(parts, found)]
    for part in parts:
        rows, columns = part.tile.window
        window = (rows.stop - rows.start, columns.stop - columns.start)
        here = None if second is None else Second(second.numbers[rows, columns], second.weight)
        whole = _labels(part, window, crf, room, here)
        inner = tuple(
            slice(core.start - begin.start, core.stop - begin.start)
            for core, begin in zip(part.tile.core, part.tile.window)
        )
        labels[part.tile.core] = whole[inner]
    return labels


def _labels(
    part: Part,
    size: tuple[int, int],
    crf: Crf,
    room: Room,
    second: Second | None,
) -> np.ndarray:
    """The labels of one tile of ``size`` (H, W)."""
    grids, values = part.grids, part.classes
    if values is None:
        values = _possible(grids)
        grids = _of(grids, values)
    if len(values) == 1:
        return np.full(size, values[0], np.uint8)
    if crf is not None:
        small = _resized(second, part.image.shape[:2])
        # Background, and only those classes that win somewhere: more classes take longer.
        found = enlarged_argmax(grids, part.image.shape[:2], _numbered(small, values))
        kept = np.union1d(0, np.unique(found))
        grids = [_smoothed(part.image, grids, kept, crf, room, _numbered(small, values[kept]))]
        values, second = values[kept], None
    return values[enlarged_argmax(grids, size, _numbered(second, values))]


def _smoothed(
    image: np.ndarray,
    grids: Sequence[np.ndarray],
    kept: np.ndarray,
    crf: Mapping[str, Any],
    room: Room,
    second: Second | None,
) -> np.ndarray:
    """The kept classes of the probabilities (K, h, w) at the size of the image, after the CRF."""
    size = image.shape[:2]
    if len(kept) == 1:
        return np.ones((1, *size), np.float32)
    total = enlarged([grid.sum(0, keepdims=True) for grid in grids], size).clip(TINY)
    if second is not None:
        total += second.weight * (second.numbers != NONE)
    with room((len(kept) + LATTICES) * size[0] * size[1]):
        probabilities = enlarged(_of(grids, kept), size, second)
        probabilities /= total
        return dense_crf(image, probabilities, **crf)


def _of(grids: Sequence[np.ndarray], places: np.ndarray) -> Sequence[np.ndarray]:
    """These classes of the probabilities (K, h, w); no copy of them if they are all."""
    return grids if len(places) == len(grids[0]) else [grid[places] for grid in grids]


def _resized(second: Second | None, size: tuple[int, int]) -> Second | None:
    """The second opinion about an image that is reduced to ``size`` (H, W)."""
    if second is None or second.numbers.shape == size:
        return second
    numbers = cv2.resize(second.numbers, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return Second(numbers, second.weight)


def _numbered(second: Second | None, values: np.ndarray) -> Second | None:
    """The second opinion with the place of each class id among ``values`` instead of the id."""
    if second is None:
        return None
    places = np.full(256, NONE, np.uint8)
    places[values] = np.arange(len(values))
    return Second(places[second.numbers], second.weight)


def _possible(grids: Sequence[np.ndarray]) -> np.ndarray:
    """Background, and the classes that may be the most probable one of a pixel.

    The probabilities of a pixel add up to 1. So a class that is below 1 / K everywhere is never the
    most probable one.
    """
    highest = np.mean([grid.max((1, 2)) for grid in grids], axis=0)
    return np.union1d(0, np.flatnonzero(highest >= 0.99 / len(highest))).astype(np.uint8)
