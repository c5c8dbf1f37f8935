"""export: files that other programs read as they should."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from getam.data.images import read_image
from getam.data.masks import read_mask
from getam.errors import UserError
from getam.exchange.copies import write_jpeg
from getam.networks.build import build_deeplab, load_network, save_network
from getam.networks.onnx import Deployed
from getam.running.commands.current import writes
from getam.running.commands.export import export_network
from tests.running.commands.conftest import assert_one_sentence

PSEUDO = ("--what", "pseudolabels")
SOURCES = [("pseudolabels", "labels", 8), ("predictions", "predictions", 4)]


@pytest.mark.parametrize(("stage", "folder", "count"), SOURCES)
def test_coco_masks_are_the_labels(micro, tmp_path, stage, folder, count):
    coco = pytest.importorskip("pycocotools.coco", reason="no pycocotools")
    what = "pseudolabels" if stage == "pseudolabels" else folder
    path = tmp_path / "labels.json"
    done = micro("export", "--format", "coco", "--what", what, "-o", path)
    assert done.code == 0, done
    loaded = coco.COCO(path)
    names = [c["name"] for c in loaded.loadCats(loaded.getCatIds())]
    assert names[:2] == ["cat", "dog"]
    values = {n: 255 if name == "ignored" else n for n, name in enumerate(names, start=1)}
    assert len(loaded.imgs) == count
    for image in loaded.imgs.values():
        labels = read_mask(micro.artifact(stage) / folder / image["file_name"])
        assert (micro.data / "images" / image["file_name"]).exists()
        assert labels.shape == (image["height"], image["width"])
        drawn = np.zeros_like(labels)
        entries = loaded.loadAnns(loaded.getAnnIds(imgIds=image["id"]))
        for entry in entries:
            mask = loaded.annToMask(entry)
            drawn[mask > 0] = values[entry["category_id"]]
            assert entry["area"] == mask.sum()
            left, top, width, height = (int(n) for n in entry["bbox"])
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
        assert (drawn == labels).all()
        assert len(entries) == len(set(np.unique(labels)) - {0})


def test_voc_folder(micro, tmp_path):
    done = micro("export", "--format", "voc", "--what", "predictions_crf", "-o", tmp_path / "voc")
    assert done.code == 0, done
    ids = (tmp_path / "voc" / "ImageSets" / "Segmentation" / "default.txt").read_text().split()
    assert ids == ["photo08", "photo09", "photo10", "photo11"]
    for image_id in ids:
        made = tmp_path / "voc" / "SegmentationClass" / f"{image_id}.png"
        given = micro.artifact("predictions") / "predictions_crf" / f"{image_id}.png"
        assert (read_mask(made) == read_mask(given)).all()
        assert Image.open(made).mode == "P"
        image = read_image(tmp_path / "voc" / "JPEGImages" / f"{image_id}.jpg")
        assert image.shape[:2] == read_mask(made).shape
    lines = (tmp_path / "voc" / "labelmap.txt").read_text().splitlines()
    classes = ["background:0,0,0::", "cat:128,0,0::", "dog:0,128,0::"]
    assert lines[1:] == [*classes, "ignored:224,224,192::"]


def test_upright_jpeg_is_copied_and_a_turned_one_is_turned(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8))
    image.save(tmp_path / "a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "b.jpg", exif=exif)
    for name in ("a", "b"):
        write_jpeg(tmp_path / f"{name}.jpg", tmp_path / "out" / f"{name}.jpg")
    assert (tmp_path / "out" / "a.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()
    turned = Image.open(tmp_path / "out" / "b.jpg")
    assert turned.size == (16, 32)
    assert turned.getexif().get(0x0112, 1) == 1


def test_a_full_disk_is_not_blamed_on_the_photo(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match=r"b\.jpg: cannot be written \(No space"), writes(tmp_path):
        write_jpeg(tmp_path / "a.jpg", tmp_path / "b.jpg")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A ViT whose position embedding and head decide the output, as ONNX, and as it is in torch."""
    pytest.importorskip("onnxscript", reason="no onnxscript")
    place = tmp_path_factory.mktemp("onnx")
    build = {
        "encoder": "vit_tiny_patch16_224",
        "num_classes": 3,
        "image_size": 32,
        "args": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
        "channels": 8,
        "atrous_rates": [1, 2, 3],
    }
    torch.manual_seed(0)
    network = build_deeplab(**build)
    with torch.no_grad():
        network.encoder.pos_embed.normal_(std=3)
        network.head.weight.mul_(20)
    save_network(place, network, {"kind": "deeplab", **build}, ["cat", "dög"])
    run = SimpleNamespace(network=lambda: place, artifacts=place / "artifacts")
    said = export_network(run, place / "network.onnx")
    return place, said


def test_onnx_replaces_no_file_of_another_kind(micro, tmp_path):
    (tmp_path / "model.txt").write_text("mine")
    for path in (tmp_path / "model.txt", tmp_path):
        done = micro("export", "--format", "onnx", "-o", path)
        assert_one_sentence(done, f"{path}: this exists, and is no ONNX file")
    assert (tmp_path / "model.txt").read_text() == "mine"


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 3, 32, 32), (2, 3, 64, 24)])
def test_onnx_gives_what_torch_gives(exported, shape):
    onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime")
    place, _ = exported
    session = onnxruntime.InferenceSession(place / "network.onnx")
    images = torch.rand(shape)
    with torch.inference_mode():
        expected = Deployed(load_network(place)).eval()(images).numpy()
    (made,) = session.run(["probabilities"], {"images": images.numpy()})
    assert expected.std() > 0.05  # not the same everywhere
    np.testing.assert_allclose(made, expected, atol=1e-4)
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-5)


def test_onnx_file_says_what_it_takes(exported):
    onnxruntime = pytest.importorskip("onnxruntime", reason="no onnxruntime")
    place, said = exported
    session = onnxruntime.InferenceSession(place / "network.onnx")
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == ["cat", "dög"]
    assert (told["image_size"], told["stride"]) == ("32", "8")
    assert "multiples of 8" in said
    assert sorted(p.name for p in place.glob("network.onnx*")) == ["network.onnx"]


@pytest.mark.parametrize(
    ("kind", "library", "extra"),
    [("coco", "pycocotools", "coco"), ("onnx", "onnxscript", "export")],
)
def test_missing_library_is_named_with_what_installs_it(
    micro, tmp_path, monkeypatch, kind, library, extra
):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"{library}.mask", raising=False)
    result = micro("export", "--format", kind, *PSEUDO, "-o", tmp_path / "out")
    assert_one_sentence(result, library, f"pip install 'getam[{extra}]'")


def test_folder_that_is_not_empty_file_that_exists_or_place_that_cannot_be_written(micro, tmp_path):
    (tmp_path / "file").touch()
    assert_one_sentence(
        micro("export", "--format", "voc", *PSEUDO, "-o", tmp_path), "not empty", "-o"
    )
    drawn = tmp_path / "annotations.json"
    drawn.write_text("somebody's work")
    result = micro("export", "--format", "coco", *PSEUDO, "-o", drawn)
    assert_one_sentence(result, "annotations.json", "exists", "-o")
    assert drawn.read_text() == "somebody's work"
    for kind in ("coco", "voc"):
        result = micro("export", "--format", kind, *PSEUDO, "-o", tmp_path / "file" / "x")
        assert_one_sentence(result, "cannot be written")
    result = micro("export", "--format", "voc", *PSEUDO, "-o", micro.artifacts / "voc")
    assert_one_sentence(result, "among the artifacts")


def test_missing_artifact_or_labels(micro, tmp_path):
    words = ("export", "--format", "coco", "-o", tmp_path / "c.json")
    result = micro(*words, *PSEUDO, more=("pseudolabels.opening=3",))
    assert_one_sentence(result, "pseudolabels", "run --until pseudolabels")
    result = micro(*words, "--what", "predictions", more=("predictions.flip=true",))
    assert_one_sentence(result, "predictions", "run --until predictions")
    assert not (tmp_path / "c.json").exists()


def test_unknown_format_is_wrong_usage(micro):
    assert micro("export", "--format", "yolo").code == 2
    assert micro("export").code == 2


def test_options_that_do_nothing_for_a_format_are_wrong_usage(micro, tmp_path):
    for words in (
        ("--format", "coco", "--doubtful", "1", "--sample", "1"),
        ("--format", "voc", "--polygons", "1"),
        ("--format", "cvat", "--address", "http://x/"),
        ("--format", "coco", "--sample", "0"),
        ("--format", "onnx", "--sample", "3"),
    ):
        assert micro("export", *words, "-o", tmp_path / "x").code == 2, words


def test_sample_is_drawn_without_repetition_and_again_by_its_seed(micro, tmp_path):
    lists = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--format", "voc", *PSEUDO, "--sample", "5", "--seed", str(seed))
        done = micro("export", *words, "--no-photos", "-o", tmp_path / name)
        assert done.code == 0, done
        lists[name] = (tmp_path / name / "sample.txt").read_text().split()
        masks = {p.stem for p in (tmp_path / name / "SegmentationClass").iterdir()}
        assert masks == set(lists[name])
        assert len(masks) == 5
    assert lists["a"] == lists["b"] != lists["c"]


def test_list_of_another_sample_beside_a_json_file_is_not_overwritten(micro, tmp_path):
    words = ("export", "--format", "coco", *PSEUDO, "--sample", "3", "-o")
    assert micro(*words, tmp_path / "a.json").code == 0
    assert micro(*words, tmp_path / "again.json").code == 0  # the same sample
    kept = (tmp_path / "sample.txt").read_text()
    result = micro(*words, tmp_path / "b.json", "--seed", "1")
    assert_one_sentence(result, "sample.txt", "another sample", "-o")
    assert (tmp_path / "sample.txt").read_text() == kept
    assert not (tmp_path / "b.json").exists()


def test_without_the_stage_doubt_one_sentence_says_so(micro, tmp_path):
    words = ("--format", "voc", *PSEUDO, "--doubtful", "2", "-o", tmp_path / "x")
    assert_one_sentence(micro("export", *words, more=("predictions.masks=false",)), "doubt")
