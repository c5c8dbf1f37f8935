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


def perturbation_curves(
    path: Path, curves: Mapping[str, Mapping[str, Sequence[float]]], title: str
) -> None:
    """Plot the mean insertion and deletion curves, one line per map; controls are dashed."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    for place, (measure, verb) in enumerate((("insertion", "shown"), ("deletion", "removed"))):
        axes = figure.add_subplot(1, 2, place + 1)
        for name, curve in curves.items():
            style = "k--" if name == "random map" else "k:" if name == "centre prior" else "-"
            axes.plot(curve["shares"], curve[measure], style, label=name, linewidth=1.2)
        axes.set(
            xlabel=f"share of the patches that is {verb}",
            ylabel="probability of the class",
            title=f"{measure}, {title}",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        axes.legend(fontsize="x-small")
    figure.savefig(path, dpi=120)
