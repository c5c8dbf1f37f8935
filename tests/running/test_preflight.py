"""What a stage would refuse is refused before the first stage runs: one sentence, no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from pipeline import main
from tests.conftest import TINY, make_folder

WIDER = "{patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}"
DEEPER = "{patch_size: 8, embed_dim: 16, depth: 3, num_heads: 2}"
END_TO_END = ("mode=end-to-end",)


def run(place: Path, *settings: str, command: str = "run", options=()) -> Result:
    words = [command, "--artifacts", str(place / "artifacts"), *options]
    every = ("data.kind=folder", f"data.root={place / 'data'}", *TINY, *settings)
    sets = [word for setting in every for word in ("--set", setting)]
    return CliRunner().invoke(main, [*words, *sets], prog_name="pipeline.py")


def assert_refused(result: Result, place: Path, *parts: str) -> None:
    """One sentence that says all of ``parts``, and no stage has begun."""
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    message = result.output.splitlines()[-1]
    assert message.startswith("Error: "), result.output
    for part in parts:
        assert part in message, (part, message)
    assert not [*(place / "artifacts").glob("*/*.partial")], "a stage had begun"
    assert not [*(place / "artifacts").glob("*/*/manifest.json")], "a stage had run"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("good")
    make_folder(place / "data")
    return place


SETTINGS = {
    "image size that is no multiple of the patch": (
        ("classifier.image_size=33",),
        "classifier.image_size: got 33",
    ),
    "channels beyond all numbers": (("deeplab.channels=99999999999",), "cannot be built"),
    "image size of DeepLab": (("deeplab.image_size=30",), "deeplab.image_size: got 30"),
    "image size of the end-to-end network": (
        (*END_TO_END, "endtoend.image_size=36"),
        "endtoend.image_size: got 36",
    ),
    "unknown model": (("classifier.model=vit_tini",), "vit_tini: timm has no such model"),
    "model without a class token": (
        ("classifier.model=resnet18", "classifier.model_args={}"),
        "without a class token",
    ),
    "arguments that the model does not take": (
        ("classifier.model_args={patch_size: 8, nonsense: 1}",),
        "does not take these arguments",
    ),
    "unknown encoder": (("deeplab.encoder=resnet9000",), "resnet9000: timm has no such model"),
    "encoder that is not the classifier's": (
        (
            "deeplab.weights=classifier",
            f"deeplab.encoder_args={WIDER}",
        ),
        "deeplab.weights: got classifier",
    ),
    "encoder that is not as deep as the classifier": (
        (
            "deeplab.weights=classifier",
            f"deeplab.encoder_args={DEEPER}",
        ),
        "deeplab.weights: got classifier",
    ),
    "batches of one photo": (("deeplab.batch_size=1",), "deeplab.batch_size: got batches of 1"),
    "batches of one photo, end to end": (
        (*END_TO_END, "endtoend.joint.batch_size=1"),
        "endtoend.joint.batch_size: got batches of 1",
    ),
    "frozen blocks beyond the depth": (
        ("classifier.frozen_blocks=3",),
        "classifier.frozen_blocks: got 3, expected at most 2",
    ),
    "frozen blocks beyond the depth, end to end": (
        (*END_TO_END, "endtoend.joint.frozen_blocks=9"),
        "endtoend.joint.frozen_blocks: got 9",
    ),
    "start block beyond the depth": (("maps.start_block=2",), "maps.start_block"),
    "start block with a method that takes none": (
        ("maps.start_block=1", "maps.method=grad_cam"),
        "maps.start_block",
    ),
    "foreground block beyond the depth": (
        ("pseudolabels.saliency=features", "foreground.block=2"),
        "foreground.block: got 2",
    ),
    "decoder block beyond the depth": (("deeplab.blocks=[0, 2]",), "deeplab.blocks: got 2"),
    "fixed encoder that is no ViT": (
        ("deeplab.fixed_encoder=true", "deeplab.encoder=resnet18", "deeplab.encoder_args={}"),
        "deeplab.fixed_encoder: got the encoder resnet18",
    ),
    "fixed encoder with frozen blocks": (
        ("deeplab.fixed_encoder=true", "deeplab.frozen_blocks=1"),
        "deeplab.frozen_blocks: got 1",
    ),
    "crop scale reversed": (("classifier.crop_scale=[0.9, 0.4]",), "classifier.crop_scale"),
    "crop of nothing": (("deeplab.crop_scale=[0, 0]",), "deeplab.crop_scale"),
    "fallback reversed": (("pseudolabels.fallback=[0.6, 0.2]",), "pseudolabels.fallback"),
    "background power 0": (("pseudolabels.background_power=0",), "pseudolabels.background_power"),
    "no scales": (("predictions.scales=[]",), "predictions.scales"),
    "weights that are missing": (("classifier.weights=nowhere.pt",), "no such file"),
    "saliency model that is not named": (
        ("pseudolabels.saliency=onnx",),
        "pseudolabels.saliency_model: got none",
    ),
    "no such split": (("data.val=tset",), "there is no split 'tset'"),
    "no such test split": (("data.test=tset",), "there is no split 'tset'"),
    "train is val": (("data.val=train",), "photos are in train and in val"),
    "no such class": (("data.classes=[cow]",), "no class 'cow'"),
    "maps of a network that has no foreground": (
        ("maps.source=endtoend", "pseudolabels.saliency=features"),
        "pseudolabels.saliency: got features",
    ),
    "unknown setting": (("maps.methd=cam",), "Did you mean maps.method?"),
    "setting that has a new name": (("evaluation.flip=false",), "use predictions.flip"),
    "value that has a new name": (("foreground.classes=features",), "use 'patch_classifier'"),
}


@pytest.mark.parametrize(("settings", "words"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_wrong_settings_are_refused_before_the_first_stage(good, settings, words, options):
    assert_refused(run(good, *settings, options=options), good, words)


def without_val_labels(data: Path) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join(lines[:9]) + "\n")


def without_train_labels(data: Path) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([lines[0], *lines[9:]]) + "\n")


def overlapping(data: Path) -> None:
    (data / "splits/val.txt").write_text("photo07\nphoto08\nphoto09\n")


def split_of_nobody(data: Path) -> None:
    (data / "splits/val.txt").write_text("photo08\nphoto99\n")


def without_saliency(data: Path) -> None:
    (data / "saliency/photo03.png").unlink()


def small_saliency(data: Path) -> None:
    Image.new("L", (5, 5)).save(data / "saliency/photo03.png")


def unreadable_saliency(data: Path) -> None:
    (data / "saliency/photo03.png").write_bytes(b"no picture")


def turned_val_mask(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(data / "masks/photo09.png")


def turned_train_mask(data: Path) -> None:
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(data / "masks/photo01.png")


def void_masks(data: Path) -> None:
    for file in (data / "masks").iterdir():
        Image.fromarray(np.full_like(np.array(Image.open(file)), 255)).save(file)


def truncated_photo(data: Path) -> None:
    """Its header is whole, and it is neither the first photo nor one that is drawn first."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    (data / "images/photo03.png").unlink()
    file = data / "images/photo03.jpg"
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes()[:900])


FOLDERS = {
    truncated_photo: ((), "photo03.jpg: cannot read this"),
    without_val_labels: ((), "no photo of split 'val' is labelled"),
    without_train_labels: ((), "no photo of split 'train' is labelled"),
    overlapping: ((), "1 photo is in train and in val, 'photo07' first"),
    split_of_nobody: ((), "photo99"),
    without_saliency: ((), "1 of 8 photos have no saliency map"),
    small_saliency: ((), "photo03.png: got a saliency map of 5 x 5 pixels"),
    unreadable_saliency: ((), "photo03.png: cannot read this saliency map"),
    turned_val_mask: ((), "photo09.png: got a mask of 40 x 48 pixels"),
    turned_train_mask: ((), "photo01.png: got a mask of 40 x 48 pixels"),
    void_masks: ((), "are 255 (ignore) everywhere"),
}


@pytest.mark.parametrize("change", FOLDERS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])
def test_wrong_folders_are_refused_before_the_first_stage(tmp_path, change, mode):
    make_folder(tmp_path / "data")
    change(tmp_path / "data")
    settings, words = FOLDERS[change]
    result = run(tmp_path, *settings, f"mode={mode}")
    if mode == "end-to-end" and change is turned_train_mask:
        return  # there the evaluation measures nothing on train, and no stage opens these masks
    assert_refused(result, tmp_path, words)


def without_masks(data: Path) -> None:
    for file in (data / "masks").iterdir():
        file.unlink()


def test_masks_are_asked_for_where_they_are_needed(tmp_path):
    make_folder(tmp_path / "data")
    without_masks(tmp_path / "data")
    assert_refused(run(tmp_path, "deeplab.labels=masks"), tmp_path, "deeplab.labels: got masks")
    compare = run(tmp_path, "compare.curve_images=0", command="compare")
    assert_refused(compare, tmp_path, "compare measures against masks")
    assert run(tmp_path, options=("--dry-run",)).exit_code == 0  # without masks all else goes


def test_compare_asks_for_a_photo_that_is_labelled_with_a_class(tmp_path):
    make_folder(tmp_path / "data")
    table = (tmp_path / "data" / "labels.csv").read_text().splitlines()
    bare = [f"{line.split(',')[0]}," if number < 9 else line for number, line in enumerate(table)]
    (tmp_path / "data" / "labels.csv").write_text("\n".join([table[0], *bare[1:]]) + "\n")
    refused = run(tmp_path, command="compare")
    assert_refused(refused, tmp_path, "no photo of split 'train' is labelled with a class")


def test_weights_of_another_architecture_are_refused(good, tmp_path):
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    for setting in ("classifier.weights", "deeplab.weights"):
        result = run(good, f"{setting}={tmp_path / 'other.safetensors'}")
        assert_refused(result, good, "other.safetensors", "weights")


def test_until_and_only_together_are_a_wrong_usage(good):
    result = run(good, options=("--until", "maps", "--only", "maps"))
    assert result.exit_code == 2
    assert "--until or --only, not both" in result.output


def test_the_folder_preset_needs_no_saliency_maps(tmp_path):
    make_folder(tmp_path / "data")
    for file in (tmp_path / "data/saliency").iterdir():
        file.unlink()
    small = ("classifier.model=vit_tiny_patch16_224", "deeplab.encoder=vit_tiny_patch16_224")
    words = ["run", "--dry-run", "--config", "folder", "--artifacts", str(tmp_path / "artifacts")]
    every = (f"data.root={tmp_path / 'data'}", "machine=gpu", *TINY, *small)
    sets = [word for setting in every for word in ("--set", setting)]
    result = CliRunner().invoke(main, [*words, *sets])
    assert result.exit_code == 0, result.output
    assert "foreground" in result.output


def test_a_check_looks_at_no_stage_that_is_cached(good, monkeypatch):
    checked: list[str] = []

    def note(name: str) -> Callable:
        return lambda job: checked.append(job.stage)

    for name in (
        "classifier",
        "maps",
        "pseudolabels",
        "deeplab",
        "predictions",
        "evaluation",
    ):
        monkeypatch.setattr(f"stages.checks.{name}", note(name))
    assert run(good, options=("--dry-run", "--until", "maps")).exit_code == 0
    assert checked == ["classifier", "maps"]


@pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])
def test_a_saliency_model_that_is_none_is_refused(good, tmp_path, mode):
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    model = f"pseudolabels.saliency_model={tmp_path / 'model.onnx'}"
    result = run(good, f"mode={mode}", "pseudolabels.saliency=onnx", model)
    assert_refused(result, good, "model.onnx: cannot load this saliency model")
