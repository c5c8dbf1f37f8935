"""Segmentation scores: a confusion matrix over many images, and scores of maps at many thresholds.

The mean IoU of VOC comes from one confusion matrix over all pixels of a split. It is not a mean
over images. Both classes take one image (or a stack of images) at a time, and can be added with
`+`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from getam.data.label_values import IGNORE

__all__ = ["ConfusionMatrix", "ThresholdSweep"]

PIXELS = 1 << 20  # counted at a time


class ConfusionMatrix:
    """Counts pixels by target and predicted label, over many images.

    Pixels with the target 255 are not counted. A prediction of 255 means "no answer" (pseudo labels
    have such pixels). These pixels are counted in the last column and do not enter the IoU;
    `ignored_share` is their share. Read it together with the IoU: labels that are 255 at every
    difficult pixel have a high IoU.

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
                f"Got num_classes={num_classes}, expected 1 to 255, background included."
            )
        self.num_classes = num_classes
        self.matrix = np.zeros((num_classes, num_classes + 1), dtype=np.int64)

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Count one image. Both arrays have one shape; integers in 0..num_classes - 1, or 255.

        Raises:
            ValueError: the shapes differ, or a label is out of range. Nothing is counted then.
        """
        prediction, target = _label_image(prediction), _label_image(target)
        if prediction.shape != target.shape:
            raise ValueError(
                f"Got a prediction of shape {prediction.shape} for a target of {target.shape} "
                "(height, width), expected the same: resize the prediction to the image."
            )
        # One histogram over all pairs of bytes, so that the check for labels out of range looks at
        # 64 k cells, not at every pixel.
        counts = np.zeros((256, 256), np.int64)
        for some in _parts(target.size):
            pairs = (target.ravel()[some].astype(np.uint16) << 8) | prediction.ravel()[some]
            counts += np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
        _check_range("target", counts.sum(axis=1), self.num_classes)
        _check_range("prediction", counts.sum(axis=0), self.num_classes)
        self.matrix[:, :-1] += counts[: self.num_classes, : self.num_classes]
        # 255 means ignore also with 255 classes, whose labels are 0 to 254.
        self.matrix[:, -1] += counts[: self.num_classes, IGNORE]

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """The sum of both counts, for instance of two processes."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if other.num_classes != self.num_classes:
            raise ValueError(
                f"Got confusion matrices of {self.num_classes} and {other.num_classes} classes, "
                "expected the same number: use one label table for both."
            )
        total = ConfusionMatrix(self.num_classes)
        total.matrix = self.matrix + other.matrix
        return total

    def iou(self) -> np.ndarray:
        """(num_classes,) intersection over union; nan for a class that does not occur.

        `IoU_c = TP_c / (TP_c + FP_c + FN_c)`, over the pixels whose target and prediction are not
        255.
        """
        return _iou(self.matrix[:, :-1])

    def miou(self) -> float:
        """Mean of `iou` over the classes that occur, background included; nan without any pixel."""
        return float(mean_over_known(self.iou()))

    @property
    def has_classes(self) -> bool:
        """Whether any pixel has a target other than 0. If not, only background is measured."""
        return bool(self.matrix[1:].any())

    @property
    def ignored_share(self) -> float:
        """Share of the counted pixels whose prediction is 255; nan without any pixel."""
        pixels = self.matrix.sum()
        return float(self.matrix[:, -1].sum() / pixels) if pixels else float("nan")

    @property
    def foreground_recall(self) -> float:
        """Share of the foreground pixels (target not 0) that are predicted as their class.

        A prediction of 255 counts as wrong. So labels that are 255 at every difficult pixel have a
        low recall.

        >>> confusion = ConfusionMatrix(2)
        >>> confusion.update(np.array([1, 1, 0, 255]), np.array([1, 1, 1, 1]))
        >>> confusion.foreground_recall
        0.5
        """
        foreground = self.matrix[1:]
        found, pixels = np.trace(foreground, offset=1), foreground.sum()
        return float(found / pixels) if pixels else float("nan")


class ThresholdSweep:
    """Scores of class maps at many background thresholds at once.

    At a threshold t, `label = argmax_c M_c if max_c M_c > t else 0`, scored as by
    `ConfusionMatrix`. Each pixel is counted once: in bin b if b thresholds are below its maximum.
    The confusion matrix of a threshold is a cumulative sum over the bins. So the time of an update
    hardly depends on the number of thresholds.

    Attributes:
        thresholds: (T,) float64, ascending.

    >>> sweep = ThresholdSweep(2, [0.2, 0.6])
    >>> sweep.update(np.array([[[0.1, 0.5, 0.9]]]), [1], np.array([[0, 0, 1]]))
    >>> sweep.miou()
    array([0.5, 1. ])
    """

    def __init__(self, num_classes: int, thresholds: Sequence[float]) -> None:
        ConfusionMatrix(num_classes)  # raises if num_classes is out of range
        self.num_classes = num_classes
        self.thresholds = np.asarray(thresholds, dtype=np.float64)
        if self.thresholds.ndim != 1 or not len(self.thresholds):
            raise ValueError(f"Got thresholds={thresholds!r}, expected a list of numbers.")
        if not (np.diff(self.thresholds) > 0).all():
            raise ValueError(f"Got thresholds={thresholds!r}, expected ascending numbers.")
        # [bin, target, strongest class]: a pixel in bin b exceeds the first b thresholds.
        self._counts = np.zeros((len(self.thresholds) + 1, num_classes, num_classes), np.int64)

    def update(self, maps: np.ndarray, class_ids: Sequence[int], target: np.ndarray) -> None:
        """Count one image.

        Args:
            maps: (K, H, W) of the classes in the image, K may be 0. The first wins a tie.
            class_ids: their K labels, 1..num_classes - 1.
            target: (H, W) integers in 0..num_classes - 1, or 255 (not counted).

        Raises:
            ValueError: a shape or a label is not as described. Nothing is counted then.
        """
        target = _label_image(target)
        ids = self._checked_ids(maps, class_ids, target)
        maps, target = maps.reshape(len(ids), target.size), target.ravel()
        labels, counts = np.zeros(256, np.int64), np.zeros_like(self._counts)
        for some in _parts(target.size):
            labels += np.bincount(target[some], minlength=256)
        _check_range("target", labels, self.num_classes)
        for some in _parts(target.size):
            counts += self._cells(maps[:, some], ids, target[some])
        self._counts += counts

    def _cells(self, maps: np.ndarray, ids: np.ndarray, target: np.ndarray) -> np.ndarray:
        """What is added to the counts for some pixels: maps (K, N), targets (N,)."""
        counted = target != IGNORE
        rows = target[counted].astype(np.int64)
        if len(ids):
            strongest = maps.max(axis=0)[counted]
            if np.isnan(strongest).any():
                raise ValueError("Got maps with NaN, expected numbers: check the class maps.")
            bins = np.searchsorted(self.thresholds, strongest, side="left")
            columns = ids[maps.argmax(axis=0)[counted]]
        else:
            bins = columns = np.zeros_like(rows)
        shape = self._counts.shape
        cells = np.bincount((bins * shape[1] + rows) * shape[2] + columns, minlength=np.prod(shape))
        return cells.reshape(shape)

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
        """The sum of both counts, for instance of two processes."""
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
        return mean_over_known(self.iou())

    @property
    def has_classes(self) -> bool:
        """As `ConfusionMatrix.has_classes`."""
        return bool(self._counts[:, 1:].any())

    def best(self) -> tuple[float, float]:
        """The threshold with the highest mean IoU (the lowest of equals), and this mean IoU."""
        miou = self.miou()
        if np.isnan(miou).all():
            raise ValueError("Got no pixel with a target, expected one or more: call update first.")
        best = int(np.nanargmax(miou))
        return float(self.thresholds[best]), float(miou[best])


def _parts(pixels: int) -> list[slice]:
    """Slices of the pixels: what is computed of some of them takes little memory at a time."""
    return [slice(start, start + PIXELS) for start in range(0, pixels, PIXELS)]


def _label_image(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype == np.uint8:
        return labels
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Got labels of type {labels.dtype}, expected integers in 0..255.")
    if labels.size and not (labels.min() >= 0 and labels.max() <= IGNORE):
        raise ValueError(
            f"Got labels from {labels.min()} to {labels.max()}, expected 0 to 255 (255: ignore)."
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


def _iou(matrices: np.ndarray) -> np.ndarray:
    """(..., C, C) -> (..., C)."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    return ratio(hits, matrices.sum(axis=-1) + matrices.sum(axis=-2) - hits)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; nan where whole is 0."""
    return np.where(whole, part / np.maximum(whole, 1), np.nan)


def mean_over_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, leaving out nan; nan where all values are nan."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
