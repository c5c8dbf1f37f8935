"""Draws what each map method shows in three images, from the classifier of the embedded example.

    python pipeline.py run --until classifier
    python tools/method_pictures.py          # writes docs/pictures/method-*.png

The images are three of the train images with two classes, at equal distances among them. No image
is chosen by how good it looks.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
from make_pictures import save

from getam.config.loading import load_config
from getam.data.images import read_image
from getam.data.index import Record
from getam.data.sampling import evenly
from getam.maps.compute import METHODS
from getam.networks.build import load_classifier, network_build
from getam.running.commands.current import CurrentRun
from getam.view.overlay import Panel, fit, heat, sheet
from stages.chain import chain
from stages.maps import Explainer

IMAGES = 3
SIDE = 112  # pixels of a panel


@click.command(help=__doc__.partition("\n")[0])
@click.option("--artifacts", type=click.Path(path_type=Path), default="artifacts")
@click.option("-o", "output", type=click.Path(path_type=Path), default="docs/pictures")
def main(artifacts: Path, output: Path) -> None:
    run = CurrentRun(chain, load_config((), ()), artifacts)
    output.mkdir(parents=True, exist_ok=True)
    two = [r for r in run.records(run.config.data.train) if len(r.labels or ()) == 2]
    records = evenly(two, IMAGES)
    names = dict(enumerate(run.data.classes, start=1))
    photos = [(", ".join(names[c] for c in r.labels), _photo(r)) for r in records]
    save(sheet("photo", photos), output / "method-photos.png")
    for method in METHODS:
        save(sheet(method, _panels(run, records, method)), output / f"method-{method}.png")


def _panels(run: CurrentRun, records: list[Record], method: str) -> list[Panel]:
    """The maps of all classes of the images, each relative to its own maximum."""
    folder, names = run.folder("classifier"), dict(enumerate(run.data.classes, start=1))
    settings = SimpleNamespace(**{**dict(run.config.maps), "method": method, "start_block": None})
    size = network_build(folder)["image_size"]
    explain = Explainer(load_classifier(folder), size, settings, len(names))
    shown = {record.id: _photo(record) for record in records}
    return [
        (names[c], heat(shown[image_id], one / one.max()))
        for image_id, class_ids, maps in explain(records)
        for c, one in zip(class_ids.tolist(), maps)
    ]


def _photo(record: Record) -> np.ndarray:
    return fit(read_image(record.image), SIDE, SIDE)


if __name__ == "__main__":
    main()
