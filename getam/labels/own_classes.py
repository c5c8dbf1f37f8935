"""What a network says about a photo whose classes are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["among", "as_present", "highest", "own_shares"]

TINY = 1e-12
Array = TypeVar("Array", np.ndarray, "Tensor")
TOP = 0.01  # share of the pixels of a photo in which a class must be seen
LEAST = 0.05  # no probability is raised more than this allows: twentyfold


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


def own_shares(probabilities: Array, classes: np.ndarray | list[int]) -> Array:
    """What :func:`among` gives, only of background and the classes of the photo, in their order.

    ``probabilities`` is an array, or a tensor on any device.

    >>> cow_or_dog = np.array([0.3, 0.1, 0.6], np.float32).reshape(3, 1, 1)
    >>> [round(float(p), 3) for p in own_shares(cow_or_dog, np.array([0, 1])).ravel()]
    [0.3, 0.7]
    """
    found = probabilities[classes]  # a copy
    found[1:] *= (1 - probabilities[0]) / found[1:].sum(0).clip(TINY)
    return found


def highest(values: np.ndarray) -> float:
    """How clearly a class is seen: the mean of the highest hundredth of its values.

    >>> highest(np.array([[0.2, 0.9], [0.0, 0.1]]))
    0.9
    """
    flat = values.ravel()
    count = max(1, int(len(flat) * TOP))
    return float(np.partition(flat, -count)[-count:].mean())


def as_present(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The probabilities of a photo that is known to have all of these classes.

    A network that has seldom seen a class is sure of it nowhere: of a hat it may say 0.3, and
    background 0.5. But the photo has a hat somewhere. So the probabilities of each class are
    divided by their :func:`highest` in the photo, then those of each pixel are made to add up to 1
    again. A class that is seen clearly somewhere stays as it is.

    Args:
        parts: (K, h, w) of each part of the photo; background first, which is not divided.

    >>> hat = np.array([[[0.7, 0.9]], [[0.3, 0.1]]])
    >>> as_present([hat])[0].round(2).tolist()
    [[[0.41, 0.73]], [[0.59, 0.27]]]
    """
    classes = range(1, len(parts[0]))
    seen = [highest(np.concatenate([part[c].ravel() for part in parts])) for c in classes]
    scale = np.array([1, *(max(LEAST, value) for value in seen)], np.float32)[:, None, None]
    raised = [part / scale for part in parts]
    return [part / part.sum(0).clip(TINY) for part in raised]
