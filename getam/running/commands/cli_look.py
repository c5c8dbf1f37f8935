"""The command line of the commands that look at a run or use it. Imports no torch at first."""

from __future__ import annotations

from pathlib import Path

import click

from getam.config.schema import Config
from getam.data.class_names import counted
from getam.running.commands.options import device_option, with_config
from getam.running.method import current_method
from getam.view.progress import track
from getam.view.shown import say

file_argument = click.Path(path_type=Path)


@click.command(short_help="Look at maps, labels and predictions.")
@with_config
@click.argument(
    "stage",
    type=click.Choice(["maps", "foreground", "pseudolabels", "predictions"]),
    metavar="STAGE",
)
@click.argument("images", nargs=-1)
@click.option("--class", "class_name", help="Show only this class.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Draw a line around the pixels whose map is above this value (0 to 1). Without masks try "
    "0.05: the line at 0.5 is often much too small.  [default: the best threshold that the stage "
    "evaluation found, or 0.5 without masks; for the foreground, pseudolabels.saliency_threshold]",
)
@click.option(
    "-o",
    "output",
    type=file_argument,
    default="inspect",
    show_default=True,
    help="Folder for the overlays.",
)
def inspect(
    config: Config,
    artifacts: Path,
    stage: str,
    images: tuple[str, ...],
    class_name: str | None,
    threshold: float | None,
    output: Path,
) -> None:
    """Look at the results of STAGE: maps, foreground, pseudolabels or predictions.

    Without IMAGES: print a table with one line per class (for foreground one line per threshold),
    and name the photos that look wrong. With IMAGES (ids of photos): write one PNG file for each.
    It shows the photo, its maps or foreground as heat with a line at the threshold, and what there
    is of its pseudo label, prediction, final mask and true mask. maps, foreground and pseudolabels
    have photos of train, predictions those of val.
    """
    from getam.running.commands.current import CurrentRun
    from getam.running.commands.inspect import overlays, table

    run = CurrentRun(current_method().chain, config, artifacts)
    if not images:
        say(table(run, stage, class_name, track))
        return
    for path in overlays(run, stage, images, class_name, threshold, output):
        say(str(path))


@click.command(short_help="Write one HTML file about a run.")
@with_config
@click.option(
    "-o",
    "output",
    type=file_argument,
    default="report.html",
    show_default=True,
    help="HTML file to write.",
)
@click.option(
    "--images",
    type=click.IntRange(1),
    default=120,
    show_default=True,
    help="Number of photos in the gallery, at most.",
)
def report(config: Config, artifacts: Path, output: Path, images: int) -> None:
    """Write one HTML file about a run: figures, training curves, a gallery of photos.

    The file contains everything it shows; it loads nothing from elsewhere.
    """
    from getam.running.commands.current import CurrentRun
    from getam.running.commands.report import write_report

    run = CurrentRun(current_method().chain, config, artifacts)
    size = write_report(run, output, images, track)
    say(f"{output}  {size / 1e6:.1f} MB")


@click.command(short_help="Predict the classes of pixels in new photos.")
@with_config
@click.argument("images", nargs=-1, required=True, type=file_argument)
@click.option("-o", "output", type=file_argument, required=True, help="Folder for the predictions.")
@click.option(
    "--network",
    type=file_argument,
    help="Folder of a network (network.json and network.safetensors).  [default: the network of "
    "the run]",
)
@click.option("--crf", is_flag=True, help="Smooth with the dense CRF, as predictions.crf sets it.")
@click.option(
    "--tile",
    type=click.IntRange(64),
    help="A photo with a longer side, in pixels, is cut into overlapping tiles of this side.  "
    "[default: predictions.tile]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Photos, or tiles of large photos, computed at a time.",
)
@device_option
def predict(
    config: Config,
    artifacts: Path,
    images: tuple[Path, ...],
    output: Path,
    network: Path | None,
    crf: bool,
    tile: int | None,
    batch_size: int,
    device: str | None,
) -> None:
    """Predict the classes of every pixel of IMAGES (files or folders) with the trained network.

    Writes predictions/NAME.png (VOC palette), overlays/NAME.jpg, and areas.json with the area of
    each class. Photos are turned upright by their EXIF orientation first. Transparent photos are
    laid over white.
    """
    from getam.running.commands import predict as command
    from getam.running.commands.current import output_file
    from getam.running.context import Context

    chain = current_method().chain
    photos = command.find_images(images, output)
    for note in command.unread_files(images, output):
        say(f"note: {note}", err=True)
    opened = command.open_segmenter(chain, config, network, artifacts, device)
    segmenter, classes, intensities = opened
    output_file(output / "areas.json", artifacts, config.data)
    smoothing = config.predictions.crf.model_dump(exclude={"enabled"}) if crf else None
    count = command.predict(
        segmenter,
        classes,
        photos,
        output,
        tile=tile or config.predictions.tile,
        batch_size=batch_size,
        crf=smoothing,
        intensities=intensities,
        workers=Context(wanted_device=device).workers,
        track=track,
        say=lambda message: say(f"note: {message}", err=True),
    )
    say(f"{counted(count, 'photo', 'photos')}: {output / 'areas.json'}")


COMMANDS = (inspect, report, predict)
