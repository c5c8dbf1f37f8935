"""The classes of object patches: what the functions find."""

from __future__ import annotations

import pytest
import torch

from getam.labels.patch_classes import class_shares, fit_classes, separate_classes


def draw_classes(counts: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit features (N, 32) of object patches, so many of each class, and their classes (N,)."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centres = torch.randn(len(counts), 32, generator=generator)
    noise = 0.5 * torch.randn(len(classes), 32, generator=generator)
    return torch.nn.functional.normalize(centres[classes] + noise, dim=1), classes


def test_classes_are_found_although_every_fourth_patch_has_a_wrong_name():
    features, classes = draw_classes((1500, 1500, 1500))
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(classes), generator=generator) < 0.25
    named = torch.where(wrong, (classes + 1) % 3, classes)
    found = fit_classes(features, named, 3)(features).argmax(dim=1)
    assert (found == classes).float().mean() > 0.97


def test_a_rare_class_weighs_as_much_as_a_common_one():
    features, classes = draw_classes((4000, 60))
    found = fit_classes(features, classes, 2)(features).argmax(dim=1)
    assert all((found[classes == c] == c).float().mean() > 0.97 for c in (0, 1))


def test_a_class_that_no_patch_has_scores_zero():
    features, classes = draw_classes((200, 200))
    scores = fit_classes(features, classes, 3)(features)
    assert scores[:, 2].abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(0, 4), (5,)])
def test_no_patch_to_learn_classes_from_is_told(shape):
    with pytest.raises(ValueError, match="at least one patch"):
        fit_classes(torch.rand(shape), torch.zeros(shape[0], dtype=torch.long), 2)


def test_shares_are_of_one_whole():
    scores = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    shares = class_shares(scores)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(50))
    best = scores.max(dim=1)
    assert (shares.argmax(dim=1) == best.indices)[best.values > 0].all()


def draw_photos() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Photos of a person: features (N, 32) of patches, what each shows, and the photo's classes.

    Each photo shows a face (3), which is no class, and one to three of the garments 0, 1, 2.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(300, 3, generator=generator) < 0.5
    labels[torch.arange(300), torch.randint(3, (300,), generator=generator)] = True
    shown = torch.cat([labels, torch.ones(300, 1, dtype=torch.bool)], dim=1)
    photo, kind = shown.nonzero(as_tuple=True)
    photo, kind = photo.repeat_interleave(10), kind.repeat_interleave(10)
    centres = torch.randn(4, 32, generator=generator)
    features = centres[kind] + 0.5 * torch.randn(len(kind), 32, generator=generator)
    return torch.nn.functional.normalize(features, dim=1), kind, labels[photo]


def test_what_accompanies_all_classes_gets_none_of_them():
    features, kind, possible = draw_photos()
    generator = torch.Generator().manual_seed(1)
    some_class = (possible * torch.rand(possible.shape, generator=generator)).argmax(dim=1)
    named = torch.where(kind < 3, kind, some_class)  # the maps take the face for some garment
    first = fit_classes(features, named, 3)
    for rounds, least, most in ((0, 0.6, 1), (5, 0, 0.05)):
        scores = separate_classes(features, possible, first, rounds)(features)
        best = scores.masked_fill(~possible, -1).amax(dim=1)
        called = (best > 0.5)[kind == 3].float().mean()
        assert least <= called <= most if rounds else best[kind == 3].mean() > 0.3
    named = scores.masked_fill(~possible, -1).argmax(dim=1)
    assert (named == kind)[kind < 3].float().mean() > 0.97
    assert (best > 0.5)[kind < 3].float().mean() > 0.9


def test_objects_of_photos_without_a_class_are_not_taken_for_one():
    """A bird in photos of no class, a butterfly in all others: without the rounds both are one."""
    features, kind = draw_classes((1000, 1000))
    possible = (kind == 0)[:, None]
    first = fit_classes(features[kind == 0], kind[kind == 0], 1)
    assert (first(features)[kind == 1] > 0.5).all()
    scores = separate_classes(features, possible, first, 2)(features)[:, 0]
    assert (scores > 0.5).float().sub(possible[:, 0].float()).abs().mean() < 0.02


def test_a_class_with_too_few_patches_and_a_class_of_all_patches_keep_their_scores():
    features, kind = draw_classes((500, 5))
    first = fit_classes(features, kind, 2)
    found = separate_classes(features, torch.ones(505, 2, dtype=torch.bool), first, 3)
    assert torch.equal(found.weight, first.weight)
    assert torch.equal(found.bias, first.bias)


def test_one_side_weighs_as_much_as_the_other():
    features, kind = draw_classes((4000, 60))
    possible = torch.nn.functional.one_hot(kind, 2).bool()
    found = separate_classes(features, possible, fit_classes(features, kind, 2), 2)(features) > 0.5
    assert all((found[kind == c].long().argmax(dim=1) == c).float().mean() > 0.97 for c in (0, 1))


def test_possible_classes_of_another_shape_are_refused():
    features, kind = draw_classes((20, 20))
    with pytest.raises(ValueError, match=r"possible classes \(40, 3\), expected .* \(N, 2\)"):
        separate_classes(features, torch.ones(40, 3).bool(), fit_classes(features, kind, 2), 1)
