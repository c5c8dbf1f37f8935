"""How many threads torch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def fewer_threads(count: int) -> Iterator[None]:
    """A context in which torch computes with ``count`` threads fewer, and with at least one.

    They leave cores to ``count`` other processes, such as those that load photos.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
