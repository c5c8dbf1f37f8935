"""Errors in labels are found from the labels of other photos, and no label speaks for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.label_odds import held_out_probabilities, label_errors, pooled

PHOTOS = 120


@pytest.fixture
def photos() -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 8) that show three classes, and the labels (N, 3)."""
    random = np.random.default_rng(0)
    labels = random.random((PHOTOS, 3)) < 0.4
    centres = 2 * random.normal(size=(3, 8))
    features = labels @ centres + random.normal(size=(PHOTOS, 8))
    return features.astype(np.float32), labels


def errors(features: np.ndarray, labels: np.ndarray):
    return label_errors(held_out_probabilities(features, labels), labels)


@pytest.mark.parametrize("present", [True, False])
def test_a_wrong_label_comes_first_and_is_named(photos, present):
    features, labels = photos
    for photo in np.flatnonzero(labels[:, 1] == present)[:5]:
        wrong = labels.copy()
        wrong[photo, 1] = not present
        found = errors(features, wrong)
        assert found.probability.argmax() == photo
        assert found.worst[photo] == 1


def test_an_exchanged_label_comes_first(photos):
    features, labels = photos
    photo = int(np.flatnonzero(labels[:, 0] & ~labels[:, 2])[0])
    labels[photo, [0, 2]] = False, True
    assert errors(features, labels).probability.argmax() == photo


def test_right_labels_have_a_low_probability_of_an_error(photos):
    assert np.quantile(errors(*photos).probability, 0.9) < 0.2


def test_a_label_has_no_part_in_its_own_probability(photos):
    features, labels = photos
    before = held_out_probabilities(features, labels)
    labels[7, 2] ^= True
    after = held_out_probabilities(features, labels)
    assert after[7, 2] == before[7, 2]
    assert not np.array_equal(after, before)


def test_classes_that_always_occur_together_speak_for_each_other():
    random = np.random.default_rng(0)
    labels = np.repeat(random.random((PHOTOS, 1)) < 0.5, 2, axis=1)
    photo = int(np.flatnonzero(labels[:, 0])[0])
    labels[photo, 1] = False
    features = random.normal(size=(PHOTOS, 4)).astype(np.float32)  # they show nothing
    assert errors(features, labels).probability.argmax() == photo


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_few_photos_and_classes_that_all_or_none_have_are_taken(count):
    random = np.random.default_rng(0)
    features = random.normal(size=(count, 4)).astype(np.float32)
    features[:, 0] = 1
    labels = np.tile([True, False], (count, 1))
    found = errors(features, labels)
    assert ((found.probability > 0) & (found.probability <= 0.5)).all()


def test_the_odds_are_those_of_three_kinds_of_errors():
    probabilities = np.array([[0.75, 0.5, 0.2]])  # odds 3, 1, 0.25
    found = label_errors(probabilities, np.array([[False, True, False]]))
    missing, extra, exchanged = (3 + 0.25) / 2, 1 / 3, (3 / 1 + 0.25 / 1) / 2
    odds = (missing + extra + exchanged) / 3
    assert found.probability[0] == pytest.approx(odds / (1 + odds))
    assert found.worst[0] == 0


def test_a_photo_of_all_classes_and_a_photo_of_none_can_have_an_error():
    probabilities = np.full((2, 2), 0.5)
    found = label_errors(probabilities, np.array([[True, True], [False, False]]))
    assert found.probability == pytest.approx([0.4, 0.4])  # odds (1 + 1) / 3


def test_pooled_features_are_the_mean_and_the_largest():
    features = torch.tensor([[[1.0, 3.0]], [[0.0, -2.0]]])
    assert pooled(features).tolist() == [2, -1, 3, 0]
