"""Scores: one streaming confusion matrix, threshold sweeps of seeds, multi-label classification.

VOC's mean IoU comes from one confusion matrix over all pixels of a split, not from a mean over
images. All accumulators take one image (or a stack of images) at a time and add up with `+`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "F1",
    "IGNORE",
    "ConfusionMatrix",
    "ThresholdSweep",
    "average_precision",
    "f1",
    "mean_average_precision",
]

IGNORE = 255


class ConfusionMatrix:
    """Pixels by target and predicted label, added up over images.

    A target of 255 is not counted. A prediction of 255, as pseudo labels have them, is "no
    answer": such pixels go to a last column of their own, take no part in the IoU, and are what
    `ignored_share` reports. Read the two together: labels that ignore every hard pixel score high.

    Attributes:
        matrix: (num_classes, num_classes + 1) int64; row = target, column = prediction, the last
            one "no answer".

    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([[0, 1, 1, 255]]), np.array([[0, 1, 0, 1]]))
    >>> confusion.iou(), confusion.ignored_share
    (array([0.5, 0.5]), 0.25)
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE:
            raise ValueError(
                f"Got num_classes={num_classes}, expected 1 to 255, the background among them."
            )
        self.num_classes = num_classes
        self.matrix = np.zeros((num_classes, num_classes + 1), dtype=np.int64)

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Count one image; both any shape, integers in 0..num_classes - 1 or 255.

        Raises:
            ValueError: shapes differ, or a label is out of range; nothing is counted then.
        """
        prediction, target = _label_image(prediction), _label_image(target)
        if prediction.shape != target.shape:
            raise ValueError(
                f"Got a prediction of shape {prediction.shape} for a target of {target.shape} "
                "(height, width), expected the same: resize the prediction to the image."
            )
        # One histogram over all pairs of bytes: out-of-range labels are then found in 64 k cells
        # instead of in every pixel.
        pairs = (target.astype(np.uint16) << 8) | prediction
        counts = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
        _check_range("target", counts.sum(axis=1), self.num_classes)
        _check_range("prediction", counts.sum(axis=0), self.num_classes)
        self.matrix[:, :-1] += counts[: self.num_classes, : self.num_classes]
        # With 255 classes, 255 still means ignore: labels then run from 0 to 254.
        self.matrix[:, -1] += counts[: self.num_classes, IGNORE]

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """The counts of both, for instance of two processes."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if other.num_classes != self.num_classes:
            raise ValueError(
                f"Got confusion matrices of {self.num_classes} and {other.num_classes} classes, "
                "expected the same number: they come from different label tables."
            )
        total = ConfusionMatrix(self.num_classes)
        total.matrix = self.matrix + other.matrix
        return total

    def iou(self) -> np.ndarray:
        """(num_classes,) intersection over union; nan where a class is in neither image.

        `IoU_c = TP_c / (TP_c + FP_c + FN_c)`, over the pixels that have a target and an answer.
        """
        return _iou(self.matrix[:, :-1])

    def miou(self) -> float:
        """Mean of `iou` over the classes that occur, background included; nan before any pixel."""
        return float(_mean_over_known(self.iou()))

    @property
    def ignored_share(self) -> float:
        """Share, among the pixels with a target, of those predicted 255; nan before any pixel."""
        pixels = self.matrix.sum()
        return float(self.matrix[:, -1].sum() / pixels) if pixels else float("nan")


class ThresholdSweep:
    """Seed quality at many background thresholds at once.

    For each threshold t, `label = argmax_c M_c if max_c M_c > t else 0`, scored as by
    `ConfusionMatrix`. Each pixel is looked at once: it is counted under the number of thresholds
    its maximum exceeds, and the matrix of threshold j is a cumulative sum over those bins. The
    cost of an update hardly depends on the number of thresholds.

    Attributes:
        thresholds: (T,) float64, ascending.

    >>> sweep = ThresholdSweep(2, [0.2, 0.6])
    >>> sweep.update(np.array([[[0.1, 0.5, 0.9]]]), [1], np.array([[0, 0, 1]]))
    >>> sweep.miou()
    array([0.5, 1. ])
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float]) -> None:
        ConfusionMatrix(num_classes)  # refuses what it cannot count
        self.num_classes = num_classes
        self.thresholds = np.asarray(thresholds, dtype=np.float64)
        if self.thresholds.ndim != 1 or not len(self.thresholds):
            raise ValueError(f"Got thresholds={thresholds!r}, expected a list of numbers.")
        if not (np.diff(self.thresholds) > 0).all():
            raise ValueError(f"Got thresholds={thresholds!r}, expected them ascending.")
        # [bin, target, strongest class]: a pixel in bin b exceeds the first b thresholds.
        self._counts = np.zeros((len(self.thresholds) + 1, num_classes, num_classes), np.int64)

    def update(self, maps: np.ndarray, class_ids: Sequence[int], target: np.ndarray) -> None:
        """Count one image.

        Args:
            maps: (K, H, W) of the present classes, K may be 0; ties go to the first of them.
            class_ids: their K labels, 1..num_classes - 1.
            target: (H, W) integers in 0..num_classes - 1, or 255 for not counted.

        Raises:
            ValueError: shapes or labels do not fit; nothing is counted then.
        """
        target = _label_image(target)
        ids = self._checked_ids(maps, class_ids, target)
        _check_range("target", np.bincount(target.ravel(), minlength=256), self.num_classes)
        counted = target != IGNORE
        rows = target[counted].astype(np.int64)
        if len(ids):
            strongest = maps.max(axis=0)[counted]
            if np.isnan(strongest).any():
                raise ValueError("Got maps with NaN, expected numbers.")
            bins = np.searchsorted(self.thresholds, strongest, side="left")
            columns = ids[maps.argmax(axis=0)[counted]]
        else:
            bins = columns = np.zeros_like(rows)
        shape = self._counts.shape
        cells = np.bincount((bins * shape[1] + rows) * shape[2] + columns, minlength=np.prod(shape))
        self._counts += cells.reshape(shape)

    def _checked_ids(
        self, maps: np.ndarray, class_ids: Sequence[int], target: np.ndarray
    ) -> np.ndarray:
        if maps.ndim != 3 or len(maps) != len(class_ids) or maps.shape[1:] != target.shape:
            raise ValueError(
                f"Got maps of shape {maps.shape}, {len(class_ids)} class ids and a target of shape "
                f"{target.shape}, expected (K, H, W), K and (H, W): resize the maps to the image."
            )
        if not all(0 < i < self.num_classes for i in class_ids):
            raise ValueError(
                f"Got class ids {list(class_ids)}, expected 1 to {self.num_classes - 1}: "
                "0 is the background."
            )
        return np.asarray(class_ids, dtype=np.int64)

    def __add__(self, other: ThresholdSweep) -> ThresholdSweep:
        """The counts of both, for instance of two processes."""
        if not isinstance(other, ThresholdSweep):
            return NotImplemented
        if self._counts.shape != other._counts.shape or (self.thresholds != other.thresholds).any():
            raise ValueError("Got sweeps of different classes or thresholds, expected the same.")
        total = ThresholdSweep(self.num_classes, self.thresholds)
        total._counts = self._counts + other._counts
        return total

    def matrices(self) -> np.ndarray:
        """(T, num_classes, num_classes) int64: the confusion matrix at each threshold."""
        kept = self._counts[::-1].cumsum(axis=0)[::-1][1:]
        matrices = kept.copy()
        matrices[:, :, 0] += self._counts.sum(axis=(0, 2)) - kept.sum(axis=2)
        return matrices

    def iou(self) -> np.ndarray:
        """(T, num_classes) IoU at each threshold, as `ConfusionMatrix.iou`."""
        return _iou(self.matrices())

    def miou(self) -> np.ndarray:
        """(T,) mean IoU at each threshold, as `ConfusionMatrix.miou`."""
        return _mean_over_known(self.iou())

    def best(self) -> tuple[float, float]:
        """The threshold with the highest mean IoU (the lowest such one), and that mean IoU."""
        miou = self.miou()
        if np.isnan(miou).all():
            raise ValueError("Got no pixel with a target, expected at least one: update first.")
        best = int(np.nanargmax(miou))
        return float(self.thresholds[best]), float(miou[best])


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve of each class.

    `AP = sum_n (R_n - R_{n-1}) P_n` over the distinct scores, highest first, without
    interpolation (scikit-learn's definition; VOC since 2010 takes the curve's envelope instead).

    Args:
        scores: (N, C) floats, higher = more likely; any monotone scale (logits or probabilities).
        labels: (N, C) bool or 0/1.

    Returns:
        (C,) in [0, 1]; nan where a class has no positive.

    Raises:
        ValueError: shapes differ, scores have NaN, labels are not 0/1.

    >>> average_precision(np.array([[0.9], [0.8], [0.7]]), np.array([[1], [0], [1]])).round(4)
    array([0.8333])
    """
    scores, labels = _checked_scores(scores, labels)
    columns = zip(scores.T, labels.T)
    return np.array([_average_precision_of_one(s, t) for s, t in columns], dtype=np.float64)


def _average_precision_of_one(scores: np.ndarray, labels: np.ndarray) -> float:
    if not labels.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    # Equal scores cannot be told apart by any threshold: they enter the curve together.
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(labels)[last_of_ties]
    precision = hits / (last_of_ties + 1)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of `average_precision` over the classes that have a positive; nan if none has.

    >>> mean_average_precision(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[1, 0], [0, 0]]))
    1.0
    """
    return float(_mean_over_known(average_precision(scores, labels)))


class F1(NamedTuple):
    """F1 scores: `micro` over all decisions together, `macro` the mean over classes."""

    micro: float
    macro: float


def f1(probabilities: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> F1:
    """F1 of "probability above threshold": `2 TP / (2 TP + FP + FN)`.

    Macro leaves out classes that are neither present nor predicted; nan if nothing is.

    Args:
        probabilities: (N, C) in [0, 1]; for logits pass `threshold=0`.
        labels: (N, C) bool or 0/1.
        threshold: predicted present where the probability is above it.

    Raises:
        ValueError: as `average_precision`.

    >>> f1(np.array([[0.9, 0.6], [0.2, 0.1]]), np.array([[1, 0], [0, 1]]))
    F1(micro=0.5, macro=0.5)
    """
    probabilities, labels = _checked_scores(probabilities, labels)
    predicted = probabilities > threshold
    hits = np.count_nonzero(predicted & labels, axis=0)
    errors = np.count_nonzero(predicted ^ labels, axis=0)
    per_class = _ratio(2 * hits, 2 * hits + errors)
    micro = _ratio(2 * hits.sum(), 2 * hits.sum() + errors.sum())
    return F1(micro=float(micro), macro=float(_mean_over_known(per_class)))


def _label_image(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype == np.uint8:
        return labels
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Got labels of type {labels.dtype}, expected integers in 0..255.")
    if labels.size and not (labels.min() >= 0 and labels.max() <= IGNORE):
        raise ValueError(
            f"Got labels from {labels.min()} to {labels.max()}, expected 0 to 255, 255 = ignore."
        )
    return labels.astype(np.uint8)


def _check_range(name: str, counts: np.ndarray, num_classes: int) -> None:
    """`counts`: (256,) pixels of each label."""
    wrong = np.flatnonzero(counts[num_classes:IGNORE]) + num_classes
    if len(wrong):
        raise ValueError(
            f"Got label {wrong[0]} in the {name} ({counts[wrong[0]]} pixels), expected 0 to "
            f"{num_classes - 1} or 255: check the label table and the number of classes."
        )


def _checked_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(
            f"Got scores of shape {scores.shape} and labels of shape {labels.shape}, "
            "expected both (images, classes)."
        )
    if np.isnan(scores).any():
        raise ValueError("Got scores with NaN, expected numbers: did the training diverge?")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("Got labels other than 0 and 1, expected one 0/1 per image and class.")
    return scores, labels.astype(bool)


def _iou(matrices: np.ndarray) -> np.ndarray:
    """(..., C, C) -> (..., C)."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return _ratio(hits, matrices.sum(axis=-1) + matrices.sum(axis=-2) - hits)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where whole is 0."""
    return np.where(whole, part / np.maximum(whole, 1), np.nan)


def _mean_over_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without nan; nan where there is nothing else."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
