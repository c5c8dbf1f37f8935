"""Dense CRF of Krähenbühl & Koltun 2011.

torch is imported only if the library is missing: a process that only does this needs less memory.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydensecrf.densecrf import DenseCRF2D

__all__ = ["CRF_PRESETS", "dense_crf"]

# The usual settings of `dense_crf`, for pseudo labels and for predictions.
CRF_PRESETS = {
    "labels": {"bilateral_sxy": 80, "bilateral_srgb": 13, "bilateral_compat": 10, "steps": 10},
    "predictions": {"bilateral_sxy": 83, "bilateral_srgb": 5, "bilateral_compat": 4, "steps": 20},
}

_SMALLEST_PROBABILITY = 1e-5
_AT_ONCE = 3 << 20  # labels x pixels; the library needs about 30 bytes for each
_STRIP = 1 << 16  # pixels whose probabilities are normalised at a time
Gaussian = tuple[float, float]  # standard deviation of the position, weight
Bilateral = tuple[float, float, float]  # standard deviation of position and of colour, weight
Kernels = tuple[Gaussian, Bilateral]


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
    _check(image, probabilities)
    if len(probabilities) == 1:
        return np.ones(probabilities.shape, dtype=np.float32)
    infer = _infer_by_library
    if _pydensecrf() is None:
        infer = _infer_by_lattice
    elif probabilities.size > _AT_ONCE:
        infer = _infer_in_parts
    kernels = (gaussian_sxy, gaussian_compat), (bilateral_sxy, bilateral_srgb, bilateral_compat)
    return infer(image, probabilities, kernels, steps).reshape(probabilities.shape)


def _infer_by_library(
    image: np.ndarray, probabilities: np.ndarray, kernels: Kernels, steps: int
) -> np.ndarray:
    crf = _library_crf(image, len(probabilities), kernels)
    energy = _log_probabilities(probabilities)
    crf.setUnaryEnergy(np.negative(energy, out=energy))  # copies it
    del energy
    found, *more = crf.startInference()
    for _ in range(steps):  # between steps the other threads of this process get Python's lock
        crf.stepInference(found, *more)
    return np.array(found, dtype=np.float32)


def _infer_in_parts(
    image: np.ndarray, probabilities: np.ndarray, kernels: Kernels, steps: int
) -> np.ndarray:
    """The same for many labels, in less memory: the library gets a part of the labels at a time.

    A message to a label depends on the probabilities of this label alone. Without a unary energy
    the second array of the library holds the messages after a step.
    """
    parts = -(-probabilities.size // _AT_ONCE)
    most = -(-len(probabilities) // parts)
    crf = _library_crf(image, most, kernels)
    given, _, more = crf.startInference()
    messages, *_ = crf.startInference()  # only the first of the three can be read
    del _  # the other two are as large, and nothing needs them
    found = _log_probabilities(probabilities)
    _normalise(found)
    own = probabilities.reshape(found.shape)
    for _ in range(steps):
        for start in range(0, len(found), most):
            part = found[start : start + most]
            np.asarray(given)[: len(part)] = part
            crf.stepInference(given, messages, more)
            part[:] = np.asarray(messages)[: len(part)]
        _normalise(found, own)
    return found


def _normalise(energies: np.ndarray, probabilities: np.ndarray | None = None) -> None:
    """Energies (K, pixels) -> their softmax, in place. Adds the logarithms of probabilities."""
    for start in range(0, energies.shape[1], _STRIP):
        strip = energies[:, start : start + _STRIP]
        if probabilities is not None:
            strip += _log_probabilities(probabilities[:, start : start + _STRIP])
        strip -= strip.max(0)
        np.exp(strip, out=strip)
        strip /= strip.sum(0)


def _library_crf(image: np.ndarray, labels: int, kernels: Kernels) -> DenseCRF2D:
    """The library's object for so many labels of an image, with its two kernels."""
    gaussian, bilateral = kernels
    height, width = image.shape[:2]
    crf = _pydensecrf().DenseCRF2D(width, height, labels)
    crf.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1])
    crf.addPairwiseBilateral(
        sxy=bilateral[0],
        srgb=bilateral[1],
        rgbim=np.require(image, requirements=["C", "W"]),  # pydensecrf refuses read-only arrays
        compat=bilateral[2],
    )
    return crf


def _infer_by_lattice(
    image: np.ndarray, probabilities: np.ndarray, kernels: Kernels, steps: int
) -> np.ndarray:
    import torch

    from getam.labels.permutohedral import GaussianFilter

    gaussian, bilateral = kernels
    with torch.no_grad():
        position = np.indices(image.shape[:2], dtype=np.float32)[::-1].reshape(2, -1)
        colour = image.reshape(-1, 3).T.astype(np.float32)
        both = np.concatenate([position / bilateral[0], colour / bilateral[1]])
        near = GaussianFilter(position / gaussian[0])
        alike = GaussianFilter(both)
        given = torch.from_numpy(_log_probabilities(probabilities))
        found = given.softmax(0)
        for _ in range(steps):
            columns = found.T.contiguous()
            support = near(columns).mul_(gaussian[1]).add_(alike(columns), alpha=bilateral[2])
            found = (given + support.T).softmax(0)
    return found.numpy()


def _pydensecrf() -> ModuleType | None:
    """The library, or None if it is not installed, as on Python 3.13, where it does not compile."""
    try:
        import pydensecrf.densecrf
    except ImportError:
        return None
    return pydensecrf.densecrf


def _check(image: np.ndarray, probabilities: np.ndarray) -> None:
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


def _log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """(K, pixels) float32, contiguous."""
    clipped = np.clip(probabilities, _SMALLEST_PROBABILITY, 1, dtype=np.float32, casting="unsafe")
    # `clip` keeps the order of the axes in memory, and the library takes one order only.
    return np.ascontiguousarray(np.log(clipped, out=clipped)).reshape(len(probabilities), -1)
