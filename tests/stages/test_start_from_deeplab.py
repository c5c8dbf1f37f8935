"""The mode end-to-end that starts from the networks of the mode multi-stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from getam.config.loading import load_config
from getam.errors import UserError
from getam.networks.build import (
    build_deeplab,
    build_endtoend,
    load_classifier,
    load_network,
    save_network,
)
from getam.running.commands.current import CurrentRun
from getam.running.opening import open_runner
from getam.training.joint_start import start
from stages.chain import chain
from tests.conftest import TINY, make_folder
from tests.networks.test_networks import ARGS, VIT
from tests.stages.test_corrections import run

FIRST = ("deeplab.weights=classifier",)
START = (*FIRST, "mode=end-to-end", "endtoend.weights=deeplab")
OTHER = "deit_tiny_patch16_224"
STILL = ("endtoend.joint.lr_encoder=0", "endtoend.joint.lr_head=0")
RATES = [1, 2, 3]


def build(image_size: int = 32, blocks: list[int] | None = None) -> dict:
    return {
        **{"model": VIT, "num_classes": 3, "image_size": image_size, "args": ARGS},
        **{"channels": 8, "atrous_rates": RATES, "blocks": blocks},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("start")
    make_folder(place / "data")
    return place


def every(place: Path, *settings: str) -> tuple[str, ...]:
    return ("data.kind=folder", f"data.root={place / 'data'}", *TINY, *START, *settings)


@pytest.mark.parametrize("blocks", [None, [0, 2]])
def test_network_has_class_scores_and_the_decoder_of_deeplab(blocks, tmp_path):
    network = build_endtoend(**build(blocks=blocks)).eval()
    images = torch.randn(2, 3, 32, 64)
    scores, logits = network(images, with_scores=True)
    torch.testing.assert_close(scores, network.encoder(images))
    assert logits.shape == (2, 4, 32, 64)
    assert torch.equal(network(images), logits)
    save_network(tmp_path, network, {"kind": "endtoend", **build(blocks=blocks)}, ["a", "b", "c"])
    assert torch.equal(load_network(tmp_path)(images), logits)
    torch.testing.assert_close(load_classifier(tmp_path)(images), scores)


@pytest.mark.parametrize("side", [32, 48])
def test_start_takes_encoder_and_decoder_from_deeplab_and_the_head_from_the_classifier(
    side, tmp_path
):
    classifier = build_endtoend(**build()).eval()
    for name in ("classifier", "deeplab"):
        (tmp_path / name).mkdir()
    given = {name: value for name, value in build().items() if name != "model"}
    given |= {"encoder": VIT, "num_classes": 4}
    deeplab = build_deeplab(**given).eval()
    described = {"kind": "endtoend", **build()}
    save_network(tmp_path / "classifier", classifier, described, ["a", "b", "c"])
    save_network(tmp_path / "deeplab", deeplab, {"kind": "deeplab", **given}, ["a", "b", "c"])

    weights = str(tmp_path / "classifier" / "network.safetensors")
    network = start(build(side), weights, tmp_path / "deeplab").eval()
    assert torch.equal(network.encoder.head.weight, classifier.encoder.head.weight)
    images = torch.randn(1, 3, side, side)
    torch.testing.assert_close(network(images), deeplab(images))


def test_run_makes_the_networks_of_the_multi_stage_mode_first_and_goes_on_from_them(place):
    made, ran = run(place, *START, *STILL)
    assert ran == [
        *("classifier", "maps", "pseudolabels", "deeplab", "endtoend"),
        *("predictions", "doubt", "evaluation"),
    ]
    ours = load_file(made["endtoend"] / "network.safetensors")
    deeplab = load_file(made["deeplab"] / "network.safetensors")
    classifier = load_file(made["classifier"] / "network.safetensors")
    learnt = [name for name in deeplab if "running" not in name and "num_batches" not in name]
    for name in learnt:
        torch.testing.assert_close(ours[name], deeplab[name], msg=name)
    for name in ("head.weight", "head.bias"):
        torch.testing.assert_close(ours[f"encoder.{name}"], classifier[name])
    config = load_config((), every(place, *STILL))
    current = CurrentRun(chain, config, place / "artifacts", device="cpu")
    assert current.network() == made["endtoend"]  # that predict and export use
    history = json.loads((made["endtoend"] / "history.json").read_text())
    assert {row["phase"] for row in history} == {"joint"}
    _, again = run(place, *FIRST, until="deeplab")
    assert again == []


def test_final_masks_of_train_use_the_pseudo_labels():
    def needs(*settings):
        config = load_config((), ("data.kind=folder", *TINY, *START, *settings))
        return {stage.name: stage.needs for stage in chain(config)}["predictions"]

    assert needs() == ("endtoend", "pseudolabels")
    assert needs("predictions.pseudo_label_weight=0") == ("endtoend",)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (("deeplab.weights=none",), "deeplab, but deeplab.weights is none.*set deeplab.weights to"),
        (("deeplab.labels=masks",), "but deeplab.labels is masks: .*masks of train"),
        ((f"classifier.model={OTHER}",), f"classifier.model is {OTHER}"),
        ((f"classifier.model={OTHER}", f"endtoend.model={OTHER}"), "deeplab.encoder is vit_tiny"),
        (("deeplab.blocks=[9]",), r"deeplab\.blocks: got 9, expected"),
    ],
)
def test_networks_that_are_no_start_are_refused_before_the_first_stage(place, settings, complaint):
    config = load_config((), every(place, *settings))
    runner = open_runner(chain, config, place / "artifacts", device="cpu")
    with pytest.raises(UserError, match=complaint):
        runner.check(runner.plan(until="endtoend"))


def test_deeplab_cannot_learn_from_a_network_that_starts_from_it():
    settings = ("maps.source=endtoend", "endtoend.weights=deeplab")
    with pytest.raises(UserError, match=r"deeplab with maps\.source=endtoend.*to classifier"):
        chain(load_config((), ("data.kind=folder", *TINY, *settings)))
