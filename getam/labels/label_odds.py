"""How likely an image-level label of a photo is wrong, judged from the labels of other photos.

Two steps give each photo and each class a probability that does not depend on the label itself
(:func:`held_out_expectation`). A photo whose labels have low probabilities is likely to have an
error in them (:func:`label_errors`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from getam.labels.readout import FOLDS

__all__ = ["Expectation", "LabelErrors", "held_out_expectation", "label_errors", "pooled"]

PENALTY = 1.0  # of both regressions; their inputs have the mean 0 and the mean square 1
LEAST = 0.01  # no probability is closer to 0 or 1
STEPS = 20  # of Newton's method, at most
CLOSE = 1e-6  # a step below this ends it
TINY = 1e-6
MOST = np.log((1 - LEAST) / LEAST)  # that an influence counts, as a logarithm of odds
KINDS = 3  # of errors: missing, extra, exchanged


class Expectation(NamedTuple):
    """What models that learnt from other photos expect of the labels of N photos.

    Attributes:
        probabilities: (N, C) float64, that the photo has the class, given its other labels; each
            above 0 and below 1.
        influence: (FOLDS, C, C) float64; ``[n % FOLDS, c, d]`` is what the label d adds to the log
            odds of the class c in photo n. 0 on the diagonal.
    """

    probabilities: np.ndarray
    influence: np.ndarray


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


def held_out_expectation(features: np.ndarray, labels: np.ndarray) -> Expectation:
    """What the labels of each photo should be, by models that learnt from other photos.

    The photos are dealt into folds, and the models of a fold learn from all other folds. First a
    ridge regression predicts the labels from the features. Then, for each class, a logistic
    regression predicts its label from these predictions and from the labels of all other classes:
    some classes often occur together, and others never. So the probability of a class in a photo
    does not depend on whether the photo has this label.

    Args:
        features: (N, F) float32, of N >= 1 photos.
        labels: (N, C) bool.

    Returns:
        Its probabilities are between ``LEAST`` and 1 - ``LEAST``; 0.5 if there is one photo only.
    """
    folds, targets = np.arange(len(labels)) % FOLDS, labels.astype(np.float64)
    seen, classes = _Seen(features, targets, folds), np.arange(labels.shape[1])
    found = np.full(labels.shape, 0.5)
    influence = np.zeros((FOLDS, len(classes), len(classes)))
    for fold in range(FOLDS):
        own, learnt = folds == fold, folds != fold
        if not own.any() or not learnt.any():
            continue
        of_fold = seen.without(fold)
        for column in classes:
            others = classes != column
            inputs = np.concatenate([targets[:, others], of_fold], axis=1)
            weights, constant = _logistic(inputs[learnt], targets[learnt, column])
            found[own, column] = _sigmoid(inputs[own] @ weights + constant)
            influence[fold, column, others] = weights[: others.sum()]
    return Expectation(found.clip(LEAST, 1 - LEAST), influence)


def label_errors(expected: Expectation, labels: np.ndarray) -> LabelErrors:
    """How likely one label of a photo is missing, one is extra, or one is exchanged.

    With the odds ``o = p / (1 - p)`` of each class, other labels are more likely than the given
    ones by the factor

    * ``o`` if this class is missing;
    * ``1 / o`` if this class is extra;
    * ``o / o' exp(-(w + w') / 2)`` if the first class is missing and the second one is extra. ``w``
      and ``w'`` are what each of the two labels adds to the log odds of the other class. This takes
      their influence on each other out of the odds, because an exchange never leaves both in the
      photo. For example, a dress speaks against trousers, but not where it is itself the error.

    The given labels come from the other ones by an error of one of these three kinds. Half of the
    photos have an error, the kinds are equally frequent, and an error hits every class alike. Where
    n of C classes are given, one of n + 1 was dropped, or one of C - n + 1 was added, or one of n
    was put in the place of one of C - n. So the odds of an error are the mean of the three

        sum of o / (n + 1), sum of 1 / o / (C - n + 1), and the sum of the exchanges / (n (C - n)).

    Args:
        labels: (N, C) bool.

    >>> free = np.zeros((FOLDS, 2, 2))
    >>> expected = Expectation(np.array([[0.5, 0.5], [0.2, 0.8]]), free)
    >>> found = label_errors(expected, np.array([[True, False]] * 2))
    >>> found.probability.round(3).tolist()
    [0.4, 0.87]
    """
    odds = expected.probabilities / (1 - expected.probabilities)
    missing, extra = np.where(labels, 0, odds), np.where(labels, 1 / odds, 0)
    put_in, taken_out = np.empty(odds.shape), np.empty(odds.shape)
    for fold, influence in enumerate(expected.influence):
        freed = np.exp(-((influence + influence.T) / 2).clip(-MOST, MOST))
        own = slice(fold, None, FOLDS)
        put_in[own] = missing[own] * (extra[own] @ freed)
        taken_out[own] = extra[own] * (missing[own] @ freed)
    present = labels.sum(1, keepdims=True)
    absent = labels.shape[1] - present
    exchanges = np.maximum(present * absent, 1)
    of_class = missing / (present + 1) + extra / (absent + 1) + (put_in + taken_out) / exchanges
    each = missing / (present + 1) + extra / (absent + 1) + put_in / exchanges
    of_error = each.sum(1) / KINDS
    return LabelErrors(of_error / (1 + of_error), of_class.argmax(axis=1))


class _Seen:
    """Ridge regressions from features (N, F) to labels (N, C), without some of the folds."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> None:
        mean, scale = _scale(features)
        self._inputs = np.ones((len(features), features.shape[1] + 1), np.float32)
        own = self._inputs[:, :-1]
        np.subtract(features, mean, out=own)
        own /= scale * math.sqrt(features.shape[1])
        self._folds = folds
        width = self._inputs.shape[1]
        self._squares = np.empty((FOLDS, width, width))
        self._products = np.empty((FOLDS, width, targets.shape[1]))
        for fold in range(FOLDS):
            one = self._inputs[folds == fold]  # a copy, of one fold at a time
            self._squares[fold], self._products[fold] = one.T @ one, one.T @ targets[folds == fold]

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


def _scale(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What inputs (N, F) minus the first (F,), over the second (F,), get: mean 0, mean square 1."""
    return inputs.mean(axis=0), inputs.std(axis=0) + TINY


def _with_constant(inputs: np.ndarray) -> np.ndarray:
    return np.pad(inputs, ((0, 0), (0, 1)), constant_values=1)


def _damping(width: int) -> np.ndarray:
    """The penalty of the weights (F, F); nearly none of the constant, which is the last."""
    return np.diag(np.append(np.full(width - 1, PENALTY), TINY))


def _logistic(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """The weights (F,) and the constant of a logistic regression from (N, F) to (N,) of 0 and 1."""
    mean, scale = _scale(inputs)
    inputs = _with_constant((inputs - mean) / scale)
    weights, damping = np.zeros(inputs.shape[1]), _damping(inputs.shape[1])
    for _ in range(STEPS):
        found = _sigmoid(inputs @ weights)
        slope = inputs.T @ (found - targets) + damping @ weights
        curve = (inputs * (found * (1 - found))[:, None]).T @ inputs + damping
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < CLOSE:
            break
    own = weights[:-1] / scale
    return own, weights[-1] - mean @ own


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.clip(-30, 30)))
