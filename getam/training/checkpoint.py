"""The state of a training, kept in a file so that a killed one goes on from it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from getam.errors import UserError

if TYPE_CHECKING:
    from getam.cache import Pieces


@dataclass
class History:
    """Training curves: one row of named figures per epoch; a figure may be a list of numbers."""

    epochs: list[dict[str, Any]] = field(default_factory=list)


class Checkpoint:
    """Everything a training needs to go on: weights, optimiser, scaler, step, curves.

    Args:
        path: the file, one of the ``pieces`` of the stage: a damaged one is as absent.
    """

    def __init__(
        self, path: Path, pieces: Pieces, network: nn.Module, optimizer: Any, scaler: Any
    ) -> None:
        self.path, self.pieces = path, pieces
        self.parts = {"network": network, "optimizer": optimizer, "scaler": scaler}
        self.running: dict[str, Tensor] = {}
        self.every = float(os.environ.get("GETAM_CHECKPOINT_SECONDS", "60"))
        self.last = time.monotonic()

    def load(self) -> tuple[int, History]:
        """Put the parts into the state of the file, if there is one; its step and curves."""
        if not self.pieces.has(self.path):
            return 0, History()
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            # A scaler that does nothing, as in any precision but fp16, has no state. The training
            # may go on in another precision, with a scaler that begins anew.
            if name != "scaler" or (state[name] and part.is_enabled()):
                part.load_state_dict(state[name])
        self.running = state["running"]
        return state["step"], History(state["epochs"])

    def is_due(self) -> bool:
        return time.monotonic() - self.last >= self.every

    def save(self, step: int, history: History, running: dict[str, Tensor]) -> None:
        """Replace the file.

        Raises:
            UserError: a weight or the loss is not finite. The file then stays as it was.
        """
        check_finite("loss", running.get("loss"), step)
        for name, weights in self.parts["network"].named_parameters():
            check_finite(f"weight {name}", weights, step)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"step": step, "epochs": history.epochs, "running": running}
        with (
            self.pieces.write(self.path, flush=True) as temporary,
            open(temporary, "wb") as stream,
        ):
            torch.save(state, stream)
        self.last = time.monotonic()


def check_finite(what: str, value: Tensor | None, step: int) -> None:
    """
    Raises:
        UserError: a number in it is not finite.
    """
    if value is None or torch.isfinite(value).all():
        return
    raise UserError(
        f"Training diverged: the {what} is no longer a finite number at step {step}. Lower "
        f"lr_encoder and lr_head of this stage, or give it a longer warmup. Its last checkpoint "
        f"is as it was."
    )
