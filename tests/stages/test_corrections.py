"""Corrected masks teach the networks, and those of the sample only measure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from getam.config.loading import load_config
from getam.data.masks import read_mask
from getam.data.resizing import enlarged
from getam.networks.build import load_network
from getam.networks.inference import Segmenter
from getam.running.opening import open_runner
from stages.chain import chain
from tests.conftest import TINY, make_folder
from tests.data.test_corrections import correct

SET = "data.corrections=corrections"
CAT, DOG = 1, 2
IDS = [f"photo{n:02}" for n in range(8)]
FIXED = ("deeplab.fixed_encoder=true", "deeplab.weights=classifier")
LEARNING = ("deeplab.epochs=10", "deeplab.lr_head=1e-2", "deeplab.flip=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("corrections")
    make_folder(place / "data")
    return place


@pytest.fixture(autouse=True)
def _no_corrections(place):
    """Each test writes corrections of its own."""
    for file in (place / "data").glob("corrections/*"):
        file.unlink()


def run(
    place: Path, *settings: str, until: str | None = None, workers: int = 1
) -> tuple[dict, list[str]]:
    """The artifacts of a run, and the stages that were executed."""
    events = []
    every = ("data.kind=folder", f"data.root={place / 'data'}", *TINY, *settings)
    runner = open_runner(
        chain,
        load_config((), every),
        place / "artifacts",
        device="cpu",
        workers=workers,
        report=events.append,
    )
    made = runner.run(runner.plan(until=until))
    return made, [event.stage for event in events if event.kind == "start"]


def table(made: dict[str, Path]) -> str:
    return (made["evaluation"] / "table.txt").read_text()


def share(network: Path, image: np.ndarray, label: int) -> float:
    """Mean probability of a label in the network's answer."""
    torch.set_num_threads(1)
    segmenter = Segmenter(load_network(network), 32, flip=False)
    return float(enlarged(segmenter.coarse([image])[0], image.shape[:2])[label].mean())


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 80, (48, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoder", [(), FIXED], ids=["augmented photos", "fixed encoder"])
def test_deeplab_learns_from_corrected_masks_in_place_of_pseudo_labels(place, noise, encoder):
    plain, _ = run(place, *encoder, *LEARNING, until="deeplab")
    correct(place / "data", dict.fromkeys(IDS, DOG), [])
    taught, _ = run(place, SET, *encoder, *LEARNING, until="deeplab")
    shares = [share(made["deeplab"], noise, DOG) for made in (plain, taught)]
    assert shares[1] > shares[0] + 0.15
    told = json.loads((taught["deeplab"] / "manifest.json").read_text())["metrics"]
    assert told["corrections"] == 8


def test_the_decoder_of_the_end_to_end_mode_learns_from_corrected_masks(place, noise):
    settings = (
        "mode=end-to-end",
        "endtoend.joint.epochs=6",
        "endtoend.joint.lr_head=1e-2",
        "endtoend.joint.flip=0",
    )
    plain, _ = run(place, *settings, until="endtoend")
    correct(place / "data", dict.fromkeys(IDS, DOG), [])
    taught, _ = run(place, SET, *settings, until="endtoend")
    shares = [share(made["endtoend"], noise, DOG) for made in (plain, taught)]
    assert shares[1] > shares[0] + 0.1


def test_a_correction_that_weighs_more_teaches_more(place, noise):
    correct(place / "data", {"photo00": DOG, "photo01": DOG}, [])
    found = []
    for weight in (0.01, 1, 100):
        made, _ = run(
            place, SET, *FIXED, *LEARNING, f"deeplab.correction_weight={weight}", until="deeplab"
        )
        found.append(share(made["deeplab"], noise, DOG))
    assert found[0] < found[1] < found[2]
    assert found[2] - found[0] > 0.2


def test_the_sample_is_not_learnt_from_unless_this_is_asked(place):
    plain, _ = run(place, *FIXED, until="deeplab")
    correct(place / "data", dict.fromkeys(IDS, DOG), IDS)
    held_out, _ = run(place, SET, *FIXED, until="deeplab")
    asked, _ = run(place, SET, *FIXED, "data.learn_from_sample=true", until="deeplab")
    weights = [(made["deeplab"] / "network.safetensors").read_bytes() for made in (plain, held_out)]
    assert weights[0] == weights[1]
    assert (asked["deeplab"] / "network.safetensors").read_bytes() != weights[0]


def test_a_change_executes_only_the_stages_that_read_it(place):
    correct(
        place / "data", {"photo00": DOG, "photo02": CAT, "photo08": CAT}, ["photo02", "photo08"]
    )
    made, _ = run(place, SET)
    assert "trained on pseudolabels and 1 correction" in table(made)
    assert "final masks, sample" in table(made)
    assert run(place, SET)[1] == []
    correct(place / "data", {"photo00": CAT})
    assert run(place, SET)[1] == ["deeplab", "predictions", "doubt", "evaluation"]
    correct(place / "data", {"photo08": DOG})
    assert run(place, SET)[1] == ["evaluation"]


def test_the_sample_gives_a_row_with_an_interval_without_any_mask_in_the_data_set(place, tmp_path):
    data = make_folder(tmp_path / "data")
    for file in (data / "masks").iterdir():
        file.unlink()
    sample = {f"photo{n:02}": 1 + n % 2 for n in range(8, 12)}
    correct(data, sample, [*sample])
    made, _ = run(tmp_path, SET)
    rows = json.loads((made["evaluation"] / "metrics.json").read_text())
    measured = {"classifier", "final masks, sample", "network, sample"}
    assert {row["what"] for row in rows} == measured
    row = next(row for row in rows if row["what"] == "network, sample")
    low, high = row["interval"]
    assert 0 <= low <= row["value"] <= high <= 1
    right = []
    for image_id, value in sample.items():
        found = read_mask(made["predictions"] / "predictions" / f"{image_id}.png")
        right.append((found == value).mean())
    assert (row["value"] > 0) == (max(right) > 0)
    assert "too few photos for an interval: 4" in table(made)
