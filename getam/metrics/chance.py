"""Whether scores tell images with a class from those without better than chance does."""

from __future__ import annotations

import numpy as np

__all__ = ["beats_chance", "can_beat_chance"]

SURE = 1.645  # of a normal distribution, 5 % lie above


def beats_chance(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the scores of each class are higher where the class is, by more than luck.

    The test is that of Mann and Whitney, one-sided at 5 %, with the normal approximation: scores
    without any information pass it in one of twenty cases.

    Args:
        scores: (N, C) floats, higher = more likely.
        labels: (N, C) bool or 0/1.

    Returns:
        (C,) bool; False too for a class that all images or none have, and where there are so few
        images that even perfect scores could be luck.

    >>> scores = np.array([[0.9], [0.8], [0.7], [0.2], [0.1], [0.0]])
    >>> beats_chance(scores, scores > 0.5), beats_chance(scores[2:4], scores[2:4] > 0.5)
    (array([ True]), array([False]))
    """
    labels = np.asarray(labels).astype(bool)
    return np.array([_beats(s, t) for s, t in zip(np.asarray(scores).T, labels.T)], dtype=bool)


def can_beat_chance(labels: np.ndarray) -> np.ndarray:
    """Whether there are enough images with, and without, each class that perfect scores pass.

    >>> can_beat_chance(np.array([[1, 1], [0, 1], [0, 1], [0, 0], [0, 0], [0, 0]]))
    array([False,  True])
    """
    return beats_chance(labels, labels)


def _beats(scores: np.ndarray, labels: np.ndarray) -> bool:
    there, without = int(labels.sum()), int((~labels).sum())
    if not there or not without:
        return False
    order = np.sort(scores)
    # equal scores share the mean of their ranks
    ranks = (np.searchsorted(order, scores, "left") + np.searchsorted(order, scores, "right")) / 2
    wins = ranks[labels].sum() + there / 2 - there * (there + 1) / 2
    usual, spread = there * without / 2, np.sqrt(there * without * (there + without + 1) / 12)
    return bool(wins - usual > SURE * spread)
