"""Work whose results are images: on a GPU photos of one size together, else each by a process.

A :class:`Work` says how a photo is read, computed and written, such as the pseudo labels of the
stage pseudolabels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import joblib

from getam.data.ahead import batches, read_ahead
from getam.data.alike import groups_of_alike
from getam.labels.photo_batch import batch_bytes, photo_bytes
from getam.running.processes import OncePerProcess, process_pool, processes

if TYPE_CHECKING:
    from getam.data.index import Record
    from getam.labels.photo_batch import Photo
    from getam.running.context import Context

__all__ = ["Work", "on_device", "written"]

CHUNK = 8  # photos that a worker gets at a time
WAITING = 4  # batches' worth of photos that may wait on a GPU for others of their size


class Work(Protocol):
    """What is done with photos. Can be sent to worker processes.

    Attributes:
        dilations: of PAMR, which the memory of a photo depends on.
        slow_to_write: writing takes so long that processes should do it.
        read: reads a photo.
        compute: the results of photos of one kind, computed on a device.
        write: writes one result.
    """

    dilations: Sequence[int]
    slow_to_write: bool
    read: Callable[[Record], Photo]
    compute: Callable[..., list[Any]]
    write: Callable[[Any], None]


def written(work: Work, records: Sequence[Record], context: Context) -> Iterator[int]:
    """Do the work on the GPU, or by processes or a Dask cluster if there is no GPU or a cluster is
    named. Yields how many more photos are done."""
    if context.device.startswith("cuda") and context.cluster is None:
        yield from on_device(work, records, context.device, context.workers)
        return
    one_by_one = OncePerProcess(OneByOne(work))
    with processes(context) as parallel:
        yield from parallel(joblib.delayed(one_by_one)(chunk) for chunk in batches(records, CHUNK))


class OneByOne:
    """Does the work on some photos one after the other, on the CPU; returns their number."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def __call__(self, records: Sequence[Record]) -> int:
        for record in records:
            self.work.write(self.work.compute([self.work.read(record)])[0])
        return len(records)


def on_device(work: Work, records: Sequence[Record], device: str, workers: int) -> Iterator[int]:
    """Compute photos of one size together on a device, and write the results. Yields 1 for each.

    Threads read the next photos and write the last results meanwhile; what is slow to write,
    processes write. There are ``workers`` of each.
    """
    read = read_ahead(work.read, records, 2 * workers, workers)
    limit = batch_bytes(device)
    groups = groups_of_alike(
        (photo for _, photo in read),
        lambda photo: photo.inputs.kind,
        lambda photo: photo_bytes(photo.inputs, work.dilations),
        most=limit,
        waiting=WAITING * limit,
    )

    def compute(photos: list[Photo]) -> list[Any]:
        return work.compute(photos, device, at_once=True)

    computed = (one for _, some in read_ahead(compute, groups, 2, workers=1) for one in some)
    if not work.slow_to_write:
        yield from (1 for _ in read_ahead(work.write, computed, 2 * workers, workers))
        return
    with process_pool(workers) as writers:
        write = OncePerProcess(work.write)
        yield from (1 for _ in read_ahead(write, computed, 2 * workers, writers))
