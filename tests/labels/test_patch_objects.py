"""What is object in the photos of each class: an object score of its own for each of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.patch_finder import Finder, _class_objects
from getam.labels.patch_foreground import PatchScore
from getam.labels.patch_objects import ClassObjects, fit_class_objects

ANIMAL, HEAD, ARM, GRASS, SAND = range(5)
OF_ANIMALS, WITH_PERSONS = [ANIMAL, ANIMAL, GRASS, SAND], [ANIMAL, HEAD, ARM, GRASS]
SHOWS = [0, 1, 1, -1, -1]


def draw_photos(persons: int = 20, count: int = 100):
    """Patch features (P * 80, 5), what each patch shows, and the labels (P, 2) of photos.

    All photos show an animal; the first ``persons`` also a person.
    """
    kinds = torch.tensor([WITH_PERSONS] * persons + [OF_ANIMALS] * (count - persons))
    kind = kinds.repeat_interleave(20, dim=1).flatten()
    noise = 0.05 * torch.randn(len(kind), 5, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(count, 2, dtype=torch.bool)
    labels[persons:, 1] = False
    return torch.eye(5)[kind] + noise, kind, labels


def finder(**parts) -> Finder:
    """It finds animals and heads; the score of arms is low."""
    found = PatchScore(torch.tensor([0.9, 0.8, 0.4, 0.1, 0.1]), torch.tensor(0.0))
    names = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])
    return Finder(found, PatchScore(names, torch.zeros(2)), **parts)


def foreground(find: Finder, features: torch.Tensor, *class_ids: int) -> torch.Tensor:
    photos = features.view(-1, 8, 10, 5)
    found = [dict(find(photo, np.array(class_ids, np.uint8)))["foreground"] for photo in photos]
    return torch.stack(found).flatten()


def scores_of(found: ClassObjects, features: torch.Tensor, class_id: int) -> torch.Tensor:
    return found(features, torch.tensor([class_id]), torch.full((len(features), 1), -1.0))[:, 0]


def test_parts_of_a_class_that_had_low_scores_are_found():
    features, kind, labels = draw_photos()
    first = finder()
    objects = _class_objects(first, features, labels)
    of_persons, kind = features[:1600], kind[:1600]
    before, after = (
        foreground(find, of_persons, 1, 2) for find in (first, finder(objects=objects))
    )
    assert (before[kind == ARM] < 0.6).all()
    assert (after[kind == ARM] > 0.7).all()
    assert (after[kind == GRASS] < 0.3).all()


def test_only_the_photos_with_a_class_teach_its_score():
    features, kind, labels = draw_photos()
    shows = torch.tensor(SHOWS)[kind]
    whole = fit_class_objects(features, shows, labels)
    own = fit_class_objects(features[:1600], shows[:1600], labels[:20])
    torch.testing.assert_close(scores_of(whole, features, 1), scores_of(own, features, 1))
    assert (scores_of(whole, features, 0) - scores_of(own, features, 0)).abs().max() > 0.1


def test_what_shows_another_class_is_not_background():
    features, kind, labels = draw_photos()
    shows = torch.tensor(SHOWS)[kind]
    kept = kind[:1600] != ANIMAL
    whole = fit_class_objects(features[:1600], shows[:1600], labels[:20])
    without = fit_class_objects(features[:1600][kept], shows[:1600][kept], labels[:20])
    torch.testing.assert_close(scores_of(whole, features, 1), scores_of(without, features, 1))


def test_a_class_with_too_few_patches_keeps_the_object_score_of_all_classes():
    features, kind, labels = draw_photos()
    shows = torch.tensor(SHOWS)[kind]
    shows[(shows == 1).nonzero()[9:]] = -1
    objects = fit_class_objects(features, shows, labels)
    assert objects.learnt.tolist() == [True, False]
    find, first = finder(objects=objects), finder()
    torch.testing.assert_close(foreground(find, features, 2), foreground(first, features, 2))
    assert (foreground(find, features, 1) - foreground(first, features, 1)).abs().max() > 0.1


def test_the_object_score_is_the_sum_of_what_the_classes_get():
    features, kind, labels = draw_photos()
    objects = fit_class_objects(features, torch.tensor(SHOWS)[kind], labels)
    found = dict(finder(objects=objects)(features[:80].view(8, 10, 5), np.array([1, 2], np.uint8)))
    each = found["classes"].view(2, 8, 10)
    torch.testing.assert_close(each.sum(dim=0), found["foreground"])
    assert each.min() >= 0
    assert found["foreground"].max() <= 1.0001
    assert not foreground(finder(objects=objects), features[:80]).any()


@pytest.mark.parametrize(("features", "shows"), [((6, 4), 5), ((6, 4), 7), ((5, 4), 5)])
def test_patches_that_do_not_belong_to_the_photos_are_refused(features, shows):
    with pytest.raises(ValueError, match=r"expected \(P \* M, D\)"):
        fit_class_objects(torch.rand(features), torch.zeros(shows).long(), torch.ones(2, 2).bool())
