"""Parity with other people's packages, on a model that both take."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from getam.maps.compute import compute_maps
from tests.oracles import build
from tests.other_models import OTHERS, SQUARE, build_other

TARGETS = torch.eye(2, 5)


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *SQUARE, generator=generator, dtype=torch.float64).to(dtype)


def relative_difference(maps: Tensor, expected: Tensor) -> float:
    assert maps.shape == expected.shape
    return ((maps - expected).abs().max() / expected.abs().max()).item()


class Logits(nn.Module):
    """A model whose output is its scores, as the package grad-cam wants it."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.read = model, OTHERS[name].scores

    def forward(self, x):
        return self.read(self.model(x))


@pytest.mark.parametrize("name", ["torchvision", "hf_vit", "hf_dinov2_registers", "open_clip"])
def test_grad_cam_agrees_with_the_grad_cam_package(name):
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, family = build_other(name), OTHERS[name]
    theirs = package.GradCAM(
        Logits(model, name),
        [getattr(family.blocks(model)[-1], family.norm1)],
        reshape_transform=lambda x: x[:, family.prefix :].unflatten(1, (4, 4)).permute(0, 3, 1, 2),
    )
    with theirs:
        theirs(images(), [ClassifierOutputTarget(c) for c in range(2)])
        saved = theirs.activations_and_grads
        expected = theirs.get_cam_image(
            images(), None, None, saved.activations[0].numpy(), saved.gradients[0].numpy()
        )
    maps = compute_maps(model, images(), TARGETS, method="grad_cam")[[0, 1], [0, 1]]
    assert relative_difference(maps, torch.as_tensor(expected).clamp(min=0)) <= 1e-6


def clip_that_pools_all_tokens() -> nn.Module:
    """As the package reads it: its LeGrad pools the tokens of every block, class token included."""
    open_clip = pytest.importorskip("open_clip.model")
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 4, "head_width": 16}
    text = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 9, "context_length": 4}
    torch.manual_seed(0)
    clip = open_clip.CLIP(16, vision, text).double().eval()
    with torch.no_grad():
        for parameter in clip.visual.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    clip.visual.final_ln_after_pool = True
    clip.visual._global_pool = lambda x: (x.mean(dim=1), x)
    return clip


@pytest.mark.parametrize("start_block", [0, 2])
def test_legrad_agrees_with_the_legrad_package(start_block, capsys):
    package = pytest.importorskip("legrad")
    clip = clip_that_pools_all_tokens()
    texts = nn.functional.normalize(torch.randn(5, 16, dtype=torch.float64), dim=-1)
    photo = images()[:1]

    def similarity(features):
        return nn.functional.normalize(features, dim=-1) @ texts.mT

    maps = compute_maps(
        clip.visual,
        photo,
        torch.ones(1, 5),
        method="legrad",
        start_block=start_block,
        scores=similarity,
    )
    older = copy.deepcopy(clip)
    for block in older.visual.transformer.resblocks:
        block.attn.batch_first = False  # as in open_clip 2.23, the newest that the package takes
    theirs = package.LeWrapper(older, layer_index=start_block)
    expected = theirs.compute_legrad_clip(texts, photo).detach()
    assert "Hooks and gradients activated" in capsys.readouterr().out
    large = nn.functional.interpolate(maps, scale_factor=8, mode="bilinear")
    low, high = large.amin(dim=(2, 3), keepdim=True), large.amax(dim=(2, 3), keepdim=True)
    assert relative_difference((large - low) / (high - low), expected) <= 1e-5


def test_gradient_rollout_agrees_with_the_rule_of_its_paper():
    """Chefer et al. 2021, equations 5 and 6: the relevance of all tokens, one block at a time."""
    model = build("vit")
    photo = torch.randn(1, 3, 32, 48, dtype=torch.float64)
    matrices = []
    slow = copy.deepcopy(model)
    for block in slow.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: matrices.append(out))
    score = slow(photo)[0, 1]
    relevance = torch.eye(25, dtype=torch.float64)
    for matrix, gradient in zip(matrices, torch.autograd.grad(score, matrices)):
        relevance = relevance + (gradient * matrix).clamp(min=0).mean(dim=1)[0] @ relevance
    found = compute_maps(model, photo, torch.eye(5)[1:2], method="gradient_rollout")[0, 1]
    assert relative_difference(found, relevance[0, 1:].view(4, 6)) <= 1e-9


def test_legrad_agrees_with_torchcam_where_the_head_reads_the_class_token():
    methods = pytest.importorskip("torchcam.methods")
    model = build_other("torchvision")
    encoder = model.encoder
    theirs = methods.LeGrad(
        model, [*encoder.layers], score_projection=lambda x: model.heads(encoder.ln(x)[:, 0])
    )
    with theirs:
        model(images()[:1])
        [expected] = theirs(3, normalized=False)  # the mean over the blocks, where ours is the sum
    found = compute_maps(model, images()[:1], torch.eye(5)[3:4], method="legrad")[:, 3]
    assert relative_difference(found / 4, expected.detach()) <= 1e-5


def test_grad_cam_agrees_with_torchcam():
    methods = pytest.importorskip("torchcam.methods")
    model = build_other("torchvision")
    theirs = methods.GradCAM(
        model,
        model.encoder.layers[-1].ln_1,
        reshape_transform=lambda x: x[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2),
    )
    with theirs:
        [expected] = theirs([0, 1], model(images()), normalized=False)
    found = compute_maps(model, images(), TARGETS, method="grad_cam")[[0, 1], [0, 1]]
    assert relative_difference(found, expected) <= 1e-5
