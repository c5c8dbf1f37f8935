"""Activation-aware label completion: makes a pseudo label from class maps and a saliency map.

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

    1. Seeds: class c has the score `M_c`, the background `(1 - max_c M_c) ** background_power`.
       Where a class has the highest score, the pixel gets this class. Where the background has it,
       the pixel is uncertain: 255. A tie goes to the background, then to the lower class id.
    2. Pixels that are not salient become 0.
    3. Completion: class c claims the pixels that are 0 after step 2 and whose `M_c` is above its
       own quantile: element `int(n * quantile)` of its n positive values, sorted.
    4. Conflict: a pixel claimed by several classes becomes 255 with `rule="paper"`. With
       `rule="released"` it gets the lowest of their ids, as in the published code.
    5. Opening: small specks of labels other than 0 become 0 (morphological opening with a square).
       The centre of the square stays inside the image; its part outside does not count. Labels
       only disappear. They never move, as they would with `cv2.morphologyEx` and an even square.

    Without saliency step 2 is left out, and `fallback` decides which pixels are 0 before step 3.
    With "power" they are those where the background wins in step 1. With a number t they are those
    where `max_c M_c <= t`; the others are seeds. With a pair (low, high) a pixel is 0 up to low, a
    seed above high, and 255 between.

    Args:
        maps: (K, H, W) in [0, 1], one per class in the image, K may be 0. Not changed.
        class_ids: K distinct label values, 1..254.
        saliency: (H, W), salient where > 0, or None. Not changed.
        rule: what happens to a pixel that several classes claim.
        quantile: 0..1; 1 completes nothing. The paper's code uses 0.9 for VOC, 0.95 for COCO.
        background_power: > 0; a higher value gives more seeds.
        opening: side of the square in pixels; 0 or None for no opening.
        fallback: used only where `saliency` is None.

    Returns:
        (H, W) uint8: 0 background, class ids, 255 ignore.

    Raises:
        ValueError: a shape, a value or a setting is not as described.

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
    """The keyword arguments of label completion that the settings ask for.

    Args:
        settings: the fields of ``getam.config.schema.PseudoLabels``. ``completion: false`` becomes
            the quantile 1, which completes nothing.
    """
    names = ("rule", "background_power", "opening", "fallback")
    options = {name: getattr(settings, name) for name in names}
    return {**options, "quantile": settings.quantile if settings.completion else 1.0}


def _beats_background(strongest: np.ndarray, background_power: float) -> np.ndarray:
    return strongest > (1 - strongest) ** background_power


def _split_without_saliency(
    strongest: np.ndarray, background_power: float, fallback: Fallback
) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) maximum over classes -> seeds and background, both (H, W) bool."""
    if fallback == "power":
        seeds = _beats_background(strongest, background_power)
        return seeds, ~seeds
    low, high = thresholds_of(fallback)
    return strongest > high, strongest <= low


def thresholds_of(fallback: Fallback) -> tuple[float, float]:
    """The thresholds (low, high) of a fallback other than "power": background up to low, seeds
    above high.

    Raises:
        ValueError: the fallback is neither a threshold nor a pair of thresholds.
    """
    if isinstance(fallback, str):
        raise ValueError(
            f"Got fallback={fallback!r}, expected 'power', a threshold in [0, 1] or a pair of them."
        )
    low, high = fallback if isinstance(fallback, Sequence) else (fallback, fallback)
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"Got fallback={fallback!r}, expected a threshold in [0, 1], or a pair (low, high) of "
            "thresholds with low <= high."
        )
    return low, high


def _complete(
    labels: np.ndarray, maps: np.ndarray, ids: np.ndarray, quantile: float, conflict_ignored: bool
) -> None:
    """Steps 3 and 4, in place. All classes claim among the pixels that are 0 at the start."""
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
    # OpenCV dilates with the same square, not its mirror image: mirror the anchor of an even one.
    mirrored = size - 1 - anchor
    return cv2.dilate(eroded, square, anchor=(mirrored, mirrored))


def _checked_maps(maps: np.ndarray) -> np.ndarray:
    maps = np.asarray(maps)
    if maps.ndim != 3:
        raise ValueError(
            f"Got maps of shape {maps.shape}, expected (K, H, W): one map per class in the image."
        )
    if maps.dtype not in (np.float32, np.float64):
        maps = maps.astype(np.float32)
    # Comparisons with NaN are false, so this catches them too.
    if maps.size and not (maps.min() >= 0 and maps.max() <= 1):
        raise ValueError(
            f"Got maps with values from {maps.min():g} to {maps.max():g}, expected [0, 1] "
            "without NaN: divide each by its maximum, as getam.labels.normalise.normalise does."
        )
    return maps


def _checked_ids(class_ids: Sequence[int], count: int) -> np.ndarray:
    ids = [int(i) for i in class_ids]
    if len(ids) != count:
        raise ValueError(
            f"Got {count} maps and {len(ids)} class ids, expected one id per map: "
            "pass only the classes that are in the image."
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
        raise ValueError("Got saliency with NaN, expected numbers: a value above 0 is salient.")
    return saliency > 0


def check_settings(
    rule: str, quantile: float, background_power: float, opening: int | None
) -> None:
    """Raise a ValueError if a setting is out of its range. The message names the setting."""
    if rule not in ("paper", "released"):
        raise ValueError(f"Got rule={rule!r}, expected 'paper' or 'released'.")
    if not 0 <= quantile <= 1:
        raise ValueError(f"Got quantile={quantile}, expected 0 to 1: 0.9 means the top tenth.")
    if not background_power > 0:
        raise ValueError(f"Got background_power={background_power}, expected a positive number.")
    if opening is not None and (opening < 0 or int(opening) != opening):
        raise ValueError(
            f"Got opening={opening}, expected the side of a square in whole pixels, or 0 for none."
        )
