"""Metrics against loops, hand-worked values and scikit-learn."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

from getam.data.label_values import IGNORE
from getam.metrics import segmentation
from getam.metrics.classification import average_precision, f1, mean_average_precision
from getam.metrics.segmentation import ConfusionMatrix, ThresholdSweep


def random_labels(rng, num_classes, shape, ignored=0.1):
    labels = rng.integers(0, num_classes, shape)
    return np.where(rng.random(shape) < ignored, IGNORE, labels).astype(np.uint8)


def test_iou_comes_from_one_matrix_over_all_images():
    rng = np.random.default_rng(0)
    confusion = ConfusionMatrix(4)
    predictions, targets = [], []
    for _ in range(5):
        shape = tuple(rng.integers(2, 9, 2))
        predictions.append(random_labels(rng, 4, shape))
        targets.append(random_labels(rng, 4, shape))
        confusion.update(predictions[-1], targets[-1])
    pairs = [
        (int(p), int(t))
        for prediction, target in zip(predictions, targets)
        for p, t in zip(prediction.ravel(), target.ravel())
        if t != IGNORE
    ]
    answered = [(p, t) for p, t in pairs if p != IGNORE]
    expected = [
        sum(p == c and t == c for p, t in answered) / sum(c in (p, t) for p, t in answered)
        for c in range(4)
    ]
    np.testing.assert_allclose(confusion.iou(), expected, rtol=1e-12)
    assert confusion.miou() == pytest.approx(np.mean(expected), rel=1e-12)
    assert confusion.ignored_share == pytest.approx(1 - len(answered) / len(pairs), rel=1e-12)
    assert confusion.matrix.sum() == len(pairs)


def test_predictions_of_255_neither_crash_nor_land_in_a_class():
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([[0, IGNORE, 1]]), np.array([[0, 2, 1]]))
    np.testing.assert_array_equal(confusion.matrix, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(confusion.iou(), [1, 1, np.nan])
    assert confusion.ignored_share == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", ["prediction", "target"])
@pytest.mark.parametrize("wrong", [3, 20, 254, -1, 256, 1000])
def test_labels_out_of_range_are_refused_and_counted_nowhere(name, wrong):
    confusion = ConfusionMatrix(3)
    labels = {"prediction": np.zeros((2, 2), int), "target": np.zeros((2, 2), int)}
    labels[name][1, 0] = wrong
    with pytest.raises(ValueError, match=str(wrong)):
        confusion.update(**labels)
    assert confusion.matrix.sum() == 0


def test_height_and_width_are_never_swapped():
    confusion = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        confusion.update(np.zeros((3, 2), np.uint8), np.zeros((2, 3), np.uint8))


def test_probabilities_are_not_taken_for_labels():
    with pytest.raises(ValueError, match="integers"):
        ConfusionMatrix(2).update(np.full((2, 2), 0.7), np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("num_classes", [0, 256])
def test_impossible_number_of_classes_is_refused(num_classes):
    with pytest.raises(ValueError, match="1 to 255"):
        ConfusionMatrix(num_classes)


def test_absent_classes_do_not_pull_the_mean_down():
    confusion = ConfusionMatrix(4)
    confusion.update(np.array([0, 0, 2]), np.array([0, 0, 0]))
    np.testing.assert_allclose(confusion.iou(), [2 / 3, np.nan, 0, np.nan])
    assert confusion.miou() == pytest.approx(1 / 3)


def test_scores_of_nothing_are_nan_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion = ConfusionMatrix(3)
        assert np.isnan(confusion.miou())
        assert np.isnan(confusion.ignored_share)
        assert np.isnan(ThresholdSweep(3, [0.5]).miou()).all()
    with pytest.raises(ValueError, match="update"):
        ThresholdSweep(3, [0.5]).best()


def test_matrices_of_parts_add_up_to_the_whole():
    rng = np.random.default_rng(1)
    whole, parts = ConfusionMatrix(5), [ConfusionMatrix(5) for _ in range(3)]
    for part in parts:
        pair = random_labels(rng, 5, (6, 7)), random_labels(rng, 5, (6, 7))
        whole.update(*pair)
        part.update(*pair)
    total = sum(parts, start=ConfusionMatrix(5))
    np.testing.assert_array_equal(total.matrix, whole.matrix)
    with pytest.raises(ValueError, match="classes"):
        whole + ConfusionMatrix(4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sweep_equals_one_matrix_per_threshold(dtype):
    rng = np.random.default_rng(2)
    thresholds = [0.0, 0.05, 0.25, 0.5, 0.75, 1.0]
    sweep, parts = ThresholdSweep(6, thresholds), [ThresholdSweep(6, thresholds) for _ in range(2)]
    single = [ConfusionMatrix(6) for _ in thresholds]
    for i in range(12):
        count, height, width = rng.integers(0, 4), *rng.integers(2, 9, 2)
        # Quarters and zeros: values that sit exactly on a threshold, and ties between classes.
        maps = (rng.integers(0, 5, (count, height, width)) / 4).astype(dtype)
        class_ids = rng.permutation([1, 2, 3, 4, 5])[:count].tolist()
        target = random_labels(rng, 6, (height, width))
        sweep.update(maps, class_ids, target)
        parts[i % 2].update(maps, class_ids, target)
        best = maps.max(axis=0, initial=0)
        winner = np.array(class_ids)[maps.argmax(axis=0)] if count else np.zeros_like(target)
        for threshold, confusion in zip(thresholds, single):
            confusion.update(np.where(best > threshold, winner, 0), target)
    expected = np.stack([confusion.matrix[:, :-1] for confusion in single])
    np.testing.assert_array_equal(sweep.matrices(), expected)
    np.testing.assert_array_equal((parts[0] + parts[1]).matrices(), expected)
    np.testing.assert_allclose(sweep.iou(), [c.iou() for c in single], rtol=1e-12)
    np.testing.assert_allclose(sweep.miou(), [c.miou() for c in single], rtol=1e-12)
    best = max(range(len(single)), key=lambda j: single[j].miou())
    assert sweep.best() == (thresholds[best], pytest.approx(single[best].miou()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maps": np.zeros((1, 3, 2))}, "expected \\(K, H, W\\)"),
        ({"class_ids": [1, 2]}, "2 class ids"),
        ({"class_ids": [3]}, "1 to 2"),
        ({"class_ids": [0]}, "background"),
        ({"target": np.full((2, 3), 7)}, "label 7 in the target"),
        ({"maps": np.full((1, 2, 3), np.nan)}, "NaN"),
    ],
)
def test_wrong_input_of_the_sweep_is_refused_and_not_counted(arguments, message):
    good = {"maps": np.zeros((1, 2, 3)), "class_ids": [1], "target": np.zeros((2, 3), int)}
    sweep = ThresholdSweep(3, [0.1, 0.5])
    with pytest.raises(ValueError, match=message):
        sweep.update(**{**good, **arguments})
    assert sweep.matrices().sum() == 0


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.1], [0.1, 0.1], 0.5])
def test_thresholds_in_disorder_are_refused(thresholds):
    with pytest.raises(ValueError, match="thresholds"):
        ThresholdSweep(3, thresholds)


def test_sweeps_of_different_thresholds_are_not_added():
    with pytest.raises(ValueError, match="same"):
        ThresholdSweep(3, [0.1, 0.2]) + ThresholdSweep(3, [0.1, 0.3])


def test_average_precision_of_a_worked_example():
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.5, 0.2], [0.7, 0.5, 0.3], [0.6, 0.1, 0.4]])
    labels = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]])
    expected = [1 / 2 * 1 + 1 / 2 * 2 / 3, 1 / 3, np.nan]
    np.testing.assert_allclose(average_precision(scores, labels), expected, rtol=1e-12)
    assert mean_average_precision(scores, labels) == pytest.approx(np.mean(expected[:2]))
    assert np.isnan(mean_average_precision(scores, np.zeros_like(labels)))


def test_average_precision_and_f1_equal_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    for ties in (False, True):
        scores = rng.random((200, 7))
        scores = scores.round(1) if ties else scores
        labels = rng.random((200, 7)) < 0.2 + 0.3 * scores
        expected = [
            sklearn_metrics.average_precision_score(labels[:, c], scores[:, c]) for c in range(7)
        ]
        np.testing.assert_allclose(average_precision(scores, labels), expected, rtol=1e-9)
        got = f1(scores, labels)
        for average in ("micro", "macro"):
            reference = sklearn_metrics.f1_score(labels, scores > 0.5, average=average)
            assert getattr(got, average) == pytest.approx(reference, rel=1e-9)


def test_f1_leaves_out_classes_that_do_not_occur():
    probabilities = np.array([[0.9, 0.1, 0.9], [0.9, 0.1, 0.5]])
    labels = np.array([[1, 0, 0], [1, 0, 0]])
    assert f1(probabilities, labels) == (pytest.approx(4 / 5), pytest.approx(1 / 2))
    assert np.isnan(f1(np.zeros((2, 1)), np.zeros((2, 1)))).all()


@pytest.mark.parametrize("score", [average_precision, f1])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros(3), np.zeros(3), "images, classes"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "images, classes"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "NaN"),
        (np.zeros((2, 3)), np.full((2, 3), 2), "0 and 1"),
    ],
)
def test_wrong_scores_are_refused(score, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        score(scores, labels)


def test_counts_of_a_large_photo_are_those_of_its_parts(monkeypatch):
    """Counting some pixels at a time changes nothing."""
    draw = np.random.default_rng(5)
    target = draw.choice([0, 1, 2, 255], (37, 53)).astype(np.uint8)
    prediction = draw.choice([0, 1, 2, 255], (37, 53)).astype(np.uint8)
    maps = draw.random((2, 37, 53), dtype=np.float32)
    counted = []
    for pixels in (1 << 20, 100):
        monkeypatch.setattr(segmentation, "PIXELS", pixels)
        confusion, sweep = ConfusionMatrix(3), ThresholdSweep(3, [0.2, 0.5])
        confusion.update(prediction, target)
        sweep.update(maps, [2, 1], target)
        sweep.update(maps[:0], [], target)
        counted.append((confusion.matrix, sweep.matrices()))
    for whole, parts in zip(*counted):
        assert (whole == parts).all()
        assert whole.any()


def test_counting_a_large_photo_takes_less_memory_than_its_maps():
    maps = np.zeros((2, 2000, 3000), np.float32)
    target = np.zeros((2000, 3000), np.uint8)
    tracemalloc.start()
    ThresholdSweep(3, np.arange(50) / 50).update(maps, [1, 2], target)
    ConfusionMatrix(3).update(target, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < maps.nbytes
