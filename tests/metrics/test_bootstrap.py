"""The interval of a random sample: how often it covers the truth, and what it is made of."""

from __future__ import annotations

import numpy as np
import pytest

from getam.metrics.bootstrap import class_areas, mean_interval, miou_interval, tail
from getam.metrics.segmentation import ConfusionMatrix

CLASSES = 5


def photo(rng: np.random.Generator) -> np.ndarray:
    """The areas of one photo: background and one or two classes, each right to a random share."""
    target = np.zeros(CLASSES)
    shown = rng.choice(np.arange(1, CLASSES), rng.integers(1, 3), replace=False)
    target[shown] = rng.lognormal(6, 0.7, len(shown))
    target[0] = rng.lognormal(8, 0.5)
    right = target * rng.beta(4, 1.5, CLASSES)
    predicted = right.copy()
    predicted[[0, *shown]] += rng.permutation((target - right)[[0, *shown]])
    return np.stack([right, target, predicted]).astype(int)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([photo(rng) for _ in range(1000)])


def mean_iou(areas: np.ndarray) -> float:
    right, target, predicted = areas.sum(axis=0)
    known = target + predicted > 0
    return float((right / np.maximum(target + predicted - right, 1))[known].mean())


@pytest.mark.parametrize(("count", "least"), [(20, 0.92), (50, 0.93), (150, 0.93)])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(photos, count, least):
    rng, truth, draws = np.random.default_rng(1), mean_iou(photos), 400
    covered = 0
    for number in range(draws):
        sample = photos[rng.choice(len(photos), count, replace=False)]
        found = miou_interval(sample, resamples=500, seed=number)
        assert found.value == pytest.approx(mean_iou(sample))
        covered += found.low <= truth <= found.high
    assert least <= covered / draws <= 0.995


def test_resamples_are_photos_that_are_drawn_with_repetition(photos):
    """Against one resample after the other, in plain words."""
    sample, rng = photos[:12], np.random.default_rng(5)
    found = [mean_iou(sample[rng.integers(0, 12, 12)]) for _ in range(20000)]
    outside = tail(0.9, 12, CLASSES)
    low, high = np.quantile(found, [outside, 1 - outside])
    told = miou_interval(sample, level=0.9, resamples=20000)
    assert (told.low, told.high) == pytest.approx((low, high), abs=0.005)


def test_more_photos_give_a_narrower_interval_and_the_same_seed_the_same_one(photos):
    few, many = miou_interval(photos[:30]), miou_interval(photos[:480])
    assert many.high - many.low < 0.4 * (few.high - few.low)
    assert miou_interval(photos[:30]) == few
    assert miou_interval(photos[:30], seed=1) != few


def test_a_class_that_no_photo_shows_does_not_count(photos):
    wider = np.concatenate([photos[:40], np.zeros((40, 3, 7), int)], axis=2)
    assert miou_interval(wider) == pytest.approx(miou_interval(photos[:40]))


def test_the_value_is_the_miou_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    total, areas = ConfusionMatrix(4), []
    for _ in range(6):
        one = ConfusionMatrix(4)
        one.update(*rng.choice([0, 1, 2, 3, 255], (2, 9, 8)).astype(np.uint8))
        total, areas = total + one, [*areas, class_areas(one)]
    found = miou_interval(np.stack(areas))
    assert found.value == pytest.approx(total.miou())
    assert found.low < found.value < found.high


@pytest.mark.parametrize("areas", [np.zeros((0, 3, 2)), np.zeros((4, 3, 2)), np.ones((4, 2, 2))])
def test_areas_of_nothing_are_refused(areas):
    with pytest.raises(ValueError, match="expected \\(photos, 3, classes\\)"):
        miou_interval(areas)


@pytest.mark.parametrize(("photos", "classes"), [(20, 11), (50, 7), (400, 3)])
def test_the_ends_are_those_of_students_t(photos, classes):
    stats = pytest.importorskip("scipy.stats")
    freedom = photos - classes
    expected = stats.norm.cdf(stats.t.ppf(0.025, freedom) * (photos / freedom) ** 0.5)
    assert tail(0.95, photos, classes) == pytest.approx(expected, rel=0.03)


def test_fewer_photos_than_classes_give_the_range_of_the_resamples(photos):
    found = miou_interval(photos[:3])
    assert 0 <= found.low < found.value < found.high <= 1


@pytest.mark.parametrize("count", [10, 50])
def test_an_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says(count):
    rng, draws = np.random.default_rng(3), 400
    samples = rng.exponential(1.0, (draws, count))
    found = [mean_interval(sample, resamples=500, seed=n) for n, sample in enumerate(samples)]
    covered = sum(low <= 1 <= high for _, low, high in found)
    assert 0.88 <= covered / draws <= 0.99
    assert [f.value for f in found] == pytest.approx([*samples.mean(axis=1)])


def test_a_mean_of_one_value_or_of_nan_has_no_interval():
    for values in ([1.0], [1.0, float("nan")], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="two or more finite numbers"):
            mean_interval(np.array(values))


def test_a_photo_without_a_pixel_that_counts_changes_nothing(photos):
    some = photos[:4]
    empty = np.zeros_like(some[:1])
    assert miou_interval(np.concatenate([some, empty])) == miou_interval(some)
    assert np.isfinite(miou_interval(np.concatenate([some[:1], empty]))).all()
