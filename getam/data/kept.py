"""Small photos and labels stay in memory from one epoch of a training to the next."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

__all__ = ["kept"]

BYTES = 64 << 20  # 2,000 photos of 96 x 96 pixels with labels, in each process that loads photos

Arrays = tuple[np.ndarray, ...]


def kept(read: Callable[..., Arrays], most: int = BYTES) -> Callable[..., Arrays]:
    """``read``, which is called once for each of its arguments while there is room.

    Args:
        read: gives arrays that nothing changes later.
        most: what the arrays may have in all, in bytes. What is read after that is not kept.

    >>> calls = []
    >>> read = kept(lambda index: (calls.append(index) or np.zeros(4, np.uint8),), most=7)
    >>> for index in (0, 1, 0, 1):
    ...     _ = read(index)
    >>> calls
    [0, 1, 1]
    """
    found: dict[Hashable, Arrays] = {}
    left = most

    def get(*arguments: Hashable) -> Arrays:
        nonlocal left
        if arguments in found:
            return found[arguments]
        arrays = read(*arguments)
        size = sum(array.nbytes for array in arrays)
        if size <= left:
            found[arguments] = arrays
            left -= size
        return arrays

    return get
