"""Unchanged models take the short cuts: counted in tokens, not in time."""

from __future__ import annotations

import pytest
import torch
from timm.models.cait import ClassAttn
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from getam.maps.compute import compute_maps
from getam.maps.probe import undisturbed
from tests.oracles import CLASSES, FAMILIES, GRID, build, draw_images

TARGETS = torch.eye(2, CLASSES)


class RowsOfLastMlp(TorchFunctionMode):
    """How many tokens the first layer of the last block's mlp is given, each time."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        named = dict(model.blocks[-1].named_parameters())
        first = ("mlp.fc1.weight", "mlp.fc1_g.weight", "in_proj.weight")
        self.weight = next(named[name] for name in first if name in named)
        self.rows: list[int] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = (*args, *(kwargs or {}).values())
        if func is nn.functional.linear and any(one is self.weight for one in given):
            self.rows.append(args[0].shape[1])
        return func(*args, **(kwargs or {}))


class Calls(TorchFunctionMode):
    """The calls of a function of torch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.seen = name, []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == self.name:
            self.seen.append(func)
        return func(*args, **(kwargs or {}))


# Their head reads all tokens, or their blocks are of other classes.
WHOLE = ("pools_prefix_too", "readout_with_class_token", "parallel_block", "beit", "eva_mixed_rope")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_mlp_of_an_unchanged_model_runs_on_what_the_head_reads(family):
    model = build(family)
    with RowsOfLastMlp(model) as mlp:
        compute_maps(model, draw_images(2), TARGETS)
    tokens = model.num_prefix_tokens + GRID[0] * GRID[1]
    assert set(mlp.rows) == {tokens if family in WHOLE else model.num_prefix_tokens}


@pytest.mark.parametrize("family", ["vit", "deit_distilled", "dinov3", "readout_with_class_token"])
def test_grad_cam_runs_the_last_mlp_on_what_the_head_reads(family):
    model = build(family)
    with RowsOfLastMlp(model) as mlp:
        compute_maps(model, draw_images(2), TARGETS, method="grad_cam")
    tokens = model.num_prefix_tokens + GRID[0] * GRID[1]
    assert set(mlp.rows) == {tokens if family in WHOLE else model.num_prefix_tokens}


def test_gradient_rollout_sorts_no_entries_where_it_discards_none():
    with Calls("argsort") as calls:
        compute_maps(build("vit"), draw_images(2), TARGETS, method="gradient_rollout")
        assert not calls.seen
        compute_maps(build("vit"), draw_images(2), TARGETS, method="gradient_rollout", discard=0.5)
        assert calls.seen


def kept_for_the_backward_pass(model: nn.Module) -> int:
    """How many numbers of all tokens a graph keeps, from block 1 of 4 on."""
    tokens, numbers = 1 + GRID[0] * GRID[1], []

    def count(tensor: Tensor) -> Tensor:
        numbers.append(tensor.numel() if tokens in tensor.shape else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        compute_maps(model, draw_images(2), TARGETS, start_block=1)
    return sum(numbers)


def test_the_first_blocks_of_an_unchanged_model_keep_little_for_the_backward_pass():
    plain, changed = build("vit"), build("vit")
    for block in changed.blocks[1:3]:
        block.mlp.act = nn.Sequential(block.mlp.act)
    assert kept_for_the_backward_pass(plain) < 0.8 * kept_for_the_backward_pass(changed)


def test_attention_of_unknown_head_width_stays_as_it_is():
    attention = ClassAttn(8, num_heads=2)
    attention.fused_attn = False
    with undisturbed(attention):
        assert not attention.fused_attn


@pytest.mark.parametrize("family", ["vit", "dinov3", "beit", "parallel_block"])
def test_unchanged_attention_is_fused(family):
    model = build(family)
    attention = [part for part in model.modules() if hasattr(part, "fused_attn")]
    for part in attention:
        part.fused_attn = False
    with undisturbed(model):
        assert all(part.fused_attn for part in attention)
    assert not any(part.fused_attn for part in attention)
