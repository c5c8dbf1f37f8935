"""Measures memory and processor time of the stages on large photos.

    python benchmarks/photos.py [--checkout DIR] [--json FILE]

Draws 20 photos of 12 megapixels (16 in train, 4 in val), each labelled with 3 of 20 classes, and
their masks. Runs the chain on them with a small network of random weights (384 px), each stage in
its own process. Then it does the same with photos of 64 x 48 pixels.

"MB" is the peak of the memory of all processes of a stage together (10^6 bytes); "MB at start" is
the same with small photos. "s / photo" is the processor time (user and system, of all processes)
that a large photo takes more than a small one. Other work on the machine hardly changes these
figures. Random weights are the worst case for the dense CRF of the predictions without labels,
because every class wins somewhere.

``--checkout`` runs the program of another folder, such as an older version.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from PIL import Image
from process_tree import Cost, watch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from getam.view.table import text_table  # noqa: E402

CLASSES, SHOWN = 20, 3  # of the data set, and of a photo
SMALL = (64, 48)
BEFORE = ("classifier",)
STAGES = ("maps", "foreground", "pseudolabels", "deeplab", "predictions", "doubt", "evaluation")
OF_ALL = ("predictions", "doubt", "evaluation")  # the others only see the split train
GOALS = {"maps": (1500, None), "pseudolabels": (2000, 3.0), "predictions": (1500, None)}
VIT = "{patch_size: 16, embed_dim: 64, depth: 4, num_heads: 2}"
SETTINGS = (
    "data.kind=folder",
    "data.root=data",
    "classifier.weights=none",
    "deeplab.weights=none",
    f"classifier.model_args={VIT}",
    f"deeplab.encoder_args={VIT}",
    "classifier.image_size=384",
    "deeplab.image_size=384",
    "classifier.epochs=1",
    "deeplab.epochs=1",
    "classifier.batch_size=2",
    "deeplab.batch_size=2",
    "pseudolabels.saliency=features",
)


def draw_data(root: Path, photos: int, size: tuple[int, int]) -> None:
    """A data set in a folder: smooth random photos of ``size`` (width, height), and masks."""
    for name in ("images", "masks", "splits"):
        (root / name).mkdir(parents=True)
    draw = np.random.default_rng(0)
    names = [f"class{n:02}" for n in range(1, CLASSES + 1)]
    table = ["image,classes"]
    for number in range(photos):
        shown = [(number + n * 7) % CLASSES for n in range(SHOWN)]
        coarse = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
        photo = cv2.add(photo, draw.integers(0, 8, photo.shape, dtype=np.uint8))
        Image.fromarray(photo).save(root / "images" / f"photo{number:02}.jpg", quality=90)
        parts = draw.choice([0, *(c + 1 for c in shown)], (6, 8)).astype(np.uint8)
        mask = cv2.resize(parts, size, interpolation=cv2.INTER_NEAREST)
        Image.fromarray(mask).save(root / "masks" / f"photo{number:02}.png")
        table.append(f"photo{number:02},{' '.join(names[c] for c in shown)}")
    (root / "labels.csv").write_text("\n".join(table) + "\n")
    (root / "classes.txt").write_text("\n".join(names) + "\n")
    ids = [f"photo{n:02}\n" for n in range(photos)]
    val = val_of(photos)
    (root / "splits" / "train.txt").write_text("".join(ids[:-val]))
    (root / "splits" / "val.txt").write_text("".join(ids[-val:]))


def val_of(photos: int) -> int:
    """The number of photos in val, in which networks are measured: a fifth of all."""
    return max(1, photos // 5)


def run_stages(
    place: Path, checkout: Path, workers: int, stages: Sequence[str], settings: Sequence[str]
) -> dict[str, Cost]:
    words = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    costs = {}
    for stage in (*BEFORE, *STAGES):
        if stage not in (*BEFORE, *stages):
            continue
        click.echo(f"{place.name} photos: {stage}", err=True)
        command = [sys.executable, str(checkout / "pipeline.py"), "run", "--only", stage]
        command += ["--workers", str(workers), "--device", "cpu", *words]
        costs[stage] = watch(command, place, environment)
    return costs


def rows_of(large: dict[str, Cost], small: dict[str, Cost], photos: int) -> list[dict[str, Any]]:
    rows = []
    for stage, cost in large.items():
        if stage in BEFORE:
            continue
        done = photos if stage in OF_ALL else photos - val_of(photos)
        most, longest = GOALS.get(stage, (None, None))
        rows.append(
            {
                "stage": stage,
                "MB": cost.megabytes,
                "goal MB": most,
                "MB at start": small[stage].megabytes,
                "s / photo": (cost.cpu - small[stage].cpu) / done,
                "goal s": longest,
                "seconds": cost.seconds,
            }
        )
    return rows


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    digits = {"s / photo": 2, "goal s": 1}
    body = [
        [
            value
            if name == "stage"
            else ""
            if value is None
            else f"{value:.{digits.get(name, 0)}f}"
            for name, value in row.items()
        ]
        for row in rows
    ]
    return text_table([*rows[0]], body)


@click.command(help=__doc__.partition("\n")[0])
@click.option("--photos", default=20, show_default=True, help="Photos; a fifth are in val.")
@click.option(
    "--size", nargs=2, type=int, default=(4000, 3000), show_default=True, help="Width and height."
)
@click.option("--workers", default=2, show_default=True, help="As --workers of run.")
@click.option("--stages", default=",".join(STAGES), show_default=True, help="Stages to measure.")
@click.option("--set", "settings", multiple=True, help="A further setting, as --set of run.")
@click.option(
    "--checkout",
    type=click.Path(exists=True, path_type=Path),
    default=ROOT,
    help="Folder with the pipeline.py to measure. Default: this one.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the result here too.")
def main(photos, size, workers, stages, settings, checkout, file) -> None:
    with tempfile.TemporaryDirectory() as folder:
        costs = []
        for name, side in (("large", size), ("small", SMALL)):
            place = Path(folder, name)
            draw_data(place / "data", photos, side)
            chosen = stages.split(",")
            costs.append(run_stages(place, checkout.resolve(), workers, chosen, settings))
    rows = rows_of(*costs, photos)
    click.echo(table_of(rows))
    if file:
        found = {"photos": photos, "size": size, "workers": workers, "rows": rows}
        file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
