"""How far a figure of a random sample of photos can be from the figure of all photos.

The photos are the units, not the pixels: the pixels of one photo are right or wrong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from getam.metrics.segmentation import ConfusionMatrix, mean_over_known, ratio

__all__ = ["Interval", "class_areas", "draws", "mean_interval", "miou_interval", "tail"]

CHUNK = 1 << 22  # numbers that are summed at a time


class Interval(NamedTuple):
    """The figure of the sample, such as its mIoU, and the ends of the interval."""

    value: float
    low: float
    high: float


def class_areas(confusion: ConfusionMatrix) -> np.ndarray:
    """The pixels (3, num_classes) int64 that the IoU of each class is made of.

    The rows are: pixels that are right, pixels of the target, pixels of the prediction. They can be
    summed over photos. Predictions of 255 do not count, as in :meth:`ConfusionMatrix.iou`.

    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([0, 1, 1]), np.array([0, 1, 0]))
    >>> class_areas(confusion).tolist()
    [[1, 1], [2, 1], [1, 2]]
    """
    answered = confusion.matrix[:, :-1]
    return np.stack([np.diagonal(answered), answered.sum(axis=1), answered.sum(axis=0)])


def miou_interval(
    areas: np.ndarray, *, level: float = 0.95, resamples: int = 5000, seed: int = 0
) -> Interval:
    """The mIoU of photos that were drawn at random, with a bootstrap interval.

    A resample draws as many photos from the sample as it has, with repetition. Its mIoU comes from
    the summed pixels of these photos, and is a mean over the classes that occur in them. The ends
    of the interval are quantiles of the mIoU of all resamples, further out than in a plain
    percentile interval, which covers too seldom where each class is in few photos (see
    :func:`tail`).

    Args:
        areas: (N, 3, num_classes), of each photo its :func:`class_areas`.
        level: how often such an interval is meant to cover the mIoU of all photos.

    Raises:
        ValueError: there is no photo, or no pixel.

    >>> whole, half = [[10, 10], [10, 10], [10, 10]], [[5, 5], [10, 10], [10, 10]]
    >>> [round(number, 2) for number in miou_interval(np.array([whole, half] * 20))]
    [0.6, 0.5, 0.7]
    """
    areas = np.asarray(areas, dtype=np.int64)
    if areas.ndim != 3 or areas.shape[1] != 3 or not areas[:, 1:].any():
        raise ValueError(
            f"Got areas of shape {areas.shape}, expected (photos, 3, classes) with at least one "
            f"photo and one pixel."
        )
    areas = areas[areas[:, 1:].any(axis=(1, 2))]  # a photo without a pixel says nothing
    count, shape = len(areas), areas.shape[1:]
    flat = areas.reshape(count, -1).astype(np.float64)  # exact up to 2 ** 53 pixels
    found = [
        _miou((drawn @ flat).reshape(-1, *shape))
        for drawn in draws(count, flat.shape[1], resamples, seed)
    ]
    outside = tail(level, count, int(areas[:, 1].any(axis=0).sum()))
    low, high = np.quantile(np.concatenate(found), [outside, 1 - outside])
    return Interval(float(_miou(areas.sum(axis=0))), float(low), float(high))


def mean_interval(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 5000, seed: int = 0
) -> Interval:
    """The mean of one value per photo, with a bootstrap interval as in :func:`miou_interval`.

    Args:
        values: (N,), one of each photo.
        level: how often such an interval is meant to cover the mean over all photos.

    Raises:
        ValueError: there are fewer than two values, or one is not finite.

    >>> [round(number, 1) for number in mean_interval(np.array([0.0, 1.0] * 20))]
    [0.5, 0.3, 0.7]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"Got values of shape {values.shape}, expected two or more finite numbers")
    count = len(values)
    means = [drawn @ values / count for drawn in draws(count, 1, resamples, seed)]
    outside = tail(level, count, 1)
    low, high = np.quantile(np.concatenate(means), [outside, 1 - outside])
    return Interval(float(values.mean()), float(low), float(high))


def tail(level: float, photos: int, classes: int) -> float:
    """The share of the resamples beyond each end of the interval.

    With N photos and K classes the deviations of resamples are too small by `sqrt((N - K) / N)`, as
    those of N values from K estimated means are. So the ends lie where a normal distribution has
    `sqrt(N / (N - K)) t`, with Student's t of N - K degrees of freedom in place of the normal
    quantile: the expanded percentile interval (T. Hesterberg, The American Statistician 69, 2015),
    with K means for one.

    >>> [round(tail(0.95, photos, 7), 4) for photos in (50, 500, 50000)]
    [0.0148, 0.0239, 0.025]
    """
    freedom = max(1, photos - classes)
    z = NormalDist().inv_cdf((1 - level) / 2)
    # Student's t by its expansion in 1 / freedom (Abramowitz and Stegun, 26.7.5).
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return NormalDist().cdf(t * (photos / freedom) ** 0.5)


def draws(photos: int, width: int, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each photo is drawn in each resample, as many photos as there are in each.

    They come in parts (S, photos) int64, so that S resamples of sums of ``width`` numbers per photo
    stay small.
    """
    random, step = np.random.default_rng(seed), max(1, CHUNK // (photos + width))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield random.multinomial(photos, [1 / photos] * photos, size=size)


def _miou(areas: np.ndarray) -> np.ndarray:
    """(..., 3, num_classes) -> (...)."""
    right, target, predicted = np.moveaxis(areas, -2, 0)
    return mean_over_known(ratio(right, target + predicted - right))
