"""Keys of a small run, and which stages differ between two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from getam.config.loading import load_config
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import TINY

ALL = ("classifier", "maps", "pseudolabels", "deeplab", "predictions", "doubt", "evaluation")
FROM = {stage: ALL[n:] for n, stage in enumerate(ALL)}
END_TO_END = ("endtoend", "predictions", "doubt", "evaluation")


def keys(place: Path, *more: str, **options: Any) -> dict[str, str]:
    settings = ("data.kind=folder", f"data.root={place / 'data'}", *TINY, *more)
    runner = open_runner(chain, load_config((), settings), place / "artifacts", **options)
    return {decision.stage: decision.key for decision in runner.plan()}


def differing(one: dict[str, str], other: dict[str, str]) -> tuple[str, ...]:
    return tuple(stage for stage in one if one[stage] != other.get(stage))
