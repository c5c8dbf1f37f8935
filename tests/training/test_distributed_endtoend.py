"""The end-to-end network that two processes under torchrun train is that of one.

Dropout, which processes draw apart, is switched off here; then nothing else may differ.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from getam.data.masks import read_mask
from pipeline import main
from tests.conftest import TINY, torchrun

pytest.importorskip("accelerate")

SCRIPT = """
import torch

torch.nn.functional.dropout = lambda features, *args, **options: features

from pipeline import main

main()
"""
SETTINGS = (
    *TINY,
    "seed=1",  # with seed 0 rounding decides the label of 10 of 36,864 pixels
    "data.shapes={train: 36, val: 5, size: 48}",
    "endtoend.classification.batch_size=12",
    "endtoend.classification.lr_encoder=5e-3",  # so that the classes differ in their maps
    "endtoend.joint.batch_size=12",
    "endtoend.joint.loss.energy=1e-4",  # as heavy as the other terms
    "pseudolabels.pamr.iterations=1",
    "predictions.crf.steps=1",
)
# In the joint phase a pixel whose score equals a threshold but for rounding may get another label
# in a batch of another size, and the weights follow from it: with AMX one of 9,216 pixels does.
TOLERANCE = {"classification": 1e-4, "joint": 5e-3}
TERMS = ("loss", "background", "foreground", "classification", "saliency", "energy")


def words(*more: str) -> list[str]:
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["run", "--workers", "1", *more, *sets]


def run_alone(place: Path, *more: str) -> None:
    arguments = ("--artifacts", str(place / "artifacts"), "--device", "cpu", *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.functional.dropout", lambda features, *_, **__: features)
        alone = CliRunner().invoke(main, words(*arguments))
    assert alone.exit_code == 0, alone.output


def run_by_two(place: Path, *more: str) -> list[str]:
    (place / "script.py").write_text(SCRIPT)
    both = torchrun(str(place / "script.py"), *words(*more), cwd=place)
    assert both.code == 0, both
    return both.stages_run()


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[Path, Path]:
    """The same run by one process and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    run_alone(one, "--mode", "end-to-end")
    assert run_by_two(two, "--mode", "end-to-end") == [
        "data",
        "endtoend",
        "predictions",
        "doubt",
        "evaluation",
    ]
    return one, two


def artifact(place: Path, stage: str) -> Path:
    return next(p for p in (place / "artifacts" / stage).iterdir() if p.is_dir())


def histories(places) -> tuple[list[dict], list[dict]]:
    return tuple(json.loads((artifact(p, "endtoend") / "history.json").read_text()) for p in places)


def test_keys_are_the_same_and_measurements_agree(places):
    for stage in ("data", "endtoend", "predictions", "doubt", "evaluation"):
        assert artifact(places[0], stage).name == artifact(places[1], stage).name
    one, two = (
        json.loads((artifact(p, "evaluation") / "metrics.json").read_text()) for p in places
    )
    final = ["final masks, train", "final masks, val"]
    assert [row["what"] for row in one] == ["classifier", "network", "network + CRF", *final]
    for alone, shared in zip(one, two):
        assert shared["images"] == alone["images"] == (36 if alone["split"] == "train" else 5)
        if alone["what"] not in final:  # of few pixels, each of which counts for much
            assert shared["value"] == pytest.approx(alone["value"], abs=1e-3)


def test_final_masks_agree_but_for_pixels_that_rounding_decides(places):
    one, two = (artifact(place, "predictions") / "masks" for place in places)
    names = [file.name for file in sorted(one.glob("*.png"))]
    assert names == [file.name for file in sorted(two.glob("*.png"))]
    assert len(names) == 41
    pixels = [(read_mask(one / name), read_mask(two / name)) for name in names]
    same = np.concatenate([(alone == shared).ravel() for alone, shared in pixels])
    assert same.mean() > 0.999


def test_curves_of_both_phases_agree_in_every_term(places):
    one, two = histories(places)
    assert [row["phase"] for row in one] == 2 * ["classification"] + 2 * ["joint"]
    for alone, shared in zip(one, two):
        assert shared.keys() == alone.keys()
        for name in TERMS if alone["phase"] == "joint" else ("loss",):
            assert shared[name] == pytest.approx(alone[name], rel=TOLERANCE[alone["phase"]]), name


def test_shares_of_the_labels_and_validation_are_those_of_all_images(places):
    one, two = histories(places)
    for alone, shared in zip(one[2:], two[2:]):
        assert sum(alone["label share"].values()) == pytest.approx(1)
        assert min(alone["label share"].values()) > 0
        assert shared["label share"] == pytest.approx(alone["label share"], abs=1e-4)
        assert shared["val mIoU"] == pytest.approx(alone["val mIoU"], abs=1e-3)


def test_statistics_of_batch_normalisation_and_scores_agree(places):
    one, two = (load_file(artifact(p, "endtoend") / "network.safetensors") for p in places)
    running = [name for name in one if "running" in name]
    assert running
    for name in running:
        # Rounding grows over the steps: measured, up to 1 % of the largest of a layer.
        largest = np.abs(one[name]).max()
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=0.05 * largest, err_msg=name)
    one, two = (np.load(artifact(p, "endtoend") / "scores.npz") for p in places)
    assert (one["ids"] == two["ids"]).all()
    np.testing.assert_allclose(two["scores"], one["scores"], atol=1e-4)


def test_two_processes_make_the_maps_of_that_network(places):
    downstream = ("--set", "maps.source=endtoend", "--until", "maps")
    assert run_by_two(places[1], *downstream) == ["maps"]  # the network is there already
    shared = maps(places[1])
    run_alone(places[1], *downstream, "--force", "maps")
    assert len(shared["image_id"]) == 36
    for name, values in maps(places[1]).items():
        assert (shared[name] == values).all(), name


def maps(place: Path) -> dict[str, np.ndarray]:
    with h5py.File(artifact(place, "maps") / "maps.h5") as file:
        return {name: values[:] for name, values in file.items()}
