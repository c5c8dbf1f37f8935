"""Plots as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

STYLES = {"none": "-", "pamr": "--", "crf": ":"}


def threshold_curves(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Plot the mIoU over the threshold: one colour per map method, one line style per refiner."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    colours = {method: f"C{n}" for n, method in enumerate(dict.fromkeys(r["method"] for r in rows))}
    for row in rows:
        axes.plot(
            row["thresholds"],
            row["curve"],
            STYLES[row["refiner"]],
            color=colours[row["method"]],
            label=f"{row['method']}, {row['refiner']}",
            linewidth=1.2,
        )
    axes.set(xlabel="threshold on the normalised map", ylabel="mIoU", title=title, xlim=(0, 1))
    axes.legend(fontsize="x-small", ncols=2)
    figure.savefig(path, dpi=120)
