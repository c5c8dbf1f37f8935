"""Maps of models that somebody changed: each against full matrices of the changed model."""

from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from getam.maps.compute import compute_maps
from tests.changes import (
    BLOCK_CHANGES,
    MODEL_CHANGES,
    hooked_backwards,
    mix,
    on_every_block,
    replaced,
)
from tests.oracles import CLASSES, all_matrices, build, draw_images, slow_maps

# Images with two classes, none, one, and one.
TARGETS = torch.zeros(4, CLASSES)
TARGETS[[0, 0, 2, 3], [1, 3, 3, 0]] = 1
METHODS = ("getam", "getam_paper", "attention_gradient", "gradient_rollout", "attention_rollout")


def check(model: nn.Module, plain: Tensor | None = None, methods=METHODS) -> None:
    images = draw_images(len(TARGETS))
    matrices = all_matrices(model, images, TARGETS)
    if plain is not None:
        changed = slow_maps(model, matrices, TARGETS, "getam", 2)
        assert not torch.allclose(changed, plain, rtol=1e-3), "nothing was changed"
    for method in methods:
        for start in (0, 2, 3):
            expected = slow_maps(model, matrices, TARGETS, method, start)
            found = compute_maps(model, images, TARGETS, method=method, start_block=start)
            error = (found - expected).abs().max() / expected.abs().max()
            assert error <= 1e-9, (method, start, error.item())
    last = compute_maps(model, images, TARGETS, method="attention")
    torch.testing.assert_close(
        last, slow_maps(model, matrices, TARGETS, "attention", 0), rtol=1e-9, atol=1e-12
    )


@pytest.fixture(scope="module")
def plain_maps() -> Tensor:
    return compute_maps(build("vit"), draw_images(len(TARGETS)), TARGETS)


@pytest.mark.parametrize("where", ["every block", "last block"])
@pytest.mark.parametrize("name", BLOCK_CHANGES)
def test_a_changed_block_is_not_taken_for_the_block_it_was(name, where, plain_maps):
    torch.manual_seed(0)
    model = build("vit")
    for block in model.blocks if where == "every block" else model.blocks[-1:]:
        BLOCK_CHANGES[name](block)
    check(model, plain_maps)


@pytest.mark.parametrize("name", MODEL_CHANGES)
def test_a_changed_model_is_not_taken_for_the_model_it_was(name, plain_maps):
    model = build("vit")
    MODEL_CHANGES[name](model)
    check(model, plain_maps)


@pytest.mark.parametrize("family", ["dinov3", "eva02", "post_norm", "deit_distilled", "beit"])
@pytest.mark.parametrize("name", ["norm2 replaced", "drop_path1 replaced", "forward of the mlp"])
def test_changed_blocks_of_other_families_are_seen_too(family, name):
    model = build(family)
    on_every_block(BLOCK_CHANGES[name])(model)
    check(model, methods=("getam", "gradient_rollout"))


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (Block, "forward"),
        (Attention, "forward"),
        (nn.Linear, "forward"),
        (nn.Linear, "__call__"),
        (VisionTransformer, "forward_features"),
    ],
)
def test_a_method_that_was_changed_on_its_class_is_not_taken_for_the_one_it_was(
    cls, method, monkeypatch, plain_maps
):
    original = getattr(cls, method)

    def changed(self, *args, **kwargs):
        output = original(self, *args, **kwargs)
        return mix(output) if output.dim() == 3 else output

    # As functools.wraps would: its name says that nothing was changed.
    changed.__module__, changed.__qualname__ = original.__module__, original.__qualname__
    model = build("vit")
    monkeypatch.setattr(cls, method, changed)
    check(model, plain_maps, methods=("getam", "attention_rollout"))


def test_hooks_on_all_modules_at_once_are_seen(plain_maps):
    def change(module, args, output):
        return mix(output) if isinstance(module, nn.Linear) and output.dim() == 3 else output

    handle = nn.modules.module.register_module_forward_hook(change)
    try:
        check(build("vit"), plain_maps, methods=("getam",))
    finally:
        handle.remove()


def test_a_hook_that_changes_gradients_is_seen(plain_maps):
    model = build("vit")
    on_every_block(hooked_backwards)(model)
    check(model, plain_maps, methods=("getam",))


def test_noise_in_evaluation_mode_is_drawn_once_for_the_scores_and_the_map():
    class Noisy(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, training=True)

    model, images, targets = build("vit"), draw_images(1), torch.eye(1, CLASSES)
    on_every_block(replaced("mlp.drop1", lambda part: Noisy()))(model)
    torch.manual_seed(5)
    expected = slow_maps(model, all_matrices(model, images, targets), targets, "getam", 2)
    torch.manual_seed(5)
    torch.testing.assert_close(compute_maps(model, images, targets), expected, rtol=1e-9, atol=0)
    assert not torch.allclose(compute_maps(model, images, targets), expected)


@pytest.mark.parametrize("what", ["model", "model in place", "blocks", "blocks in place", "mlp"])
def test_compiled_parts_run_as_they_are_written(what):
    model, images = build("vit"), draw_images(2)
    targets = torch.eye(2, CLASSES)
    expected = slow_maps(model, all_matrices(model, images, targets), targets, "getam", 2)
    for index, block in enumerate(model.blocks):
        if what == "blocks":
            model.blocks[index] = torch.compile(block, backend="eager")
        if what == "blocks in place":
            block.compile(backend="eager")
        if what == "mlp":
            block.mlp = torch.compile(block.mlp, backend="eager")
    if what == "model in place":
        model.compile(backend="eager")
    compiled = torch.compile(model, backend="eager") if what == "model" else model
    torch.testing.assert_close(compute_maps(compiled, images, targets), expected, rtol=1e-9, atol=0)
    torch._dynamo.reset()
