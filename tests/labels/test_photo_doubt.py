"""Doubt about masks and labels: what is wrong comes first, without any ground truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.photo_doubt import Evidence, doubt_of, evidence, joined, presence, soft_iou
from getam.labels.readout import FINE, held_out_answers

NAMES = ("cat", "cow", "dog")
GRID = (8, 10)
PHOTOS = 60


class Photo:
    """A photo with one object: the features of its patches, and the masks at ``FINE`` pixels."""

    def __init__(self, number: int, centres: torch.Tensor, generator: torch.Generator) -> None:
        self.label = number % len(NAMES) + 1
        top, left = torch.randint(1, 3, (2,), generator=generator).tolist()
        on_grid = np.zeros(GRID, np.uint8)
        on_grid[top : top + 4, left : left + 5] = self.label
        self.labels = [self.label]
        self.true = on_grid.repeat(FINE, 0).repeat(FINE, 1)
        self.mask = self.true
        noise = 0.5 * torch.randn(*GRID, centres.shape[1], generator=generator)
        self.features = (centres[torch.from_numpy(on_grid).long()] + noise).permute(2, 0, 1)

    def seen(self) -> np.ndarray:
        """What a network that is right answers: 0.8 for the true label, the rest for others."""
        right = self.true == np.arange(len(NAMES) + 1)[:, None, None]
        return np.where(right, np.float32(0.8), np.float32(0.2 / len(NAMES)))


@pytest.fixture
def photos() -> list[Photo]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(len(NAMES) + 1, 24, generator=generator)
    return [Photo(number, centres, generator) for number in range(PHOTOS)]


def doubts(photos: list[Photo]) -> tuple[list[float], list[str]]:
    answers = held_out_answers(lambda: [(p.features, p.mask) for p in photos], len(NAMES) + 1)
    found = [
        doubt_of(
            photo.labels,
            evidence(photo.seen(), photo.mask, photo.labels, soft=True),
            evidence(answer, photo.mask, photo.labels, soft=False),
            NAMES,
        )
        for photo, answer in zip(photos, answers)
    ]
    return [doubt for doubt, _ in found], [reason for _, reason in found]


def first(values: list[float]) -> int:
    """The photo at the head of the queue, which must stand there alone."""
    assert values.count(max(values)) == 1
    return int(np.argmax(values))


def test_a_mask_at_the_wrong_place_comes_first(photos):
    photos[17].mask = np.roll(photos[17].true, 12, axis=1)
    values, reasons = doubts(photos)
    assert first(values) == 17
    assert NAMES[photos[17].label - 1] in reasons[17]


def test_a_mask_that_is_too_large_comes_first(photos):
    photos[23].mask = np.full_like(photos[23].true, photos[23].label)
    assert first(doubts(photos)[0]) == 23


def test_a_wrong_label_comes_first(photos):
    photos[8].labels = [photos[8].label % len(NAMES) + 1]
    photos[8].mask = np.where(photos[8].true > 0, photos[8].labels[0], 0).astype(np.uint8)
    assert first(doubts(photos)[0]) == 8


def test_a_missing_label_comes_first_and_the_reason_names_it(photos):
    photos[31].labels, photos[31].mask = [], np.zeros_like(photos[31].true)
    values, reasons = doubts(photos)
    assert first(values) == 31
    name = NAMES[photos[31].label - 1]
    assert reasons[31] == f"The network sees {name}, which is not among the labels."


def test_an_extra_label_without_a_pixel_comes_first_and_the_reason_names_it(photos):
    extra = photos[40].label % len(NAMES) + 1
    photos[40].labels = sorted([photos[40].label, extra])
    values, reasons = doubts(photos)
    assert first(values) == 40
    assert reasons[40] == f"{NAMES[extra - 1]} has no pixel in the mask, or hardly one."


def test_photos_whose_masks_are_right_have_little_doubt(photos):
    values, reasons = doubts(photos)
    assert max(values) < 0.25
    assert all(reason.startswith("The mask fits well") for reason in reasons)


def test_a_photo_without_a_class_has_no_doubt_if_no_class_is_seen():
    nothing = Evidence(np.zeros(3, np.float32), np.zeros(3, np.float32))
    doubt, reason = doubt_of([], nothing, nothing, NAMES)
    assert doubt == 0
    assert reason == "The photo has no class, and no class is seen."


def test_a_class_that_only_one_model_sees_does_not_count():
    nothing = Evidence(np.zeros(3, np.float32), np.zeros(3, np.float32))
    seen = nothing._replace(presence=np.array([0, 1, 0], np.float32))
    assert doubt_of([], seen, nothing, NAMES)[0] == 0
    assert doubt_of([], seen, seen, NAMES)[0] == 1


def test_soft_iou_of_certain_probabilities_is_the_iou():
    one, other = np.array([[1, 1, 0, 0]], bool), np.array([[0, 1, 1, 0]], bool)
    assert soft_iou(one.astype(np.float32), other) == pytest.approx(1 / 3)


def test_a_small_object_is_present_as_clearly_as_a_large_one():
    small, large = np.zeros((40, 40)), np.zeros((40, 40))
    small[:4, :4], large[:, :20] = 0.9, 0.9
    assert presence(small) == pytest.approx(presence(large)) == pytest.approx(0.9)


def test_ignored_pixels_of_a_mask_belong_to_no_class():
    scores = np.zeros((2, 2, 2), np.float32)
    scores[1] = 1
    found = evidence(scores, np.full((2, 2), 255, np.uint8), [1], soft=True)
    assert found.fit.tolist() == [0]
    assert found.presence.tolist() == [1]


def test_doubt_is_high_if_the_mask_or_the_labels_are_doubtful():
    assert joined(0.9, 0) == pytest.approx(0.9)
    assert joined(0, 0.9) == pytest.approx(0.729)
    assert joined(0.3, 0.9) > joined(0.2, 0.9) > 0.729
    assert joined(0.6, 0.1) > joined(0.5, 0.4)  # middling probabilities of an error count little


def test_a_class_that_is_known_to_be_there_fits_where_the_network_sees_it_most():
    """The network says 0.3 on the hat and 0.95 on the trousers; both are labels of the photo."""
    mask = np.array([[1] * 4 + [2] * 4 + [0] * 8], np.uint8)
    scores = np.zeros((3, 1, 16), np.float32)
    scores[1, 0, :4], scores[2, 0, 4:8] = 0.3, 0.95
    scores[0] = 1 - scores[1:].sum(0)
    plain = evidence(scores, mask, [1, 2], soft=True)
    raised = evidence(scores, mask, [1, 2], soft=True, present=True)
    assert plain.fit[0] == pytest.approx(0.3)
    assert raised.fit[0] == pytest.approx(1 / 1.7)  # of 1 for the hat and 0.7 for background
    assert raised.fit[1] == pytest.approx(plain.fit[1], abs=0.03)
    assert (raised.presence == plain.presence).all()
