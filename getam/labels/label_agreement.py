"""One figure that ranks label sets without ground truth: do labels of other photos predict them?

The figure compares the labels of each photo with a readout that learnt from the labels of other
photos (:mod:`getam.labels.readout`). Labels that follow the objects are predictable. Labels that
follow chance are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from getam.metrics.segmentation import ConfusionMatrix

__all__ = ["Agreement"]


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
        self._confusion = ConfusionMatrix(classes + 1)
        self._named = np.zeros(classes, bool)

    def update(self, predicted: np.ndarray, labels: np.ndarray, class_ids: Sequence[int]) -> None:
        """Count a photo: two (H, W) arrays, 0 background, 1..C; 255 in ``labels`` is not counted.

        Args:
            class_ids: those that the photo is labelled with. A photo without a class is not
                counted, because its labels are background whatever the settings are.
        """
        if class_ids:
            self._confusion.update(predicted.astype(np.uint8), labels)
            self._named[[c - 1 for c in class_ids]] = True

    def ious(self) -> np.ndarray:
        """(C + 1,) IoU of background and the classes; nan for a class that no photo has."""
        found = np.nan_to_num(self._confusion.iou())
        found[1:][~self._named] = np.nan
        return found

    def value(self) -> float:
        """The figure, 0 to 1; 0 without a photo that has a class."""
        background, *classes = self.ious()
        return float(np.sqrt(background * np.nanmean(classes))) if self._named.any() else 0.0
