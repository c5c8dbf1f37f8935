"""DeepLab over an encoder that stays as it is: features made once, and a decoder that learns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from getam.config.loading import load_config
from getam.data.images import read_image
from getam.data.transforms import letterbox, normalise_images
from getam.errors import UserError
from getam.networks.build import build_deeplab, load_network, normalisation, save_network
from getam.networks.decoders import FixedEncoderDeepLab
from getam.running.opening import open_runner
from stages import deeplab as deeplab_stage
from stages import encoder_features as features_stage
from stages.chain import chain
from stages.encoder_features import read_features
from tests.conftest import EXAMPLE

ARGS = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
VIT = "vit_tiny_patch16_224"
FIXED = (
    *EXAMPLE,
    "deeplab.fixed_encoder=true",
    "deeplab.blocks=[0, 1]",
    "deeplab.weights=classifier",
)


def run(place: Path, *settings: str, until: str = "deeplab") -> tuple[Path, list[str]]:
    """The artifact of a stage, and the stages that ran for it."""
    events = []
    config = load_config((), (*FIXED, *settings))
    runner = open_runner(
        chain, config, place / "artifacts", device="cpu", workers=1, report=events.append
    )
    runner.run(runner.plan(until=until))
    ran = [event.stage for event in events if event.kind == "start"]
    return runner.store.folder(until, runner.key(until)), ran


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fixed")


def images_of_train(place: Path) -> list[np.ndarray]:
    data = next((place / "artifacts" / "data").glob("*/images")).parent
    ids = (data / "splits" / "train.txt").read_text().split()
    return [read_image(next((data / "images").glob(f"{image_id}.*"))) for image_id in ids]


@pytest.mark.parametrize("blocks", [None, [2], [0, 2]])
def test_the_decoder_over_features_is_what_the_network_is_over_images(blocks):
    network = build_deeplab(VIT, 4, 32, ARGS, 8, (1, 2, 3), blocks=blocks).eval()
    images = torch.rand(2, 3, 32, 48)
    found = network.features(images)
    assert found.shape == (2, 16 * len(blocks or [2]), 4, 6)
    logits = FixedEncoderDeepLab(network).eval()(found)
    enlarged = torch.nn.functional.interpolate(logits, (32, 48), mode="bilinear")
    torch.testing.assert_close(network(images), enlarged)


def test_features_are_those_of_the_named_blocks_side_by_side():
    network = build_deeplab(VIT, 4, 32, ARGS, 8, (1, 2, 3), blocks=[2, 0]).eval()
    images, kept = torch.rand(1, 3, 32, 32), {}
    for block in (0, 2):
        network.encoder.blocks[block].register_forward_hook(
            lambda _, __, out, block=block: kept.update({block: out})
        )
    found = network.features(images)
    expected = [network.encoder.norm(kept[block])[:, 1:] for block in (0, 2)]
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), torch.cat(expected, dim=2))


def test_a_network_of_several_blocks_comes_back_from_its_file(tmp_path):
    build = {"encoder": VIT, "num_classes": 4, "image_size": 32, "args": ARGS, "channels": 8}
    build |= {"atrous_rates": [1, 2, 3], "blocks": [0, 2]}
    network = build_deeplab(**build).eval()
    save_network(tmp_path, network, {"kind": "deeplab", **build}, ["a", "b", "c"])
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_network(tmp_path)(images), network(images))


@pytest.mark.parametrize(
    ("encoder", "args", "has"), [(VIT, ARGS, "0 to 2"), ("test_convnext", {}, "no plain ViT")]
)
def test_blocks_that_the_encoder_has_not_are_a_mistake_in_words(encoder, args, has):
    with pytest.raises(UserError, match=rf"deeplab\.blocks: got 3, expected .*{has}"):
        build_deeplab(encoder, 4, 32, args, 8, (1, 2, 3), blocks=[3])


def test_features_are_those_of_each_image_as_it_is_tested(place):
    folder, _ = run(place, until="encoder_features")
    network = load_network(run(place)[0])
    for index, image in enumerate(images_of_train(place)):
        boxed, _ = letterbox(image, 32, network.stride)
        with torch.no_grad():
            expected = network.features(normalise_images(boxed[None], normalisation(network)))[0]
        found = read_features(folder, index).float()
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_the_encoder_stays_the_classifiers_and_the_decoder_learns(place):
    folder, _ = run(place)
    trained = load_file(folder / "network.safetensors")
    classifier = load_file(run(place, until="classifier")[0] / "network.safetensors")
    encoder = {k.removeprefix("encoder."): v for k, v in trained.items() if "encoder." in k}
    assert encoder
    assert all(torch.equal(value, classifier[name]) for name, value in encoder.items())
    losses = [e["loss"] for e in json.loads((folder / "history.json").read_text())]
    longer, _ = run(place, "deeplab.epochs=12", "deeplab.lr_head=1e-2")
    more = [e["loss"] for e in json.loads((longer / "history.json").read_text())]
    assert more[-1] < 0.7 * losses[0]


def test_each_label_is_read_once_however_many_epochs(place, monkeypatch):
    read, counted = deeplab_stage.read_mask, []
    monkeypatch.setattr(
        deeplab_stage, "read_mask", lambda *given: counted.append(given[0].name) or read(*given)
    )
    run(place, "deeplab.epochs=3", "deeplab.lr_head=3e-3")
    assert len(counted) == len(set(counted)) > 0


def test_labels_that_change_need_no_new_features(place):
    run(place)
    _, ran = run(place, "pseudolabels.quantile=0.5")
    assert ran == ["pseudolabels", "deeplab"]
    _, ran = run(place, "deeplab.blocks=[1]")
    assert ran == ["encoder_features", "deeplab"]
    _, ran = run(place, "deeplab.channels=4", "deeplab.epochs=1")
    assert ran == ["deeplab"]


def test_shards_that_are_there_are_not_made_again(place, tmp_path, monkeypatch):
    monkeypatch.setattr(features_stage, "SHARD", 3)
    looked = []
    look = features_stage.look

    def until_killed(network, images, *others):
        if len(looked) == 2:
            raise KeyboardInterrupt
        looked.append(len(images))
        return look(network, images, *others)

    monkeypatch.setattr(features_stage, "look", until_killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, until="encoder_features")
    assert looked == [3, 3]
    monkeypatch.setattr(features_stage, "look", look)
    folder, _ = run(tmp_path, until="encoder_features")
    monkeypatch.undo()
    whole, _ = run(place, until="encoder_features")
    joined = np.concatenate([np.load(path) for path in sorted(folder.glob("*.npy"))])
    assert (joined == np.load(whole / "00000.npy")).all()


def test_labels_lie_on_the_part_of_the_square_that_shows_the_image(place, monkeypatch):
    """An image that is wider than high leaves the square's lower part without labels."""
    from stages import deeplab

    kept = {}

    def train(network, items, item, *_, **__):
        kept.update(pairs=[item(n) for n in range(items)])
        raise KeyboardInterrupt

    monkeypatch.setattr(deeplab, "train", train)
    monkeypatch.setattr(deeplab, "image_size", lambda _: (24, 48))
    monkeypatch.setattr(deeplab, "read_mask", lambda *_: np.ones((24, 48), np.uint8))
    with pytest.raises(KeyboardInterrupt):
        run(place, "deeplab.flip=0", "deeplab.epochs=3")
    for features, labels in kept["pairs"]:
        assert features.shape == (32, 4, 4)
        assert labels.shape == (16, 16)
        assert (labels[:8] == 1).all()
        assert (labels[8:] == 255).all()


def test_features_and_labels_are_mirrored_together(place, monkeypatch):
    from stages import deeplab

    kept = []

    def train(network, items, item, *_, **__):
        kept.append([item(n) for n in range(items)])
        raise KeyboardInterrupt

    monkeypatch.setattr(deeplab, "train", train)
    for flip in (0, 1):
        with pytest.raises(KeyboardInterrupt):
            run(place, f"deeplab.flip={flip}", "deeplab.epochs=3")
    for (features, labels), (mirrored, mirrored_labels) in zip(*kept):
        assert torch.equal(features.flip(-1), mirrored)
        assert torch.equal(labels.flip(-1), mirrored_labels)
        assert not torch.equal(features, mirrored)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (("deeplab.frozen_blocks=1",), r"deeplab\.frozen_blocks: got 1 with deeplab\.fixed_enc"),
        (
            ("deeplab.encoder=test_convnext", "deeplab.weights=none", "deeplab.blocks=null"),
            r"deeplab\.fixed_encoder: got the encoder test_convnext",
        ),
    ],
)
def test_what_a_fixed_encoder_cannot_be_is_a_mistake_in_words(place, setting, words):
    with pytest.raises(UserError, match=words):
        run(place, *setting, *(["deeplab.encoder_args={}"] if len(setting) > 1 else []))


def test_a_network_of_fixed_encoder_is_tested_on_whole_images(place):
    folder, _ = run(place, until="predictions")
    predictions = [*(folder / "predictions").iterdir()]
    assert len(predictions) == 4
    assert {np.asarray(Image.open(p)).shape for p in predictions} == {(48, 48)}
