"""The compared methods, and the order of blocks, in models that somebody changed."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from getam.maps.compute import compute_maps
from tests.changes import (
    MODEL_CHANGES,
    WIDTH,
    Doubled,
    Mixed,
    hooked,
    mix,
    own_features,
    replaced,
    with_adapter,
)
from tests.oracles import CLASSES, build, draw_images


def test_grad_cam_reads_what_hooks_make_of_norm1():
    model, images, targets = build("vit"), draw_images(2), torch.eye(2, CLASSES)
    norm, kept = model.blocks[-1].norm1, []
    norm.register_forward_hook(lambda module, args, output: mix(output))
    handle = norm.register_forward_hook(lambda module, args, output: kept.append(output))
    scores = model(images)
    handle.remove()
    gradients = torch.autograd.grad(scores.diagonal().sum(), kept)[0][:, 1:]
    expected = (kept[0][:, 1:] * gradients.mean(dim=1, keepdim=True)).sum(dim=2).relu()
    found = compute_maps(model, images, targets, method="grad_cam")
    torch.testing.assert_close(found[[0, 1], [0, 1]].flatten(1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "change", [hooked("blocks.3"), hooked("blocks"), replaced("norm", Mixed), hooked("norm")]
)
def test_cam_reads_the_tokens_that_the_head_is_given(change):
    model, images, targets = build("vit"), draw_images(2), torch.eye(2, CLASSES)
    change(model)
    tokens = model.forward_features(images)[:, 1:]
    expected = (tokens @ model.head.weight[:2].mT).relu()[[0, 1], :, [0, 1]]
    found = compute_maps(model, images, targets, method="cam")
    torch.testing.assert_close(found[[0, 1], [0, 1]].flatten(1), expected, rtol=1e-9, atol=1e-12)


class LowRankHead(nn.Linear):
    def forward(self, x):
        return super().forward(x) + x[..., :CLASSES]


@pytest.mark.parametrize(
    "change",
    [
        replaced("head", lambda head: LowRankHead(WIDTH, CLASSES).double()),
        lambda model: parametrize.register_parametrization(model.head, "weight", Doubled()),
        lambda model: model.head.register_forward_hook(lambda module, args, output: output**2),
        MODEL_CHANGES["pool of the model"],
        MODEL_CHANGES["forward of the model"],
        MODEL_CHANGES["forward_features of the model"],
    ],
)
def test_cam_is_refused_where_somebody_changed_the_way_to_the_scores(change):
    model = build("vit")
    change(model)
    with pytest.raises(ValueError, match=r"linear in the pooled tokens.*use grad_cam"):
        compute_maps(model, draw_images(2), torch.eye(2, CLASSES), method="cam")


def test_cam_is_refused_where_a_class_of_its_own_reads_out():
    model = build("readout_with_class_token")
    with pytest.raises(ValueError, match="PoolsWithClassToken are not: use grad_cam"):
        compute_maps(model, draw_images(2), torch.eye(2, CLASSES), method="cam")


def twice(self, x, **kwargs):
    return own_features(self, x) + own_features(self, x)


def backwards(self, x, **kwargs):
    x = self._pos_embed(self.patch_embed(x))
    for block in reversed(self.blocks):
        x = block(x)
    return self.norm(x)


def early(self, x, **kwargs):
    x = self._pos_embed(self.patch_embed(x))
    for block in self.blocks[:3]:
        x = block(x)
    return self.norm(x)


@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        (twice, "in their order, each once, but block 2 ran where block 4 was due"),
        (backwards, "in their order, each once, but block 3 ran where block 2 was due"),
        (early, "expected the last 2 blocks to run, but saw 1: the model's forward leaves out"),
    ],
)
def test_blocks_that_run_in_another_order_are_refused(forward, complaint):
    model = build("vit")
    model.forward_features = types.MethodType(forward, model)
    with pytest.raises(ValueError, match=complaint):
        compute_maps(model, draw_images(2), torch.eye(2, CLASSES))


def test_grad_cam_of_a_norm1_that_runs_twice_is_refused():
    model = build("vit")
    with_adapter(model.blocks[-1])
    with pytest.raises(ValueError, match="norm1: expected it to run once, but it ran 2 times"):
        compute_maps(model, draw_images(2), torch.eye(2, CLASSES), method="grad_cam")
