"""One run by several processes, started by torchrun.

    torchrun --nproc-per-node 8 pipeline.py run --config ...

The process of rank 0 is the leader. It does what a single process would do: it plans, holds the
locks and writes the records of the artifacts folder. The other processes are helpers, which wait
for jobs. For each stage in ``together`` the leader sends the job to the helpers, and all processes
call the function of the stage. There each process does its share (``getam.training.distributed``):
some shards of the maps, some photos to label or predict, a part of each training batch. The leader
runs the other stages alone, with all cores.

The results are those of one process (in training only dropout differs), and no key depends on the
number of processes.

All processes need the same code, and the data and artifacts folders at the same paths. If one
process fails, torchrun ends the others. The next run resumes from the shards and checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from getam.cache import watch_parent
from getam.errors import UserError
from getam.training import distributed

if TYPE_CHECKING:
    from getam.cache import Job

_PATIENCE = timedelta(days=30)  # helpers wait this long while the leader runs a stage alone


class Team:
    """The processes of one run. Each process has its own object."""

    def __init__(
        self, group: distributed.Group, device: str | None, together: Collection[str]
    ) -> None:
        self.group, self.device, self.together = group, device, together
        self.leads = group.rank == 0

    def call(self, function: Callable[[Job], Any], job: Job) -> Mapping[str, Any] | None:
        """Call the function of a stage; for a stage in ``together`` the helpers call it too."""
        if self.group.count == 1 or job.stage not in self.together:
            return function(job)
        self._send((function.__module__, function.__name__, job))
        with distributed.together(self.group):
            return function(job)

    def help(self) -> None:
        """Run the jobs that the leader sends, until there are no more."""
        while (task := self._send(None)) is not None:
            module, name, job = task
            context = replace(job.context, wanted_device=self.device, track=_silent)
            with distributed.together(self.group):
                getattr(import_module(module), name)(replace(job, context=context))

    def dismiss(self) -> None:
        """Tell the helpers that there are no more jobs."""
        if self.group.count > 1:
            self._send(None)

    def _send(self, task: Any) -> Any:
        """Send ``task`` of the leader to all processes, and return it in each."""
        import torch.distributed

        sent = [task]
        torch.distributed.broadcast_object_list(sent, src=0, group=self.group.control)
        return sent[0]


@contextmanager
def open_team(device: str | None, together: Collection[str]) -> Iterator[Team]:
    """The team of this process. It has one member, unless torchrun started several processes.

    ``together`` names the stages that all processes run. The leader runs the others alone.

    Raises:
        UserError: accelerate is not installed, or several processes cannot share ``device``.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Team(distributed.Group(0, 1, None), device, together)
        return
    if device not in (None, "cpu"):
        raise UserError(
            f"--device {device}: under torchrun each process uses its own GPU, expected no "
            f"--device or cpu. Leave --device out, or set it to cpu."
        )
    try:
        from accelerate import PartialState
    except ImportError:
        raise UserError(
            "A run by several processes needs accelerate, which is not installed: pip install "
            "'getam[distributed]'."
        ) from None
    import torch.distributed

    watch_parent()  # torchrun, which may be killed
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    control = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    group = distributed.Group(state.process_index, state.num_processes, control)
    team = Team(group, str(state.device), together)
    yield team
    # Not reached after an error: then the helpers may be in any call, and torchrun ends them.
    if team.leads:
        team.dismiss()
    torch.distributed.destroy_process_group()


def _silent(iterable: Any, **_: Any) -> Any:
    return iterable
