"""Dense CRF of Krähenbühl & Koltun 2011, computed by the library `pydensecrf`."""

from __future__ import annotations

from types import ModuleType

import numpy as np

__all__ = ["CRF_PRESETS", "dense_crf"]

# The usual settings of `dense_crf`, for pseudo labels and for predictions.
CRF_PRESETS = {
    "labels": {"bilateral_sxy": 80, "bilateral_srgb": 13, "bilateral_compat": 10, "steps": 10},
    "predictions": {"bilateral_sxy": 83, "bilateral_srgb": 5, "bilateral_compat": 4, "steps": 20},
}

_SMALLEST_PROBABILITY = 1e-5


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

    Mean-field inference of `pydensecrf`. The unary energy is `-log(max(p, 1e-5))`. There are two
    Potts pairwise terms: a Gaussian kernel on position, and a bilateral kernel on position and
    colour. Time grows with labels x pixels x steps, so pass only the background and the classes of
    this image. `CRF_PRESETS` has the usual settings:
    `dense_crf(image, p, **CRF_PRESETS["predictions"])`.

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
        ImportError: `pydensecrf` is not installed.

    >>> image = np.zeros((4, 6, 3), dtype=np.uint8)
    >>> dense_crf(image, np.full((2, 4, 6), 0.5), steps=1).shape
    (2, 4, 6)
    """
    unary = _unary(image, probabilities)
    labels, height, width = probabilities.shape
    if labels == 1:
        return np.ones((1, height, width), dtype=np.float32)
    crf = _import_pydensecrf().DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=bilateral_sxy,
        srgb=bilateral_srgb,
        rgbim=np.require(image, requirements=["C", "W"]),  # pydensecrf refuses read-only arrays
        compat=bilateral_compat,
    )
    return np.array(crf.inference(steps), dtype=np.float32).reshape(labels, height, width)


def _unary(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
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
    np.negative(np.log(clipped, out=clipped), out=clipped)
    # `clip` keeps the order of the axes in memory, and the library takes one order only.
    return np.ascontiguousarray(clipped).reshape(len(probabilities), -1)


def _import_pydensecrf() -> ModuleType:
    try:
        import pydensecrf.densecrf
    except ImportError as error:
        raise ImportError(
            "The dense CRF needs the module pydensecrf, which is not installed: pip install "
            "pydensecrf2 (the package named pydensecrf does not build any more). Or switch the "
            "dense CRF off (setting crf.enabled)."
        ) from error
    return pydensecrf.densecrf
