"""Activation-aware label completion: class maps and saliency to one pseudo label per image.

Section 3.3 of GETAM (arXiv 2112.02841). Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np

from getam.data.label_values import IGNORE

__all__ = ["complete_labels", "completion_options"]

Fallback = Literal["power"] | float | tuple[float, float]


def complete_labels(
    maps: np.ndarray,
    class_ids: Sequence[int],
    saliency: np.ndarray | None,
    *,
    rule: Literal["paper", "released"] = "paper",
    quantile: float = 0.9,
    background_power: float = 32,
    opening: int | None = 10,
    fallback: Fallback = "power",
) -> np.ndarray:
    """Turn the normalised maps of an image's classes into a pseudo label (arXiv 2112.02841).

    1. Seeds: background scores `(1 - max_c M_c) ** background_power`. The argmax over background
       and classes labels the pixel; 255 (uncertain) where the background wins. Ties go to the
       background, then to the lower class id.
    2. Pixels that are not salient become 0.
    3. Completion: of the pixels that are 0 now, class c claims those where `M_c` is above its own
       quantile: element `int(n * quantile)` of its n positive values, sorted.
    4. Conflict: a pixel claimed by several classes becomes 255 with `rule="paper"`, the lower
       class id with `rule="released"` (what the published code amounts to).
    5. Specks: the mask of all that is not 0 is opened with a square; what disappears becomes 0.
       The square is centred inside the image and nothing outside counts against it. Opening only
       removes: unlike `cv2.morphologyEx`, an even square shifts nothing.

    Without saliency nothing tells background from uncertain, and `fallback` decides instead:
    "power" makes the background 0 where step 1 says it wins; a number t makes it 0 where
    `max_c M_c <= t` and a seed elsewhere; a pair (low, high) is 0 up to low, a seed above high and
    255 between. Steps 3 to 5 stay as they are.

    Args:
        maps: (K, H, W) in [0, 1], one per present class, K may be 0. Not changed.
        class_ids: K distinct label values, 1..254.
        saliency: (H, W), salient where > 0, or None. Not changed.
        rule: what two claims for one pixel do.
        quantile: 0..1; at 1 nothing is completed. The paper's code uses 0.9 for VOC, 0.95 for COCO.
        background_power: > 0; the higher, the less background.
        opening: side of the square in pixels; 0 or None for no opening.
        fallback: used only where `saliency` is None.

    Returns:
        (H, W) uint8: 0 background, class ids, 255 ignore.

    Raises:
        ValueError: shapes, values or settings do not fit.

    >>> maps = np.array([[[0.9, 0.0, 0.0, 0.5]]])
    >>> complete_labels(maps, [7], np.array([[1, 1, 0, 0]]), opening=0)
    array([[  7, 255,   0,   0]], dtype=uint8)
    >>> complete_labels(maps, [7], None, opening=0, fallback=0.6)
    array([[7, 0, 0, 0]], dtype=uint8)
    """
    maps = _checked_maps(maps)
    ids = _checked_ids(class_ids, len(maps))
    check_settings(rule, quantile, background_power, opening)
    by_id = np.argsort(ids)
    maps, ids = maps[by_id], ids[by_id]

    strongest = maps.max(axis=0, initial=0)
    if saliency is None:
        seeds, background = _split_without_saliency(strongest, background_power, fallback)
    else:
        seeds = _beats_background(strongest, background_power)
        background = ~_salient(saliency, strongest.shape)
    labels = np.full(strongest.shape, IGNORE, dtype=np.uint8)
    if len(ids):
        np.copyto(labels, ids[maps.argmax(axis=0)], where=seeds)
    labels[background] = 0
    if len(ids):
        _complete(labels, maps, ids, quantile, conflict_ignored=rule == "paper")
    if opening:
        labels[_opened(labels != 0, opening) == 0] = 0
    return labels


def completion_options(settings: Any) -> dict[str, Any]:
    """The keyword arguments of label completion that a section of settings stands for.

    Args:
        settings: the fields of ``getam.config.schema.PseudoLabels``; without ``completion`` no
            pixel is above the quantile.
    """
    names = ("rule", "background_power", "opening", "fallback")
    options = {name: getattr(settings, name) for name in names}
    return {**options, "quantile": settings.quantile if settings.completion else 1.0}


def _beats_background(strongest: np.ndarray, background_power: float) -> np.ndarray:
    return strongest > (1 - strongest) ** background_power


def _split_without_saliency(
    strongest: np.ndarray, background_power: float, fallback: Fallback
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) maximum over classes -> masks of seeds and of background."""
    if fallback == "power":
        seeds = _beats_background(strongest, background_power)
        return seeds, ~seeds
    low, high = thresholds_of(fallback)
    return strongest > high, strongest <= low


def thresholds_of(fallback: Fallback) -> tuple[float, float]:
    """The thresholds of a fallback other than "power": background up to the first, seeds above
    the second.

    Raises:
        ValueError: neither a threshold nor a pair of them.
    """
    if isinstance(fallback, str):
        raise ValueError(
            f"Got fallback={fallback!r}, expected 'power', a threshold in [0, 1] or a pair."
        )
    low, high = fallback if isinstance(fallback, Sequence) else (fallback, fallback)
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"Got fallback={fallback!r}, expected a threshold in [0, 1] or (low, high), low first."
        )
    return low, high


def _complete(
    labels: np.ndarray, maps: np.ndarray, ids: np.ndarray, quantile: float, conflict_ignored: bool
) -> None:
    """Steps 3 and 4, in place; all classes are judged on what is 0 before any of them claims."""
    vacant = labels == 0
    claims = np.stack([vacant & (m > _own_quantile(m, quantile)) for m in maps])
    np.copyto(labels, ids[claims.argmax(axis=0)], where=claims.any(axis=0))
    if conflict_ignored:
        labels[np.count_nonzero(claims, axis=0) > 1] = IGNORE


def _own_quantile(class_map: np.ndarray, quantile: float) -> float:
    positive = class_map[class_map > 0]
    if not positive.size:
        return np.inf
    k = min(int(positive.size * quantile), positive.size - 1)
    return np.partition(positive, k)[k]


def _opened(mask: np.ndarray, size: int) -> np.ndarray:
    square = np.ones((size, size), dtype=np.uint8)
    anchor = size // 2
    eroded = cv2.erode(mask.astype(np.uint8), square, anchor=(anchor, anchor))
    # OpenCV does not mirror the square between the two, so an even one needs a mirrored anchor.
    mirrored = size - 1 - anchor
    return cv2.dilate(eroded, square, anchor=(mirrored, mirrored))


def _checked_maps(maps: np.ndarray) -> np.ndarray:
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise ValueError(
            f"Got maps of shape {maps.shape}, expected (K, H, W): one map per present class."
        )
    if maps.dtype not in (np.float32, np.float64):
        maps = maps.astype(np.float32)
    # Comparisons with NaN are false, so this catches them too.
    if maps.size and not (maps.min() >= 0 and maps.max() <= 1):
        raise ValueError(
            f"Got maps with values from {maps.min():g} to {maps.max():g}, expected [0, 1] "
            "without NaN: divide each by its maximum, as getam.labels.pamr.normalise does."
        )
    return maps


def _checked_ids(class_ids: Sequence[int], count: int) -> np.ndarray:
    ids = [int(i) for i in class_ids]
    if len(ids) != count:
        raise ValueError(
            f"Got {count} maps and {len(ids)} class ids, expected one id per map: "
            "pass only the classes present in the image."
        )
    if len(set(ids)) != len(ids) or not all(0 < i < IGNORE for i in ids):
        raise ValueError(
            f"Got class ids {ids}, expected distinct values from 1 to 254: "
            "0 is the background and 255 means ignore."
        )
    return np.array(ids, dtype=np.uint8)


def _salient(saliency: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    saliency = np.asarray(saliency)
    if saliency.shape != shape:
        raise ValueError(
            f"Got saliency of shape {saliency.shape} for maps of {shape} (height, width), "
            "expected the same: resize it to the maps, or pass None."
        )
    if np.isnan(saliency).any():
        raise ValueError("Got saliency with NaN, expected numbers: salient is what is above 0.")
    return saliency > 0


def check_settings(
    rule: str, quantile: float, background_power: float, opening: int | None
) -> None:
    """Raise ValueError, naming the setting, for one that is out of its range."""
    if rule not in ("paper", "released"):
        raise ValueError(f"Got rule={rule!r}, expected 'paper' or 'released'.")
    if not 0 <= quantile <= 1:
        raise ValueError(f"Got quantile={quantile}, expected 0 to 1: 0.9 means the top tenth.")
    if not background_power > 0:
        raise ValueError(f"Got background_power={background_power}, expected a positive number.")
    if opening is not None and (opening < 0 or int(opening) != opening):
        raise ValueError(f"Got opening={opening}, expected a side in whole pixels, 0 for none.")
