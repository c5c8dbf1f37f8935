"""inspect: tables and overlays of what is cached."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from getam.config.loading import load_config
from getam.data.index import Record
from getam.data.masks import read_mask
from getam.data.palette import class_colour, write_label_png
from getam.maps.file import MapFile, merge_shards, write_shard
from getam.running.commands.current import CurrentRun
from getam.running.commands.figures import label_table, map_table
from getam.view.overlay import contour, paint
from stages.chain import chain
from tests.conftest import ROOT
from tests.running.commands.conftest import MicroRun, assert_one_sentence

STAGES = ("maps", "pseudolabels", "predictions")


def snapshot(folder: Path) -> dict[Path, tuple]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def columns(table: str, name: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.startswith(f"{name} "))


def test_table_of_maps_counts_images_of_each_class(micro):
    told = micro("inspect", "maps")
    assert told.code == 0, told
    assert "8 images, 8 maps on a 4x4 grid, method getam" in told.out
    assert columns(told.out, "cat")[1] == "4"
    assert columns(told.out, "dog")[1] == "4"
    alone = micro("inspect", "maps", "--class", "dog")
    assert "cat" not in alone.out
    assert columns(alone.out, "dog") == columns(told.out, "dog")


def test_table_of_maps_names_empty_weak_and_flat_ones(tmp_path):
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    images = [(f"good{n}", np.array([1], np.uint8), ramp[None]) for n in range(5)]
    images += [
        ("nothing", np.array([1], np.uint8), np.zeros((1, 4, 4), np.float32)),
        ("faint", np.array([1], np.uint8), ramp[None] / 1000),
        ("even", np.array([2], np.uint8), np.full((1, 4, 4), 0.3, np.float32)),
        ("none", np.zeros(0, np.uint8), np.zeros((0, 4, 4), np.float32)),
    ]
    write_shard(tmp_path / "shard.h5", images, (4, 4))
    merge_shards(tmp_path / "m.h5", [tmp_path / "shard.h5"], (4, 4), ["cat", "dog"], "getam", {})
    lines = map_table(MapFile(tmp_path / "m.h5"), None).splitlines()
    assert lines[-4:] == [
        "empty maps although the class is labelled (1): nothing (cat)",
        "weak maps although the class is labelled (1): faint (cat)",
        "flat maps although the class is labelled (1): even (dog)",
        "images without any map (1): none",
    ]
    records = [Record("none", Path(), ())]
    told = map_table(MapFile(tmp_path / "m.h5"), None, None, records)
    assert "without any map" not in told
    assert told.endswith("photos labelled with no class: 1")
    assert lines[2].split() == ["cat", "7", "good0", "(1)", "nothing", "(0)", "2"]


def test_pictures_replace_no_masks_of_predict(micro, tmp_path):
    masks = [tmp_path / "predictions" / f"photo{n}.png" for n in ("08", "09")]
    masks[1].parent.mkdir()
    write_label_png(masks[1], np.zeros((4, 4), np.uint8))
    before = masks[1].read_bytes()
    words = ("inspect", "predictions", "photo08", "photo09", "-o", tmp_path)
    assert_one_sentence(micro(*words), "photo09.png: got a mask that is there")
    assert not masks[0].exists()
    assert masks[1].read_bytes() == before
    masks[1].unlink()
    for _ in range(2):  # pictures are replaced
        assert micro(*words).code == 0


def test_a_photo_of_the_other_split_is_told_with_the_stage_that_shows_it(micro):
    assert_one_sentence(
        micro("inspect", "maps", "photo10"),
        "photo10: this photo is in split 'val'",
        " inspect predictions photo10 --set data.kind=folder",
    )
    assert_one_sentence(
        micro("inspect", "predictions", "photo01"), "inspect maps photo01 --set data.kind=folder"
    )


@pytest.mark.parametrize(
    ("stage", "name"), [("pseudolabels", "labels"), ("predictions", "predictions")]
)
def test_tables_of_labels_agree_with_the_files(micro, stage, name):
    told = micro("inspect", stage)
    assert told.code == 0, told
    files = sorted((micro.artifact(stage) / name).glob("*.png"))
    labels = [read_mask(file) for file in files]
    for class_id, class_name in enumerate(("background", "cat", "dog")):
        row = columns(told.out, class_name)
        shares = [np.mean(one == class_id) for one in labels if (one == class_id).any()]
        assert row[1] == str(len(shares))
        assert row[2] == (f"{100 * np.median(shares):.1f}" if shares else "-")
    assert f"{len(files)} images" in told.out
    assert f"lowest mIoU ({len(files)})" in told.out


def test_iou_of_the_table_is_that_of_the_evaluation(micro):
    told = micro("inspect", "pseudolabels")
    table = (micro.artifact("evaluation") / "table.txt").read_text().splitlines()
    measured = next(line for line in table if line.startswith("pseudo labels")).split()
    found = [columns(told.out, name)[-1] for name in ("background", "cat", "dog")]
    assert found == measured[6:9]


def test_a_class_that_a_label_lost_is_named(micro, tmp_path):
    run = CurrentRun(chain, load_config((), micro.settings), micro.artifacts)
    records = run.records("train")[:2]  # a cat and a dog
    write_label_png(tmp_path / f"{records[0].id}.png", np.ones((48, 40), np.uint8))
    write_label_png(tmp_path / f"{records[1].id}.png", np.zeros((40, 48), np.uint8))
    told = label_table(run, records, tmp_path, None, lambda items, **_: items)
    assert "background only (1): photo01" in told
    assert "a labelled class is absent (1): photo01" in told
    assert columns(told, "dog")[1:5] == ["0", "-", "1", "0"]


def test_a_class_that_is_seen_and_not_labelled_is_counted_and_named(micro, tmp_path):
    run = CurrentRun(chain, load_config((), micro.settings), micro.artifacts)
    cat, dog, other = run.records("train")[:3]
    for record in (cat, dog, other):
        write_label_png(tmp_path / f"{record.id}.png", np.zeros((48, 40), np.uint8))
    write_label_png(tmp_path / f"{cat.id}.png", np.full((48, 40), 2, np.uint8))
    records = [cat, dog, replace(other, labels=())]
    run.truth = lambda record: None  # no mask to compare with
    told = label_table(run, records, tmp_path, None, lambda items, **_: items)
    assert columns(told, "dog")[1:5] == ["1", "100.0", "1", "1"]
    assert "a class is seen that is not labelled (1): photo00 (dog)" in told
    assert "background only (1): photo01" in told  # not the photo of no class
    assert "photos labelled with no class: 1" in told


def test_overlay_of_maps_shows_image_map_label_and_truth(micro, tmp_path):
    made = micro("inspect", "maps", "photo00", "photo01.png", "-o", tmp_path)
    assert made.out.split() == [str(tmp_path / "maps" / f"photo0{n}.png") for n in (0, 1)], made
    sheet = np.asarray(Image.open(tmp_path / "maps" / "photo00.png"))
    assert sheet.shape[1] >= 4 * 200  # four panels of 200 x 240
    other = micro("inspect", "maps", "photo00", "-o", tmp_path / "o", "--threshold", "0.95")
    assert other.code == 0, other
    moved = np.asarray(Image.open(tmp_path / "o" / "maps" / "photo00.png"))
    changed = (moved != sheet).any(axis=2).any(axis=0)
    left = sheet.shape[1] // 4
    assert changed[left : 2 * left].any()  # the map with its line
    assert not changed[: left - 20].any()  # the image


@pytest.mark.parametrize(
    ("stage", "image"), [("pseudolabels", "photo03"), ("predictions", "photo09")]
)
def test_overlays_of_labels_and_predictions(micro, tmp_path, stage, image):
    made = micro("inspect", stage, image, "-o", tmp_path)
    assert made.code == 0, made
    sheet = np.asarray(Image.open(tmp_path / stage / f"{image}.png"))
    assert sheet.shape[1] >= (3 if stage == "pseudolabels" else 4) * 200
    assert (sheet == class_colour(2)).all(axis=2).any()  # the dog's colour in the legend


def test_line_is_where_the_map_crosses_the_threshold():
    panel = np.full((64, 64, 3), 90, np.uint8)
    half = np.zeros((64, 64), np.float32)
    half[:, 32:] = 1
    drawn = (contour(panel.copy(), half, 0.5) == 255).all(axis=2)
    assert drawn.any(axis=0).nonzero()[0].min() in (31, 32)
    assert drawn[2:-2, 32].all()


def test_paint_leaves_background_and_mixes_the_class_colour():
    image = np.full((2, 2, 3), 100, np.uint8)
    painted = paint(image, np.array([[0, 1], [0, 255]], np.uint8), opacity=0.5)
    assert (painted[:, 0] == 100).all()
    assert painted[0, 1].tolist() == [114, 50, 50]
    assert painted[1, 1].tolist() == [162, 162, 146]


def test_looking_changes_nothing_and_needs_no_write_permission(micro, tmp_path):
    before = snapshot(micro.artifacts)
    folders = [micro.artifacts, *(p for p in micro.artifacts.rglob("*") if p.is_dir())]
    try:
        for folder in folders:
            folder.chmod(0o555)
        for stage, image in zip(STAGES, ("photo00", "photo00", "photo08")):
            assert micro("inspect", stage).code == 0
            assert micro("inspect", stage, image, "-o", tmp_path).code == 0
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert snapshot(micro.artifacts) == before


def test_looking_imports_no_torch(micro, tmp_path):
    looks = [
        micro.words("inspect", "maps", "photo00", "-o", tmp_path),
        micro.words("inspect", "predictions"),
        micro.words("report", "-o", tmp_path / "r.html"),
    ]
    code = (
        "import sys; from pipeline import main\n"
        f"for words in {looks!r}: main(words, standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done


def test_unknown_class_suggests_the_nearest(micro):
    for image in ((), ("photo00",)):
        result = micro("inspect", "maps", *image, "--class", "dgo")
        assert_one_sentence(result, "dgo", "Did you mean 'dog'?")
    assert_one_sentence(micro("inspect", "maps", "--class", "xyz"), "Known are cat, dog.")


def test_class_that_the_image_has_not(micro, tmp_path):
    result = micro("inspect", "maps", "photo00", "--class", "dog", "-o", tmp_path)
    assert_one_sentence(result, "photo00", "no map of 'dog'", "maps of cat")
    result = micro("inspect", "pseudolabels", "photo00", "--class", "dog", "-o", tmp_path)
    assert_one_sentence(result, "photo00", "'dog' is nowhere in this image")
    assert not any(tmp_path.iterdir())


def test_unknown_image_and_one_of_another_split(micro, tmp_path):
    result = micro("inspect", "maps", "photo0", "-o", tmp_path)
    assert_one_sentence(result, "no such photo in split 'train'", "Did you mean 'photo0")
    assert_one_sentence(micro("inspect", "predictions", "xyz"), "Look into splits/val.txt")


def test_output_among_the_artifacts_or_where_nothing_can_be_written(micro, tmp_path):
    inside = micro.artifact("maps")
    result = micro("inspect", "maps", "photo00", "-o", inside)
    assert_one_sentence(result, "among the artifacts", "-o")
    (tmp_path / "file").touch()
    result = micro("inspect", "maps", "photo00", "-o", tmp_path / "file")
    assert_one_sentence(result, "cannot be written", "-o")


def test_missing_artifact_says_what_makes_it(micro):
    result = micro("inspect", "maps", more=("maps.method=attention",))
    assert_one_sentence(
        result, "maps", "stale", "maps.method getam -> attention", "run --until maps"
    )


def test_stage_without_maps_or_labels_is_wrong_usage(micro):
    assert micro("inspect", "classifier").code == 2


@pytest.mark.parametrize(
    ("words", "stage", "name"),
    [
        (("inspect", "pseudolabels"), "pseudolabels", "labels/photo01.png"),
        (("report",), "predictions", "masks/photo01.png"),
        (("export", "--format", "voc", "-o", "out"), "predictions", "masks/photo01.png"),
        (("predict", "PHOTOS", "-o", "out"), "deeplab", "network.safetensors"),
    ],
)
def test_files_that_someone_changed_are_not_used_without_a_word(
    micro, tmp_path, monkeypatch, words, stage, name
):
    monkeypatch.chdir(tmp_path)
    own = MicroRun(micro.place)
    own.artifacts = tmp_path / "artifacts"
    shutil.copytree(micro.artifacts, own.artifacts)
    file = own.artifact(stage) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    told = own(*(str(micro.data / "images") if word == "PHOTOS" else word for word in words))
    assert_one_sentence(told)
    assert f"{stage}: the files of its artifact are not as the stage made them" in told.err
    assert f"--until {stage}" in told.err
    file.write_bytes(whole)
    assert own(*(str(micro.data / "images") if w == "PHOTOS" else w for w in words)).code == 0
