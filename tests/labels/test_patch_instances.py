"""Which object patches tell the classes of a photo: what multiple-instance learning finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.patch_finder import Finder, _of_classes
from getam.labels.patch_foreground import PatchScore
from getam.labels.patch_instances import InstanceScore, fit_instances

FACE = 3


def draw_photos(count: int = 200, seed: int = 0):
    """Patch features (N, 32), what each patch shows, its photo, and the labels (P, 3) of photos.

    Each photo shows a face, which is no class, and some of the garments 0, 1, 2.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(count, 3, generator=generator) < 0.4
    shown = torch.cat([labels, torch.ones(count, 1, dtype=torch.bool)], dim=1)
    photos, kind = (part.repeat_interleave(10) for part in shown.nonzero(as_tuple=True))
    centres = torch.randn(4, 32, generator=torch.Generator().manual_seed(9))
    features = centres[kind] + 0.5 * torch.randn(len(kind), 32, generator=generator)
    return torch.nn.functional.normalize(features, dim=1), kind, photos, labels


def of_all(found: InstanceScore, features: torch.Tensor) -> torch.Tensor:
    """The probabilities (N, C) in photos that have all classes."""
    classes = torch.arange(len(found.learnt))
    return found(features, classes, torch.zeros(len(features), len(classes)))


def test_a_patch_of_a_class_is_told_from_what_is_in_all_photos():
    features, _, photos, labels = draw_photos()
    found = fit_instances(features, photos, labels)
    others, kind, _, _ = draw_photos(seed=1)
    scores = of_all(found, others)
    garments = kind != FACE
    assert (scores.argmax(dim=1) == kind)[garments].float().mean() > 0.97
    own = scores[garments, kind[garments]]
    assert (own > 0.5).float().mean() > 0.95
    assert (scores[~garments] < 0.5).float().mean() > 0.95


def test_what_is_often_seen_beside_a_class_does_not_get_its_name():
    """Nearly every photo of trousers shows a top, whose look varies much more."""
    generator = torch.Generator().manual_seed(0)
    trousers = torch.rand(200, generator=generator) < 0.5
    drawn = torch.rand(200, generator=generator)
    labels = torch.stack([drawn < torch.where(trousers, 0.97, 0.03), trousers], dim=1)
    features, kind, photos = patches_of(labels, (10, 10, 10), (1.5, 0.5, 0.5), generator)
    scores = of_all(fit_instances(features, photos, labels), features)
    of_top, of_trousers = scores[kind == 0], scores[kind == 1]
    assert of_top.mean(dim=0)[0] > 0.8
    assert of_trousers.mean(dim=0)[0] < 0.1


def test_all_that_shows_a_class_gets_its_name_not_only_what_shows_it_best():
    """Four patches of a head, forty of a body that is nearer to what all photos show."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(200, 2, generator=generator) < 0.4
    parts = labels.repeat_interleave(2, dim=1)  # head and body of the two animals
    features, kind, photos = patches_of(parts, (4, 40, 4, 40, 40), (0.5,) * 5, generator, near=0.8)
    scores = of_all(fit_instances(features, photos, labels), features)
    assert (scores[kind == 1, 0] > 0.5).float().mean() > 0.8
    assert (scores[kind == 3, 1] > 0.5).float().mean() > 0.8
    assert (scores[kind == 4] > 0.5).float().mean() < 0.01


def patches_of(
    present: torch.Tensor,
    counts: tuple[int, ...],
    noise: tuple[float, ...],
    generator: torch.Generator,
    near: float = 0,
):
    """Patch features (N, 32), the kind of each patch, and its photo.

    A photo shows ``counts`` patches of each kind that is ``present`` (P, K - 1) in it, and of the
    last kind. Kinds 1, 3, ... lie ``near`` the last.
    """
    shown = torch.cat([present, torch.ones(len(present), 1, dtype=torch.bool)], dim=1)
    photos, kind = shown.nonzero(as_tuple=True)
    times = torch.tensor(counts)[kind]
    photos, kind = photos.repeat_interleave(times), kind.repeat_interleave(times)
    centres = torch.randn(len(counts), 32, generator=torch.Generator().manual_seed(9))
    if near:
        centres[1:-1:2] = 0.5 * centres[1:-1:2] + near * centres[-1]
    spread = torch.tensor(noise)[kind][:, None]
    features = centres[kind] + spread * torch.randn(len(kind), 32, generator=generator)
    return torch.nn.functional.normalize(features, dim=1), kind, photos


def test_the_order_of_the_patches_and_empty_photos_change_nothing():
    features, _, photos, labels = draw_photos(60)
    found = fit_instances(features, photos, labels)
    labels = torch.cat([labels, torch.ones(5, 3, dtype=torch.bool)])  # photos without a patch
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(2))
    again = fit_instances(features[order], photos[order], labels)
    torch.testing.assert_close(again.logits.weight, found.logits.weight, rtol=1e-3, atol=1e-4)


def test_a_photo_of_many_patches_is_learnt_from_at_equal_distances():
    """1,000 patches, of which the last tenth shows the class: those are among the 300 learnt."""
    generator = torch.Generator().manual_seed(0)
    features = 0.1 * torch.randn(2000, 8, generator=generator)
    features[900:1000, 0] += 1
    found = fit_instances(
        features, torch.arange(2).repeat_interleave(1000), torch.tensor([[True], [False]])
    )
    scores = of_all(found, features)[:, 0]
    assert scores[900:1000].min() > scores[:900].max()


def test_a_class_that_all_photos_have_keeps_the_other_score():
    features, _, photos, labels = draw_photos(40)
    labels = torch.cat([labels, torch.ones(40, 1).bool(), torch.zeros(40, 1).bool()], dim=1)
    found = fit_instances(features, photos, labels)
    other = torch.rand(len(features), 5, generator=torch.Generator().manual_seed(3))
    assert found.learnt.tolist() == [True, True, True, False, False]
    scores = found(features, torch.arange(5), other)
    assert torch.equal(scores[:, 3:], other[:, 3:])
    assert scores.isfinite().all()
    torch.testing.assert_close(
        found(features, torch.tensor([4, 1]), other[:, :2])[:, 0], other[:, 0]
    )


def test_a_rare_class_is_learnt_from_few_photos():
    features, kind, photos, labels = draw_photos(300)
    few = labels[:, 0].nonzero()[:6, 0]
    kept = ~labels[:, 0] | torch.isin(torch.arange(300), few)
    number = kept.cumsum(0) - 1
    patches = kept[photos]
    found = fit_instances(features[patches], number[photos[patches]], labels[kept])
    scores = of_all(found, features)[:, 0]
    assert scores[kind == 0].median() > scores[kind != 0].quantile(0.99)


@pytest.mark.parametrize(("features", "photos"), [((0, 4), 0), ((5, 4), 3), ((5,), 5)])
def test_patches_of_another_shape_are_refused(features, photos):
    with pytest.raises(ValueError, match="at least one patch"):
        fit_instances(torch.rand(features), torch.zeros(photos).long(), torch.ones(1, 2).bool())


def test_an_object_needs_both_scores_to_get_a_class():
    """Four patches: both scores see class 1, only the first, only the second, none of the two."""
    first = PatchScore(torch.tensor([[1.0], [0.0]]), torch.zeros(1))
    second = InstanceScore(
        PatchScore(torch.tensor([[0.0], [40.0]]), torch.full((1,), -20.0)), torch.tensor([True])
    )
    features = torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    all_object = PatchScore(torch.zeros(2), torch.tensor(1.0))
    found = dict(Finder(all_object, first, True, second)(features, np.array([1], np.uint8)))
    assert found["foreground"].flatten().tolist() == pytest.approx([1, 0, 0, 0], abs=1e-3)
    alone = dict(Finder(all_object, first, True)(features, np.array([1], np.uint8)))
    assert alone["foreground"].flatten().tolist() == pytest.approx([1, 1, 0, 0], abs=1e-6)


def test_the_class_that_both_scores_see_gets_the_larger_share():
    first = PatchScore(torch.tensor([[0.6, 0.6]]), torch.zeros(2))
    logits = PatchScore(torch.tensor([[3.0, -3.0]]), torch.zeros(2))
    find = Finder(
        PatchScore(torch.zeros(1), torch.tensor(1.0)),
        first,
        True,
        InstanceScore(logits, torch.ones(2).bool()),
    )
    classes = dict(find(torch.ones(1, 1, 1), np.array([1, 2], np.uint8)))["classes"]
    told = torch.softmax(torch.tensor([0.0, 3.0, -3.0]), dim=0)[1:].sqrt()
    assert classes.flatten().tolist() == pytest.approx((told / told.sum()).tolist(), abs=1e-6)


def test_objects_are_what_a_class_explains():
    """Patches of a head, a body that the object score misses, a face and a wall. All that shows the
    class becomes object, the face does not."""
    head, body, face, wall = torch.eye(4).repeat_interleave(20, dim=0).split(20)
    found = Finder(
        PatchScore(torch.tensor([1.0, 0.3, 1.0, 0.0]), torch.tensor(0.0)),
        PatchScore(torch.ones(4, 1), torch.zeros(1)),
        True,
        InstanceScore(
            PatchScore(torch.tensor([[9.0], [9.0], [-9.0], [9.0]]), torch.zeros(1)),
            torch.tensor([True]),
        ),
    )
    photos = torch.cat([head, body, face, wall, face, wall, face, wall])
    again = _of_classes(found, photos, torch.tensor([[True], [False]]))
    assert (again(torch.eye(4)) > 0.5).tolist() == [True, True, False, False]
    nothing = _of_classes(found, photos, torch.zeros(2, 1, dtype=torch.bool))
    assert nothing is found.foreground


def test_a_class_that_all_photos_have_makes_no_object_larger():
    """Nothing can be learnt about it, and its score is high on the grass beside the object too."""
    animal, grass, sky = torch.eye(3).repeat_interleave(20, dim=0).split(20)
    found = Finder(
        PatchScore(torch.tensor([1.0, 0.4, 0.0]), torch.tensor(0.0)),
        PatchScore(torch.ones(3, 1), torch.zeros(1)),
        True,
        InstanceScore(PatchScore(torch.zeros(3, 1), torch.zeros(1)), torch.tensor([False])),
    )
    again = _of_classes(found, torch.cat([animal, grass, sky]), torch.ones(1, 1).bool())
    assert (again(torch.eye(3)) > 0.5).tolist() == [True, False, False]
