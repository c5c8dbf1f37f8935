"""Pointing game, energy inside the mask, and the controls, on maps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from getam.metrics.controls import CONTROLS, advantage, centre_prior, random_map
from getam.metrics.localisation import inside_mask

MASK = np.zeros((4, 6), np.uint8)
MASK[0, :4] = 1
MASK[2:, 5] = 2
MASK[3, 0] = 255


def test_a_perfect_map_points_at_its_class_and_has_all_energy_in_it():
    told = inside_mask(np.stack([MASK == 1, MASK == 2]).astype(np.float32), [1, 2], MASK)
    assert told.pointing.tolist() == told.energy.tolist() == [1, 1]


def test_each_map_is_measured_in_the_mask_of_its_own_class():
    swapped = np.stack([MASK == 2, MASK == 1]).astype(np.float32)
    told = inside_mask(swapped, [1, 2], MASK)
    assert told.pointing.tolist() == told.energy.tolist() == [0, 0]


def test_energy_is_the_share_of_the_sum_and_pointing_asks_only_for_the_peak():
    one = np.zeros((1, 4, 6))
    one[0, 0, 0], one[0, 3, 3] = 2, 3  # the peak lies outside
    told = inside_mask(one, [1], MASK)
    assert (told.pointing[0], told.energy[0]) == (0, pytest.approx(0.4))


@pytest.mark.parametrize("value", [0, 0.3, 7])
def test_a_constant_map_and_one_of_zeros_have_the_share_of_the_area(value):
    told = inside_mask(np.full((2, 4, 6), value), [1, 2], MASK)
    for share in told:
        assert share == pytest.approx([4 / 23, 2 / 23])  # 23 pixels are not 255


def test_patches_are_pointed_at_by_their_centre_and_summed_by_their_area():
    """2 x 3 patches over 4 x 6 pixels; class 1 covers the upper half of two patches."""
    one = np.array([[[4.0, 1.0, 1.0], [0.0, 0.0, 2.0]]])
    told = inside_mask(one, [1], MASK)
    assert told.pointing[0] == 0  # the centre is the lower right one of the four middle pixels
    assert told.energy[0] == pytest.approx((2 * 4 + 2 * 1) / (4 * 4 + 4 * 1 + 4 * 1 + 4 * 2))
    lower = np.array([[[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]])
    assert inside_mask(lower, [2], MASK) == (1, 0.5)


def test_a_random_map_hits_as_often_as_the_class_is_large_wherever_it_is():
    """Interpolated maps would have most of their peaks at the border."""
    border, middle = np.ones((48, 48), np.uint8), np.zeros((48, 48), np.uint8)
    border[4:-4, 4:-4] = 0
    middle[16:32, 16:32] = 1
    for mask in (border, middle):
        maps = np.stack([random_map((12, 12), str(n)) for n in range(1500)])
        told = inside_mask(maps, [1] * 1500, mask)
        assert told.pointing.mean() == pytest.approx(mask.mean(), abs=0.04)
        assert told.energy.mean() == pytest.approx(mask.mean(), abs=0.01)


def test_an_object_that_covers_no_centre_is_missed_and_still_counted():
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 0] = 1
    told = inside_mask(np.array([[[1.0, 0.0], [0.0, 0.0]]]), [1], mask)
    assert (told.pointing[0], told.energy[0]) == (0, 1 / 16)


def test_ignored_pixels_are_neither_pointed_at_nor_counted():
    one = np.zeros((1, 4, 6))
    one[0, 3, 0], one[0, 0, 1] = 9, 1
    told = inside_mask(one, [1], MASK)
    assert (told.pointing[0], told.energy[0]) == (1, 1)


def test_a_class_that_the_mask_does_not_show_has_no_figure():
    told = inside_mask(np.ones((2, 4, 6)), [3, 1], MASK)
    assert np.isnan([told.pointing[0], told.energy[0]]).all()
    assert not np.isnan([told.pointing[1], told.energy[1]]).any()


def test_no_class_gives_no_figures():
    told = inside_mask(np.zeros((0, 4, 6)), [], MASK)
    assert len(told.pointing) == len(told.energy) == 0


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (np.ones((4, 6)), "expected"),
        (np.ones((2, 4, 6)), "expected"),
        (np.full((1, 4, 6), np.nan), "NaN"),
        (-np.ones((1, 4, 6)), "below 0"),
    ],
)
def test_maps_that_cannot_be_measured_are_refused(maps, words):
    with pytest.raises(ValueError, match=words):
        inside_mask(maps, [1], MASK)


def test_the_centre_prior_falls_from_the_centre_to_the_corners_of_any_shape():
    prior = centre_prior((5, 9), "photo")
    assert prior[2, 4] == prior.max() == 1
    np.testing.assert_allclose(prior, prior[::-1, ::-1], rtol=1e-6)
    assert prior[0, 0] == prior.min()
    assert prior[2, 0] == pytest.approx(np.exp(-((4 / 9) ** 2) / (2 * 0.25**2)))


def test_random_maps_differ_between_photos_and_not_between_calls():
    one, again, other = (random_map((3, 4), name) for name in ("a", "a", "b"))
    assert (one == again).all()
    assert (one != other).any()
    assert one.shape == CONTROLS["random map"]((3, 4), "a").shape == (3, 4)


def figures(values: list[float]) -> dict[str, float]:
    return {str(n): value for n, value in enumerate(values)}


def test_an_advantage_is_paired_by_photo_not_a_difference_of_two_means():
    """Photos differ far more than the methods; only the pairs show who is better."""
    hard = np.linspace(0, 1, 20)
    told = advantage(figures([*(hard + 0.01)]), figures([*hard]))
    assert told.low > 0
    assert told.value == pytest.approx(0.01)
    assert advantage(figures([*hard]), figures([*hard[::-1]])).low < 0


def test_less_is_better_turns_the_sign():
    own, control = figures([0.1, 0.2, 0.1]), figures([0.5, 0.6, 0.7])
    assert advantage(own, control).high < 0
    assert advantage(own, control, less_is_better=True).low > 0


def test_equal_maps_are_no_better():
    assert advantage(figures([0.1, 0.2]), figures([0.1, 0.2])).low == 0


def test_an_advantage_wants_the_same_photos_and_two_of_them():
    with pytest.raises(ValueError, match="different photos"):
        advantage({"a": 1.0}, {"b": 1.0})
    with pytest.raises(ValueError, match="two or more"):
        advantage({"a": 1.0}, {"a": 0.0})
