"""The pictures of the documentation, from what ``python pipeline.py run`` left.

    python pipeline.py run
    python tools/make_pictures.py            # writes docs/pictures/*.png

Every picture is what ``inspect`` draws; nothing is chosen by how good it looks: images are evenly
spaced over their split.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from PIL import Image

from getam.config.loading import load_config
from getam.running.commands.current import CurrentRun
from getam.running.commands.inspect import overlays
from stages.chain import chain

PICTURES = {"labels": ("maps", 3), "predictions": ("predictions", 4)}
"""File name: stage to inspect, and number of images."""


@click.command(help=__doc__.partition("\n")[0])
@click.option("--artifacts", type=click.Path(path_type=Path), default="artifacts")
@click.option("-o", "output", type=click.Path(path_type=Path), default="docs/pictures")
def main(artifacts: Path, output: Path) -> None:
    run = CurrentRun(chain, load_config(), artifacts)
    output.mkdir(parents=True, exist_ok=True)
    for name, (stage, count) in PICTURES.items():
        split = run.config.data.val if stage == "predictions" else run.config.data.train
        records = run.records(split)
        ids = [record.id for record in records[:: len(records) // count][:count]]
        with tempfile.TemporaryDirectory() as folder:
            sheets = overlays(run, stage, ids, None, None, Path(folder))
            stack([Image.open(path) for path in sheets]).save(output / f"{name}.png", optimize=True)
        click.echo(output / f"{name}.png")


def stack(images: list[Image.Image]) -> Image.Image:
    """One below the other, on white."""
    size = max(i.width for i in images), sum(i.height for i in images)
    canvas, top = Image.new("RGB", size, "white"), 0
    for image in images:
        canvas.paste(image, (0, top))
        top += image.height
    return canvas


if __name__ == "__main__":
    main()
