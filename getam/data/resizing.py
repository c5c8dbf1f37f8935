"""Resizes photos and probabilities without torch.

A process that only writes labels needs neither torch nor its memory, about 300 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

STRIP = 1 << 18  # pixels that are enlarged at a time


class Places(NamedTuple):
    """For each new row or column: the two old ones around it, and the share of the second."""

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """The image (H, W, 3), reduced so that its long side is ``longest`` pixels if it is longer."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


class Second(NamedTuple):
    """A second opinion: the number of the class of each pixel (H, W), and what it adds to it.

    A pixel whose number is not that of a class gets nothing.
    """

    numbers: np.ndarray
    weight: float


def enlarged(
    grids: Sequence[np.ndarray], size: tuple[int, int], second: Second | None = None
) -> np.ndarray:
    """The mean over scales of probabilities (K, h, w), each enlarged to (K, H, W) first.

    Bilinear, as ``getam.data.transforms.resize_maps``, up to rounding. The second opinion is added.
    """
    whole = np.empty((len(grids[0]), *size), np.float32)
    for rows in _strips(size):
        for number in range(len(whole)):
            whole[number, rows] = _sum_of_rows(grids, number, size, rows, second)
    return whole


def enlarged_argmax(
    grids: Sequence[np.ndarray], size: tuple[int, int], second: Second | None = None
) -> np.ndarray:
    """The argmax over classes of the mean of probabilities (K, h, w), enlarged to (K, H, W).

    The second opinion is added to them first. Enlarges one class in one strip of rows at a time.
    Returns (H, W) uint8; of equal classes the lowest.
    """
    labels = np.zeros(size, np.uint8)
    for rows in _strips(size):
        best = _sum_of_rows(grids, 0, size, rows, second)
        for number in range(1, len(grids[0])):
            one = _sum_of_rows(grids, number, size, rows, second)
            np.copyto(labels[rows], np.uint8(number), where=one > best)
            np.maximum(one, best, out=best)
    return labels


def _strips(size: tuple[int, int]) -> Iterator[slice]:
    """Rows of an image of ``size`` (H, W), some at a time."""
    height, width = size
    rows = max(1, STRIP // width)
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))


def _sum_of_rows(
    grids: Sequence[np.ndarray],
    number: int,
    size: tuple[int, int],
    rows: slice,
    second: Second | None,
) -> np.ndarray:
    """The rows of one class (R, W): the mean over scales and the second opinion."""
    found = _mean_of_rows(grids, number, size, rows)
    if second is not None:
        np.add(found, second.weight, out=found, where=second.numbers[rows] == number)
    return found


def _mean_of_rows(
    grids: Sequence[np.ndarray], number: int, size: tuple[int, int], rows: slice
) -> np.ndarray:
    """The mean over scales of the rows of one class (R, W)."""
    found = _rows(grids[0][number], size, rows)
    for grid in grids[1:]:
        found += _rows(grid[number], size, rows)
    return found if len(grids) == 1 else np.divide(found, len(grids), out=found)


def _rows(values: np.ndarray, size: tuple[int, int], rows: slice) -> np.ndarray:
    """The given rows (R, W) of values (h, w) enlarged to ``size``."""
    low, high, share = (which[rows] for which in _places(values.shape[0], size[0]))
    first = low[0]
    wide = _between(values[first : high[-1] + 1], _places(values.shape[1], size[1]), axis=1)
    return _between(wide, Places(low - first, high - first, share[:, None]), axis=0)


def _places(old: int, new: int) -> Places:
    """The centres of ``new`` pixels among the centres of ``old`` ones; beyond the last its own."""
    scale = old / new
    centres = ((np.arange(new) + 0.5) * scale - 0.5).clip(0, old - 1)
    low = centres.astype(np.intp)
    return Places(low, np.minimum(low + 1, old - 1), (centres - low).astype(np.float32))


def _between(values: np.ndarray, places: Places, axis: int) -> np.ndarray:
    found = values.take(places.low, axis)
    found *= 1 - places.share
    second = values.take(places.high, axis)
    second *= places.share
    found += second
    return found
