"""The stage doubt: one line per labelled photo, in both modes, and no mask of the data is read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from getam.config.loading import load_config
from getam.labels.label_agreement import COUNTS, Agreement
from getam.labels.label_odds import held_out_expectation, label_errors
from getam.networks.build import build_deeplab, build_endtoend
from getam.networks.encoder_outputs import outputs_of
from getam.running.opening import open_runner
from stages.chain import chain
from stages.doubt import with_labels
from tests.conftest import TINY, make_folder

VIT = {"patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2}
MODES = {
    "multi-stage": (),
    "end-to-end": ("mode=end-to-end",),
    "fixed encoder": ("deeplab.fixed_encoder=true", "deeplab.blocks=[0, 1]"),
    "convolutional": ("deeplab.encoder=resnet18", "deeplab.encoder_args={}"),
}


def run(root: Path, *settings: str) -> Path:
    """The artifact of the stage doubt."""
    config = load_config((), (*TINY, "data.kind=folder", f"data.root={root}", *settings))
    runner = open_runner(chain, config, root.parent / "artifacts", device="cpu", workers=1)
    runner.run(runner.plan(until="doubt"))
    return runner.store.folder("doubt", runner.key("doubt"))


def queue(artifact: Path, table: str = "doubt.csv") -> list[dict[str, str]]:
    with (artifact / table).open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize("mode", MODES)
def test_every_labelled_photo_has_a_line_and_the_most_doubtful_is_first(tmp_path, mode):
    root = make_folder(tmp_path / "data")
    table = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(t for t in table if "photo11" not in t))
    artifact = run(root, *MODES[mode])
    rows = queue(artifact)
    assert list(rows[0]) == ["image", "split", "doubt", "reason"]
    ids = [f"photo{n:02}" for n in range(11)]
    assert sorted(row["image"] for row in rows) == ids
    split = {row["image"]: row["split"] for row in rows}
    assert [split[i] for i in ids] == ["train"] * 8 + ["val"] * 3
    doubts = [float(row["doubt"]) for row in rows]
    assert doubts == sorted(doubts, reverse=True)
    assert 0 <= doubts[-1] <= doubts[0] <= 1
    assert all(row["reason"].endswith(".") for row in rows)
    errors = queue(artifact, "label_errors.csv")
    assert list(errors[0]) == ["image", "split", "probability", "class", "labelled"]
    assert {(row["image"], row["split"]) for row in errors} == set(split.items())
    found = [float(row["probability"]) for row in errors]
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] <= found[0] < 1
    given = dict(line.split(",") for line in (root / "labels.csv").read_text().splitlines()[1:])
    assert all(
        (row["class"] in given[row["image"]]) == (row["labelled"] == "yes") for row in errors
    )
    summary = json.loads((artifact / "summary.json").read_text())
    assert 0 <= summary["agreement"] <= 1
    assert summary["photos"] == 11
    assert set(summary["IoU per class"]) == {"background", "cat", "dog"}
    assert Agreement.load(artifact / COUNTS).value() == summary["agreement"]


def test_masks_of_the_data_have_no_part_in_it(tmp_path):
    first, second = (make_folder(tmp_path / name / "data") for name in ("with", "without"))
    for mask in (second / "masks").iterdir():
        mask.unlink()
    both = [run(root) for root in (first, second)]
    assert both[0].name == both[1].name
    assert (both[0] / "doubt.csv").read_bytes() == (both[1] / "doubt.csv").read_bytes()


def test_a_photo_without_a_class_and_other_sizes_are_taken(tmp_path):
    root = make_folder(tmp_path / "data")
    Image.new("RGB", (64, 9)).save(root / "images" / "photo03.png")
    for folder in ("masks", "saliency"):
        Image.new("L", (64, 9)).save(root / folder / "photo03.png")
    text = (root / "labels.csv").read_text().replace("photo03,dog", "photo03,")
    (root / "labels.csv").write_text(text)
    assert "photo03" in [row["image"] for row in queue(run(root))]


def test_without_final_masks_there_is_no_doubt():
    config = load_config((), ("predictions.masks=false",))
    assert "doubt" not in [stage.name for stage in chain(config)]


@pytest.mark.parametrize("kind", ["vit", "endtoend", "resnet"])
def test_features_come_from_the_pass_that_gives_the_probabilities(kind):
    torch.manual_seed(0)
    given = {"image_size": 64, "args": VIT, "channels": 8}
    if kind == "endtoend":
        network = build_endtoend("vit_tiny_patch16_224", 2, **given)
    else:
        encoder, args = ("vit_tiny_patch16_224", VIT) if kind == "vit" else ("resnet18", {})
        given = {**given, "args": args, "atrous_rates": (1, 2, 3)}
        network = build_deeplab(encoder, num_classes=3, **given)
    network.eval()
    images = torch.randn(2, 3, 64, 64)
    features, lower, probabilities = outputs_of(network, images)
    with torch.inference_mode():
        assert torch.equal(probabilities, network(images).softmax(1))
        if kind == "vit":
            assert torch.allclose(features, network.features(images), atol=1e-6)
        if kind != "resnet":
            caught = []
            block = network.encoder.blocks[2]
            hook = block.register_forward_hook(lambda *given: caught.append(given[-1]))
            network(images)
            hook.remove()
            tokens = lower.flatten(2).transpose(1, 2)
            assert torch.equal(tokens, caught[0][:, network.encoder.num_prefix_tokens :])
    assert (lower is None) == (kind == "resnet")
    assert features.ndim == 4
    assert len(features) == 2
    assert np.isfinite(features.numpy()).all()
    assert not any(module._forward_hooks for module in network.modules())


def test_a_photo_whose_labels_are_wrong_is_doubtful_although_its_mask_fits():
    random = np.random.default_rng(0)
    features = [n % 2 * np.ones(6, np.float32) + random.normal(0, 0.3, 6) for n in range(40)]
    labels = np.array([[n % 2 == 0, n % 2 == 1] for n in range(40)])
    labels[6], labels[9] = True, False
    errors = label_errors(held_out_expectation(np.float32(features), labels), labels)
    given = [0.1] * 40, ["The mask fits well."] * 40, errors, labels, ("cat", "dog")
    doubts, reasons = zip(*with_labels(*given))
    assert set(np.argsort(doubts)[-2:]) == {6, 9}
    assert reasons[6] == (
        "The photo does not look like other photos with dog, which is among the labels."
    )
    assert reasons[9] == "The photo looks like photos with dog, which is not among the labels."
    assert reasons[0] == "The mask fits well."
