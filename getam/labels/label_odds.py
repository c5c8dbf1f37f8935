"""How likely an image-level label of a photo is wrong, judged from the labels of other photos.

Two steps give each photo and each class a probability that does not depend on the label itself
(:func:`held_out_probabilities`). A photo whose labels have low probabilities is likely to have an
error in them (:func:`label_errors`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from getam.labels.readout import FOLDS

__all__ = ["LabelErrors", "held_out_probabilities", "label_errors", "pooled"]

PENALTY = 1.0  # of both regressions; their inputs have the mean 0 and the mean square 1
LEAST = 0.01  # no probability is closer to 0 or 1
STEPS = 20  # of Newton's method, at most
CLOSE = 1e-6  # a step below this ends it
TINY = 1e-6


class LabelErrors(NamedTuple):
    """How likely the labels of N photos have an error.

    Attributes:
        probability: (N,).
        worst: (N,) column of the class whose label is most likely wrong.
    """

    probability: np.ndarray
    worst: np.ndarray


def pooled(features: Tensor) -> np.ndarray:
    """The mean and the largest value of each of the features (D, h, w) of a photo: (2 D,)."""
    return np.concatenate([features.mean(dim=(1, 2)).numpy(), features.amax(dim=(1, 2)).numpy()])


def held_out_probabilities(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of each class in each photo, by models that learnt from other photos.

    The photos are dealt into folds, and the models of a fold learn from all other folds. First a
    ridge regression predicts the labels from the features. Then, for each class, a logistic
    regression predicts its label from these predictions and from the labels of all other classes:
    some classes often occur together, and others never. So the probability of a class in a photo
    does not depend on whether the photo has this label.

    Args:
        features: (N, F) float32, of N >= 1 photos.
        labels: (N, C) bool.

    Returns:
        (N, C) float64, between ``LEAST`` and 1 - ``LEAST``; 0.5 if there is one photo only.
    """
    folds, targets = np.arange(len(labels)) % FOLDS, labels.astype(np.float64)
    seen = _Seen(features, targets, folds)
    found = np.full(labels.shape, 0.5)
    for fold in range(FOLDS):
        own, others = folds == fold, folds != fold
        if not own.any() or not others.any():
            continue
        of_fold = seen.without(fold)
        for column in range(labels.shape[1]):
            inputs = np.concatenate([np.delete(targets, column, axis=1), of_fold], axis=1)
            inputs = _standard(inputs, others)
            found[own, column] = _logistic(inputs[others], targets[others, column], inputs[own])
    return found.clip(LEAST, 1 - LEAST)


def label_errors(probabilities: np.ndarray, labels: np.ndarray) -> LabelErrors:
    """How likely one label of a photo is missing, one is extra, or one is exchanged.

    With the odds ``o = p / (1 - p)`` of each class, other labels are more likely than the given
    ones by the factor

    * ``o`` if this class is missing;
    * ``1 / o`` if this class is extra;
    * ``o / o'`` if the first class is missing and the second one is extra.

    The given labels come from the other ones by an error of one of these three kinds. Half of the
    photos have an error, the kinds are equally frequent, and an error hits every class alike. Where
    n of C classes are given, one of n + 1 was dropped, or one of C - n + 1 was added, or one of n
    was put in the place of one of C - n. So the odds of an error are

        (sum of o / (n + 1) + sum of 1 / o / (C - n + 1) + sum of o / o' / (n (C - n))) / 3.

    Args:
        probabilities: (N, C), each above 0 and below 1.
        labels: (N, C) bool.

    >>> found = label_errors(np.array([[0.5, 0.5], [0.2, 0.8]]), np.array([[True, False]] * 2))
    >>> found.probability.round(3).tolist()
    [0.4, 0.87]
    """
    odds = probabilities / (1 - probabilities)
    missing, extra = np.where(labels, 0, odds), np.where(labels, 1 / odds, 0)
    of_missing, of_extra = missing.sum(1, keepdims=True), extra.sum(1, keepdims=True)
    present = labels.sum(1, keepdims=True)
    absent = labels.shape[1] - present
    exchanges = np.maximum(present * absent, 1)
    of_class = missing * (1 / (present + 1) + of_extra / exchanges)
    of_class += extra * (1 / (absent + 1) + of_missing / exchanges)
    each = of_missing / (present + 1), of_extra / (absent + 1), of_missing * of_extra / exchanges
    of_error = sum(each)[:, 0] / len(each)
    return LabelErrors(of_error / (1 + of_error), of_class.argmax(axis=1))


class _Seen:
    """Ridge regressions from features (N, F) to labels (N, C), without some of the folds."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> None:
        inputs = _standard(features, np.ones(len(features), bool)) / np.sqrt(features.shape[1])
        self._inputs, self._folds = _with_constant(inputs.astype(np.float32)), folds
        each = [(self._inputs[folds == n], targets[folds == n]) for n in range(FOLDS)]
        self._squares = np.stack([one.T @ one for one, _ in each]).astype(np.float64)
        self._products = np.stack([one.T @ own for one, own in each])

    def without(self, fold: int) -> np.ndarray:
        """What is seen in each photo (N, C), without any label of this fold or of its own fold."""
        found = np.empty((len(self._inputs), self._products.shape[2]))
        for other in range(FOLDS):
            asked = self._folds == other
            found[asked] = self._inputs[asked] @ self._fit(left_out=sorted({fold, other}))
        return found

    def _fit(self, left_out: list[int]) -> np.ndarray:
        squares, products = self._squares.sum(0), self._products.sum(0)
        squares = squares - self._squares[left_out].sum(0)
        return np.linalg.solve(
            squares + _damping(len(squares)), products - self._products[left_out].sum(0)
        )


def _standard(inputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Inputs (N, F), scaled so that the chosen rows have the mean 0 and the mean square 1."""
    centred = inputs - inputs[chosen].mean(axis=0)
    return centred / (np.sqrt((centred[chosen] ** 2).mean(axis=0)) + TINY)


def _with_constant(inputs: np.ndarray) -> np.ndarray:
    return np.pad(inputs, ((0, 0), (0, 1)), constant_values=1)


def _damping(width: int) -> np.ndarray:
    """The penalty of the weights (F, F); nearly none of the constant, which is the last."""
    return np.diag(np.append(np.full(width - 1, PENALTY), TINY))


def _logistic(inputs: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What a logistic regression from (N, F) to (N,) of 0 and 1 answers on (M, F): (M,)."""
    inputs, asked = _with_constant(inputs), _with_constant(asked)
    weights, damping = np.zeros(inputs.shape[1]), _damping(inputs.shape[1])
    for _ in range(STEPS):
        found = _sigmoid(inputs @ weights)
        slope = inputs.T @ (found - targets) + damping @ weights
        curve = (inputs * (found * (1 - found))[:, None]).T @ inputs + damping
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < CLOSE:
            break
    return _sigmoid(asked @ weights)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.clip(-30, 30)))
