"""Whether this processor is faster in bfloat16 than in float32. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["fast_in_bf16"]

ROOT = Path("/")


def fast_in_bf16(root: Path = ROOT) -> bool | None:
    """Whether networks are faster in bfloat16: by AMX (``amx_bf16``), or by AVX512-BF16 of AMD.

    Intel's AVX512-BF16 does no more in a second than its float32, and converting costs time: where
    a virtual machine hides AMX, training a ViT takes 1.4 to 1.7 times as long as in float32
    (measured on an Emerald Rapids, ``docs/performance.md``).

    Args:
        root: where ``proc`` is.

    Returns:
        None if it is not known: a processor of ARM, or a system other than Linux.
    """
    file = root / "proc/cpuinfo"
    told = file.read_text("utf-8", "replace") if file.is_file() else ""
    flags = re.search(r"^flags\s*:(.*)$", told, re.MULTILINE)
    if flags is None:
        return None
    known = set(flags[1].split())
    return "amx_bf16" in known or ("avx512_bf16" in known and "AuthenticAMD" in told)
