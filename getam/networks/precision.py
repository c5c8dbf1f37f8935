"""The floating-point precision that networks compute in."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch

__all__ = ["autocast", "gradient_scaler"]

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: str | torch.device) -> AbstractContextManager:
    """A context in which torch computes in ``fp32``, ``bf16``, ``fp16`` or ``auto``.

    ``auto`` is bf16 on a GPU that supports it, fp16 on another GPU, fp32 on a CPU. bf16 halves the
    time on a GPU, and on a CPU with instructions for it (AVX512-BF16, AMX). On another CPU bf16 is
    far slower than fp32; a warning then says so once.
    """
    kind = torch.device(device).type
    dtype = DTYPES[_resolved(precision, kind)]
    if kind == "cpu" and dtype is torch.bfloat16:
        _warn_without_instructions()
    return nullcontext() if dtype is None else torch.autocast(kind, dtype)


def gradient_scaler(precision: str, device: str | torch.device) -> torch.amp.GradScaler:
    """A scaler that keeps small ``fp16`` gradients above 0; in other precisions it does nothing."""
    kind = torch.device(device).type
    enabled = kind == "cuda" and _resolved(precision, kind) == "fp16"
    return torch.amp.GradScaler(kind, enabled=enabled)


def _resolved(precision: str, kind: str) -> str:
    if precision != "auto":
        return precision
    if kind != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


@cache
def _warn_without_instructions() -> None:
    if not _cpu_has_bf16():
        warnings.warn(
            "precision: got bf16 on a CPU that has no instructions for it. It is far slower than "
            "fp32 there. Leave out the preset bf16, or set each precision to fp32.",
            stacklevel=3,
        )


def _cpu_has_bf16() -> bool:
    """Whether the CPU has instructions for bf16; True if torch is too old to tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    names = torch.cpu.get_capabilities()
    return any(names.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
