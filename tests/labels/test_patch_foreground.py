"""Object or background by patch features: what the functions find."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from getam.labels.patch_foreground import (
    default_block,
    fit_foreground,
    patch_features,
)
from tests.oracles import FAMILIES, GRID, build, draw_images


def draw_patches(share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit features (4000, 32) of object and ground, and which are object (4000,)."""
    generator = torch.Generator().manual_seed(seed)
    object_ = torch.rand(4000, generator=generator) < share
    centres = torch.randn(2, 32, generator=generator)
    noise = 0.7 * torch.randn(4000, 32, generator=generator)
    return torch.nn.functional.normalize(centres[object_.long()] + noise, dim=1), object_


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("astray", [0.0, 0.2])
def test_a_few_peaks_tell_object_from_ground_even_if_some_lie_astray(share, astray):
    features, object_ = draw_patches(share)
    generator = torch.Generator().manual_seed(1)
    chance = torch.where(object_, 0.05 * (1 - astray), 0.05 * astray * share / (1 - share))
    peaks = torch.rand(4000, generator=generator) < chance
    found = fit_foreground(features, peaks)(features) > 0.5
    assert (found == object_).float().mean() > 0.97


def test_the_peaks_say_which_side_is_object():
    features, object_ = draw_patches(0.4)
    at_object = fit_foreground(features, object_)(features)
    at_ground = fit_foreground(features, ~object_)(features)
    assert torch.equal(at_object > 0.5, at_ground <= 0.5)


def test_scores_do_not_depend_on_the_order_of_patches():
    features, object_ = draw_patches(0.3)
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(2))
    one = fit_foreground(features, object_)
    other = fit_foreground(features[order], object_[order])
    torch.testing.assert_close(one(features), other(features), atol=1e-4, rtol=1e-4)


def test_above_one_half_objects_shrink_round_by_round_from_what_is_least_like_them():
    """Patches anywhere between ground (0) and object (1)."""
    generator = torch.Generator().manual_seed(0)
    like = torch.rand(6000, 1, generator=generator)
    ground, object_ = torch.randn(2, 32, generator=generator)
    noise = 0.2 * torch.randn(6000, 32, generator=generator)
    features = torch.nn.functional.normalize((1 - like) * ground + like * object_ + noise, dim=1)
    peaks = like[:, 0] > 0.95
    found = [
        fit_foreground(features, peaks, rounds, threshold)(features) > 0.5
        for rounds, threshold in ((3, 0.5), (3, 0.55), (8, 0.55))
    ]
    for more, fewer in pairwise(found):
        assert fewer.sum() < 0.95 * more.sum()
        dropped = more & ~fewer
        assert like[dropped].quantile(0.9) < like[fewer].quantile(0.5)


def test_objects_that_have_shrunk_to_nothing_are_told():
    features, object_ = draw_patches(0.3)
    with pytest.raises(ValueError, match=r"no object after 30 rounds with threshold=0\.9"):
        fit_foreground(features, object_, rounds=30, threshold=0.9)


def test_without_a_peak_it_says_so():
    with pytest.raises(ValueError, match="at least one peak"):
        fit_foreground(torch.rand(5, 3), torch.zeros(5, dtype=torch.bool))


@pytest.mark.parametrize("family", FAMILIES)
def test_patch_features_are_the_output_of_the_block_without_prefix_tokens(family):
    model = build(family, dtype=torch.float32)
    images = draw_images(2, torch.float32)
    kept = {}
    block = default_block(model)
    handle = model.blocks[block].register_forward_hook(lambda _, __, out: kept.update(out=out))
    with torch.no_grad():
        model(images)
    handle.remove()
    expected = kept["out"][:, model.num_prefix_tokens :]
    expected = torch.nn.functional.normalize(expected, dim=2).unflatten(1, GRID)
    torch.testing.assert_close(patch_features(model, images, block), expected)
