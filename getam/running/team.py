"""One run by several processes, started by torchrun.

    torchrun --nproc-per-node 8 pipeline.py run --config ...

The process of rank 0 leads: it alone plans, holds the locks, and writes into the artifacts
folder's records; it is the run that one process would be. For each stage of ``together`` it sends
the job to the others, which until then wait, and all call the stage's function together. There
each process takes its share (``getam.training.distributed``): shards of the maps, batches to
predict, its part of each training batch. So the results are those of one process, and no key knows
the number of processes. The other stages are the leader's, with all its cores.

All processes need the same code, and the data and artifacts folders at the same paths. When one
fails, torchrun ends the others; the next run goes on from the shards and checkpoints.
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

_PATIENCE = timedelta(days=30)  # a stage of the leader's alone may take long


class Team:
    """The processes of a run, as one of them sees it."""

    def __init__(
        self, group: distributed.Group, device: str | None, together: Collection[str]
    ) -> None:
        self.group, self.device, self.together = group, device, together
        self.leads = group.rank == 0

    def call(self, function: Callable[[Job], Any], job: Job) -> Mapping[str, Any] | None:
        """Call a stage, where it is one of those together with the helpers."""
        if self.group.count == 1 or job.stage not in self.together:
            return function(job)
        self._send((function.__module__, function.__name__, job))
        with distributed.together(self.group):
            return function(job)

    def help(self) -> None:
        """Take part in what the leader calls, until it has no more."""
        while (task := self._send(None)) is not None:
            module, name, job = task
            context = replace(job.context, wanted_device=self.device, track=_silent)
            with distributed.together(self.group):
                getattr(import_module(module), name)(replace(job, context=context))

    def dismiss(self) -> None:
        """Tell the helpers that there is no more."""
        if self.group.count > 1:
            self._send(None)

    def _send(self, task: Any) -> Any:
        """The leader's object, on every process."""
        import torch.distributed

        sent = [task]
        torch.distributed.broadcast_object_list(sent, src=0, group=self.group.control)
        return sent[0]


@contextmanager
def open_team(device: str | None, together: Collection[str]) -> Iterator[Team]:
    """The team of this process; alone, unless torchrun started several.

    ``together`` names the stages that all processes run; the others are the leader's alone.

    Raises:
        UserError: accelerate is not installed, or a device that several processes cannot share.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Team(distributed.Group(0, 1, None), device, together)
        return
    if device not in (None, "cpu"):
        raise UserError(
            f"--device {device}: under torchrun each process takes a GPU of its own. Leave "
            f"--device out, or take cpu."
        )
    try:
        from accelerate import PartialState
    except ImportError:
        raise UserError(
            "Several processes need accelerate, which is not installed: pip install "
            "'getam[distributed]'."
        ) from None
    import torch.distributed

    watch_parent()  # torchrun, which may be killed
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    control = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    group = distributed.Group(state.process_index, state.num_processes, control)
    team = Team(group, str(state.device), together)
    yield team
    # Not after an error: then the helpers may be anywhere, and torchrun ends them.
    if team.leads:
        team.dismiss()
    torch.distributed.destroy_process_group()


def _silent(iterable: Any, **_: Any) -> Any:
    return iterable
