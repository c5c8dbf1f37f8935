"""Label completion of a batch gives the very labels of the function for one image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from getam.labels.completion import complete_labels
from getam.labels.completion_batch import complete_batch, gather_present

FALLBACKS = ("power", 0.0, 0.4, (0.2, 0.6))


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps (B, C, H, W), present (B, C) and saliency (B, H, W); some images without a class.

    Half of the draws have few distinct values, so that ties of every kind occur.
    """
    images, classes = rng.integers(1, 5), rng.integers(1, 5)
    shape = (images, classes, rng.integers(1, 24), rng.integers(1, 24))
    maps = rng.random(shape) ** rng.choice([0.5, 1, 4])
    maps *= rng.random(shape) < rng.choice([0.3, 1.0])
    if rng.random() < 0.5:
        maps = np.round(maps * 8) / 8
    present = rng.random(shape[:2]) < 0.6
    return maps.astype(np.float32), present, rng.random((images, *shape[2:])) < 0.6


def settings(rng: np.random.Generator) -> dict:
    return {
        "rule": rng.choice(["paper", "released"]),
        "quantile": rng.choice([0, 0.5, 0.7, 0.9, 0.95, 1.0]),
        "background_power": rng.choice([1, 8, 32, 300]),
        "opening": int(rng.choice([0, 1, 2, 3, 4, 10])),
    }


def one_by_one(maps, present, saliency, **how) -> np.ndarray:
    rows = zip(maps, present, itertools.repeat(None) if saliency is None else saliency)
    return np.stack([complete_labels(m[p], np.flatnonzero(p) + 1, s, **how) for m, p, s in rows])


def as_batch(maps, present, saliency, **how) -> np.ndarray:
    packed, ids = gather_present(torch.from_numpy(maps), torch.from_numpy(present))
    saliency = None if saliency is None else torch.from_numpy(saliency)
    return complete_batch(packed, ids, saliency, **how).numpy()


@pytest.mark.parametrize("seed", range(300))
def test_labels_equal_those_of_the_function_for_one_image(seed):
    rng = np.random.default_rng(seed)
    maps, present, saliency = draw(rng)
    how = settings(rng)
    with_saliency = as_batch(maps, present, saliency, **how)
    np.testing.assert_array_equal(with_saliency, one_by_one(maps, present, saliency, **how))
    for fallback in FALLBACKS:
        labels = as_batch(maps, present, None, **how, fallback=fallback)
        expected = one_by_one(maps, present, None, **how, fallback=fallback)
        np.testing.assert_array_equal(labels, expected)


def test_the_random_cases_reach_completion_conflicts_and_opening():
    """Otherwise the comparison above would prove little."""
    differs = dict.fromkeys(["quantile", "rule", "opening"], 0)
    for seed in range(100):
        drawn = draw(np.random.default_rng(seed))
        how = {"quantile": 0.5, "opening": 0}
        plain = as_batch(*drawn, **how)
        differs["quantile"] += (plain != as_batch(*drawn, quantile=1.0, opening=0)).any()
        differs["rule"] += (plain != as_batch(*drawn, **how, rule="released")).any()
        differs["opening"] += (plain != as_batch(*drawn, quantile=0.5, opening=4)).any()
    assert min(differs.values()) > 30, differs


def test_images_of_a_batch_do_not_change_each_others_labels():
    maps, present, saliency = draw(np.random.default_rng(3))
    assert len(maps) > 1
    whole = as_batch(maps, present, saliency)
    for n in range(len(maps)):
        alone = as_batch(maps[n : n + 1], present[n : n + 1], saliency[n : n + 1])
        np.testing.assert_array_equal(whole[n : n + 1], alone)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"class_ids": torch.ones(1, 3)}, "one id per map"),
        ({"saliency": torch.ones(1, 4, 5)}, "resize it to the maps"),
        ({"fallback": "treshold", "saliency": None}, "expected 'power'"),
        ({"quantile": 1.5}, "0 to 1"),
        ({"rule": "papre"}, "'paper' or 'released'"),
    ],
)
def test_what_does_not_fit_is_said(change, sentence):
    arguments = {
        "maps": torch.zeros(1, 2, 4, 4),
        "class_ids": torch.tensor([[1, 2]]),
        "saliency": torch.ones(1, 4, 4),
    }
    with pytest.raises(ValueError, match=sentence):
        complete_batch(**{**arguments, **change})
