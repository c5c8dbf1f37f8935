"""Functions that the benchmarks of tensors share: timing in rounds, and printing the result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch

Seconds = dict[str, float]


def time_rounds(
    contenders: dict[str, Callable[[], object]],
    rounds: int,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[dict[str, float]]:
    """Yield, for each round, the seconds of one run of each contender.

    Every second round is in reverse order. A first round, to warm up, is not counted.
    `time.process_time` as the clock leaves out the time in which other programs had the core.
    """
    for number in range(-1, rounds):
        seconds = {}
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            wait(device)
            start = clock()
            contenders[name]()
            wait(device)
            seconds[name] = clock() - start
        if number >= 0:
            yield seconds


def wait(device: str) -> None:
    """Wait until a GPU has done all its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peaks(contenders: dict[str, Callable[[], object]], device: str) -> dict[str, float]:
    """The peak of the GPU memory in MiB while each contender runs once; nothing on a CPU."""
    if not device.startswith("cuda"):
        return {}
    found = {}
    for name, contender in contenders.items():
        torch.cuda.reset_peak_memory_stats()
        contender()
        found[name] = peak_mib(device)
    return found


def peak_mib(device: str) -> float | None:
    """The peak of the GPU memory in MiB; None on a CPU."""
    return torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else None


def copy_bandwidth(device: str, bytes_: int = 1 << 28, rounds: int = 5) -> float:
    """Bytes that a copy reads and writes per second, in the best round."""
    source = torch.zeros(bytes_ // 4, device=device)
    target = torch.ones_like(source)
    best = float("inf")
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        target.copy_(source)
        wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * bytes_ / best


def best_rounds(taken: Sequence[Seconds]) -> Seconds:
    """The best round of each contender, because other work on the machine can only add time."""
    return {name: min(seconds[name] for seconds in taken) for name in taken[0]}


def tell(
    ratios: Mapping[str, float],
    figures: Mapping[str, float],
    unit: str,
    taken: Sequence[Seconds],
    json_file: Path | None,
    settings: Mapping[str, Any],
    memory: Mapping[str, float] | None = None,
) -> None:
    """Print the ratios, then the values in their unit. Write all of it as JSON if asked."""
    for name, ratio in ratios.items():
        click.echo(f"{name:28} {ratio:8.2f}")
    for name, figure in figures.items():
        click.echo(f"{name:28} {figure:8.2f} {unit}")
    for name, mib in (memory or {}).items():
        click.echo(f"{name:28} {mib:8.0f} MiB on the GPU")
    if json_file:
        found = {"ratios": ratios, unit: figures, "seconds": taken, "settings": settings}
        found["peak GPU MiB"] = memory or {}
        json_file.write_text(json.dumps(found, indent=1) + "\n")
