"""The dense CRF: what it finds, and what it refuses."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from getam.labels import crf
from getam.labels.crf import CRF_PRESETS, dense_crf


@pytest.fixture(params=["pydensecrf", "lattice"])
def _engine(request, monkeypatch):
    """Runs a test with the library and without it."""
    if request.param == "lattice":
        monkeypatch.setitem(sys.modules, "pydensecrf", None)
    else:
        pytest.importorskip("pydensecrf")


def crf_case() -> tuple[np.ndarray, np.ndarray]:
    """A bright object, and probabilities that miss one of its columns."""
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[5:15, 8:20] = 220
    foreground = np.full((20, 30), 0.2)
    foreground[5:15, 8:19] = 0.9
    foreground[5:15, 19] = 0.45
    return image, np.stack([1 - foreground, foreground * 0.7, foreground * 0.3])


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize("preset", [{}, *CRF_PRESETS.values()])
def test_crf_finds_the_object(preset):
    image, probabilities = crf_case()
    before = image.copy(), probabilities.copy()
    refined = dense_crf(image, probabilities, **preset)
    assert refined.shape == (3, 20, 30)
    assert refined.dtype == np.float32
    np.testing.assert_allclose(refined.sum(axis=0), 1, rtol=1e-5)
    np.testing.assert_array_equal(refined.argmax(axis=0), image[..., 0] > 0)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(probabilities, before[1])


@pytest.mark.usefixtures("_engine")
def test_crf_without_steps_returns_the_probabilities():
    image, probabilities = crf_case()
    np.testing.assert_allclose(dense_crf(image, probabilities, steps=0), probabilities, rtol=1e-4)


def spread(array: np.ndarray) -> np.ndarray:
    """The same values, with gaps between them in memory."""
    wide = np.zeros([2 * side for side in array.shape], array.dtype)
    wide[::2, ::2, ::2] = array
    return wide[::2, ::2, ::2]


LAYOUTS = {
    "as it is": np.copy,
    "fortran": np.asfortranarray,
    "first axis last": lambda array: np.moveaxis(np.moveaxis(array, 0, -1).copy(), -1, 0),
    "last axis first": lambda array: np.moveaxis(np.moveaxis(array, -1, 0).copy(), 0, -1),
    "flipped": lambda array: array[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
    "flipped first axis": lambda array: array[::-1].copy()[::-1],
    "height and width exchanged": lambda array: array.swapaxes(0, 1).copy().swapaxes(0, 1),
    "with gaps": spread,
    "swapped bytes": lambda array: array.astype(array.dtype.newbyteorder()),
}


@pytest.mark.usefixtures("_engine")
@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("type_of", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_crf_takes_arrays_in_any_memory_layout(layout, type_of, writeable):
    image, probabilities = crf_case()
    image += np.arange(image.size, dtype=np.uint8).reshape(image.shape) % 7
    expected = dense_crf(image, probabilities.astype(type_of))
    turned = [LAYOUTS[layout](image), LAYOUTS[layout](probabilities.astype(type_of))]
    for array in turned:
        array.flags.writeable = writeable
    np.testing.assert_array_equal(dense_crf(*turned), expected)


def test_crf_of_one_label_has_nothing_to_decide(monkeypatch):
    monkeypatch.setattr(crf, "_infer_by_library", None)
    monkeypatch.setattr(crf, "_infer_by_lattice", None)
    image, probabilities = crf_case()
    np.testing.assert_array_equal(dense_crf(image, probabilities[:1]), np.ones((1, 20, 30)))


def smooth_noise(rng: np.random.Generator, channels: int, height: int, width: int) -> np.ndarray:
    """(height, width, channels) float32 in [0, 1]: blobs of about 12 pixels."""
    coarse = rng.random((height // 12, width // 12, channels), dtype=np.float32)
    return cv2.resize(coarse, (width, height))


@pytest.mark.parametrize("labels", [2, 6])
@pytest.mark.parametrize("size", [(72, 96), (61, 85)])
@pytest.mark.parametrize("preset", CRF_PRESETS)
def test_crf_without_pydensecrf_gives_the_same_numbers(preset, size, labels, monkeypatch):
    pytest.importorskip("pydensecrf")
    rng = np.random.default_rng(0)
    noisy = 200 * smooth_noise(rng, 3, *size) + 20 * rng.random((*size, 3))
    image = noisy.astype(np.uint8)
    probabilities = np.moveaxis(smooth_noise(rng, labels, *size) + 0.01, -1, 0)
    probabilities = np.ascontiguousarray(probabilities / probabilities.sum(0))
    expected = dense_crf(image, probabilities, **CRF_PRESETS[preset])
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    found = dense_crf(image, probabilities, **CRF_PRESETS[preset])
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert (found != expected).any(), "both were computed by the same code"
    assert np.abs(expected - probabilities).max() > 0.3, "the CRF changed next to nothing"


@pytest.mark.parametrize("labels", [9, 21])
def test_many_labels_are_smoothed_in_parts_with_the_same_result(labels, monkeypatch):
    pytest.importorskip("pydensecrf")
    rng = np.random.default_rng(0)
    size = (61, 85)
    image = (200 * smooth_noise(rng, 3, *size) + 20 * rng.random((*size, 3))).astype(np.uint8)
    probabilities = np.moveaxis(smooth_noise(rng, labels, *size) + 0.01, -1, 0)
    probabilities = np.ascontiguousarray(probabilities / probabilities.sum(0))
    sizes, whole = [], crf._library_crf

    def watched(image, labels, *kernels):
        sizes.append(labels)
        return whole(image, labels, *kernels)

    monkeypatch.setattr(crf, "_library_crf", watched)
    monkeypatch.setattr(crf, "_AT_ONCE", 4 * size[0] * size[1] + 1)
    found = dense_crf(image, probabilities, **CRF_PRESETS["predictions"])
    monkeypatch.setattr(crf, "_AT_ONCE", probabilities.size)
    expected = dense_crf(image, probabilities, **CRF_PRESETS["predictions"])
    assert sizes[1] == labels
    assert sizes[0] <= 4, "the library needs most of its memory for the labels"
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_array_equal(found.argmax(0), expected.argmax(0))
    assert np.abs(expected - probabilities).max() > 0.3, "the CRF changed next to nothing"


@pytest.mark.parametrize(
    ("image", "probabilities", "message"),
    [
        (np.zeros((4, 6, 3)), np.ones((1, 4, 6)), "uint8"),
        (np.zeros((3, 4, 6), np.uint8), np.ones((1, 4, 6)), "colours last"),
        (np.zeros((4, 6, 3), np.uint8), np.ones((4, 6)), "K >= 1"),
        (np.zeros((4, 6, 3), np.uint8), np.ones((0, 4, 6)), "K >= 1"),
        (np.zeros((4, 6, 3), np.uint8), np.ones((1, 6, 4)), "height, width"),
        (np.zeros((4, 6, 3), np.uint8), np.full((1, 4, 6), 2.0), "softmax"),
        (np.zeros((4, 6, 3), np.uint8), np.full((1, 4, 6), np.nan), "softmax"),
    ],
)
def test_wrong_input_of_the_crf_is_refused(image, probabilities, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(image, probabilities)
