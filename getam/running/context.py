"""Device, number of processes and folders of a run. No result depends on them.

torch is imported only when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from getam.errors import UserError
from getam.training import distributed

if TYPE_CHECKING:
    from getam.data.corrections import Corrections
    from getam.data.index import DataIndex
    from getam.data.review import Review

DEVICES = ("cpu", "cuda")  # the stages need float64, which others such as mps do not have
READERS = 8  # each holds a whole photo while it decodes it


@dataclass
class Context:
    """The parts of a run on which no result depends: folders, device, workers, progress.

    ``index`` is the user's data set, read once, with the ``review`` of its photos and only the
    classes of the run. ``on_disk`` is the same without both. For COCO they have only the photos.
    ``files`` maps a setting such as ``classifier.weights`` to the local file that it names. The
    setting itself then has the content digest of the file. ``intensities`` are those of photos with
    more than 8 bits, if there are any. ``corrections`` are the masks of ``data.corrections``.
    """

    root: Path | None = None
    index: DataIndex | None = None
    on_disk: DataIndex | None = None
    review: Review | None = None
    saliency: Path | None = None
    intensities: tuple[float, float] | None = None
    corrections: Corrections | None = None
    wanted_device: str | None = None
    wanted_workers: int | str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    track: Callable[..., Any] = lambda iterable, **_: iterable

    @cached_property
    def device(self) -> str:
        """The device of ``--device``; without this option a GPU, or the CPU if there is no GPU.

        Raises:
            UserError: it is neither a CPU nor a CUDA device, or torch cannot use it.
        """
        import torch

        if self.wanted_device is None:
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.wanted_device.partition(":")[0] not in DEVICES:
            raise UserError(
                f"--device {self.wanted_device}: expected cpu, cuda, or cuda: and the number of a "
                f"GPU. Use cpu."
            )
        try:
            torch.empty(1, device=self.wanted_device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"--device {self.wanted_device}: torch cannot use it ({reason}). Use cpu, or "
                f"install a version of torch for this device."
            ) from None
        return self.wanted_device

    @property
    def workers(self) -> int:
        """Worker processes for work on the CPU. The processes of a team share a machine's cores."""
        wanted = _cores() if self.cluster else self.wanted_workers or _cores()
        return max(1, wanted // distributed.count_here())

    @property
    def readers(self) -> int:
        """Threads that decode photos ahead of a network."""
        return min(self.workers, READERS)

    @property
    def cluster(self) -> str | None:
        """The address ``tcp://HOST:PORT`` of the Dask scheduler in ``--workers``; else None."""
        if not isinstance(self.wanted_workers, str):
            return None
        return self.wanted_workers.replace("dask://", "tcp://", 1)

    @property
    def loader_workers(self) -> int:
        """Processes that load and augment photos in training.

        On a CPU one for every four cores, because training itself uses the cores: in the example a
        step takes 12 times as much processor time as augmenting its photos.
        """
        return min(self.workers // 4 if self.device == "cpu" else self.workers, 16)

    def file(self, name: str, setting: str) -> str:
        """The local file that a setting names; the setting itself if it names no file."""
        return str(self.files.get(name, setting))


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)
