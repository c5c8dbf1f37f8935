"""Looking into a model leaves no trace in it, and works in whatever mode it is found."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import nn

from getam.maps.compute import METHODS, compute_maps
from tests.oracles import CLASSES, all_matrices, build, draw_images, slow_maps

TARGETS = torch.eye(2, CLASSES)


def state(model: nn.Module) -> list:
    """All that a call could leave behind in a model."""
    seen = []
    for module in model.modules():
        kept = {name: value for name, value in vars(module).items() if name[0] != "_"}
        hooks = [list(value) for name, value in vars(module).items() if name.endswith("_hooks")]
        seen.append((kept, hooks, list(vars(module))))
    return seen + [(p.requires_grad, p.grad is None, p._version) for p in model.parameters()]


class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("breaks", ["nowhere", "in_the_last_block", "in_the_head"])
def test_model_is_as_before_also_after_an_error(method, breaks):
    model = build("vit", dtype=torch.float32)
    model.blocks[0].train()
    model.blocks[1].attn.fused_attn = False
    model.blocks[2].requires_grad_(False)
    model.set_grad_checkpointing()
    if breaks == "in_the_last_block":
        model.blocks[-1].norm1 = Broken()
    if breaks == "in_the_head":
        model.head_drop = Broken()
    weights = copy.deepcopy(model.state_dict())
    before, rng = state(model), torch.get_rng_state()
    if breaks == "nowhere":
        compute_maps(model, draw_images(2).float(), TARGETS, method=method)
    else:
        with pytest.raises(RuntimeError, match="on purpose"):
            compute_maps(model, draw_images(2).float(), TARGETS, method=method)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.is_grad_enabled()
    assert all(torch.equal(weights[name], now) for name, now in model.state_dict().items())


def test_calls_do_not_add_up():
    model, images = build("vit"), draw_images(2)
    first = compute_maps(model, images, TARGETS)
    for method in METHODS:
        compute_maps(model, images, TARGETS, method=method)
    assert torch.equal(compute_maps(model, images, TARGETS), first)


def test_two_models_do_not_share_what_is_recorded():
    one, two, images = build("vit"), build("vit", seed=1), draw_images(2)
    first, second = (compute_maps(model, images, TARGETS) for model in (one, two))
    assert torch.equal(compute_maps(one, images, TARGETS), first)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("method", METHODS)
def test_surrounding_modes_do_not_change_the_maps(method):
    model, images = build("deit_distilled"), draw_images(2)
    explain = partial(compute_maps, model, images, TARGETS, method=method)
    expected = explain()
    with torch.no_grad():
        assert torch.equal(explain(), expected)
    with torch.inference_mode():
        assert torch.equal(explain(), expected)
        inference_images = images.clone()
        assert torch.equal(compute_maps(model, inference_images, TARGETS, method=method), expected)
    model.requires_grad_(False)  # autograd may add the gradients of two heads in another order
    frozen = explain()
    torch.testing.assert_close(frozen, expected, rtol=1e-12, atol=1e-15)
    model.train()
    assert torch.equal(explain(), frozen)
    assert model.training


def test_train_mode_does_not_couple_images_or_touch_running_statistics():
    model, images = build("hybrid"), draw_images(2)
    model.train()
    statistics = copy.deepcopy(dict(model.named_buffers()))
    alone = compute_maps(model, images[:1], TARGETS[:1])
    torch.testing.assert_close(compute_maps(model, images, TARGETS)[:1], alone)
    assert all(torch.equal(statistics[name], now) for name, now in model.named_buffers())


def test_parameter_gradients_are_not_touched():
    model, images = build("vit"), draw_images(2)
    model(images).sum().backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    compute_maps(model, images, TARGETS)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before))


def test_a_graph_made_before_survives():
    model, images = build("vit"), draw_images(2)
    loss = model(images).square().sum()
    compute_maps(model, images, TARGETS)
    loss.backward()
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(images).square().sum().backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads))


def test_training_under_the_same_autocast_still_reaches_the_weights():
    model, images = build("vit", dtype=torch.float32), draw_images(2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compute_maps(model, images, TARGETS)
        model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_weights_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        model = build("vit")
    with pytest.raises(ValueError, match="inference_mode"):
        compute_maps(model, draw_images(2), TARGETS)


@pytest.mark.parametrize(
    "place", ["blocks.2", "blocks.2.mlp", "blocks.3", "blocks.3.norm2", "blocks", "norm", ""]
)
def test_what_a_hook_changes_changes_the_maps(place):
    model, images = build("vit"), draw_images(2)
    plain = compute_maps(model, images, TARGETS)
    # Mixes neighbouring tokens; at the model itself, neighbouring classes.
    model.get_submodule(place).register_forward_hook(
        lambda module, args, output: output + 0.3 * output.roll(1, dims=1)
    )
    expected = slow_maps(model, all_matrices(model, images, TARGETS), TARGETS, "getam", 2)
    maps = compute_maps(model, images, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-8, atol=1e-12)
    assert not torch.allclose(maps, plain)
