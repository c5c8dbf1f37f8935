"""Label completion against a loop over pixels, and what each step is for."""

from __future__ import annotations

import numpy as np
import pytest

from getam.data.label_values import IGNORE
from getam.labels.completion import complete_labels


def complete_by_loop(
    maps, class_ids, saliency, rule, quantile, background_power, opening, fallback
) -> np.ndarray:
    """The definition, one pixel at a time."""
    count, height, width = maps.shape
    order = sorted(range(count), key=lambda k: class_ids[k])
    labels = np.zeros((height, width), dtype=np.uint8)
    for y in range(height):
        for x in range(width):
            labels[y, x] = seed_of_pixel(
                [maps[k, y, x] for k in order],
                [class_ids[k] for k in order],
                None if saliency is None else bool(saliency[y, x] > 0),
                background_power,
                fallback,
            )
    completed = labels.copy()
    limits = {}
    for k in order:
        positive = sorted(v for v in maps[k].ravel() if v > 0)
        if positive:
            limits[k] = positive[min(int(len(positive) * quantile), len(positive) - 1)]
    for y in range(height):
        for x in range(width):
            if labels[y, x] == 0:
                claims = [class_ids[k] for k in order if k in limits and maps[k, y, x] > limits[k]]
                if claims:
                    several = len(claims) > 1 and rule == "paper"
                    completed[y, x] = IGNORE if several else claims[0]
    return np.where(opened_by_loop(completed != 0, opening), completed, 0).astype(np.uint8)


def seed_of_pixel(values, class_ids, salient, power, fallback) -> int:
    if salient is False:
        return 0
    best, label = 0, None
    for value, class_id in zip(values, class_ids):
        if value > best:
            best, label = value, class_id
    if salient or fallback == "power":
        if best > (1 - best) ** power:
            return label
        return IGNORE if salient else 0
    low, high = fallback if isinstance(fallback, tuple) else (fallback, fallback)
    if best > high:
        return label
    return 0 if best <= low else IGNORE


def opened_by_loop(mask: np.ndarray, size: int) -> np.ndarray:
    """Union of the squares, centred in the image, that hold nothing but mask inside it."""
    if not size:
        return mask
    opened = np.zeros_like(mask)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            top, left = y - size // 2, x - size // 2
            square = (
                slice(max(top, 0), top + size),
                slice(max(left, 0), left + size),
            )
            if mask[square].all():
                opened[square] = True
    return opened


def random_case(rng: np.random.Generator) -> dict:
    height, width = rng.integers(3, 22, size=2)
    count = int(rng.integers(0, 4))
    # Smooth, coarse values: regions larger than a pixel, and many ties.
    coarse = rng.random((count, 3, 3)) ** 3
    maps = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    maps = np.round(maps + 0.1 * rng.random(maps.shape), 2).clip(0, 1) * (maps > 0.02)
    blob = rng.random((3, 3)).repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    saliency = rng.choice([0, 7, 255]) * (blob > 0.5)
    return {
        "maps": maps.astype(rng.choice([np.float32, np.float64])),
        "class_ids": rng.permutation(np.arange(1, 255))[:count].tolist(),
        "saliency": None if rng.random() < 0.3 else saliency.astype(np.uint8),
        "quantile": float(rng.choice([0, 0.5, 0.9, 0.95, 1])),
        "background_power": float(rng.choice([1, 2, 8, 32])),
        "opening": int(rng.choice([0, 1, 2, 3, 4, 10])),
        "fallback": [("power"), 0.3, (0.1, 0.4)][rng.integers(3)],
    }


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_labels_equal_the_definition_pixel_by_pixel(rule):
    rng = np.random.default_rng(17)
    seen = np.zeros(256, dtype=int)
    for _ in range(300):
        case = random_case(rng)
        got = complete_labels(**case, rule=rule)
        np.testing.assert_array_equal(got, complete_by_loop(**case, rule=rule), err_msg=str(case))
        assert got.dtype == np.uint8
        seen += np.bincount(got.ravel(), minlength=256)
    assert seen[0]
    assert seen[IGNORE]
    assert seen[1:IGNORE].sum() > 1000


def test_conflict_rule_fires_where_two_classes_claim_a_pixel():
    maps = np.zeros((2, 4, 5), dtype=np.float32)
    maps[:, 0, :4] = 0.01
    maps[:, 1, 2] = 0.9
    maps[1, 1, 3] = 0.9
    settings = {"quantile": 0.5, "opening": 0}
    nothing_salient = np.zeros((4, 5))
    paper = complete_labels(maps, [3, 8], nothing_salient, rule="paper", **settings)
    released = complete_labels(maps, [3, 8], nothing_salient, rule="released", **settings)
    assert (paper[1, 2], released[1, 2]) == (IGNORE, 3)
    assert (paper[1, 3], released[1, 3]) == (8, 8)
    assert paper[0].max() == released[0].max() == 0


def test_three_claims_conflict_as_two_do():
    maps = np.full((3, 2, 3), 0.01)
    maps[:, 1, 1] = 0.9
    labels = complete_labels(maps, [1, 2, 3], np.zeros((2, 3)), quantile=0.5, opening=0)
    assert labels[1, 1] == IGNORE


def test_claims_do_not_depend_on_the_order_of_the_classes():
    """A claim of the first class must not hide the pixel from the second one's conflict."""
    maps = np.full((2, 1, 4), 0.01)
    maps[:, 0, 0] = 0.8
    both = complete_labels(maps, [1, 2], np.zeros((1, 4)), quantile=0.5, opening=0)
    swapped = complete_labels(maps[::-1], [2, 1], np.zeros((1, 4)), quantile=0.5, opening=0)
    np.testing.assert_array_equal(both, swapped)
    assert both[0, 0] == IGNORE


def test_saliency_and_maps_are_not_edited_in_place():
    rng = np.random.default_rng(0)
    maps = rng.random((2, 12, 9)).astype(np.float32)
    saliency = (rng.random((12, 9)) > 0.5).astype(np.float32)
    class_ids = [9, 4]
    before = maps.copy(), saliency.copy()
    maps.flags.writeable = saliency.flags.writeable = False
    complete_labels(maps, class_ids, saliency, quantile=0.1, opening=2)
    np.testing.assert_array_equal(maps, before[0])
    np.testing.assert_array_equal(saliency, before[1])
    assert class_ids == [9, 4]


@pytest.mark.parametrize("size", [2, 3, 4, 7, 10])
def test_opening_with_any_square_shifts_and_grows_nothing(size):
    """A region as large as the square survives whole, one pixel less vanishes whole."""
    maps = np.zeros((1, 40, 50), dtype=np.float32)
    maps[0, 12 : 12 + size, 20 : 20 + size] = 1
    maps[0, 12 : 12 + size, 33 : 33 + size - 1] = 1
    labels = complete_labels(maps, [5], np.ones((40, 50)) * maps[0], opening=size, quantile=1)
    expected = np.zeros((40, 50), dtype=np.uint8)
    expected[12 : 12 + size, 20 : 20 + size] = 5
    np.testing.assert_array_equal(labels, expected)


def test_opening_spares_objects_cut_by_the_border():
    maps = np.zeros((1, 30, 30), dtype=np.float32)
    maps[0, 10:25, :6] = 1
    labels = complete_labels(maps, [5], maps[0], opening=10, quantile=1)
    np.testing.assert_array_equal(labels == 5, maps[0] == 1)


def test_uncertain_pixels_are_opened_as_foreground():
    """255 counts as foreground: a large uncertain region stays, a speck of it goes."""
    maps = np.zeros((1, 30, 40), dtype=np.float32)
    saliency = np.zeros((30, 40))
    saliency[5:20, 5:20] = 1
    saliency[10:12, 30:32] = 1
    labels = complete_labels(maps, [1], saliency, opening=10)
    np.testing.assert_array_equal(labels == IGNORE, np.pad(np.ones((15, 15)), ((5, 10), (5, 20))))


def test_opening_of_none_and_of_zero_both_keep_specks():
    maps = np.eye(7, dtype=np.float32)[None]
    saliency = np.ones((7, 7))
    np.testing.assert_array_equal(
        complete_labels(maps, [1], saliency, opening=None),
        complete_labels(maps, [1], saliency, opening=0),
    )


def test_image_without_classes_has_only_background_and_uncertain_pixels():
    maps = np.zeros((0, 3, 4), dtype=np.float32)
    saliency = np.array([[1, 0, 0, 1]] * 3)
    labels = complete_labels(maps, [], saliency, opening=0)
    np.testing.assert_array_equal(labels, saliency * IGNORE)
    assert not complete_labels(maps, [], None).any()


def test_half_precision_maps_are_compared_in_single_precision():
    """(1 - M) ** 32 in float16 underflows; stored maps are float16."""
    maps = np.linspace(0, 1, 60, dtype=np.float16).reshape(1, 6, 10)
    expected = complete_labels(maps.astype(np.float32), [1], None)
    np.testing.assert_array_equal(complete_labels(maps, [1], None), expected)


def test_height_and_width_are_never_swapped():
    maps = np.zeros((1, 2, 5), dtype=np.float32)
    assert complete_labels(maps, [1], np.zeros((2, 5)), opening=0).shape == (2, 5)
    with pytest.raises(ValueError, match=r"\(5, 2\).*\(2, 5\)"):
        complete_labels(maps, [1], np.zeros((5, 2)))


MAPS = np.full((2, 3, 4), 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": MAPS[0]}, "expected \\(K, H, W\\)"),
        ({"maps": MAPS * 3}, "0.5|1.5.*divide each by its maximum"),
        ({"maps": MAPS - 1}, "from -0.5"),
        ({"maps": MAPS * np.nan}, "without NaN"),
        ({"class_ids": [1]}, "2 maps and 1 class ids"),
        ({"class_ids": [1, 1]}, "distinct"),
        ({"class_ids": [0, 1]}, "1 to 254"),
        ({"class_ids": [1, 255]}, "1 to 254"),
        ({"saliency": np.full((3, 4), np.nan)}, "saliency with NaN"),
        ({"rule": "Paper"}, "'paper' or 'released'"),
        ({"quantile": 90}, "0 to 1"),
        ({"background_power": 0}, "positive"),
        ({"opening": -1}, "opening=-1"),
        ({"opening": 2.5}, "opening=2.5"),
        ({"saliency": None, "fallback": "otsu"}, "'power'"),
        ({"saliency": None, "fallback": 1.5}, "threshold"),
        ({"saliency": None, "fallback": (0.5, 0.2)}, "low <= high"),
    ],
)
def test_wrong_input_is_refused_with_the_remedy(arguments, message):
    good = {"maps": MAPS, "class_ids": [1, 2], "saliency": np.ones((3, 4))}
    complete_labels(**good)
    with pytest.raises(ValueError, match=message):
        complete_labels(**{**good, **arguments})
