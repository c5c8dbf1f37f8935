"""Draws the pictures of the documentation from the artifacts of ``python pipeline.py run``.

    python pipeline.py run
    python tools/make_pictures.py            # writes docs/pictures/*.png

``chain.png`` shows all steps on one image: the first train image that has two classes. The command
``inspect`` draws the other pictures, for images at equal distances in their split. No image is
chosen by how good it looks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image

from getam.config.loading import load_config
from getam.data.images import read_image, read_scores
from getam.data.index import Record
from getam.data.masks import read_mask, read_saliency
from getam.data.palette import class_colour
from getam.data.sampling import evenly
from getam.networks.inference import segment_tiles
from getam.networks.tiling import cut, label_parts
from getam.running.commands.current import CurrentRun
from getam.running.commands.inspect import overlays
from getam.running.commands.options import set_option
from getam.running.commands.predict import open_segmenter
from getam.view.overlay import Panel, fit, heat, paint, sheet
from stages.chain import chain

PICTURES = {"labels": ("maps", 3), "predictions": ("predictions", 4)}
"""File name: stage to inspect, and number of images."""
SIDE = 192  # pixels of a panel of the chain
TITLE = 26  # pixels of a sheet above its panels


@click.command(help=__doc__.partition("\n")[0])
@click.option("--artifacts", type=click.Path(path_type=Path), default="artifacts")
@click.option("-o", "output", type=click.Path(path_type=Path), default="docs/pictures")
@set_option
def main(artifacts: Path, output: Path, assignments: tuple[str, ...]) -> None:
    run = CurrentRun(chain, load_config((), assignments), artifacts)
    output.mkdir(parents=True, exist_ok=True)
    save(chain_sheet(run), output / "chain.png")
    for name, (stage, count) in PICTURES.items():
        records = run.records(run.split(stage))
        ids = [record.id for record in evenly(records, count)]
        with tempfile.TemporaryDirectory() as folder:
            sheets = overlays(run, stage, ids, None, None, Path(folder))
            save(stack([Image.open(path) for path in sheets]), output / f"{name}.png")


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, optimize=True)
    click.echo(f"{path}  {path.stat().st_size / 1e3:.0f} kB")


def chain_sheet(run: CurrentRun) -> Image.Image:
    """All steps on one train image, in two rows."""
    record = next(r for r in run.records(run.config.data.train) if len(r.labels or ()) > 1)
    image = read_image(record.image)
    shown = fit(image, SIDE, SIDE)
    class_ids, maps, _ = run.maps.read(record.id)
    names = dict(enumerate(run.data.classes, start=1))
    labels = {
        "4 pseudo label": read_mask(run.folder("pseudolabels") / "labels" / f"{record.id}.png"),
        "5 prediction of the network": _predicted(run, record, image),
        "mask, for comparison": run.truth(record),
    }
    panels: list[Panel] = [
        ("1 photo", shown),
        *((f"2 map: {names[c]}", heat(shown, m)) for c, m in zip(class_ids.tolist(), maps)),
        _object_panel(run, record, shown),
        *((caption, paint(shown, found)) for caption, found in labels.items()),
    ]
    legend = [(names[c], class_colour(c)) for c in class_ids.tolist()]
    title = f"Image-level labels: {', '.join(names[c] for c in record.labels)}"
    half = -(-len(panels) // 2)
    below = sheet("", panels[half:], [*legend, ("ignore (255)", class_colour(255))])
    return stack([sheet(title, panels[:half]), below.crop((0, TITLE, *below.size))])


def _object_panel(run: CurrentRun, record: Record, shown: np.ndarray) -> Panel:
    """What says where objects are: the foreground where the run has one, else the saliency map."""
    if run.has("foreground"):
        scores = read_scores(run.folder("foreground") / "foreground" / f"{record.id}.png")
        return "3 foreground", heat(shown, scores)
    size = read_image(record.image).shape[:2]
    return "3 saliency map", heat(shown, read_saliency(record.saliency, size))


def _predicted(run: CurrentRun, record: Record, image: np.ndarray) -> np.ndarray:
    """The answer (H, W) of the trained network on one image."""
    segmenter, *_ = open_segmenter(chain, run.config, run.network(), run.artifacts, "cpu")
    photo = cut(image, max(image.shape[:2]))
    ((_, _, parts),) = segment_tiles(segmenter, [(record.id, photo)], 1)
    return label_parts(parts, image.shape[:2])


def stack(images: list[Image.Image]) -> Image.Image:
    """Stack images from top to bottom, on white."""
    size = max(i.width for i in images), sum(i.height for i in images)
    canvas, top = Image.new("RGB", size, "white"), 0
    for image in images:
        canvas.paste(image, (0, top))
        top += image.height
    return canvas


if __name__ == "__main__":
    main()
