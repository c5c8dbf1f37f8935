"""Label completion of a batch of images, on the device of their maps.

It gives the same labels as :func:`getam.labels.completion.complete_labels` for each image. It has
no loop over pixels, images or classes, because on a GPU each small operation costs a launch.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from getam.data.label_values import IGNORE
from getam.labels.completion import Fallback, check_settings, thresholds_of

__all__ = ["complete_batch", "gather_present"]


def gather_present(maps: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Keep only the maps of the classes in each image, so that other classes cost no time.

    Args:
        maps: (B, C, h, w), column c for class id c + 1.
        present: (B, C) bool or 0/1.

    Returns:
        Maps (B, K, h, w) and class ids (B, K), where K is the largest number of classes in an
        image, at least 1. The ids of an image ascend. An image with fewer than K classes has the
        id 0 and maps of zeros in its last slots.

    >>> maps = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).view(2, 3, 1, 1)
    >>> found, ids = gather_present(maps, torch.tensor([[1, 0, 1], [0, 1, 0]]))
    >>> found.flatten(1).tolist(), ids.tolist()
    ([[1.0, 3.0], [5.0, 0.0]], [[1, 3], [2, 0]])
    """
    present = present.bool()
    slots = max(1, int(present.sum(1).max()))
    first = present.byte().sort(dim=1, descending=True, stable=True).indices[:, :slots]
    filled = present.gather(1, first)
    ids = (first + 1) * filled
    rows = torch.arange(len(maps), device=maps.device)[:, None]
    return maps[rows, first] * filled[:, :, None, None], ids


def complete_batch(
    maps: Tensor,
    class_ids: Tensor,
    saliency: Tensor | None,
    *,
    rule: Literal["paper", "released"] = "paper",
    quantile: float = 0.9,
    background_power: float = 32,
    opening: int | None = 10,
    fallback: Fallback = "power",
) -> Tensor:
    """Label every image of a batch. `complete_labels` explains the steps and the settings.

    Args:
        maps: (B, K, H, W) in [0, 1], without NaN. Not checked: a check would wait for the device.
        class_ids: (B, K) integers, ascending within an image: label values 1..254, or 0 for a slot
            without a class (`gather_present` makes both).
        saliency: (B, H, W), salient where > 0, or None.

    Returns:
        (B, H, W) uint8 on the device of `maps`: 0 background, class ids, 255 ignore.

    Raises:
        ValueError: a shape or a setting is not as described.

    >>> maps = torch.tensor([[[[0.9, 0.0, 0.0, 0.5]]]])
    >>> complete_batch(maps, torch.tensor([[7]]), torch.tensor([[[1, 1, 0, 0]]]), opening=0)
    tensor([[[  7, 255,   0,   0]]], dtype=torch.uint8)
    """
    _check_shapes(maps, class_ids, saliency)
    check_settings(rule, quantile, background_power, opening)
    maps = maps * (class_ids > 0)[:, :, None, None]
    ids = class_ids.to(torch.uint8)

    strongest, strongest_slot = maps.max(dim=1)
    seeds = strongest > (1 - strongest) ** background_power
    if saliency is not None:
        background = ~(saliency > 0)
    elif fallback == "power":
        background = ~seeds
    else:
        low, high = thresholds_of(fallback)
        seeds, background = strongest > high, strongest <= low
    labels = torch.where(seeds, _id_at(ids, strongest_slot), IGNORE)
    labels = labels.masked_fill(background, 0)

    claims = (labels == 0)[:, None] & (maps > _own_quantiles(maps, quantile)[:, :, None, None])
    count, first = claims.sum(dim=1), claims.byte().max(dim=1).indices
    labels = torch.where(count > 0, _id_at(ids, first), labels)
    if rule == "paper":
        labels = labels.masked_fill(count > 1, IGNORE)
    if opening:
        labels = labels.masked_fill(~_opened(labels != 0, opening), 0)
    return labels


def _id_at(ids: Tensor, slots: Tensor) -> Tensor:
    """Ids (B, K) at slots (B, H, W) -> (B, H, W)."""
    return ids.gather(1, slots.flatten(1)).view(slots.shape)


def _own_quantiles(maps: Tensor, quantile: float) -> Tensor:
    """Element `int(n * quantile)` of the n positive values of each map, sorted: (B, K).

    Infinite for a map without positive values, so that no pixel is above it.
    """
    values = maps.flatten(2)
    positive = values > 0
    ordered = values.masked_fill(~positive, torch.inf).sort(dim=2).values
    count = positive.sum(dim=2)
    # Double precision, as in Python: float32 would sometimes pick the next element.
    wanted = torch.minimum((count.double() * quantile).long(), count - 1).clamp(min=0)
    return ordered.gather(2, wanted[:, :, None]).squeeze(2)


def _opened(mask: Tensor, size: int) -> Tensor:
    """Open (B, H, W) bool with a square. Pixels outside the image do not count."""
    before = size // 2
    after = size - 1 - before
    eroded = ~_any_within(~mask, before, after)
    return _any_within(eroded, after, before)  # with the mirrored square


def _any_within(mask: Tensor, before: int, after: int) -> Tensor:
    """Whether any pixel is set from `before` pixels before to `after` pixels after (both axes)."""
    size = before + after + 1
    padded = F.pad(mask[:, None].float(), (before, after, before, after))
    rows = F.max_pool2d(padded, (size, 1), stride=1)
    return F.max_pool2d(rows, (1, size), stride=1).squeeze(1) > 0


def _check_shapes(maps: Tensor, class_ids: Tensor, saliency: Tensor | None) -> None:
    if maps.ndim != 4 or class_ids.shape != maps.shape[:2] or not maps.shape[1]:
        raise ValueError(
            f"Got maps of shape {tuple(maps.shape)} and class ids of {tuple(class_ids.shape)}, "
            "expected (B, K, H, W) and (B, K) with K >= 1: one id per map, 0 for an empty slot."
        )
    size = (len(maps), *maps.shape[2:])
    if saliency is not None and saliency.shape != size:
        raise ValueError(
            f"Got saliency of shape {tuple(saliency.shape)} for maps of {tuple(maps.shape)}, "
            f"expected {size}: resize it to the maps, or pass None."
        )
