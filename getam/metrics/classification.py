"""Scores of multi-label classification: average precision and F1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from getam.metrics.segmentation import mean_over_known, ratio

__all__ = ["F1", "average_precision", "f1", "mean_average_precision"]


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve of each class.

    `AP = sum_n (R_n - R_{n-1}) P_n` over the distinct scores, highest first, without
    interpolation. This is the definition of scikit-learn. VOC takes the envelope of the curve from
    2010 on, which gives other values.

    Args:
        scores: (N, C) floats, higher = more likely; any monotone scale (logits or probabilities).
        labels: (N, C) bool or 0/1.

    Returns:
        (C,) in [0, 1]; nan for a class that no image has.

    Raises:
        ValueError: the shapes differ, a score is NaN, or a label is not 0 or 1.

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
    # No threshold can separate equal scores, so they enter the curve together.
    last_of_ties = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(labels)[last_of_ties]
    precision = hits / (last_of_ties + 1)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of `average_precision` over the classes that some image has; nan if there is none.

    >>> mean_average_precision(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[1, 0], [0, 0]]))
    1.0
    """
    return float(mean_over_known(average_precision(scores, labels)))


class F1(NamedTuple):
    """F1 scores: `micro` of all decisions together, `macro` the mean of the F1 of each class."""

    micro: float
    macro: float


def f1(probabilities: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> F1:
    """F1 of "probability above threshold": `2 TP / (2 TP + FP + FN)`.

    Macro leaves out classes that no image has and that are never predicted; nan if none is left.

    Args:
        probabilities: (N, C) in [0, 1]; for logits pass `threshold=0`.
        labels: (N, C) bool or 0/1.
        threshold: a class is predicted if its probability is above this value.

    Raises:
        ValueError: as for `average_precision`.

    >>> f1(np.array([[0.9, 0.6], [0.2, 0.1]]), np.array([[1, 0], [0, 1]]))
    F1(micro=0.5, macro=0.5)
    """
    probabilities, labels = _checked_scores(probabilities, labels)
    predicted = probabilities > threshold
    hits = np.count_nonzero(predicted & labels, axis=0)
    errors = np.count_nonzero(predicted ^ labels, axis=0)
    per_class = ratio(2 * hits, 2 * hits + errors)
    micro = ratio(2 * hits.sum(), 2 * hits.sum() + errors.sum())
    return F1(micro=float(micro), macro=float(mean_over_known(per_class)))


def _checked_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(
            f"Got scores of shape {scores.shape} and labels of shape {labels.shape}, "
            "expected both (images, classes)."
        )
    if np.isnan(scores).any():
        raise ValueError("Got scores with NaN, expected numbers: check if the training diverged.")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("Got labels other than 0 and 1, expected one 0/1 per image and class.")
    return scores, labels.astype(bool)
