"""Reading attention: what cannot be read is refused, and nothing is read in full."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import timm
import torch
from timm.layers import DiffAttention
from timm.models.vision_transformer import (
    DiffParallelScalingBlock,
    ParallelThingsBlock,
    VisionTransformer,
)
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from getam.maps.attention import AttentionCall, AttentionOfClassToken
from getam.maps.compute import compute_maps
from tests.oracles import _TINY, CLASSES, build, draw_images

TARGETS = torch.eye(2, CLASSES)
tiny_vit = partial(VisionTransformer, **_TINY)


@pytest.mark.parametrize(
    ("build_model", "complaint"),
    [
        (partial(tiny_vit, attn_layer=DiffAttention), "block 2 .Block.*got 2"),
        (partial(tiny_vit, block_fn=ParallelThingsBlock), "block 2 .ParallelThingsBlock.*got 2"),
        (partial(tiny_vit, block_fn=DiffParallelScalingBlock), "DiffParallelScalingBlock.*got 2"),
    ],
)
def test_a_block_that_attends_twice_is_named(build_model, complaint):
    with pytest.raises(ValueError, match=complaint):
        compute_maps(build_model().double(), draw_images(2), TARGETS)


class WindowBlock(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x):
        return torch.cat([self.block(half) for half in x.chunk(2, dim=1)], dim=1)


class OwnSoftmax(nn.Module):
    def forward(self, x):
        return (x @ x.mT).softmax(dim=-1) @ x


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (WindowBlock, r"block 3 \(WindowBlock\).*\(images, heads, tokens\) = \(2, 4, 25\)"),
        (lambda block: OwnSoftmax(), r"block 3 \(OwnSoftmax\).*got 0"),
    ],
)
def test_a_block_with_other_attention_is_named(change, complaint):
    model = build("vit")
    model.blocks[3] = change(model.blocks[3])
    with pytest.raises(ValueError, match=complaint):
        compute_maps(model, draw_images(2), TARGETS)


@pytest.mark.parametrize("family", ["post_norm", "eva_post_norm"])
def test_grad_cam_of_post_norm_blocks_says_why_there_is_none(family):
    with pytest.raises(ValueError, match=r"norm1.*comes after the attention \(post-norm\)"):
        compute_maps(build(family), draw_images(2), TARGETS, method="grad_cam")


@pytest.mark.parametrize("method", ["getam", "grad_cam"])
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("xcit_nano_12_p16_224", "Xcit attends between channels, not between image patches"),
        ("pit_ti_224", "PoolingVisionTransformer lacks blocks, num_prefix_tokens: use a ViT"),
    ],
)
def test_transformers_without_attention_between_all_patches_are_refused(name, complaint, method):
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(ValueError, match=complaint):
        compute_maps(model, torch.zeros(2, 3, 224, 224), TARGETS, method=method)


@pytest.mark.filterwarnings("ignore")  # torch.jit's own, about what it traces
@pytest.mark.parametrize("what", ["model", "traced", "block"])
def test_scripted_blocks_are_refused_with_the_remedy(what):
    model, images = build("vit"), draw_images(2)
    if what == "block":
        model.blocks[3] = torch.jit.script(model.blocks[3])
    if what == "model":
        model = torch.jit.script(model)
    if what == "traced":
        model = torch.jit.trace(model, images)
    with pytest.raises(ValueError, match=r"torch\.jit.*pass the model as it was before"):
        compute_maps(model, images, TARGETS)


def test_causal_attention_is_refused():
    class Causal(VisionTransformer):
        def forward(self, x):
            return super().forward(x, is_causal=True)

    with pytest.raises(ValueError, match="is_causal=True"):
        compute_maps(Causal(**_TINY).double(), draw_images(2), TARGETS)


@pytest.mark.parametrize("method", ["getam", "getam_paper", "gradient_rollout"])
def test_a_head_that_ignores_the_class_token_is_an_error_and_not_a_zero_map(method):
    model = tiny_vit(global_pool="avg").double()
    with pytest.raises(ValueError, match=r"no gradient in block 3.*'avg'.*global_pool='token'"):
        compute_maps(model, draw_images(2), TARGETS, method=method)
    assert compute_maps(model, draw_images(2), TARGETS, method="grad_cam").any()


def test_a_class_whose_weights_are_zero_is_an_error_and_not_a_zero_map():
    model = build("vit")
    with torch.no_grad():
        model.head.weight[1] = 0
    with pytest.raises(ValueError, match="class 1"):
        compute_maps(model, draw_images(2), TARGETS)


def test_a_model_without_class_token_is_refused():
    siglip = tiny_vit(class_token=False, global_pool="map")
    with pytest.raises(ValueError, match="no class token"):
        compute_maps(siglip, draw_images(2), TARGETS)


def test_a_wrapped_model_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"lacks blocks.*pass the one inside"):
        compute_maps(nn.DataParallel(build("vit")), draw_images(2), TARGETS)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_forward_that_detaches_is_refused(frozen):
    class Detached(VisionTransformer):
        def forward_head(self, x, pre_logits=False):
            return super().forward_head(x.detach())

    model = Detached(**_TINY).double().requires_grad_(not frozen)
    with pytest.raises(ValueError, match="no gradient"):
        compute_maps(model, draw_images(2), TARGETS)


def test_cam_is_refused_where_the_head_is_not_linear():
    model = build("vit")
    model.head = nn.Sequential(model.head, nn.ReLU())
    with pytest.raises(ValueError, match="use grad_cam"):
        compute_maps(model, draw_images(2), TARGETS, method="cam")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"method": "getam2"}, "Got method='getam2', expected one of getam,"),
        ({"start_block": 4}, "Got start_block=4, expected 0 to 3"),
        ({"start_block": -1}, "Got start_block=-1, expected 0 to 3"),
        ({"start_block": 1, "method": "cam"}, "method cam, .*Leave out start_block"),
        ({"targets": torch.eye(3, CLASSES)}, r"shape \(3, 5\), expected \(2, C\)"),
        ({"targets": TARGETS * 0.3}, "0 and 1"),
        ({"targets": torch.eye(2, 7)}, r"7 classes.*\(2, 5\)"),
        ({"images": torch.zeros(3, 32, 48)}, r"torch.float32 and shape \(3, 32, 48\)"),
        ({"images": torch.zeros(2, 3, 32, 48, dtype=torch.uint8)}, "floating-point"),
        ({"images": draw_images(2).numpy()}, r"images of type ndarray.*as_tensor\(images\)"),
        ({"targets": TARGETS.tolist()}, r"targets of type list.*as_tensor\(targets\)"),
        ({"images": draw_images(2) / 0}, "values in the images or weights that are not finite"),
    ],
)
def test_wrong_arguments_are_explained(arguments, complaint):
    given = {"images": draw_images(2), "targets": TARGETS, **arguments}
    with pytest.raises(ValueError, match=complaint):
        compute_maps(build("vit"), **given)


def test_attention_of_the_class_token_has_the_gradient_of_full_attention():
    q, k, v, weight = torch.randn(4, 2, 3, 7, 4, dtype=torch.float64)
    first = [tensor[:, :, :1].clone().requires_grad_() for tensor in (q, k, v)]
    whole = [torch.cat([f, t[:, :, 1:]], dim=2) for f, t in zip(first, (q, k, v))]
    expected = ((whole[0] @ whole[1].mT * 0.3).softmax(-1) @ whole[2] * weight).sum()
    output = AttentionOfClassToken.apply(*first, AttentionCall(q, k, v, None, 0.3))
    found = (output * weight).sum()
    for one, other in zip(torch.autograd.grad(found, first), torch.autograd.grad(expected, first)):
        torch.testing.assert_close(one, other)


def test_attention_of_the_class_token_is_freed_with_its_output():
    first, whole = torch.randn(3, 1, 1, 1, 4, requires_grad=True), torch.randn(3, 1, 1, 7, 4)
    gc.disable()
    try:
        output = AttentionOfClassToken.apply(*first, AttentionCall(*whole, None, 0.5))
        gone = weakref.ref(output)
        del output
        assert gone() is None
    finally:
        gc.enable()


class LargestTensor(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def growth(method: str) -> float:
    """How much larger the largest tensor is for 4 times the tokens."""
    elements = []
    for side in (64, 128):
        vit = VisionTransformer(
            side, 8, num_classes=CLASSES, embed_dim=8, depth=4, num_heads=4, mlp_ratio=1
        )
        with LargestTensor() as largest:
            compute_maps(vit, torch.rand(1, 3, side, side), TARGETS[:1], method=method)
        elements.append(largest.elements)
    return elements[1] / elements[0]


@pytest.mark.parametrize("method", ["getam", "getam_paper", "attention_gradient"])
def test_no_tensor_grows_with_the_square_of_the_tokens(method):
    assert growth(method) < 4.5
    assert growth("gradient_rollout") > 12  # which does: the ruler measures
