"""Dense CRF of Krähenbühl & Koltun 2011."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch

from getam.labels.permutohedral import GaussianFilter

__all__ = ["CRF_PRESETS", "dense_crf"]

# The usual settings of `dense_crf`, for pseudo labels and for predictions.
CRF_PRESETS = {
    "labels": {"bilateral_sxy": 80, "bilateral_srgb": 13, "bilateral_compat": 10, "steps": 10},
    "predictions": {"bilateral_sxy": 83, "bilateral_srgb": 5, "bilateral_compat": 4, "steps": 20},
}

_SMALLEST_PROBABILITY = 1e-5
Gaussian = tuple[float, float]  # standard deviation of the position, weight
Bilateral = tuple[float, float, float]  # standard deviation of position and of colour, weight


def dense_crf(
    image: np.ndarray,
    probabilities: np.ndarray,
    *,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 80,
    bilateral_srgb: float = 13,
    bilateral_compat: float = 10,
    steps: int = 10,
) -> np.ndarray:
    """Smooth label probabilities along the edges of an image, by a fully connected CRF.

    Mean-field inference: by the library `pydensecrf` if it is installed, else by
    :class:`getam.labels.permutohedral.GaussianFilter`, with the same result up to rounding. The
    unary energy is `-log(max(p, 1e-5))`. There are two Potts pairwise terms: a Gaussian kernel on
    position, and a bilateral kernel on position and colour. Time grows with labels x pixels x
    steps, so pass only the background and the classes of this image. `CRF_PRESETS` has the usual
    settings: `dense_crf(image, p, **CRF_PRESETS["predictions"])`.

    Args:
        image: (H, W, 3) uint8.
        probabilities: (K, H, W) in [0, 1], one row per label.
        gaussian_sxy: position kernel: standard deviation of the distance, in pixels.
        gaussian_compat: position kernel: weight.
        bilateral_sxy: colour kernel: standard deviation of the distance, in pixels.
        bilateral_srgb: colour kernel: standard deviation of the colour, in levels of 0..255.
        bilateral_compat: colour kernel: weight.
        steps: mean-field iterations.

    Returns:
        (K, H, W) float32, summing to one over K. If K is 1, all values are one.

    Raises:
        ValueError: a shape, a type or a value is not as described.

    >>> image = np.zeros((4, 6, 3), dtype=np.uint8)
    >>> dense_crf(image, np.full((2, 4, 6), 0.5), steps=1).shape
    (2, 4, 6)
    """
    start = _log_probabilities(image, probabilities)
    if len(probabilities) == 1:
        return np.ones(probabilities.shape, dtype=np.float32)
    infer = _infer_by_lattice if _pydensecrf() is None else _infer_by_library
    gaussian = gaussian_sxy, gaussian_compat
    bilateral = bilateral_sxy, bilateral_srgb, bilateral_compat
    return infer(image, start, gaussian, bilateral, steps).reshape(probabilities.shape)


def _infer_by_library(
    image: np.ndarray, start: np.ndarray, gaussian: Gaussian, bilateral: Bilateral, steps: int
) -> np.ndarray:
    height, width = image.shape[:2]
    crf = _pydensecrf().DenseCRF2D(width, height, len(start))
    crf.setUnaryEnergy(-start)
    crf.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1])
    crf.addPairwiseBilateral(
        sxy=bilateral[0],
        srgb=bilateral[1],
        rgbim=np.require(image, requirements=["C", "W"]),  # pydensecrf refuses read-only arrays
        compat=bilateral[2],
    )
    return np.array(crf.inference(steps), dtype=np.float32)


@torch.no_grad()
def _infer_by_lattice(
    image: np.ndarray, start: np.ndarray, gaussian: Gaussian, bilateral: Bilateral, steps: int
) -> np.ndarray:
    position = np.indices(image.shape[:2], dtype=np.float32)[::-1].reshape(2, -1)
    colour = image.reshape(-1, 3).T.astype(np.float32)
    both = np.concatenate([position / bilateral[0], colour / bilateral[1]])
    near = GaussianFilter(position / gaussian[0])
    alike = GaussianFilter(both)
    given = torch.from_numpy(start)
    probabilities = given.softmax(0)
    for _ in range(steps):
        columns = probabilities.T.contiguous()
        support = near(columns).mul_(gaussian[1]).add_(alike(columns), alpha=bilateral[2])
        probabilities = (given + support.T).softmax(0)
    return probabilities.numpy()


def _pydensecrf() -> ModuleType | None:
    """The library, or None if it is not installed, as on Python 3.13, where it does not compile."""
    try:
        import pydensecrf.densecrf
    except ImportError:
        return None
    return pydensecrf.densecrf


def _log_probabilities(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K, pixels) float32, contiguous."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"Got an image of shape {image.shape} and type {image.dtype}, "
            "expected (H, W, 3) uint8: colours last, 0..255."
        )
    if probabilities.ndim != 3 or not len(probabilities):
        raise ValueError(
            f"Got probabilities of shape {probabilities.shape}, expected (K, H, W) with K >= 1."
        )
    if probabilities.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"Got an image of {image.shape[:2]} and probabilities of {probabilities.shape[1:]} "
            "(height, width), expected the same: resize the probabilities to the image."
        )
    # Comparisons with NaN are false, so this catches them too.
    if not (probabilities.min() >= 0 and probabilities.max() <= 1 + 1e-4):
        raise ValueError(
            f"Got probabilities from {probabilities.min():g} to {probabilities.max():g}, "
            "expected [0, 1] without NaN: apply a softmax to logits first."
        )
    clipped = np.clip(probabilities, _SMALLEST_PROBABILITY, 1, dtype=np.float32, casting="unsafe")
    # `clip` keeps the order of the axes in memory, and the library takes one order only.
    return np.ascontiguousarray(np.log(clipped, out=clipped)).reshape(len(probabilities), -1)
