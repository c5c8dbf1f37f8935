"""The Gaussian filter on a lattice: against the sum over all pairs, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from getam.labels.permutohedral import GaussianFilter


def filtered(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    kernel = GaussianFilter(features.astype(np.float32))
    return kernel(torch.from_numpy(values.astype(np.float32))).numpy()


def over_all_pairs(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The exact kernel, normalised on both sides."""
    distances = ((features[:, :, None] - features[:, None]) ** 2).sum(0)
    kernel = np.exp(-distances / 2)
    scale = 1 / np.sqrt(kernel.sum(1))
    return scale[:, None] * (kernel @ (scale[:, None] * values))


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_it_is_near_the_sum_over_all_pairs(dimensions):
    rng = np.random.default_rng(dimensions)
    features = rng.normal(size=(dimensions, 1500))
    values = np.stack([np.sin(features[0]), features.sum(0) > 0, np.ones(1500)], axis=1)
    exact = over_all_pairs(features, values)
    error = np.abs(filtered(features, values) - exact).mean() / exact.std()
    assert error < 0.1


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_far_from_each_other_keep_their_values(dimensions):
    features = 50.0 * np.arange(40) + np.zeros((dimensions, 1))
    values = np.random.default_rng(0).normal(size=(40, 3))
    np.testing.assert_allclose(filtered(features, values), values, rtol=1e-4, atol=1e-6)


def test_points_at_one_place_share_their_mean():
    features = np.full((5, 4), 0.37)
    values = np.array([[1.0, 0], [2, 0], [3, 0], [6, 8]])
    np.testing.assert_allclose(filtered(features, values), [[3, 2]] * 4, rtol=1e-5)


@pytest.mark.parametrize("far", [1e3, 1e5])
def test_vertices_stay_apart_where_features_are_large(far):
    """With a tiny standard deviation of the colour, the coordinates have many digits."""
    rng = np.random.default_rng(0)
    features = np.round(rng.uniform(-far, far, (5, 3000)))
    values = rng.normal(size=(3000, 1))
    np.testing.assert_allclose(filtered(features, values), values, rtol=1e-3, atol=1e-4)
