"""Networks that are known to fit without building them are those that the built ones say fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from getam.running.known_networks import SHAPES, Shape, known_shape
from tests.conftest import make_folder
from tests.running.test_preflight import run

FITS = ("classifier_fits", "maps_fit", "foreground_fits", "deeplab_fits")
NETWORKS = ("classifier.model", "deeplab.encoder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("known")
    make_folder(place / "data")
    return place


@pytest.mark.parametrize("name", SHAPES)
def test_the_sizes_of_a_known_vit_are_those_of_timm(name):
    with torch.device("meta"):
        network = timm.create_model(name, dynamic_img_size=True)
    (side, _), attention = network.patch_embed.patch_size, network.blocks[0].attn
    found = Shape(side, network.embed_dim, len(network.blocks), attention.num_heads)
    assert found == SHAPES[name]
    assert network.global_pool == "token"
    assert network.cls_token is not None
    assert timm.get_pretrained_cfg(name).hf_hub_id


@pytest.mark.parametrize(
    ("model", "args"),
    [
        ("resnet18", {}),
        ("vit_tiny_patch16_224.augreg_in21k", {}),
        ("vit_tiny_patch16_224", {"class_token": False}),
        ("vit_tiny_patch16_224", {"num_heads": 5}),
        ("vit_tiny_patch16_224", {"depth": 0}),
        ("vit_tiny_patch16_224", {"depth": True}),
        ("vit_tiny_patch16_224", {"embed_dim": 3 << 20}),
        ("vit_tiny_patch16_224", {"patch_size": [8, 16]}),
    ],
)
def test_of_an_unusual_network_nothing_is_known(model, args):
    assert known_shape(model, args) is None


def of(model: str, side: int, args: str = "{}") -> list[str]:
    return [
        *(f"{setting}={model}" for setting in NETWORKS),
        *(f"{setting}_args={args}" for setting in ("classifier.model", "deeplab.encoder")),
        *(f"{stage}.image_size={side}" for stage in ("classifier", "deeplab")),
    ]


FINE = {
    "the tiny ViT": [],
    "one block": of("vit_tiny_patch16_224", 32, "{patch_size: 16, depth: 1}"),
    "DINOv2": of("vit_small_patch14_dinov2", 196),
    "DINOv2 with registers": of("vit_small_patch14_reg4_dinov2", 28),
    "pretrained weights": [
        *of("vit_small_patch16_224", 64),
        "classifier.weights=timm",
        "deeplab.weights=timm",
    ],
    "weights of the classifier": ["deeplab.weights=classifier"],
    "weights of the example": [
        *of("vit_tiny_patch16_224", 96, "{patch_size: 8, embed_dim: 128, depth: 6, num_heads: 4}"),
        "classifier.weights=shapes",
        "deeplab.weights=shapes",
    ],
    "fixed encoder at any size": ["deeplab.fixed_encoder=true", "deeplab.image_size=45"],
    "blocks": ["deeplab.blocks=[0, 1]", "deeplab.frozen_blocks=2", "classifier.frozen_blocks=2"],
    "foreground": ["pseudolabels.saliency=features", "foreground.block=1"],
    "method": ["maps.method=grad_cam"],
    "two photos in a step": ["deeplab.batch_size=2", "classifier.batch_size=1"],
}


@pytest.mark.parametrize("settings", FINE.values(), ids=FINE)
def test_a_network_that_is_known_to_fit_is_not_refused_when_it_is_built(
    folder, settings, monkeypatch
):
    def build(*_, **__):
        raise AssertionError("built although it is known")

    plain = ("pseudolabels.saliency=none", *settings)
    with monkeypatch.context() as patch:
        patch.setattr("getam.running.preflight.without_weights", build)
        assert run(folder, *plain, options=("--dry-run",)).exit_code == 0
    for name in FITS:
        monkeypatch.setattr(f"stages.checks.{name}", lambda job: False)
    built = run(folder, *plain, options=("--dry-run",))
    assert built.exit_code == 0, built.output
