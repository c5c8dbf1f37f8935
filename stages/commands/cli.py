"""The command line of what looks at a run: parses and calls. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import click

from getam.config import load_config
from getam.view.progress import track
from stages.commands.options import with_config

file_argument = click.Path(path_type=Path)


@click.command()
@with_config
@click.argument("stage", type=click.Choice(["maps", "pseudolabels", "evaluation"]))
@click.argument("images", nargs=-1)
@click.option("--class", "class_name", help="This class alone.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Of the line around a map; by default the best one of the evaluation, else 0.5.",
)
@click.option(
    "-o", "output", type=file_argument, default="inspect", show_default=True, help="Folder."
)
def inspect(
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    artifacts: Path,
    stage: str,
    images: tuple[str, ...],
    class_name: str | None,
    threshold: float | None,
    output: Path,
) -> None:
    """What STAGE made: a table, or of IMAGES (ids) overlays as PNG files.

    An overlay shows the image, its maps as heat with a line at the threshold, its label or
    prediction, and the ground truth where there is one.
    """
    from stages.commands.current import CurrentRun
    from stages.commands.inspect import overlays, table

    run = CurrentRun(load_config(configs, assignments), artifacts)
    if not images:
        click.echo(table(run, stage, class_name, track))
        return
    for path in overlays(run, stage, images, class_name, threshold, output):
        click.echo(path)


@click.command()
@with_config
@click.option(
    "-o", "output", type=file_argument, default="report.html", show_default=True, help="File."
)
@click.option(
    "--images", type=click.IntRange(1), default=120, show_default=True, help="In the gallery."
)
def report(
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    artifacts: Path,
    output: Path,
    images: int,
) -> None:
    """One HTML file about a run: figures, curves, and a gallery. Loads nothing from elsewhere."""
    from stages.commands.current import CurrentRun
    from stages.commands.report import write_report

    run = CurrentRun(load_config(configs, assignments), artifacts)
    size = write_report(run, output, images, track)
    click.echo(f"{output}  {size / 1e6:.1f} MB")


COMMANDS = (inspect, report)
