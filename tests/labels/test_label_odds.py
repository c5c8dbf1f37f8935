"""Errors in labels are found from the labels of other photos, and no label speaks for itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.label_odds import Expectation, held_out_expectation, label_errors, pooled
from getam.labels.readout import FOLDS

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
    return label_errors(held_out_expectation(features, labels), labels)


def alone(probabilities: np.ndarray) -> Expectation:
    """Classes of which none says anything about another."""
    classes = probabilities.shape[1]
    return Expectation(probabilities, np.zeros((FOLDS, classes, classes)))


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
    before = held_out_expectation(features, labels).probabilities
    labels[7, 2] ^= True
    after = held_out_expectation(features, labels).probabilities
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
    found = label_errors(alone(probabilities), np.array([[False, True, False]]))
    missing, extra, exchanged = (3 + 0.25) / 2, 1 / 3, (3 / 1 + 0.25 / 1) / 2
    odds = (missing + extra + exchanged) / 3
    assert found.probability[0] == pytest.approx(odds / (1 + odds))
    assert found.worst[0] == 0


def test_an_exchange_is_judged_without_the_label_that_is_taken_out():
    """Given class 0; class 1 is never beside it. 1 in the place of 0 is as likely as 0 itself."""
    influence = np.zeros((FOLDS, 2, 2))
    influence[:, [0, 1], [1, 0]] = -3
    odds = np.exp(-3)  # of class 1 beside class 0
    probabilities = np.array([[0.5, odds / (1 + odds)]])
    found = label_errors(Expectation(probabilities, influence), np.array([[True, False]]))
    missing, extra, exchanged = odds / 2, 1 / 2, odds * np.exp(3)
    of_error = (missing + extra + exchanged) / 3
    assert found.probability[0] == pytest.approx(of_error / (1 + of_error))
    assert found.worst[0] == 0  # its label is in the one that is extra too, and in the exchange


def test_an_exchange_of_classes_that_exclude_each_other_is_found():
    """Features show which of two classes a photo has, but not well; no photo has both or none."""
    random = np.random.default_rng(0)
    first = random.random(PHOTOS) < 0.5
    features = (first[:, None] + random.normal(size=(PHOTOS, 4))).astype(np.float32)
    labels = np.stack([first, ~first], axis=1)
    photo = int(np.argmax(np.where(first, features.sum(1), -np.inf)))  # surely the first class
    labels[photo] = False, True
    expected = held_out_expectation(features, labels)
    found = label_errors(expected, labels).probability
    assert found.argmax() == photo
    without = label_errors(alone(expected.probabilities), labels).probability
    assert found[photo] > 0.9
    assert without[photo] < 0.6


def test_a_photo_of_all_classes_and_a_photo_of_none_can_have_an_error():
    probabilities = np.full((2, 2), 0.5)
    found = label_errors(alone(probabilities), np.array([[True, True], [False, False]]))
    assert found.probability == pytest.approx([0.4, 0.4])  # odds (1 + 1) / 3


def test_pooled_features_are_the_mean_and_the_largest():
    features = torch.tensor([[[1.0, 3.0]], [[0.0, -2.0]]])
    assert pooled(features).tolist() == [2, -1, 3, 0]
