"""One figure that ranks label sets without ground truth: do labels of other photos predict them?

The figure compares the labels of each photo with a readout that learnt from the labels of other
photos (:mod:`getam.labels.readout`). Labels that follow the objects are predictable. Labels that
follow chance are not.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from getam.metrics.bootstrap import class_areas, draws
from getam.metrics.segmentation import ConfusionMatrix, mean_over_known, ratio

__all__ = ["COUNTS", "Agreement"]

COUNTS = "agreement.npy"  # the file of a stage with the counts of each photo
RESAMPLES = 1000


class Agreement:
    """Counts how labels and predicted labels agree, over the photos that have a class.

    The figure is ``sqrt(IoU of background x mean IoU of the classes)``. A class that photos are
    labelled with, but that has no pixel, has the IoU 0. So the figure is 0 if all pixels are
    background, and 0 if all pixels are object; both would be easy to predict.

    >>> agreement = Agreement(1)
    >>> agreement.update(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]]), [1])
    >>> round(agreement.value(), 3)
    0.577
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        # One array that grows. Many small ones would lie between the arrays of the photos, and the
        # memory of these could not be used again (up to 100 kB per photo).
        self._counts = array("q")

    @property
    def counts(self) -> np.ndarray:
        """(N, 4, C + 1) int64, of each photo: for background and each class the pixels where
        labels and prediction agree, those of the labels, those of the prediction; and 1 for each
        class that the photo is labelled with, and for background.
        """
        return np.array(self._counts, np.int64).reshape(-1, 4, self._classes + 1)

    def update(self, predicted: np.ndarray, labels: np.ndarray, class_ids: Sequence[int]) -> None:
        """Count a photo: two (H, W) arrays, 0 background, 1..C; 255 in ``labels`` is not counted.

        Args:
            class_ids: those that the photo is labelled with. A photo without a class is not
                counted, because its labels are background whatever the settings are.
        """
        if not class_ids:
            return
        confusion = ConfusionMatrix(self._classes + 1)
        confusion.update(predicted.astype(np.uint8), labels)
        labelled = np.isin(np.arange(self._classes + 1), [0, *class_ids])
        self._counts.extend(np.vstack([class_areas(confusion), labelled]).ravel().tolist())

    def ious(self) -> np.ndarray:
        """(C + 1,) IoU of background and the classes; nan for a class that no photo has."""
        return _ious(self.counts.sum(axis=0))

    def value(self) -> float:
        """The figure, 0 to 1; 0 without a photo that has a class."""
        return float(_figure(self.ious()))

    def better_than(self, other: Agreement) -> float:
        """How sure it is that this figure is higher than the other one of the same photos.

        It is the share of bootstrap resamples of the photos in which it is higher: about 1 if it is
        higher whichever photos one had taken, about 0.5 if chance decides.

        Raises:
            ValueError: the two have not counted the same number of photos.
        """
        mine, theirs = self.counts, other.counts
        if mine.shape != theirs.shape:
            raise ValueError(f"Got counts of shapes {mine.shape} and {theirs.shape}, not the same.")
        if not len(mine):
            return 0.0
        mine, theirs = (each.reshape(len(each), -1).astype(np.float64) for each in (mine, theirs))
        shape = (-1, 4, self._classes + 1)
        higher = [
            _figure(_ious((drawn @ mine).reshape(shape)))
            > _figure(_ious((drawn @ theirs).reshape(shape)))
            for drawn in draws(len(mine), mine.shape[1], RESAMPLES)
        ]
        return float(np.concatenate(higher).mean())

    def save(self, path: Path) -> None:
        """Write ``counts`` as an npy file."""
        np.save(path, self.counts)

    @classmethod
    def load(cls, path: Path) -> Agreement:
        """What :meth:`save` wrote."""
        counts = np.load(path, allow_pickle=False)
        found = cls(counts.shape[2] - 1)
        found._counts.extend(counts.ravel().tolist())
        return found


def _ious(counts: np.ndarray) -> np.ndarray:
    """(..., C + 1) from counts (..., 4, C + 1)."""
    right, target, predicted, photos = np.moveaxis(counts, -2, 0)
    found = np.nan_to_num(ratio(right, target + predicted - right))
    found[photos == 0] = np.nan
    return found


def _figure(ious: np.ndarray) -> np.ndarray:
    """(...,) from (..., C + 1)."""
    return np.sqrt(np.nan_to_num(ious[..., 0] * mean_over_known(ious[..., 1:])))
