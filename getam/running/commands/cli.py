"""The command line of what looks at a run: parses and calls. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import click

from getam.config.loading import load_config
from getam.running.commands.options import device_option, with_config
from getam.running.method import current_method
from getam.view.progress import track

file_argument = click.Path(path_type=Path)


@click.command()
@with_config
@click.argument("stage", type=click.Choice(["maps", "foreground", "pseudolabels", "predictions"]))
@click.argument("images", nargs=-1)
@click.option("--class", "class_name", help="This class alone.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Of the line around a map; by default the best one of the evaluation, else 0.5, and for "
    "the foreground pseudolabels.saliency_threshold.",
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

    An overlay shows the image, its maps or foreground as heat with a line at the threshold, its
    label or prediction, and the ground truth where there is one.
    """
    from getam.running.commands.current import CurrentRun
    from getam.running.commands.inspect import overlays, table

    run = CurrentRun(current_method().chain, load_config(configs, assignments), artifacts)
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
    from getam.running.commands.current import CurrentRun
    from getam.running.commands.report import write_report

    run = CurrentRun(current_method().chain, load_config(configs, assignments), artifacts)
    size = write_report(run, output, images, track)
    click.echo(f"{output}  {size / 1e6:.1f} MB")


@click.command()
@with_config
@click.argument("images", nargs=-1, required=True, type=file_argument)
@click.option("-o", "output", type=file_argument, required=True, help="Folder.")
@click.option(
    "--network", type=file_argument, help="Folder of a network; by default that of the run."
)
@click.option("--crf", is_flag=True, help="Smooth with the dense CRF of predictions.crf.")
@click.option(
    "--tile",
    type=click.IntRange(64),
    default=4096,
    show_default=True,
    help="Photos with a longer side, in pixels, are cut into overlapping tiles of this side.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Tiles at a time."
)
@device_option
def predict(
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    artifacts: Path,
    images: tuple[Path, ...],
    output: Path,
    network: Path | None,
    crf: bool,
    tile: int,
    batch_size: int,
    device: str | None,
) -> None:
    """Label IMAGES, files or folders, with the trained network.

    Writes predictions/NAME.png (VOC palette), overlays/NAME.jpg and areas.json. Photos are turned
    upright by their EXIF orientation first; transparent ones are laid over white.
    """
    from getam.running.commands import predict as command

    config = load_config(configs, assignments)
    photos = command.find_images(images, output)
    segmenter, classes, intensities = command.open_segmenter(
        current_method().chain, config, network, artifacts, device
    )
    smoothing = config.predictions.crf.model_dump(exclude={"enabled"}) if crf else None
    count = command.predict(
        segmenter,
        classes,
        photos,
        output,
        tile=tile,
        batch_size=batch_size,
        crf=smoothing,
        intensities=intensities,
        track=track,
        say=lambda message: click.echo(f"note: {message}", err=True),
    )
    click.echo(f"{count} photos: {output / 'areas.json'}")


@click.command()
@with_config
@click.option(
    "--format",
    "kind",
    type=click.Choice(["coco", "onnx", "voc"]),
    required=True,
    help="coco, voc: labels for annotation tools; onnx: the network for deployment.",
)
@click.option(
    "-o", "output", type=file_argument, help="By default coco.json, network.onnx or folder voc."
)
@click.option(
    "--what",
    type=click.Choice(["pseudolabels", "predictions", "predictions_crf"]),
    default="pseudolabels",
    show_default=True,
    help="Labels that coco and voc take.",
)
def export(
    configs: tuple[Path, ...],
    assignments: tuple[str, ...],
    artifacts: Path,
    kind: str,
    output: Path | None,
    what: str,
) -> None:
    """Labels as COCO json or in VOC's layout, or the network as ONNX."""
    from getam.running.commands import export as command
    from getam.running.commands.current import CurrentRun

    run = CurrentRun(current_method().chain, load_config(configs, assignments), artifacts)
    path = output or Path({"coco": "coco.json", "onnx": "network.onnx", "voc": "voc"}[kind])
    if kind == "coco":
        said = f"{command.export_coco(run, what, path, track)} annotations"
    elif kind == "voc":
        said = f"{command.export_voc(run, what, path, track)} images"
    else:
        said = command.export_network(run, path)
    click.echo(f"{path}: {said}")


COMMANDS = (inspect, report, predict, export)
