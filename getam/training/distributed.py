"""Several processes that compute one thing: which part is whose, and how the parts come together.

A process has a rank, 0 to count() - 1. Outside of ``together`` there is one process, and each
function here does nothing: code is written once. Nothing here imports torch before it is used.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


class Group(NamedTuple):
    """A process among others; ``control`` is the gloo group that objects are sent over."""

    rank: int
    count: int
    control: Any


_group: Group | None = None


@contextmanager
def together(group: Group) -> Iterator[None]:
    """Within, this process is one of ``group``; all of them must call the same functions."""
    global _group
    before, _group = _group, group
    try:
        yield
    finally:
        _group = before


def rank() -> int:
    return _group.rank if _group else 0


def count() -> int:
    return _group.count if _group else 1


def count_here() -> int:
    """Processes on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if _group else 1


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of the items: every count()-th.

    >>> share([3, 1, 2])
    [3, 1, 2]
    """
    return items[rank() :: count()]


def gather(items: Sequence[T]) -> list[T]:
    """What all processes made of their shares, in the order of the whole."""
    parts = _all(list(items))
    whole: list[Any] = [None] * sum(map(len, parts))
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole


def add_up(part: T) -> T:
    """The sum (``+``) over all processes, of counts and accumulators."""
    return functools.reduce(operator.add, _all(part))


def wait() -> None:
    """Until all processes are here."""
    if _group:
        import torch.distributed

        torch.distributed.barrier(group=_group.control)


def mean(tensor: Tensor) -> Tensor:
    """The mean over all processes; no gradient goes through it."""
    if not _group:
        return tensor
    import torch.distributed

    tensor = tensor.detach().clone()
    torch.distributed.all_reduce(tensor)
    return tensor / _group.count


def in_parallel(network: nn.Module) -> nn.Module:
    """A network whose gradients and batch statistics are those of all processes' batches.

    It shares its parameters with ``network``, whose batch normalisation is changed in place. On a
    CPU only ``nn.BatchNorm2d`` itself is joined, on a GPU also what is derived from it.
    """
    if not _group:
        return network
    from timm.layers import convert_sync_batchnorm
    from torch.nn.parallel import DistributedDataParallel

    from getam.training.batchnorm import join_batchnorm

    device = next(network.parameters()).device
    on_cpu = device.type == "cpu"
    network = join_batchnorm(network) if on_cpu else convert_sync_batchnorm(network)
    # A static graph allows for parameters that no loss depends on.
    places = None if on_cpu else [device]
    return DistributedDataParallel(network, device_ids=places, static_graph=True)


def _all(part: T) -> list[T]:
    """The object of each process, by rank."""
    if not _group:
        return [part]
    import torch.distributed

    parts: list[Any] = [None] * _group.count
    torch.distributed.all_gather_object(parts, part, group=_group.control)
    return parts
