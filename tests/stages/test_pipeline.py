"""The chain through the command line, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from getam.data.masks import read_mask
from tests.conftest import TINY, make_folder, pipeline

CHAIN = ["classifier", "maps", "pseudolabels", "deeplab", "predictions", "doubt", "evaluation"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("place")
    make_folder(place / "data")
    return place


def settings(place: Path, *more: str) -> tuple[str, ...]:
    return ("data.kind=folder", f"data.root={place / 'data'}", *TINY, *more)


def run(place: Path, *arguments: str, more: tuple[str, ...] = ()):
    arguments = ("run", "--workers", "1", *arguments)
    return pipeline(*arguments, cwd=place, settings=settings(place, *more))


@pytest.fixture(scope="module")
def first(place: Path):
    return run(place)


@pytest.fixture(scope="module")
def end_to_end(first, place: Path):
    return run(place, "--mode", "end-to-end", "--name", "end-to-end")


def artifact(place: Path, stage: str) -> Path:
    return next(p for p in (place / "artifacts" / stage).iterdir() if p.is_dir())


def test_one_command_runs_the_whole_chain_and_ends_with_the_table(first):
    assert first.code == 0, first
    assert first.stages_run() == CHAIN
    rows = [line.split()[0] for line in first.out.splitlines()[1:]]
    assert rows == ["classifier", "seeds", "pseudo", *2 * ["network"], *2 * ["final"]], first.out


def test_maps_file_is_readable_by_plain_h5py(first, place):
    with h5py.File(artifact(place, "maps") / "maps.h5") as file:
        assert file["maps"].dtype == np.float16
        assert file["maps"].shape == (8, 4, 4)
        assert list(file["image_id"].asstr()[:2]) == ["photo00", "photo01"]
        assert list(file.attrs["classes"]) == ["cat", "dog"]
        assert list(file["class_id"][:]) == [1, 2] * 4
        assert (file["peak"][:] > 0).all()
        np.testing.assert_allclose(file["maps"][:].max(axis=(1, 2)), 1)


def test_pseudo_labels_have_the_size_of_their_image_and_only_its_classes(first, place):
    labels = read_mask(artifact(place, "pseudolabels") / "labels" / "photo01.png")
    assert labels.shape == (40, 48)
    assert set(np.unique(labels)) <= {0, 2, 255}


def test_a_run_ends_with_the_place_of_its_masks_and_what_to_look_at(first, place):
    last = first.err.splitlines()[-1]
    assert last.startswith("Final masks: artifacts/predictions/")
    assert "pipeline.py review -o review.html or " in last
    assert last.endswith("pipeline.py report -o report.html")


def test_second_run_executes_nothing(first, place):
    again = run(place)
    assert again.code == 0, again
    assert again.stages_run() == []
    assert again.out == first.out


def test_changed_quantile_redoes_labels_and_what_follows_and_back_redoes_nothing(first, place):
    changed = run(place, more=("pseudolabels.quantile=0.5",))
    assert changed.stages_run() == CHAIN[2:], changed
    assert "pseudolabels.quantile 0.9 -> 0.5" in changed.err
    assert run(place).stages_run() == []


def test_until_stops_there_and_dry_run_writes_nothing(first, place):
    before = sorted((place / "artifacts").rglob("*"))
    dry = run(place, "--until", "pseudolabels", "--dry-run", more=("maps.method=attention",))
    assert dry.code == 0, dry
    assert [line.split()[0] for line in dry.out.splitlines()] == CHAIN[:3]
    assert "classifier       cached" in dry.out
    assert "maps             would run" in dry.out
    assert sorted((place / "artifacts").rglob("*")) == before


def test_only_and_force_redo_one_stage(first, place):
    forced = run(place, "--only", "maps", "--force", "maps")
    assert forced.code == 0, forced
    assert forced.stages_run() == ["maps"]
    assert run(place).stages_run() == []


def test_only_without_its_inputs_says_what_makes_them(first, place):
    missing = run(place, "--only", "deeplab", more=("pseudolabels.opening=3",))
    assert missing.code == 1
    assert "pseudolabels" in missing.err
    assert "Traceback" not in missing.err


def test_status_json_is_only_json(first, place):
    told = pipeline("status", "--json", cwd=place, settings=settings(place))
    assert told.code == 0, told
    rows = json.loads(told.out)
    assert [row["stage"] for row in rows] == CHAIN
    assert {row["status"] for row in rows} == {"cached"}


@pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])
def test_compare_puts_methods_and_refiners_side_by_side(end_to_end, place, mode):
    more = (f"mode={mode}", "compare.methods=[getam, attention]", "compare.refiners=[none, pamr]")
    compared = pipeline("compare", "--workers", "1", cwd=place, settings=settings(place, *more))
    assert compared.code == 0, compared
    assert compared.stages_run() == ["compare"]
    title, *_, header, getam, attention, chance, centre = compared.out.splitlines()[:8]
    assert title == "mIoU @ best threshold, split train, 8 images"
    measures = ["insertion", "deletion", "pointing", "energy"]
    assert header.split() == ["method", "none", "pamr", *measures]
    assert getam.split()[0] == "getam"
    assert attention.split()[0] == "attention"
    assert chance.startswith("random map ")
    assert centre.startswith("centre prior ")
    for told in compared.out.splitlines()[-2:]:
        assert (place / told.partition(" curves: ")[2]).stat().st_size > 10_000
    again = pipeline("compare", "--workers", "1", cwd=place, settings=settings(place, *more))
    assert again.stages_run() == []


def test_end_to_end_mode_trains_one_network_and_measures_it(end_to_end, place):
    made = end_to_end
    assert made.code == 0, made
    assert made.stages_run() == ["endtoend", "predictions", "doubt", "evaluation"]
    rows = [line.split()[0] for line in made.out.splitlines()[1:]]
    assert rows == ["classifier", *2 * ["network"], *2 * ["final"]], made.out
    assert "trained on its own labels" in made.out
    again = run(place, "--name", "end-to-end", more=("mode=end-to-end",))
    assert again.stages_run() == []
    assert again.out == made.out
    assert run(place).stages_run() == []  # the other mode is still there

    curve = json.loads((artifact(place, "endtoend") / "history.json").read_text())
    assert [row["phase"] for row in curve] == ["classification"] * 2 + ["joint"] * 2
    terms = {"loss", "background", "foreground", "classification", "saliency", "energy"}
    assert terms | {"label share", "val mIoU"} <= set(curve[-1])
    shares = curve[-1]["label share"]
    assert list(shares) == ["background", "cat", "dog", "ignored"]
    assert sum(shares.values()) == pytest.approx(1)


def test_end_to_end_network_can_start_from_the_classifier(tmp_path):
    """Then there is no first phase: an encoder that learns nothing more is the classifier's."""
    make_folder(tmp_path / "data")
    starts = ("mode=end-to-end", "endtoend.weights=classifier", "endtoend.joint.lr_encoder=0")
    made = run(tmp_path, "--until", "endtoend", more=starts)
    assert made.stages_run() == ["classifier", "endtoend"], made
    own = ("pseudolabels.saliency=features", "foreground.classes=patch_classifier")
    made = run(tmp_path, "--until", "endtoend", more=(*starts, *own))
    assert made.stages_run() == ["maps", "foreground", "endtoend"], made
    theirs = load_file(artifact(tmp_path, "classifier") / "network.safetensors")
    histories = [*(tmp_path / "artifacts" / "endtoend").glob("*/history.json")]
    assert len(histories) == 2
    for history in histories:
        assert [row["phase"] for row in json.loads(history.read_text())] == ["joint"] * 2
        ours = load_file(history.parent / "network.safetensors")
        for name in ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight"):
            torch.testing.assert_close(ours[f"encoder.{name}"], theirs[name])


def test_status_and_explain_know_the_end_to_end_mode(end_to_end, place):
    mode = ("--mode", "end-to-end")
    table = pipeline("status", *mode, cwd=place, settings=settings(place))
    assert "val mIoU per epoch" in table.out, table
    told = pipeline("status", "--json", *mode, cwd=place, settings=settings(place))
    row = json.loads(told.out)[0]
    assert row["stage"] == "endtoend"
    assert len(row["metrics"]["val mIoU per epoch"]) == 2
    assert "label share" in row["metrics"]["epochs"][-1]
    other = settings(place, "pseudolabels.quantile=0.5")
    explained = pipeline("explain", "endtoend", *mode, cwd=place, settings=other)
    assert "pseudolabels.quantile 0.9 -> 0.5" in explained.out, explained
    wrong = pipeline("explain", "maps", *mode, cwd=place, settings=settings(place))
    assert wrong.code == 1
    assert "no such stage, only endtoend, predictions, doubt, evaluation" in wrong.err


def test_labels_and_deeplab_can_come_from_the_end_to_end_network(end_to_end, place):
    made = run(place, "--name", "both", more=("maps.source=endtoend",))
    assert made.code == 0, made
    assert made.stages_run() == [
        "maps",
        "pseudolabels",
        "deeplab",
        "predictions",
        "doubt",
        "evaluation",
    ]
    rows = [line.split()[0] for line in made.out.splitlines()[1:]]
    assert rows == ["classifier", "seeds", "pseudo", *2 * ["network"], *2 * ["final"]], made.out


def test_without_saliency_and_masks_the_end_to_end_network_trains_all_the_same(tmp_path):
    data = make_folder(tmp_path / "data")
    for name in ("saliency", "masks"):
        shutil.rmtree(data / name)
    lacking = run(tmp_path, "--mode", "end-to-end")
    assert lacking.code == 1
    assert "8 of 8 photos have no saliency map" in lacking.err
    made = run(tmp_path, "--mode", "end-to-end", more=("pseudolabels.saliency=none",))
    assert made.code == 0, made
    history = next((tmp_path / "artifacts" / "endtoend").glob("*/history.json"))
    curve = json.loads(history.read_text())
    assert not {"saliency", "val mIoU"} & set(curve[-1])


def test_unknown_stage_is_wrong_usage(place):
    assert run(place, "--until", "mapss").code == 2


def test_saliency_none_and_masks_line_and_convolutional_encoder(first, place):
    """The other ways through the chain: no saliency, CRF on labels, supervised, DeepLabV3+."""
    other = run(
        place,
        "--name",
        "other",
        more=(
            "pseudolabels.saliency=none",
            "pseudolabels.crf.enabled=true",
            "deeplab.labels=masks",
            "deeplab.encoder=test_convnext",
            "deeplab.encoder_args={}",
            "deeplab.atrous_rates=[1, 2, 3]",
            "deeplab.loss=balanced",
            "deeplab.image_size=64",
            "predictions.scales=[1.0, 1.5]",
        ),
    )
    assert other.code == 0, other
    assert "trained on masks" in other.out
    assert other.stages_run() == CHAIN[2:]


def test_unlabelled_images_get_maps_of_their_predicted_classes(first, place, tmp_path):
    data = make_folder(tmp_path / "data")
    table = data / "labels.csv"
    table.write_text("".join(s for s in table.open() if not s.startswith("photo03")))
    made = run(tmp_path, "--until", "maps")
    assert made.code == 0, made
    with h5py.File(artifact(tmp_path, "maps") / "maps.h5") as file:
        assert (np.diff(file["first"][:]) >= 1).all()
        assert len(file["first"]) == 9
