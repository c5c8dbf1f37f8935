"""What a network says about a photo whose classes are known."""

from __future__ import annotations

import numpy as np

__all__ = ["among", "own_shares"]

TINY = 1e-12


def among(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Share the probabilities of all other classes among the classes of a photo.

    Background stays. What it leaves of 1 goes to the classes of the photo, in proportion to their
    probabilities: an object that looks like a class that the photo does not have is still an
    object. So it is the most similar one of the classes that the photo has.

    Args:
        probabilities: (K, h, w), which add up to 1; background first.
        classes: 0 first, then the class ids of the photo.

    Returns:
        (K, h, w), 0 for classes that the photo does not have.

    >>> cow_or_dog = np.array([0.3, 0.1, 0.6], np.float32).reshape(3, 1, 1)
    >>> [round(float(p), 3) for p in among(cow_or_dog, np.array([0, 1])).ravel()]
    [0.3, 0.7, 0.0]
    """
    found = np.zeros_like(probabilities)
    found[classes] = own_shares(probabilities, classes)
    return found


def own_shares(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """What :func:`among` gives, only of background and the classes of the photo, in their order.

    >>> cow_or_dog = np.array([0.3, 0.1, 0.6], np.float32).reshape(3, 1, 1)
    >>> [round(float(p), 3) for p in own_shares(cow_or_dog, np.array([0, 1])).ravel()]
    [0.3, 0.7]
    """
    found = probabilities[classes]  # a copy
    found[1:] *= (1 - probabilities[0]) / found[1:].sum(0).clip(TINY)
    return found
