"""Maps against their definitions, on every family of models and in every precision."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from getam.maps.compute import METHODS, compute_maps, default_start_block
from tests.oracles import (
    _TINY,
    CLASSES,
    FAMILIES,
    GRID,
    all_matrices,
    build,
    draw_images,
    slow_legrad,
    slow_maps,
)

ATTENTION_GRADIENT = ("getam", "getam_paper", "attention_gradient")
# Images with two classes, none, one, three, and one.
TARGETS = torch.zeros(5, CLASSES)
TARGETS[[0, 0, 2, 3, 3, 3, 4], [1, 3, 3, 0, 2, 4, 0]] = 1


def relative_difference(maps: torch.Tensor, expected: torch.Tensor) -> float:
    assert maps.shape == expected.shape
    return ((maps - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_gradient_maps_equal_those_from_full_matrices(family):
    model, images = build(family), draw_images(len(TARGETS))
    matrices = all_matrices(model, images, TARGETS)
    for method in ATTENTION_GRADIENT:
        for start_block in (0, 2, 3):
            expected = slow_maps(model, matrices, TARGETS, method, start_block)
            maps = compute_maps(model, images, TARGETS, method=method, start_block=start_block)
            assert relative_difference(maps, expected) <= 1e-9, (method, start_block)


@pytest.mark.parametrize("family", ["deit_distilled", "dinov3", "beit", "parallel_block"])
def test_rollouts_and_attention_equal_those_from_full_matrices(family):
    model, images = build(family), draw_images(len(TARGETS))
    matrices = all_matrices(model, images, TARGETS)
    for method in ("gradient_rollout", "attention_rollout", "attention"):
        for start_block in (0, 2) if method != "attention" else (None,):
            expected = slow_maps(model, matrices, TARGETS, method, start_block or 0)
            maps = compute_maps(model, images, TARGETS, method=method, start_block=start_block)
            assert relative_difference(maps, expected) <= 1e-9, (method, start_block)


@pytest.mark.parametrize("family", FAMILIES)
def test_legrad_equals_the_positive_gradients_of_full_matrices(family):
    model, images = build(family), draw_images(len(TARGETS))
    for start_block in (0, 2, 3):
        expected = slow_legrad(model, images, TARGETS, start_block)
        maps = compute_maps(model, images, TARGETS, method="legrad", start_block=start_block)
        assert relative_difference(maps, expected) <= 1e-9, start_block


def test_legrad_takes_all_rows_where_the_head_pools_patches():
    torch.manual_seed(0)
    pooled = {"global_pool": "avg", "class_token": False, "reg_tokens": 2}
    model, images = VisionTransformer(**_TINY, **pooled).double(), draw_images(len(TARGETS))
    expected = slow_legrad(model, images, TARGETS, 0)
    assert (
        relative_difference(compute_maps(model, images, TARGETS, method="legrad"), expected) <= 1e-9
    )


@pytest.mark.parametrize("family", ["vit", "dinov3", "readout_with_class_token"])
@pytest.mark.parametrize("method", ["attention_rollout", "gradient_rollout"])
def test_rollouts_discard_the_smallest_entries_of_each_matrix(family, method):
    model, images = build(family), draw_images(len(TARGETS))
    matrices = all_matrices(model, images, TARGETS)
    for discard in (0.5, 0.97):
        expected = slow_maps(model, matrices, TARGETS, method, 0, discard=discard)
        found = compute_maps(model, images, TARGETS, method=method, discard=discard)
        assert relative_difference(found, expected) <= 1e-9, discard
    plain = compute_maps(model, images, TARGETS, method=method)
    assert relative_difference(plain, found) > 1e-3


def test_scores_of_your_own_are_explained_as_a_class_is():
    classifier, images = build("vit"), draw_images(len(TARGETS))
    texts = torch.nn.functional.normalize(torch.randn(CLASSES, 32, dtype=torch.float64), dim=1)
    tower, whole = copy.deepcopy(classifier), copy.deepcopy(classifier)
    tower.head = torch.nn.Identity()

    class Similar(torch.nn.Module):
        def forward(self, features):
            return torch.nn.functional.normalize(features, dim=-1) @ texts.mT

    whole.head = Similar()
    matrices = all_matrices(whole, images, TARGETS)
    for method in ("getam", "gradient_rollout"):
        expected = slow_maps(whole, matrices, TARGETS, method, 2)
        given = {"method": method, "start_block": 2, "scores": Similar()}
        assert relative_difference(compute_maps(tower, images, TARGETS, **given), expected) <= 1e-9
    expected = slow_legrad(whole, images, TARGETS, 0)
    found = compute_maps(tower, images, TARGETS, method="legrad", scores=Similar())
    assert relative_difference(found, expected) <= 1e-9
    with pytest.raises(ValueError, match="use grad_cam"):
        compute_maps(classifier, images, TARGETS, method="cam", scores=lambda scores: scores**2)


@pytest.mark.parametrize("family", ["vit", "deit_distilled", "dinov3", "readout_with_class_token"])
def test_grad_cam_weighs_the_norm1_output_by_its_mean_gradient(family):
    model, images = build(family), draw_images(len(TARGETS))
    features = []
    hook = model.blocks[-1].norm1.register_forward_hook(lambda _, __, out: features.append(out))
    expected = torch.zeros(*TARGETS.shape, *GRID, dtype=torch.float64)
    for b, c in TARGETS.nonzero().tolist():
        score = model(images[b : b + 1])[0, c]
        (gradient,) = torch.autograd.grad(score, features[-1])
        prefix = model.num_prefix_tokens
        weights = gradient[0, prefix:].mean(dim=0)
        expected[b, c] = (features[-1][0, prefix:] * weights).sum(1).clamp(min=0).view(GRID)
    hook.remove()
    assert (
        relative_difference(
            compute_maps(model, images, TARGETS, method="grad_cam"), expected.detach()
        )
        <= 1e-9
    )


def test_grad_cam_agrees_with_the_grad_cam_package():
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, images = build("vit"), draw_images(2)
    targets = torch.eye(2, CLASSES)
    theirs = package.GradCAM(
        model,
        [model.blocks[-1].norm1],
        reshape_transform=lambda tokens: tokens[:, 1:].unflatten(1, GRID).permute(0, 3, 1, 2),
    )
    with theirs:
        theirs(images, [ClassifierOutputTarget(c) for c in range(2)])
        saved = theirs.activations_and_grads
        expected = theirs.get_cam_image(
            images, None, None, saved.activations[0].numpy(), saved.gradients[0].numpy()
        )
    maps = compute_maps(model, images, targets, method="grad_cam")[[0, 1], [0, 1]]
    assert relative_difference(maps, torch.as_tensor(expected).clamp(min=0)) <= 1e-6


def test_cam_is_the_head_applied_to_each_patch():
    model, images = build("deit_distilled"), draw_images(len(TARGETS))
    tokens = model.forward_features(images)[:, 2:]
    scores = (model.head(tokens) - model.head.bias + model.head_dist(tokens)) / 2
    scores = (scores - model.head_dist.bias / 2).mT.clamp(min=0).unflatten(-1, GRID)
    expected = scores * TARGETS[..., None, None]
    maps = compute_maps(model, images, TARGETS, method="cam")
    assert relative_difference(maps, expected.detach()) <= 1e-9


def test_getam_on_numbers_worked_out_by_hand():
    from getam.maps.compute import _attention_gradient, _getam, _getam_paper

    # Two heads, one row, two columns.
    attention = torch.tensor([[[[0.5, 0.5]], [[0.25, 0.75]]]])
    gradient = torch.tensor([[[[4.0, -2.0]], [[-8.0, 4.0]]]])
    assert _attention_gradient(gradient, attention).tolist() == [[[1.0, 1.5]]]
    assert _getam(gradient, attention).tolist() == [[[1.0 * 2.0, 1.5 * 2.0]]]
    # Mean gradients -2 and 1, mean attention 0.375 and 0.625.
    assert _getam_paper(gradient, attention).tolist() == [[[0.0, 0.625]]]


@pytest.mark.parametrize("family", ["vit", "dinov3", "hybrid", "readout_with_class_token"])
def test_float32_maps_are_float32_and_close_to_float64(family):
    exact = compute_maps(build(family), draw_images(len(TARGETS)), TARGETS)
    model = build(family).float()
    maps = compute_maps(model, draw_images(len(TARGETS)).float(), TARGETS)
    assert maps.dtype == torch.float32
    assert relative_difference(maps.double(), exact) <= 1e-5


def correlation(maps: torch.Tensor, exact: torch.Tensor) -> float:
    assert maps.dtype == torch.float32
    chosen = TARGETS.bool()
    both = torch.stack([maps[chosen].double().flatten(), exact[chosen].flatten()])
    return torch.corrcoef(both)[0, 1].item()


@pytest.mark.parametrize(
    "family", ["vit", "dinov3", "norms_everywhere", "eva_grouped_heads", "readout_with_class_token"]
)
def test_bfloat16_maps_correlate_with_float64(family):
    exact = compute_maps(build(family), draw_images(len(TARGETS)), TARGETS)
    model, images = build(family).float(), draw_images(len(TARGETS)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = correlation(compute_maps(model, images, TARGETS), exact)
    whole = correlation(compute_maps(model.bfloat16(), images.bfloat16(), TARGETS), exact)
    print(f"{family}: correlation under autocast {autocast:.6f}, in bfloat16 {whole:.6f}")
    assert autocast >= 0.999
    assert whole >= 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_maps_on_a_gpu_equal_those_on_the_cpu(method):
    model, images = build("dinov2_registers"), draw_images(len(TARGETS))
    expected = compute_maps(model, images, TARGETS, method=method)
    maps = compute_maps(model.cuda(), images.cuda(), TARGETS.cuda(), method=method)
    assert maps.is_cuda
    assert relative_difference(maps.cpu(), expected) <= 1e-9


def test_classes_not_asked_for_and_images_without_class_stay_zero():
    maps = compute_maps(build("vit"), draw_images(len(TARGETS)), TARGETS)
    assert torch.equal(maps.flatten(2).amax(dim=2) > 0, TARGETS.bool())


def test_no_class_in_the_whole_batch_and_no_image_at_all():
    model = build("vit")
    assert not compute_maps(model, draw_images(2), torch.zeros(2, CLASSES)).any()
    empty = compute_maps(model, draw_images(2)[:0], torch.zeros(0, CLASSES))
    assert empty.shape == (0, CLASSES, *GRID)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_does_not_depend_on_the_other_images_of_its_batch(method):
    model, images = build("hybrid"), draw_images(len(TARGETS))
    together = compute_maps(model, images, TARGETS, method=method)
    for b in range(len(TARGETS)):
        alone = compute_maps(model, images[b : b + 1], TARGETS[b : b + 1], method=method)
        torch.testing.assert_close(alone[0], together[b], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["dynamic_size", "dinov3"])
def test_height_and_width_are_not_exchanged_at_another_image_size(family):
    model = build(family)
    wide = torch.randn(1, 3, 24, 56, dtype=torch.float64)
    assert compute_maps(model, wide, TARGETS[2:3]).shape == (1, CLASSES, 3, 7)
    assert compute_maps(model, wide.mT, TARGETS[2:3]).shape == (1, CLASSES, 7, 3)


def test_default_start_block_is_that_of_the_paper_and_its_code():
    plain, hybrid = build("vit"), build("hybrid")
    images = draw_images(len(TARGETS))
    expected = {"getam": (2, 2), "attention_gradient": (2, 2), "getam_paper": (0, 2)}
    for method, blocks in expected.items():
        for model, block in zip((plain, hybrid), blocks):
            assert default_start_block(model, method) == block
            given = compute_maps(model, images, TARGETS, method=method, start_block=block)
            assert torch.equal(compute_maps(model, images, TARGETS, method=method), given)
