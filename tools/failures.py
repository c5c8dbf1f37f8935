"""Shows where predictions fail: wrong classes, and objects found or missed, by object size.

    python tools/failures.py OUT.png --masks DATA/masks --classes DATA/classes.txt \\
        "own features=artifacts/predictions/KEY/predictions" ...

Each argument is a line and a folder of its predictions. Several folders of one line, such as those
of several seeds, are counted together. A prediction and its mask are PNGs of the same name: 0
background, 1..C, in masks 255 ignore. The numbers in the picture are printed too.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure

from getam.data.label_values import IGNORE
from getam.data.masks import read_mask
from getam.data.photo_lists import read_lines
from getam.metrics.segmentation import ConfusionMatrix

EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Bounds of the bins by size: the share of the photo that its objects cover."""


class Line:
    """Counts the pixels of all predictions of one line."""

    def __init__(self, classes: int) -> None:
        self.confusion = ConfusionMatrix(classes)
        self.sizes = [ConfusionMatrix(classes) for _ in EDGES[1:]]

    def count(self, prediction: np.ndarray, mask: np.ndarray) -> None:
        known = mask[mask != IGNORE]
        if not known.size:
            return
        self.confusion.update(prediction, mask)
        share = np.count_nonzero(known) / known.size
        self.sizes[max(0, np.searchsorted(EDGES, share) - 1)].update(prediction, mask)

    def found(self) -> np.ndarray:
        """(bins,) share of the object pixels that are predicted as any class; nan if none."""
        return np.array([ratio(m.matrix[1:, 1:-1].sum(), m.matrix[1:].sum()) for m in self.sizes])

    def named(self) -> np.ndarray:
        """(bins,) share of these pixels that are predicted as the right class; nan if none."""
        pairs = [m.matrix[1:, 1:-1] for m in self.sizes]
        return np.array([ratio(np.trace(pair), pair.sum()) for pair in pairs])

    def becomes(self) -> np.ndarray:
        """(classes, classes) share of each true class (row) that is predicted as each class."""
        counts = self.confusion.matrix[:, :-1]
        return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@click.command(help=__doc__.partition("\n")[0])
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("folders", nargs=-1, required=True, metavar="LINE=FOLDER...")
@click.option("--masks", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--classes", "file", required=True, type=click.Path(exists=True, path_type=Path))
def main(output: Path, folders: tuple[str, ...], masks: Path, file: Path) -> None:
    names = ["background", *(name for _, name in read_lines(file))]
    lines: dict[str, Line] = {}
    for given in folders:
        name, _, folder = given.partition("=")
        predictions = sorted(Path(folder).glob("*.png"))
        if not folder or not predictions:
            raise click.ClickException(
                f"Got {given!r}, expected LINE=FOLDER with a folder of predictions, ID.png."
            )
        line = lines.setdefault(name, Line(len(names)))
        for path in predictions:
            line.count(read_mask(path), read_mask(masks / path.name))
    for name, line in lines.items():
        click.echo(f"{name}: mIoU {100 * line.confusion.miou():.1f} of all pixels together")
        for true, row in zip(names, line.becomes()):
            click.echo(f"  {true:<12}" + " ".join(f"{100 * value:5.1f}" for value in row))
        click.echo("  found       " + " ".join(f"{100 * value:5.1f}" for value in line.found()))
        click.echo("  named       " + " ".join(f"{100 * value:5.1f}" for value in line.named()))
    draw(output, lines, names)


def draw(output: Path, lines: dict[str, Line], names: list[str]) -> None:
    """Draw a confusion matrix per line, and two panels of bars by object size."""
    figure = Figure(figsize=(4.4 * len(lines) + 6, 4.6), layout="constrained")
    panels = figure.subplots(1, len(lines) + 2, width_ratios=[4.4] * len(lines) + [3, 3])
    ticks = np.arange(len(names))
    for axes, (name, line) in zip(panels, lines.items()):
        shares = line.becomes()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(shares):
            colour = "white" if value > 0.5 else "black"
            axes.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", color=colour, size=8
            )
        axes.set_xticks(ticks, names, rotation=60)
        axes.set_yticks(ticks, names)
        axes.set(title=f"{name}\n% of each true class (row)", xlabel="is called")
    edges = [f"{100 * low:.0f}-{100 * high:.0f}" for low, high in pairwise(EDGES)]
    bins, width = np.arange(len(edges)), 0.8 / len(lines)
    for axes, (title, measure) in zip(
        panels[-2:], (("object found", Line.found), ("of that, right class", Line.named))
    ):
        for n, (name, line) in enumerate(lines.items()):
            axes.bar(bins + (n + 0.5) * width - 0.4, 100 * measure(line), width, label=name)
        axes.set_xticks(bins, edges, rotation=60)
        axes.set_yticks(range(0, 101, 20))
        axes.set(title=f"{title}, % of pixels", xlabel="object, % of the image", ylim=(0, 125))
        axes.legend(fontsize="small", loc="upper left")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=80)


if __name__ == "__main__":
    main()
