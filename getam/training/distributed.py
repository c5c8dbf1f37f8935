"""Shares work among several processes, and joins their results.

A process has a rank, 0 to count() - 1. Outside of ``together`` there is one process, and the
functions return what they were given. So code is the same for one process and for several. torch is
imported only when it is used.
"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from getam.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")


class Group(NamedTuple):
    """The place of a process among others. ``control`` is the gloo group that sends objects."""

    rank: int
    count: int
    control: Any


_group: Group | None = None


@contextmanager
def together(group: Group) -> Iterator[None]:
    """A context in which this process is one of ``group``. All must call the same functions."""
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


def planned() -> int:
    """The number of processes that will train: also outside of ``together``, before a run."""
    return _group.count if _group else int(os.environ.get("WORLD_SIZE", 1))


def check_shares(batch_size: int, processes: int) -> None:
    """Whether all processes can get equal shares of a batch.

    Raises:
        UserError: they cannot.
    """
    if batch_size % processes:
        raise UserError(
            f"batch_size: got batches of {batch_size} images for {processes} processes, expected "
            f"a multiple of {processes}, so that all get equal shares. Set batch_size to one, and "
            f"give at least as many train photos."
        )


def count_here() -> int:
    """The number of processes on this machine; they share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if _group else 1


def share(items: Sequence[T]) -> Sequence[T]:
    """The items for this process: every count()-th.

    >>> share([3, 1, 2])
    [3, 1, 2]
    """
    return items[rank() :: count()]


def gather(items: Sequence[T]) -> list[T]:
    """Join the results of all processes for their shares, in the order of the items."""
    parts = _all(list(items))
    whole: list[Any] = [None] * sum(map(len, parts))
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole


def add_up(part: T) -> T:
    """The sum (``+``) of the parts of all processes, such as counts and accumulators."""
    return functools.reduce(operator.add, _all(part))


def wait() -> None:
    """Wait until all processes have called this function."""
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
    """Wrap a network: gradients and batch statistics become those of all processes' batches.

    The result shares its parameters with ``network``. The batch normalisation of ``network`` is
    replaced in place: on a CPU only ``nn.BatchNorm2d`` itself, on a GPU also its subclasses.
    """
    if not _group:
        return network
    from timm.layers import convert_sync_batchnorm
    from torch.nn.parallel import DistributedDataParallel

    from getam.training.batchnorm import join_batchnorm

    device = next(network.parameters()).device
    on_cpu = device.type == "cpu"
    network = join_batchnorm(network) if on_cpu else convert_sync_batchnorm(network)
    # A static graph allows parameters that no loss depends on.
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
