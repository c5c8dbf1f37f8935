"""Readouts that have not seen the photo they are asked about, and the figure made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.label_agreement import Agreement
from getam.labels.readout import FINE, HeldOutReadouts, held_out_answers, label_shares, on_patches

GRID = (6, 6)


def draw(photos: int, seed: int = 0) -> list[tuple[torch.Tensor, np.ndarray]]:
    """Features (16, 6, 6) and labels (24, 24): the right half is object."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(2, 16, generator=generator)
    on_grid = np.zeros(GRID, np.uint8)
    on_grid[:, 3:] = 1
    labels = on_grid.repeat(FINE, 0).repeat(FINE, 1)
    return [
        (
            (
                centres[torch.from_numpy(on_grid).long()]
                + 0.3 * torch.randn(*GRID, 16, generator=generator)
            ).permute(2, 0, 1),
            labels,
        )
        for _ in range(photos)
    ]


def agreement(photos: list[tuple[torch.Tensor, np.ndarray]]) -> float:
    found = Agreement(1)
    for (_, labels), answer in zip(photos, held_out_answers(lambda: photos, 2)):
        found.update(answer.argmax(0), labels, [1])
    return found.value()


def test_the_answer_on_a_photo_does_not_depend_on_its_own_labels():
    photos = draw(10)
    before = [*held_out_answers(lambda: photos, 2)][3]
    photos[3] = photos[3][0], 1 - photos[3][1]
    after = [*held_out_answers(lambda: photos, 2)]
    assert np.array_equal(after[3], before)
    assert not np.array_equal(after[4], [*held_out_answers(lambda: draw(10), 2)][4])


def test_photos_of_one_fold_do_not_teach_each_other():
    readouts = HeldOutReadouts(2, 2, folds=2)
    right, wrong = torch.eye(2), torch.eye(2).flip(0)
    readouts.add(torch.eye(2), right, 0)
    readouts.add(torch.eye(2), wrong, 1)
    readouts.fit()
    assert readouts(torch.eye(2), 1).argmax(1).tolist() == [0, 1]
    assert readouts(torch.eye(2), 0).argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_few_photos_give_finite_answers(count):
    assert all(np.isfinite(answer).all() for answer in held_out_answers(lambda: draw(count), 2))


def test_no_photo_gives_no_answer():
    assert [*held_out_answers(list, 2)] == []


def test_ignored_pixels_teach_nothing():
    labels = torch.tensor([[255, 1], [255, 1]], dtype=torch.uint8)
    assert label_shares(labels, (1, 1), 2).tolist() == [[0, 0.5]]


def test_labels_are_reduced_to_the_patches_of_the_photo():
    labels = np.zeros((60, 90), np.uint8)
    labels[:, 45:] = 3
    small = on_patches(labels, (2, 4))
    assert small.shape == (2 * FINE, 4 * FINE)
    assert np.array_equal(small == 3, np.arange(16)[None].repeat(8, 0) >= 8)


def test_labels_that_follow_the_features_agree_better_than_labels_by_chance():
    photos = draw(30)
    generator = np.random.default_rng(0)
    by_chance = [
        (features, np.roll(labels, generator.integers(24), axis=1)) for features, labels in photos
    ]
    assert agreement(photos) > 0.95
    assert agreement(by_chance) < 0.8


@pytest.mark.parametrize("value", [0, 1])
def test_labels_that_are_the_same_everywhere_have_no_agreement(value):
    photos = [(features, np.full_like(labels, value)) for features, labels in draw(10)]
    assert agreement(photos) == 0


def test_a_class_that_got_no_pixel_counts_as_zero():
    found = Agreement(2)
    labels = np.array([[0, 1]], np.uint8)
    found.update(labels, labels, [1, 2])
    assert found.ious().tolist() == [1, 1, 0]
    assert found.value() == pytest.approx(0.5**0.5)


def test_a_class_that_no_photo_has_does_not_count():
    found = Agreement(2)
    labels = np.array([[0, 1]], np.uint8)
    found.update(labels, labels, [1])
    assert found.value() == 1


def test_photos_without_a_class_do_not_raise_the_agreement():
    found = Agreement(1)
    found.update(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]], np.uint8), [1])
    before = found.value()
    found.update(np.zeros((9, 9), int), np.zeros((9, 9), np.uint8), [])
    assert found.value() == before


def test_the_counts_come_back_from_their_file(tmp_path):
    found = Agreement(2)
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    found.update(np.array([[0, 1], [1, 1]]), labels, [1, 2])
    found.update(labels, labels, [1])
    found.save(tmp_path / "agreement.npy")
    again = Agreement.load(tmp_path / "agreement.npy")
    assert again.counts.tolist() == found.counts.tolist()
    assert again.counts[0].tolist() == [[1, 1, 0], [1, 1, 1], [1, 2, 0], [1, 1, 1]]
    assert again.value() == found.value() > 0
    Agreement(2).save(tmp_path / "none.npy")
    assert Agreement.load(tmp_path / "none.npy").value() == 0


def test_agreements_of_other_photos_are_not_compared():
    one, other = Agreement(1), Agreement(1)
    one.update(np.array([[0, 1]]), np.array([[0, 1]], np.uint8), [1])
    with pytest.raises(ValueError, match="not the same"):
        one.better_than(other)
