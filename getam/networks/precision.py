"""The floating-point precision that networks compute in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from getam.networks.processor import fast_in_bf16

__all__ = ["autocast", "gradient_scaler"]

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
AMPERE = (8, 0)  # the first compute capability with bf16
LARGEST_PRODUCT = 1 << 23  # attention weights of a block and a batch that training may keep


def autocast(precision: str, device: str | torch.device) -> AbstractContextManager:
    """A context in which torch computes in ``fp32``, ``bf16``, ``fp16`` or ``auto``.

    ``auto`` is bf16 on a GPU, and on a CPU that is faster in it (:func:`fast_in_bf16`), where it
    takes about half of the time; fp16 on an NVIDIA GPU older than Ampere, which torch only lets
    emulate bf16; and fp32 on any other CPU. A warning says once if bf16 is named on a CPU that is
    slower in it.
    """
    kind = torch.device(device).type
    dtype = DTYPES[_resolved(precision, torch.device(device))]
    if kind == "cpu" and dtype is torch.bfloat16:
        _warn_of_slow_bf16()
        return _bf16_on_a_cpu()
    return nullcontext() if dtype is None else torch.autocast(kind, dtype)


def gradient_scaler(precision: str, device: str | torch.device) -> torch.amp.GradScaler:
    """A scaler that keeps small ``fp16`` gradients above 0; in other precisions it does nothing."""
    kind = torch.device(device).type
    enabled = kind == "cuda" and _resolved(precision, torch.device(device)) == "fp16"
    return torch.amp.GradScaler(kind, enabled=enabled)


def _resolved(precision: str, device: torch.device) -> str:
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if _gpu_has_bf16(device) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_is_fast() else "fp32"


def _gpu_has_bf16(device: torch.device) -> bool:
    """Whether the GPU itself computes in bf16. ``is_bf16_supported`` also counts emulation."""
    if torch.version.hip is not None:
        return torch.cuda.is_bf16_supported()
    return torch.cuda.get_device_capability(device) >= AMPERE


@contextmanager
def _bf16_on_a_cpu() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16), _AttentionByProducts():
        yield


class _AttentionByProducts(TorchFunctionMode):
    """Attention that is trained is computed as two matrix products and a softmax.

    torch's fused attention has a slow backward pass in bf16 on a CPU: with it a block takes 1.3 to
    3 times as long. Where nothing is trained the fused one is faster. It is also taken where the
    attention weights would need much memory, and with a mask or dropout.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if function is F.scaled_dot_product_attention and len(args) == 3 and _unset(options):
            query, key, value = args
            weights = query.shape[:-1].numel() * key.shape[-2]
            if query.requires_grad and weights <= LARGEST_PRODUCT:
                return _attention(query, key, value)
        return function(*args, **options)


def _unset(options: dict[str, Any]) -> bool:
    """Whether there is no mask, dropout or other option."""
    return not any(isinstance(value, Tensor) or value for value in options.values())


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scaled = query * query.shape[-1] ** -0.5
    return (scaled @ key.transpose(-2, -1)).softmax(-1) @ value


@cache
def _warn_of_slow_bf16() -> None:
    if _cpu_is_fast() is False:
        warnings.warn(
            "precision: got bf16 on a CPU that is slower in it than in fp32. Only AMX, and the "
            "AVX512-BF16 of AMD, make it faster. Leave out the preset bf16, or set each precision "
            "to fp32.",
            stacklevel=3,
        )


_cpu_is_fast = cache(fast_in_bf16)
