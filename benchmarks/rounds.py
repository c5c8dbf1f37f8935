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
    contenders: dict[str, Callable[[], object]], rounds: int, device: str
) -> Iterator[dict[str, float]]:
    """Yield, for each round, the seconds of one run of each contender.

    Every second round is in reverse order. A first round, to warm up, is not counted.
    """
    for number in range(-1, rounds):
        seconds = {}
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            _wait(device)
            start = time.perf_counter()
            contenders[name]()
            _wait(device)
            seconds[name] = time.perf_counter() - start
        if number >= 0:
            yield seconds


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


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
) -> None:
    """Print the ratios, then the values in their unit. Write all of it as JSON if asked."""
    for name, ratio in ratios.items():
        click.echo(f"{name:28} {ratio:8.2f}")
    for name, figure in figures.items():
        click.echo(f"{name:28} {figure:8.2f} {unit}")
    if json_file:
        found = {"ratios": ratios, unit: figures, "seconds": taken, "settings": settings}
        json_file.write_text(json.dumps(found, indent=1) + "\n")
