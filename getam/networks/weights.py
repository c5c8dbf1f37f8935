"""Weights from files, which are read as numbers and never run.

A PyTorch file is a pickle, which can hold code that runs when it is loaded. `torch.load` runs none
with ``weights_only=True``; timm decides about that by its version, so it is decided here.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from timm.models import load_checkpoint
from torch import Tensor, nn

from getam.errors import UserError
from getam.networks.hub_weights import as_timm

__all__ = ["ENCODER", "check_arguments", "load_weights", "only_weights"]

ENCODER = "encoder."  # where a network with a decoder keeps its encoder's weights
HEADS = tuple(f"{part}." for part in ("head", "head_dist", "fc", "classifier"))

_FORCE, _FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@contextmanager
def only_weights() -> Iterator[None]:
    """Within it every `torch.load` of this process is one with ``weights_only=True``.

    >>> with only_weights():
    ...     os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
    '1'
    """
    found = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in found.items() if value is not None})


def check_arguments(where: str, names: Iterable[str]) -> None:
    """Refuse arguments of `timm.create_model` that make it read files or the network.

    >>> check_arguments("model_args", {"depth": 12})
    """
    for name in names:
        if name in ("checkpoint_path", "cache_dir") or name.startswith("pretrained"):
            raise UserError(
                f"{where}: got {name}, which makes timm load weights by itself. Remove it, and "
                "name the file of the weights in the setting weights."
            )


def load_weights(network: nn.Module, file: Path, name: str) -> None:
    """Load a local file as timm would, but insist that the whole encoder is in it.

    Args:
        network: the model to fill; a head of another size stays as it is.
        file: safetensors, a PyTorch state dict, or the .npz file of the original ViT.
        name: that of the model, for messages.

    Raises:
        UserError: the file is missing, damaged, holds more than tensors, or is of another model.
    """
    if not file.is_file():
        raise UserError(
            f"{file}: these weights are missing, expected a safetensors or PyTorch file, or one "
            f"of 'timm', 'none'."
        )
    try:
        with only_weights():
            keys = load_checkpoint(
                network,
                str(file),
                strict=False,
                filter_fn=_fitting(network),
                weights_only=True,
            )
    except Exception as error:  # safetensors, pickle and shape errors have no common kind
        raise _refusal(file, name, error) from None
    missing = [key for key in keys.missing_keys if not key.startswith(HEADS)] if keys else []
    if missing:
        raise UserError(
            f"{file}: these weights do not belong to {name}: {len(missing)} of "
            f"{len(network.state_dict())} tensors are missing, the first is {missing[0]!r}. Set "
            "the model that they were made with."
        )


def _fitting(network: nn.Module):
    """What timm does to a state dict of the architecture, without heads that do not fit."""
    own = network.state_dict()

    def is_other(key: str, value: Tensor) -> bool:
        return key not in own or own[key].shape != value.shape

    def fit(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        state = as_timm(state)
        inner = {k[len(ENCODER) :]: v for k, v in state.items() if k.startswith(ENCODER)}
        state = inner or state
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = convert(state, model) if convert else state
        return {k: v for k, v in state.items() if not (k.startswith(HEADS) and is_other(k, v))}

    return fit


def _refusal(file: Path, name: str, error: Exception) -> UserError:
    if isinstance(error.__cause__ or error, pickle.UnpicklingError):
        return UserError(
            f"{file}: cannot load these weights into {name}: the file is damaged, or it holds "
            "Python objects beside tensors, which can run code and are never loaded. Expected a "
            "state dict alone: save it as safetensors, or with torch.save(model.state_dict())."
        )
    reason = " ".join(str(error).split())[:200]
    return UserError(
        f"{file}: cannot load these weights into {name} ({reason}). Expected a whole "
        f"safetensors or PyTorch state dict of this architecture."
    )
