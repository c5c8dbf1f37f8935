"""Networks: built, saved, loaded, frozen, and fed from local weights."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from getam.errors import UserError
from getam.maps.compute import compute_maps
from getam.networks.build import (
    build_classifier,
    build_deeplab,
    build_endtoend,
    encoder_parameters,
    freeze_blocks,
    load_classifier,
    load_network,
    network_classes,
    normalisation,
    save_network,
)

ARGS = {"patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("model", "args"),
    [
        (VIT, ARGS),
        ("deit_tiny_distilled_patch16_224", ARGS),
        ("vit_small_patch14_dinov2", ARGS),
        ("vit_small_patch14_reg4_dinov2", ARGS),
    ],
)
def test_classifier_takes_other_sizes_than_the_one_it_was_built_for(model, args):
    network = build_classifier(model, 5, 32, args).eval()
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert network(torch.zeros(2, 3, 48, 24)).shape == (2, 5)


@pytest.mark.parametrize(
    ("encoder", "args", "size"), [(VIT, ARGS, (32, 48)), ("test_convnext", {}, (64, 96))]
)
def test_deeplab_gives_logits_of_the_size_of_the_image(encoder, args, size):
    network = build_deeplab(encoder, 4, 32, args, 8, (1, 2, 3)).eval()
    assert all(side % network.stride == 0 for side in size)
    assert network(torch.zeros(2, 3, *size)).shape == (2, 4, *size)


HYBRID = "vit_small_r26_s32_224"
ENCODERS = [
    (VIT, ARGS, 64),
    ("vit_tiny_patch16_224", {**ARGS, "patch_size": 16, "depth": 12}, 64),
    ("deit_tiny_patch16_224", ARGS, 32),
    ("deit_tiny_distilled_patch16_224", ARGS, 32),
    (HYBRID, {"embed_dim": 16, "depth": 4, "num_heads": 2}, 64),
    ("vit_small_patch14_dinov2", {"embed_dim": 16, "depth": 4, "num_heads": 2}, 56),
    ("vit_small_patch14_reg4_dinov2", {"embed_dim": 16, "depth": 4, "num_heads": 2}, 56),
    (
        "vit_small_patch16_dinov3",
        {"embed_dim": 32, "depth": 4, "num_heads": 2, "global_pool": "token"},
        64,
    ),
]


@pytest.mark.parametrize(("model", "args", "size"), ENCODERS)
def test_endtoend_gives_scores_and_logits_of_one_pass_and_maps_of_its_encoder(model, args, size):
    torch.manual_seed(0)
    network = build_endtoend(model, 3, size, args, channels=8).eval()
    assert size % network.stride == 0
    images = torch.randn(2, 3, size, size)
    scores, logits = network.scores_and_logits(images)
    assert torch.allclose(scores, network.encoder(images), atol=1e-5)
    assert logits.shape == (2, 4, size, size)
    assert torch.equal(logits, network(images))
    maps = compute_maps(network.encoder, images, torch.ones(2, 3))
    assert (maps.amax(dim=(2, 3)) > 0).all()


@pytest.mark.parametrize("model", [VIT, "deit_tiny_distilled_patch16_224"])
def test_endtoend_takes_other_sizes_that_its_stride_divides(model):
    network = build_endtoend(model, 3, 32, ARGS, channels=8).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 4, 64, 96)


def test_every_weight_of_endtoend_learns_from_scores_and_logits():
    network = build_endtoend(VIT, 3, 32, ARGS, channels=8)
    scores, logits = network.scores_and_logits(torch.randn(2, 3, 32, 32))
    (scores.sum() + logits.square().sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_endtoend_says_which_sizes_its_decoder_can_take():
    with pytest.raises(UserError, match=r"got 40, expected a multiple of 32 .* such as 64"):
        build_endtoend(VIT, 3, 40, ARGS, channels=8)


def test_saved_endtoend_comes_back_whole_as_classifier_and_as_encoder_weights(tmp_path):
    build = {"model": VIT, "num_classes": 3, "image_size": 32, "args": ARGS, "channels": 8}
    network = build_endtoend(**build).eval()
    save_network(tmp_path, network, {"kind": "endtoend", **build}, ["a", "b"])
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_network(tmp_path)(images), network(images))
    assert torch.equal(load_classifier(tmp_path)(images), network.encoder(images))
    weights = str(tmp_path / "network.safetensors")
    deeplab = build_deeplab(VIT, 4, 32, ARGS, 8, (1, 2, 3), weights)
    trained = network.encoder.blocks[2].mlp.fc1.weight
    assert torch.equal(deeplab.encoder.blocks[2].mlp.fc1.weight, trained)


def test_saved_network_comes_back_the_same(tmp_path):
    build = {"model": VIT, "num_classes": 5, "image_size": 32, "args": ARGS}
    network = build_classifier(**build).eval()
    save_network(tmp_path, network, {"kind": "classifier", **build}, ["ä", "b", "c", "d", "e"])
    again = load_network(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), again(images))
    assert not again.training
    assert network_classes(tmp_path) == ("ä", "b", "c", "d", "e")


def test_local_weights_fill_the_encoder_and_leave_a_head_of_another_size(tmp_path):
    source = timm.create_model(VIT, img_size=32, num_classes=7, **ARGS)
    save_file({k: v.half() for k, v in source.state_dict().items()}, tmp_path / "w.safetensors")
    network = build_classifier(VIT, 5, 48, ARGS, str(tmp_path / "w.safetensors"))
    assert torch.equal(network.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight.half())
    assert network.pos_embed.shape[1] == 37  # resampled to 6 x 6 patches
    assert network.head.weight.dtype == torch.float32


def test_weights_that_lack_a_block_are_refused(tmp_path):
    state = timm.create_model(VIT, img_size=32, **{**ARGS, "depth": 2}).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"missing, the first is 'blocks\.2"):
        build_classifier(VIT, 5, 32, ARGS, str(tmp_path / "w.safetensors"))


def test_frozen_blocks_keep_their_gradients_off_and_the_rest_on():
    network = build_deeplab(VIT, 4, 32, ARGS, 8, (1, 2, 3))
    freeze_blocks(network, 2)
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert all(n.startswith("encoder.") for n in frozen)
    assert {"encoder.cls_token", "encoder.pos_embed"} <= frozen
    assert any(n.startswith("encoder.blocks.1.") for n in frozen)
    assert not any(n.startswith("encoder.blocks.2.") for n in frozen)
    with pytest.raises(UserError, match="expected at most 3"):
        freeze_blocks(network, 4)


def test_encoder_parameters_leave_out_heads():
    network = build_classifier("deit_tiny_distilled_patch16_224", 5, 32, ARGS)
    encoder = {id(p) for p in encoder_parameters(network)}
    heads = {n for n, p in network.named_parameters() if id(p) not in encoder}
    assert heads == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


def test_normalisation_is_that_of_the_pretrained_encoder():
    assert normalisation(build_classifier(VIT, 5, 32, ARGS)) == ((0.5,) * 3, (0.5,) * 3)
    dinov2 = build_classifier("vit_small_patch14_dinov2", 5, 32, ARGS)
    assert normalisation(dinov2)[0] == (0.485, 0.456, 0.406)
