"""The foreground stage: what it writes, and what the stages after it make of that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stages.endtoend
import stages.foreground
from getam.config.loading import load_config
from getam.data.images import read_image, write_scores
from getam.data.masks import read_saliency
from getam.errors import UserError
from getam.labels.patch_foreground import (
    patch_features,
)
from getam.maps.file import MapFile
from getam.metrics.segmentation import ConfusionMatrix
from getam.running.opening import open_runner
from stages.chain import chain
from stages.foreground import object_shares
from tests.conftest import EXAMPLE

FEATURES = (*EXAMPLE, "pseudolabels.saliency=features")


def run(place: Path, *settings: str, until: str = "pseudolabels") -> Path:
    """The artifact of a stage, on the small example."""
    config = load_config((), (*FEATURES, *settings))
    runner = open_runner(chain, config, place / "artifacts", device="cpu", workers=1)
    runner.run(runner.plan(until=until))
    return runner.store.folder(until, runner.key(until))


def scores(artifact: Path) -> dict[str, np.ndarray]:
    files = (artifact / "foreground").iterdir()
    return {file.stem: np.asarray(Image.open(file)) for file in files}


def enlarge(grey: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Scores as grey levels (h, w) to (H, W) in [0, 1]."""
    enlarged = torch.from_numpy(grey.astype(np.float32) / 255)[None, None]
    return torch.nn.functional.interpolate(enlarged, shape, mode="bilinear")[0, 0].numpy()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("foreground")


def test_each_image_has_scores_on_the_grid_of_its_scale(place):
    found = scores(run(place, until="foreground"))
    assert len(found) == 8
    assert {(s.shape, s.dtype.name) for s in found.values()} == {((6, 6), "uint8")}
    assert len({s.tobytes() for s in found.values()}) == 8
    assert any(s.min() < 128 <= s.max() for s in found.values())


def test_labels_are_background_where_there_is_no_object(place):
    scored = scores(run(place, until="foreground"))
    kept = ("pseudolabels.pamr.enabled=false", "pseudolabels.completion=false")
    labels = run(place, *kept, "pseudolabels.opening=0") / "labels"
    for image_id, grey in scored.items():
        label = np.asarray(Image.open(labels / f"{image_id}.png"))
        assert ((label == 0) == (enlarge(grey, label.shape) <= 0.5)).all()


def test_with_saliency_of_the_folder_objects_are_where_the_mean_of_both_is_high(place):
    scored = scores(run(place, until="foreground"))
    kept = ("pseudolabels.pamr.enabled=false", "pseudolabels.completion=false")
    both = ("pseudolabels.saliency=folder+features", "pseudolabels.saliency_threshold=0.37")
    labels = run(place, *kept, *both, "pseudolabels.opening=0") / "labels"
    folder = run(place, until="data") / "saliency"
    decided = 0
    for image_id, grey in scored.items():
        label = np.asarray(Image.open(labels / f"{image_id}.png"))
        own, given = enlarge(grey, label.shape), np.asarray(Image.open(folder / f"{image_id}.png"))
        object_ = (own + given / 255) / 2 > 0.37
        assert ((label == 0) == ~object_).all()
        decided += (object_ != (own > 0.37)).sum()
    assert decided > 0


MORE = "data.shapes={train: 24, val: 4, size: 96}"  # some with two classes
OWN = ("foreground.classes=patch_classifier", MORE, "pseudolabels.pamr.enabled=false")


def test_classes_share_the_foreground_among_those_of_the_image(place):
    scored = scores(run(place, MORE, until="foreground"))
    folder = run(place, *OWN, until="foreground")
    assert scores(folder).keys() == scored.keys()
    assert all((scores(folder)[name] == scored[name]).all() for name in scored)
    maps = MapFile(run(place, MORE, until="maps") / "maps.h5")
    several = 0
    for name, grey in scored.items():
        stacked = np.asarray(Image.open(folder / "classes" / f"{name}.png"))
        shares = stacked.reshape(len(maps.read(name)[0]), *grey.shape)
        np.testing.assert_allclose(shares.sum(0, dtype=int), grey, atol=len(shares))
        several += len(shares) > 1
    assert several > 0


def test_labels_have_the_classes_that_the_features_name(place):
    folder = run(place, *OWN, until="foreground")
    kept = ("pseudolabels.completion=false", "pseudolabels.opening=0")
    labels = run(place, *OWN, *kept) / "labels"
    of_maps = run(place, *OWN[1:], *kept) / "labels"
    maps = MapFile(run(place, MORE, until="maps") / "maps.h5")
    differ = 0
    for name, grey in scores(folder).items():
        label = np.asarray(Image.open(labels / f"{name}.png"))
        ids = maps.read(name)[0]
        stacked = np.asarray(Image.open(folder / "classes" / f"{name}.png"))
        shares = stacked.reshape(len(ids), *grey.shape)
        large = np.stack([enlarge(share, label.shape) for share in shares])
        object_ = enlarge(grey, label.shape) > 0.5
        assert ((label != 0) == object_).all()
        seeds = object_ & (label != 255)
        assert (label == np.asarray(ids)[large.argmax(0)])[seeds].all()
        differ += (label != np.asarray(Image.open(of_maps / f"{name}.png"))).sum()
    assert differ > 0


def test_an_image_of_background_alone_has_no_classes_to_name(place):
    subset = ("data.classes=[stripes]", *OWN)
    folder = run(place, *subset, until="foreground")
    named = {file.stem for file in (folder / "classes").iterdir()}
    assert named < scores(folder).keys()
    labels = run(place, *subset) / "labels"
    assert len([*labels.iterdir()]) == 24
    rows = json.loads((run(place, *subset, until="evaluation") / "metrics.json").read_text())
    assert "seeds in foreground" in {row["what"] for row in rows}


@pytest.mark.parametrize("source", ["onnx", "onnx+features"])
def test_a_saliency_model_that_is_not_named_is_a_mistake_in_words(place, source):
    with pytest.raises(
        UserError, match=r"pseudolabels\.saliency_model: got none, expected an ONNX"
    ):
        run(place, f"pseudolabels.saliency={source}")


def test_a_block_that_the_network_has_not_is_a_mistake_in_words(place):
    with pytest.raises(UserError, match=r"foreground\.block: got 2, expected 0 to 1"):
        run(place, "foreground.block=2", until="foreground")


def test_maps_of_the_end_to_end_network_have_no_foreground():
    with pytest.raises(UserError, match=r"saliency: got features with maps\.source=endtoend"):
        chain(load_config((), (*FEATURES, "maps.source=endtoend")))


END_TO_END = ("mode=end-to-end", "endtoend.joint.epochs=1")


@pytest.mark.parametrize("source", ["features", "folder+features"])
def test_the_end_to_end_network_learns_from_what_the_foreground_of_a_classifier_calls_salient(
    place, source, monkeypatch
):
    seen = []
    items = stages.endtoend.Items

    def looked_at(records, *others, **more):
        for record in records:
            size = read_image(record.image).shape[:2]
            seen.append((record.id, read_saliency(record.saliency, size)))
        return items(records, *others, **more)

    monkeypatch.setattr(stages.endtoend, "Items", looked_at)
    plain = "pseudolabels.pamr.enabled=false"  # test_endtoend_saliency.py is about PAMR
    settings = (*END_TO_END, plain, f"pseudolabels.saliency={source}")
    made = run(place, *settings, "pseudolabels.saliency_threshold=0.37", until="endtoend")
    assert "saliency" in json.loads((made / "history.json").read_text())[-1]
    assert len(seen) == 16  # eight images in two phases

    scored = scores(run(place, until="foreground"))
    folder = run(place, until="data") / "saliency"
    found = 0
    for image_id, salient in seen:
        soft = enlarge(scored[image_id], salient.shape)
        if source != "features":
            soft = (soft + np.asarray(Image.open(folder / f"{image_id}.png")) / 255) / 2
        np.testing.assert_array_equal(salient, soft > 0.37)
        found += salient.sum()
    assert found > 0


def test_each_image_passes_the_network_once(place, monkeypatch):
    passed = []

    def counted(network, images, block):
        passed.append(len(images))
        return patch_features(network, images, block)

    monkeypatch.setattr(stages.foreground, "patch_features", counted)
    run(place, "foreground.images=3", "foreground.batch_size=2", until="foreground")
    assert sum(passed) == 8


def write_foreground(folder: Path, border: float, inside: float) -> list[str]:
    """Two images of 20 x 10 patches, two and one of which are at each border; their ids."""
    folder.mkdir()
    scores = np.full((20, 10), border, np.float32)
    scores[2:-2, 1:-1] = inside
    for image_id in ("a", "b"):
        write_scores(folder / f"{image_id}.png", scores)
        scores[2, 1] = 1  # one patch of 128
    return ["a", "b"]


def test_shares_of_object_at_the_border_and_elsewhere(tmp_path):
    ids = write_foreground(tmp_path / "foreground", border=0.49, inside=0.3)
    shares = object_shares(tmp_path / "foreground", ids)
    assert shares == {"object": pytest.approx(1 / 256), "object at the border": 0}


def test_object_that_is_at_the_border_more_than_elsewhere_is_said(tmp_path, recwarn):
    ids = write_foreground(tmp_path / "ground", border=0.9, inside=0.1)
    with pytest.warns(UserWarning, match=r"got 100% object at the border .* and 0% elsewhere"):
        object_shares(tmp_path / "ground", ids)
    ids = write_foreground(tmp_path / "objects", border=0.1, inside=0.9)
    object_shares(tmp_path / "objects", ids)
    assert len(recwarn) == 0


def test_the_evaluation_tells_the_iou_of_object_against_the_masks(place):
    scored = scores(run(place, until="foreground"))
    folder = run(place, until="evaluation")
    rows = json.loads((folder / "metrics.json").read_text())
    (row,) = [row for row in rows if row["what"] == "foreground"]
    assert (row["split"], row["images"], row["measure"]) == ("train", 8, "IoU")
    masks = run(place, until="data") / "masks"
    both = either = 0
    for image_id, grey in scored.items():
        mask = np.asarray(Image.open(masks / f"{image_id}.png"))
        found, true = enlarge(grey, mask.shape) > 0.5, (mask > 0) & (mask < 255)
        both += (found & true & (mask < 255)).sum()
        either += ((found | true) & (mask < 255)).sum()
    assert row["value"] == pytest.approx(both / either)
    assert "foreground" in (folder / "table.txt").read_text()


def test_seeds_in_the_foreground_have_the_class_of_the_maps_where_there_is_object(place):
    scored = scores(run(place, until="foreground"))
    maps = MapFile(run(place, until="maps") / "maps.h5")
    rows = json.loads((run(place, until="evaluation") / "metrics.json").read_text())
    (row,) = [row for row in rows if row["what"] == "seeds in foreground"]
    masks = run(place, until="data") / "masks"
    confusions = {threshold: ConfusionMatrix(6) for threshold in np.arange(100) / 100}
    for image_id, grey in scored.items():
        mask = np.asarray(Image.open(masks / f"{image_id}.png"))
        class_ids, found, _ = maps.read(image_id)
        large = torch.nn.functional.interpolate(
            torch.from_numpy(found)[None], mask.shape, mode="bilinear", align_corners=False
        )[0]
        classes = np.asarray(class_ids, np.uint8)[large.numpy().argmax(0)]
        object_ = np.where(large.numpy().max(0) > 0, enlarge(grey, mask.shape), 0)
        for threshold, confusion in confusions.items():
            confusion.update(np.where(object_ > threshold, classes, 0), mask)
    best = max(confusion.miou() for confusion in confusions.values())
    assert row["value"] == pytest.approx(best, abs=1e-3)
    assert row["value"] != pytest.approx(next(r for r in rows if r["what"] == "seeds")["value"])


def test_more_rounds_and_another_threshold_reach_the_stage(place):
    found = scores(run(place, until="foreground"))
    for setting in ("foreground.rounds=1", "foreground.threshold=0.6"):
        other = scores(run(place, setting, until="foreground"))
        assert any((other[name] != found[name]).any() for name in found), setting


def test_object_scores_of_the_classes_reach_the_stage(place):
    by_features = "foreground.classes=patch_classifier"
    found = scores(run(place, by_features, until="foreground"))
    other = scores(run(place, by_features, "foreground.class_objects=true", until="foreground"))
    assert any((other[name] != found[name]).any() for name in found)


def test_objects_that_have_shrunk_to_nothing_are_a_mistake_in_words(place):
    strict = ("foreground.rounds=30", "foreground.threshold=0.95")
    with pytest.raises(UserError, match=r"foreground\.rounds, foreground\.threshold: Got no obj"):
        run(place, *strict, until="foreground")
