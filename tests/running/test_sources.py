"""Files of the user that change while a run reads them: what was made of them is not sealed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from getam.cache import CacheError, verify
from getam.config.loading import load_config
from getam.errors import UserError
from getam.networks.build import build_classifier
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import TINY, make_folder
from tests.trees import make_voc


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A data folder, weights, and the artifacts of a run over them."""
    place = tmp_path_factory.mktemp("made")
    make_folder(place / "data")
    args = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    network = build_classifier("vit_tiny_patch16_224", 2, 32, args, "none")
    torch.save(network.state_dict(), place / "weights.pth")
    runner = open_chain(place)
    runner.run(runner.plan(until="deeplab"))
    return place


def settings(place: Path) -> tuple[str, ...]:
    weights = f"deeplab.weights={place / 'weights.pth'}"
    return ("data.kind=folder", f"data.root={place / 'data'}", *TINY, weights)


def open_chain(place: Path, *more: str, **options):
    config = load_config((), (*settings(place), *more))
    return open_runner(chain, config, place / "artifacts", device="cpu", workers=1, **options)


@pytest.fixture
def place(made, tmp_path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def repaint(path: Path) -> None:
    """Other pixels, in a file of the same form."""
    pixels = np.array(Image.open(path))
    pixels[:4] = pixels.max()
    pixels[4:6] = 0
    Image.fromarray(pixels).save(path)


def relabel(path: Path) -> None:
    path.write_text(path.read_text().replace("photo00,cat", "photo00,dog"))


def swap(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)) + "\n")


CHANGES: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "a photo": ("classifier", "data/images/photo01.png", repaint),
    "a photo of val": ("predictions", "data/images/photo11.png", repaint),
    "a photo that vanishes": ("maps", "data/images/photo01.png", Path.unlink),
    "a saliency map": ("pseudolabels", "data/saliency/photo02.png", repaint),
    "a mask": ("evaluation", "data/masks/photo03.png", repaint),
    "the label table": ("classifier", "data/labels.csv", relabel),
    "the classes": ("maps", "data/classes.txt", swap),
    "a split": ("predictions", "data/splits/val.txt", swap),
    "weights": ("deeplab", "weights.pth", lambda p: torch.save({"x": torch.ones(1)}, p)),
}


def run_and_change(place: Path, stage: str, change: Callable[[], object], *more: str) -> None:
    """Run the stage anew, and change something when it has read it."""

    def call(function, job):
        metrics = function(job)
        if job.stage == stage:
            change()
        return metrics

    runner = open_chain(place, *more, call=call)
    runner.run(runner.plan(until=stage, force=[stage]))


@pytest.mark.parametrize(("stage", "file", "change"), CHANGES.values(), ids=CHANGES)
def test_what_changed_while_a_stage_read_it_is_not_sealed(place, stage, file, change):
    before = open_chain(place)
    former = before.store.manifest(stage, before.key(stage))
    with pytest.raises((UserError, CacheError)) as told:
        run_and_change(place, stage, lambda: change(place / file))
    assert str(place / file) in str(told.value)
    assert "changed after the run had started" in str(told.value) or not (place / file).exists()
    assert "Traceback" not in str(told.value)
    store = before.store
    assert store.manifest(stage, before.key(stage)) == former  # of the former content, or none
    assert verify(store) == []


def test_what_changed_before_a_stage_begins_stops_it_at_once(place):
    """Not after the hours that it takes."""
    began = []

    def call(function, job):
        began.append(job.stage)
        if job.stage == "classifier":
            (place / "data/saliency/photo02.png").unlink()
        return function(job)

    runner = open_chain(place, call=call)
    with pytest.raises(CacheError, match=r"saliency/photo02\.png cannot be read"):
        runner.run(runner.plan(until="pseudolabels", force=["classifier", "pseudolabels"]))
    assert began == ["classifier"]


def test_a_file_that_was_only_touched_is_what_it_was(place):
    run_and_change(place, "classifier", (place / "data/images/photo01.png").touch)
    assert open_chain(place).plan(until="classifier")[0].status == "cached"


def test_a_file_that_a_stage_does_not_read_may_change_meanwhile(place):
    run_and_change(place, "maps", lambda: repaint(place / "data/masks/photo03.png"))
    assert open_chain(place).plan(until="maps")[1].status == "cached"


def test_an_annotation_of_voc_that_changed_is_not_sealed(tmp_path):
    make_voc(tmp_path / "voc")
    file = sorted((tmp_path / "voc" / "Annotations").iterdir())[0]
    more = ("data.kind=voc", f"data.root={tmp_path / 'voc'}", "data.train=train", *TINY)
    config = load_config((), more)

    def call(function, job):
        metrics = function(job)
        file.write_text(file.read_text().replace("</annotation>", "\n</annotation>"))
        return metrics

    runner = open_runner(chain, config, tmp_path / "artifacts", device="cpu", workers=1, call=call)
    with pytest.raises(UserError, match=rf"{file.name} changed after the run had started"):
        runner.run(runner.plan(until="classifier"))


def test_the_content_of_inputs_is_read_again_before_use(place, monkeypatch):
    """Bits that rot on the disk change neither size nor time of a file."""
    for module in ("atomic", "file_digests"):
        monkeypatch.setattr(f"getam.cache.{module}.identity", lambda stat: f"{stat.st_ino}")
    monkeypatch.setattr("getam.cache.atomic.SETTLED_NS", -1)
    runner = open_chain(place)
    runner.run(runner.plan(until="maps"))  # all is remembered
    file = place / "artifacts" / "maps" / runner.key("maps") / "maps.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    events = []
    again = open_chain(place, "pseudolabels.quantile=0.8", report=events.append)
    again.run(again.plan(until="pseudolabels"))
    assert [e.stage for e in events if e.kind == "start"] == ["maps", "pseudolabels"]
