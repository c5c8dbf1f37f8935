"""Labels photos of any size, in memory that does not grow with the number of classes.

A photo that is larger than a tile is cut into overlapping tiles, and the middle of each tile is
kept. A tile is reduced to ``WORKING`` pixels before the network gets it. Its probabilities are
enlarged one class at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

from getam.labels.crf import dense_crf
from getam.networks.inference import Segmenter, segment

WORKING = 1024  # pixels of the long side; larger than the input of these networks
OVERLAP = 1 / 4  # least overlap of two neighbouring tiles, as a share of the side of a tile

Crf = Mapping[str, Any] | None


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


def label_images(
    segmenter: Segmenter,
    images: Iterable[tuple[str, np.ndarray]],
    side: int,
    batch_size: int,
    crf: Crf = None,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, image (H, W, 3)) -> (name, image, labels (H, W) uint8), in their order.

    Args:
        side: largest side of a tile, in pixels.
        batch_size: tiles that are computed at a time.
        crf: arguments of ``getam.dense_crf`` to smooth the labels with. None: do not smooth.
    """
    labels = np.zeros((0, 0), np.uint8)
    for (name, image, tile), small, probabilities in segment(
        segmenter, _crops(images, side), batch_size
    ):
        if tile.core[0].start == tile.core[1].start == 0:
            labels = np.zeros(image.shape[:2], np.uint8)
        rows, columns = tile.window
        size = (rows.stop - rows.start, columns.stop - columns.start)
        whole = _labels(small, probabilities, size, crf)
        inner = tuple(
            slice(core.start - window.start, core.stop - window.start)
            for core, window in zip(tile.core, tile.window)
        )
        labels[tile.core] = whole[inner]
        if (tile.core[0].stop, tile.core[1].stop) == labels.shape:
            yield name, image, labels


def _crops(images: Iterable[tuple[str, np.ndarray]], side: int) -> Iterator[tuple]:
    for name, image in images:
        for tile in tiles(image.shape[:2], side):
            yield (name, image, tile), _reduce(image[tile.window])


def _reduce(image: np.ndarray) -> np.ndarray:
    scale = WORKING / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _labels(
    image: np.ndarray, probabilities: np.ndarray, size: tuple[int, int], crf: Crf
) -> np.ndarray:
    values = np.arange(len(probabilities), dtype=np.uint8)
    if crf is not None:
        # Only background and the classes that win somewhere: more classes take longer.
        values = np.union1d(0, np.unique(probabilities.argmax(0))).astype(np.uint8)
        probabilities = dense_crf(image, probabilities[values], **crf)
    return values[enlarged_argmax(probabilities, size)]


def enlarged_argmax(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge (K, h, w) to (K, H, W), one class at a time, and return the argmax over classes.

    The probabilities of a pixel add up to 1. So a class that is below 1 / K everywhere wins
    nowhere, and is skipped. Returns (H, W) uint8; of equal classes the lowest.
    """
    if probabilities.shape[1:] == size:
        return probabilities.argmax(0).astype(np.uint8)
    best = np.full(size, -np.inf, np.float32)
    labels = np.zeros(size, np.uint8)
    for number, one in enumerate(probabilities):
        if one.max() < 0.99 / len(probabilities):
            continue
        one = cv2.resize(one.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        wins = one > best
        best[wins] = one[wins]
        labels[wins] = number
    return labels
