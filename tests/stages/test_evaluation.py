"""The evaluation says when it measured nothing, and when masks contradict the labels."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import stages.endtoend
import stages.evaluation
from getam.cache.stage import ConfigView
from getam.config.schema import Config
from getam.data.corrections import Corrections
from getam.data.folder import read_folder
from getam.data.palette import write_label_png
from getam.maps.file import merge_shards, write_shard
from getam.metrics.segmentation import ConfusionMatrix, ThresholdSweep
from getam.running.context import Context
from getam.view.lines import headline


@pytest.fixture
def job(folder, tmp_path) -> SimpleNamespace:
    """The end of a run on the folder: all labels and predictions are background, maps are flat."""
    data = read_folder(folder)
    inputs = {n: tmp_path / n for n in ("classifier", "maps", "pseudolabels", "predictions")}
    for name in inputs:
        (tmp_path / name).mkdir()
    (tmp_path / "evaluation").mkdir()
    train, val = data.split("train"), data.split("val")
    labels = np.array([[c in r.labels for c in (1, 2)] for r in val])
    np.savez(inputs["classifier"] / "scores.npz", scores=labels * 0.9, labels=labels)
    maps = [(r.id, np.array(r.labels, np.uint8), np.ones((1, 4, 4), np.float32)) for r in train]
    write_shard(tmp_path / "0.h5", maps, (4, 4))
    merge_shards(inputs["maps"] / "maps.h5", [tmp_path / "0.h5"], (4, 4), data.classes, "", {})
    for kind, records in (("pseudolabels/labels", train), ("predictions/predictions", val)):
        (tmp_path / kind).mkdir()
        for record in records:
            size = Image.open(record.mask).size[::-1]
            write_label_png(tmp_path / kind / f"{record.id}.png", np.zeros(size, np.uint8))
    context = Context(root=folder, index=data)
    settings = ConfigView("evaluation", Config().model_dump(mode="json"))
    return SimpleNamespace(
        config=settings, inputs=inputs, context=context, folder=tmp_path / "evaluation"
    )


def change_masks(job, change) -> None:
    for file in (job.context.root / "masks").glob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(file))).astype(np.uint8)).save(file)


def lines(job) -> dict[str, str]:
    """The lines of the table by what they are about."""
    text = (job.folder / "table.txt").read_text()
    return {line.split("  ")[0].strip(): line for line in text.splitlines()[1:]}


def test_where_no_mask_shows_a_class_there_is_no_figure_and_the_table_says_why(job):
    change_masks(job, lambda mask: 0 * mask)
    with pytest.warns(UserWarning, match="contradict"):
        metrics = stages.evaluation.run(job)
    assert headline(metrics) == ["classifier mAP 100.0 %"]
    for what in ("seeds", "pseudo labels", "network"):
        line = lines(job)[what]
        assert "not measured: the masks show no class" in line
        assert "100.0" not in line
    rows = json.loads((job.folder / "metrics.json").read_text())
    assert [row["value"] for row in rows] == [1.0, None, None, None]
    assert not any("threshold curve" in row for row in rows)


def test_one_mask_with_a_class_is_measured(job):
    change_masks(job, lambda mask: mask)
    metrics = stages.evaluation.run(job)
    assert all(value > 0 for value in metrics.values())
    assert "not measured" not in (job.folder / "table.txt").read_text()
    assert "note:" not in (job.folder / "table.txt").read_text()


def test_masks_that_contradict_the_labels_are_said_below_the_table_and_in_the_run(job):
    change_masks(job, lambda mask: np.where(mask > 0, 3 - mask, 0))
    with pytest.warns(UserWarning, match="val: the masks of 4 of 4 photos contradict"):
        stages.evaluation.run(job)
    notes = [n for n in (job.folder / "table.txt").read_text().splitlines() if "note:" in n]
    assert len(notes) == 2
    assert "train: the masks of 8 of 8 photos contradict their labels" in notes[0]
    assert "in them cat has 2, dog has 1" in notes[0]


def test_the_curve_of_the_end_to_end_network_has_no_figure_without_a_class(job, monkeypatch):
    one = np.float32([1, 0, 0])[:, None, None] * np.ones((1, 8, 8), np.float32)

    def background(images):
        return [[one] for _ in images]

    segmenter = SimpleNamespace(fitting=int, boxed=np.shape, of_boxed=background)
    monkeypatch.setattr(stages.endtoend, "Segmenter", lambda *args, **more: segmenter)
    measured = stages.endtoend._validation(job, torch.nn.Identity(), read_folder(job.context.root))
    assert measured()["val mIoU"] > 0
    change_masks(job, lambda mask: 0 * mask)
    assert measured() == {}


def test_counts_know_whether_any_target_is_a_class():
    zero, one = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    confusion, sweep = ConfusionMatrix(2), ThresholdSweep(2, [0.5])
    for target, expected in ((zero, False), (np.full_like(zero, 255), False), (one, True)):
        confusion.update(one, target)
        sweep.update(np.ones((1, 2, 2)), [1], target)
        assert (confusion.has_classes, sweep.has_classes) == (expected, expected)


def draw_sample(job, values: dict[str, int], final: dict[str, int], **options) -> dict:
    """The rows by what they are about, with corrected and final masks of one value each.

    The data set has no other masks.
    """
    place, folder = job.context.root / "corrections", job.inputs["predictions"] / "masks"
    for where, some in ((place, values), (folder, final)):
        where.mkdir()
        for image_id, value in some.items():
            size = Image.open(job.context.root / "masks" / f"{image_id}.png").size[::-1]
            write_label_png(where / f"{image_id}.png", np.full(size, value, np.uint8))
    files = {image_id: place / f"{image_id}.png" for image_id in values}
    sample = options.pop("sample", frozenset(files))
    for file in (job.context.root / "masks").iterdir():
        file.unlink()
    data = read_folder(job.context.root)
    job.context.index = data.with_corrections(Corrections(place, files, sample))
    settings = Config().model_dump(mode="json")
    settings["data"] |= options
    job.config = ConfigView("evaluation", settings)
    stages.evaluation.run(job)
    rows = json.loads((job.folder / "metrics.json").read_text())
    return {row["what"]: row for row in rows}


def test_final_masks_of_the_sample_are_measured_in_train_and_in_val(job):
    values = {"photo00": 1, "photo01": 2, "photo08": 1, "photo09": 2}
    rows = draw_sample(job, values, {**values, "photo09": 0, "photo10": 2})
    row = rows["final masks, sample"]
    assert (row["split"], row["images"], row["drawn"]) == ("train, val", 4, 4)
    assert row["per class"] == {"background": 0, "cat": 1, "dog": 0.5}
    assert row["value"] == pytest.approx(0.5)
    low, high = row["interval"]
    assert low < 0.5 < high
    line = lines(job)["final masks, sample"]
    assert line.endswith("50.0  too few photos for an interval: 4")  # too few to show one
    free = rows["network, sample"]
    assert (free["split"], free["images"]) == ("val", 2)
    assert lines(job)["network, sample"].endswith("without a prediction: 2 of the sample")


def test_corrections_outside_the_sample_do_not_measure(job):
    values = {"photo00": 1, "photo01": 1, "photo08": 1}
    rows = draw_sample(job, values, values, sample=frozenset({"photo00"}))
    row = rows["final masks, sample"]
    assert (row["images"], row["value"]) == (1, 1)
    assert lines(job)["final masks, sample"].endswith("too few photos for an interval: 1")
    assert rows.keys() == {"classifier", "final masks, sample"}


def test_a_sample_that_was_learnt_from_says_so(job):
    rows = draw_sample(job, {"photo00": 1, "photo02": 1}, {"photo00": 1}, learn_from_sample=True)
    assert rows["final masks, sample"]["learnt"] is True
    line = lines(job)["final masks, sample"]
    assert line.endswith(
        "without a final mask: 1 of the sample, the network learnt from these masks"
    )


def test_a_sample_in_which_no_class_is_seen_has_no_figure(job):
    values = {"photo00": 0, "photo02": 255}
    rows = draw_sample(job, values, dict.fromkeys(values, 1))
    assert rows["final masks, sample"]["value"] is None
    assert "not measured: the masks show no class" in lines(job)["final masks, sample"]
