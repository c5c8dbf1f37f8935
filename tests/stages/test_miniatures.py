"""Every command a user of PASCAL VOC or COCO gives, on miniatures of both: what each one writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from getam.data.masks import read_mask
from getam.data.palette import voc_palette
from tests.miniatures import END_TO_END, MULTI_STAGE, Miniature, coco, voc


@pytest.fixture(scope="module", params=[voc, coco], ids=["voc", "coco"])
def miniature(request, tmp_path_factory) -> Miniature:
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


@pytest.fixture(scope="module")
def runs(miniature) -> dict[str, list[str]]:
    """The stages that each mode executed, one after the other over the same artifacts."""
    return {mode: miniature.run(mode) for mode in ("multi-stage", "end-to-end")}


both_modes = pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])


def test_data_finds_the_splits_and_no_problem(miniature):
    done = miniature("data", "--deep", "--json")
    assert done.code == 0, done
    told = json.loads(done.out)
    assert told["problems"] == []
    assert [row["name"] for row in told["classes"]] == miniature.classes
    used = {name: row["images"] for name, row in told["splits"].items() if row["used"]}
    sizes = [len(miniature.splits[split]) for split in ("train", "val")]
    assert {name: used[name] for name in miniature.names} == dict(zip(miniature.names, sizes))


def test_each_mode_runs_its_stages_and_the_second_takes_over_the_data(miniature, runs):
    assert runs["multi-stage"] == [*miniature.made, *MULTI_STAGE]
    assert runs["end-to-end"] == END_TO_END


def mapped_classes(miniature: Miniature) -> dict[str, set[int]]:
    """The classes of the maps of each train photo: those that it is labelled with."""
    with h5py.File(miniature.made_by("maps") / "maps.h5") as file:
        ids = list(file["image_id"].asstr())
        assert list(file.attrs["classes"]) == miniature.classes
        first = [*file["first"][:], len(file["class_id"])]
        return {i: {*file["class_id"][first[n] : first[n + 1]]} for n, i in enumerate(ids)}


def test_multi_stage_writes_maps_and_pseudo_labels_of_the_labelled_classes(miniature, runs):
    mapped = mapped_classes(miniature)
    ids = miniature.splits["train"]
    assert [*mapped] == ids
    folder = miniature.made_by("pseudolabels") / "labels"
    assert sorted(p.stem for p in folder.iterdir()) == ids
    for image_id in ids:
        truth = miniature.truth(image_id)
        labels = read_mask(folder / f"{image_id}.png", truth.shape)
        assert {*np.unique(truth)} - {0, 255} <= mapped[image_id]
        assert {*np.unique(labels)} - {0, 255} <= mapped[image_id]


def test_end_to_end_writes_a_network_and_the_curves_of_both_phases(miniature, runs):
    folder = miniature.made_by("endtoend", "end-to-end")
    assert json.loads((folder / "network.json").read_text())["classes"] == miniature.classes
    rows = json.loads((folder / "history.json").read_text())
    assert [row["phase"] for row in rows] == 3 * ["classification"] + 8 * ["joint"]
    for row in rows[3:]:
        assert [*row["label share"]] == ["background", *miniature.classes, "ignored"]
        assert 0 <= row["val mIoU"] <= 1


def mean_iou(predictions: Path, miniature: Miniature, split: str = "val") -> float:
    """Over all pixels of a split at once, of the classes that occur in either."""
    pairs = []
    for image_id in miniature.splits[split]:
        truth = miniature.truth(image_id)
        found = read_mask(predictions / f"{image_id}.png", truth.shape)
        pairs.append(np.stack([truth, found])[:, truth != 255])
    truth, found = np.concatenate(pairs, axis=1)
    ious = []
    for label in np.union1d(truth, found):
        either = (truth == label) | (found == label)
        ious.append(((truth == label) & (found == label)).sum() / either.sum())
    return float(np.mean(ious))


@both_modes
def test_evaluation_measures_the_predictions_it_writes(miniature, runs, mode):
    measured, folder = miniature.measured(mode), miniature.made_by("predictions", mode)
    of_val = (miniature.names[1], len(miniature.splits["val"]))
    for what, made in (("network", "predictions"), ("network + CRF", "predictions_crf")):
        row = measured[what]
        assert (row["split"], row["images"]) == of_val
        assert [*row["per class"]] == ["background", *miniature.classes]
        assert row["value"] == pytest.approx(mean_iou(folder / made, miniature))
    if mode == "multi-stage":
        of_train = (miniature.names[0], len(miniature.splits["train"]))
        for what in ("seeds", "pseudo labels"):
            assert (measured[what]["split"], measured[what]["images"]) == of_train
    table = (miniature.made_by("evaluation", mode) / "table.txt").read_text().splitlines()[1:]
    assert len(table) == len(measured)
    for line, what in zip(table, measured):
        assert line.startswith(what)


@both_modes
def test_final_masks_of_all_labelled_photos_have_only_their_own_classes(miniature, runs, mode):
    folder = miniature.made_by("predictions", mode)
    ids = sorted(miniature.splits["train"] + miniature.splits["val"])
    assert sorted(p.stem for p in (folder / "masks").iterdir()) == ids
    with (folder / "missing.csv").open(encoding="utf-8", newline="") as file:
        missing = {(row["image"], row["class"]) for row in csv.DictReader(file)}
    own = {i: {*np.unique(miniature.truth(i))} - {0, 255} for i in ids}
    mapped = mapped_classes(miniature)
    for image_id in ids:
        mask = read_mask(folder / "masks" / f"{image_id}.png", miniature.truth(image_id).shape)
        found = {*np.unique(mask).tolist()} - {0}
        absent = {name for i, name in missing if i == image_id}
        labelled = found | {miniature.classes.index(name) + 1 for name in absent}
        assert own[image_id] <= labelled
        assert not {miniature.classes[c - 1] for c in found} & absent
        if image_id in mapped:
            assert labelled == mapped[image_id]
    measured = miniature.measured(mode)
    for split, name in zip(("train", "val"), miniature.names):
        row = measured[f"final masks, {name}"]
        assert (row["split"], row["images"]) == (name, len(miniature.splits[split]))
        scored = mean_iou(folder / "masks", miniature, split)
        assert row["value"] == pytest.approx(scored)


@both_modes
def test_results_for_the_test_server_are_what_predict_says_in_the_values_of_the_data_set(
    miniature, runs, mode, tmp_path
):
    results = miniature.made_by("predictions", mode) / miniature.results
    ids = miniature.splits["test"]
    assert sorted(p.name for p in results.iterdir()) == [f"{i}.png" for i in ids]
    photos = [next(miniature.root.rglob(f"{i}.jpg")) for i in ids]
    done = miniature.about("predict", mode, *photos, "-o", tmp_path, "--crf", "--device", "cpu")
    assert done.code == 0, done
    for image_id, photo in zip(ids, photos):
        with Image.open(results / f"{image_id}.png") as image, Image.open(photo) as original:
            assert (image.mode, image.size) == ("P", original.size)
            assert bytes(image.getpalette()) == voc_palette()
            written = np.asarray(image)
        predicted = read_mask(tmp_path / "predictions" / f"{image_id}.png")
        assert (written == np.array(miniature.values)[predicted]).all()


@both_modes
@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_export_writes_the_predictions_of_val(miniature, runs, mode, kind, tmp_path):
    pytest.importorskip("pycocotools")
    place = tmp_path / {"voc": "exported", "coco": "exported.json"}[kind]
    words = ("--format", kind, "--what", "predictions", "-o", place)
    done = miniature.about("export", mode, *words)
    assert done.code == 0, done
    predictions = miniature.made_by("predictions", mode) / "predictions"
    for image_id in miniature.splits["val"]:
        predicted = read_mask(predictions / f"{image_id}.png")
        if kind == "voc":
            exported = read_mask(place / "SegmentationClass" / f"{image_id}.png")
        else:
            exported = drawn(place, f"{image_id}.jpg")
        assert (exported == predicted).all()


def drawn(file: Path, name: str) -> np.ndarray:
    """The masks of an image in a COCO json as one label image."""
    from pycocotools import mask

    content = json.loads(file.read_text())
    image = next(image for image in content["images"] if image["file_name"] == name)
    labels = np.zeros((image["height"], image["width"]), np.uint8)
    for entry in content["annotations"]:
        if entry["image_id"] == image["id"]:
            labels[mask.decode(entry["segmentation"]) > 0] = entry["category_id"]
    return labels
