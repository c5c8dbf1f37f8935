"""The command line of export and import. Imports no torch at first."""

from __future__ import annotations

from pathlib import Path

import click

from getam.config.schema import Config
from getam.data.class_names import counted
from getam.running.commands.options import with_config
from getam.running.method import current_method
from getam.view.progress import track
from getam.view.shown import say

file_argument = click.Path(path_type=Path)
DEFAULTS = {"coco": "coco.json", "onnx": "network.onnx"}
TOOLS = ("coco", "voc", "cvat", "label-studio")


@click.command(short_help="Write masks for annotation tools, or the network.")
@with_config
@click.option(
    "--format",
    "kind",
    type=click.Choice([*TOOLS, "onnx"]),
    required=True,
    help="coco: one JSON file, or a folder with it. voc: a folder as of PASCAL VOC. cvat: a folder "
    "with what CVAT asks for (Segmentation mask 1.1). label-studio: a folder with tasks for Label "
    "Studio. onnx: the network for deployment.",
)
@click.option(
    "-o",
    "output",
    type=file_argument,
    help="File or folder to write. With coco, a name that ends in .json is a file.  [default: "
    "coco.json, network.onnx, or a folder with the name of the format]",
)
@click.option(
    "--what",
    type=click.Choice(["masks", "pseudolabels", "predictions", "predictions_crf"]),
    help="Labels to export. masks: the final masks of the labelled photos of train and val, or "
    "their corrected masks (data.corrections) where there are some. pseudolabels: of the train "
    "photos. predictions, predictions_crf: of the val photos, made without their labels.  "
    "[default: masks, or pseudolabels of a run that ended before the stage predictions]",
)
@click.option(
    "--doubtful",
    type=click.IntRange(1),
    metavar="N",
    help="Export only the N photos that come first in doubt.csv (stage doubt), without those that "
    "have a corrected mask or that data.review accepts or rejects.  [default: all photos]",
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="N",
    help="Export only N photos that are drawn at random, and write their ids into sample.txt. "
    "Corrected masks of such photos measure how good the masks of all photos are.  [default: all "
    "photos]",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the draw of --sample. Another seed draws other photos.",
)
@click.option(
    "--polygons",
    type=click.FloatRange(0),
    metavar="PIXELS",
    help="With coco: write outlines as polygons, not as run lengths. PIXELS is how far an outline "
    "may leave the edges of the mask; 0 is exact and has a corner at every step of the edge.  "
    "[default: run lengths]",
)
@click.option(
    "--photos/--no-photos",
    "with_photos",
    default=True,
    show_default=True,
    help="Whether a folder gets copies of the photos, upright, as ID.jpg. A single JSON file has "
    "only their names.",
)
@click.option(
    "--address",
    metavar="URL",
    help="With label-studio: what stands before the name of a photo, such as "
    "https://example.org/photos/.  [default: the address of the copies where Label Studio serves "
    "the folder above the export]",
)
def export(
    config: Config,
    artifacts: Path,
    kind: str,
    output: Path | None,
    what: str | None,
    doubtful: int | None,
    sample: int | None,
    seed: int,
    polygons: float | None,
    with_photos: bool,
    address: str | None,
) -> None:
    """Write masks for annotation tools, or the network as an ONNX file.

    The command import brings corrected masks back. The page docs/annotation-tools.md has the steps
    for each tool.
    """
    if doubtful is not None and sample is not None:
        raise click.UsageError("Give --doubtful or --sample, not both.")
    if polygons is not None and kind != "coco":
        raise click.UsageError("--polygons is an option of --format coco.")
    if kind == "onnx" and (doubtful or sample):
        raise click.UsageError("--doubtful and --sample choose photos; onnx is the network.")
    if address is not None and kind != "label-studio":
        raise click.UsageError("--address is an option of --format label-studio.")
    from getam.running.commands import export as command
    from getam.running.commands.current import CurrentRun

    run = CurrentRun(current_method().chain, config, artifacts)
    path = output or Path(DEFAULTS.get(kind, kind))
    if kind == "onnx":
        say(f"{path}: {command.export_network(run, path)}")
        return
    choice = {"doubtful": doubtful, "sample": sample, "seed": seed, "with_photos": with_photos}
    what = what or command.default_labels(run)
    batch = command.batch_of(run, what, track, **choice)
    options = {"coco": {"tolerance": polygons}, "label-studio": {"address": address}}
    said = command.export_labels(run, kind, batch, path, **options.get(kind, {}))
    say(f"{path}: {said}")


@click.command("import", short_help="Take corrected masks from an annotation tool.")
@with_config
@click.argument("file", type=file_argument)
@click.option(
    "--format",
    "kind",
    type=click.Choice(TOOLS),
    required=True,
    help="What the tool wrote. coco: a JSON file, or a folder or archive with it. voc, cvat: a "
    "folder or archive with SegmentationClass/ and labelmap.txt (in CVAT: Segmentation mask 1.1). "
    "label-studio: a JSON file.",
)
@click.option(
    "-o",
    "output",
    type=file_argument,
    required=True,
    help="Folder for the masks. A mask of the same photo that is there is replaced.",
)
@click.option(
    "--rename",
    "renamed",
    multiple=True,
    metavar="OLD=NEW",
    help="Class OLD of the tool is class NEW of the data set. NEW can also be background or "
    "ignored. You can give it several times.",
)
@click.option(
    "--sample",
    type=file_argument,
    metavar="FILE",
    help="The sample.txt of an export with --sample. Its ids are added to sample.txt in the folder "
    "of -o: these photos measure, no network learns from them.  [default: sample.txt in or beside "
    "FILE or above its folder annotations, and what the file itself says]",
)
@click.option(
    "--only",
    type=file_argument,
    metavar="LIST",
    help="Import only the photos in this text file, one id a line. Use it if you have corrected "
    "only some of the photos in the tool.  [default: all photos]",
)
@click.option(
    "--unannotated",
    type=click.Choice(["skip", "background"]),
    default="skip",
    show_default=True,
    help="What to do with a photo without any shape. skip: leave it out. background: take it as "
    "background alone.",
)
def import_command(
    config: Config,
    artifacts: Path,
    file: Path,
    kind: str,
    output: Path,
    renamed: tuple[str, ...],
    sample: Path | None,
    only: Path | None,
    unannotated: str,
) -> None:
    """Take the masks that were corrected in an annotation tool from FILE (file, folder or .zip).

    Writes ID.png for each photo, with the class ids of this data set. Classes are found by their
    names and photos by the names of their files, in whatever order the tool has them. Where shapes
    overlap, the one that was drawn last counts. To learn from the masks, set data.corrections to
    the folder.
    """
    from getam.running.commands.current import CurrentRun
    from getam.running.commands.import_masks import import_masks

    run = CurrentRun(current_method().chain, config, artifacts)
    done = import_masks(
        run,
        kind,
        file,
        output,
        track,
        renamed=renamed,
        sample=sample,
        only=only,
        as_background=unannotated == "background",
    )
    for note in done.notes:
        say(f"note: {note}", err=True)
    told = f", {done.replaced} of them replaced earlier ones" if done.replaced else ""
    if done.sample:
        told += f"; {len(set(done.sample) & set(done.ids))} of the random sample"
    say(f"{output}: {counted(len(done.ids), 'mask', 'masks')}{told}")


COMMANDS = (export, import_command)
