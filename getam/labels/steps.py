"""All steps from the class maps of images to their labels, in their order.

    enlarge and refine (PAMR) -> find salient pixels -> normalise -> complete labels

A photo that is labelled as empty (no class) is background everywhere.

Both modes call :func:`label_images`: the stage pseudolabels for each photo, or on a GPU for photos
of one size together; the end-to-end mode for each training batch. It runs on the device of its
tensors. Only the stage pseudolabels can add a dense CRF afterwards (:mod:`getam.labels.crf`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from getam.data.label_values import BACKGROUND
from getam.data.transforms import resize_maps
from getam.labels.completion import complete_labels, completion_options
from getam.labels.completion_batch import complete_batch
from getam.labels.normalise import balance, normalise
from getam.labels.pamr import pamr

__all__ = ["SoftSaliency", "label_images", "refined_salient_pixels", "salient_pixels"]

TINY = 1e-12


class SoftSaliency(NamedTuple):
    """Saliency maps of a batch, which are not yet compared with a threshold.

    Attributes:
        on_grid: (B, S, h, w) in [0, 1], still to be enlarged and refined as the class maps; S may
            be 0.
        at_size: (B, T, H, W) in [0, 1], not refined; T may be 0. If S is 0 too, there is no
            saliency.
        threshold: a pixel is salient if the mean of all S + T maps is above this value.
    """

    on_grid: Tensor
    at_size: Tensor
    threshold: float


@torch.no_grad()
def label_images(
    maps: Tensor,
    class_ids: Tensor,
    pixels: Tensor,
    saliency: SoftSaliency,
    settings: Any,
    *,
    shares: bool = False,
    at_once: bool | None = None,
) -> Tensor:
    """Label every pixel of some images.

    Args:
        maps: (B, K, h, w), not negative; the maximum of each map is 1, or 0 for a map of zeros.
        class_ids: (B, K) integers, the label value of each map; 0 for a slot without a class. An
            image that has only slots without a class becomes 0 everywhere.
        pixels: (B, 3, H, W), the images in 0..255.
        saliency: see :class:`SoftSaliency`.
        settings: the fields of ``getam.config.schema.PseudoLabels``; those of the CRF and of the
            source of saliency are not read.
        shares: True if the maps are class shares of one object score (stage foreground). They are
            already on one scale, so they are not normalised one by one.
        at_once: complete the labels of all images at once, or image by image. The labels are the
            same. None: image by image on a CPU, at once on other devices.

    Returns:
        (B, H, W) uint8 on the device of ``maps``: 0 background, class ids, 255 ignore.
    """
    empty = ~(class_ids > 0).any(dim=1)
    if empty.all():
        return empty.new_full((len(maps), *pixels.shape[2:]), BACKGROUND, dtype=torch.uint8)
    maps, on_grid = _enlarge(pixels, settings.pamr, maps, saliency.on_grid)
    salient = salient_pixels(saliency._replace(on_grid=on_grid))
    maps = _of_one_whole(maps) if shares else _comparable(maps, settings.balance)
    at_once = maps.device.type != "cpu" if at_once is None else at_once
    complete = complete_batch if at_once else _complete_each
    labels = complete(maps, class_ids, salient, **completion_options(settings))
    return labels.masked_fill(empty[:, None, None], BACKGROUND)


def salient_pixels(saliency: SoftSaliency) -> Tensor | None:
    """The salient pixels (B, H, W) bool; None if there are no saliency maps.

    ``on_grid`` must already have the size of the images.
    """
    sizes = {part.shape[2:] for part in saliency[:2] if part.shape[1]}
    if not sizes:
        return None
    soft = torch.cat([part for part in saliency[:2] if part.shape[1]], dim=1)
    return soft.mean(dim=1) > saliency.threshold


@torch.no_grad()
def refined_salient_pixels(pixels: Tensor, saliency: SoftSaliency, pamr: Any) -> Tensor | None:
    """The salient pixels (B, H, W) bool as :func:`label_images` finds them; None without saliency.

    Args:
        pixels: (B, 3, H, W), the images in 0..255.
        pamr: the fields of ``getam.config.schema.Pamr``.
    """
    if saliency.on_grid.shape[1]:
        (on_grid,) = _enlarge(pixels, pamr, saliency.on_grid)
        saliency = saliency._replace(on_grid=on_grid)
    return salient_pixels(saliency)


def _enlarge(pixels: Tensor, settings: Any, *stacks: Tensor) -> list[Tensor]:
    """Enlarge and refine each (B, K, h, w) to (B, K, H, W); all share the weights of PAMR."""
    enlarged = torch.cat([resize_maps(maps, pixels.shape[-2:]) for maps in stacks], dim=1)
    if settings.enabled:
        enlarged = pamr(pixels, enlarged, settings.iterations, tuple(settings.dilations))
    return [*enlarged.split([maps.shape[1] for maps in stacks], dim=1)]


def _comparable(maps: Tensor, balanced: bool) -> Tensor:
    """Bring the maps to [0, 1]: each by its maximum or, if ``balanced``, by its mean."""
    found = normalise(maps)
    return balance(found) if balanced else found


def _of_one_whole(maps: Tensor) -> Tensor:
    """Bring the maps to [0, 1]: all maps of an image by their greatest value."""
    if not maps.shape[1]:
        return maps
    return maps / maps.amax(dim=(1, 2, 3), keepdim=True).clamp(min=TINY)


def _complete_each(
    maps: Tensor, class_ids: Tensor, salient: Tensor | None, **options: Any
) -> Tensor:
    """Label completion image by image, on a CPU."""
    labels = [
        complete_labels(
            maps[n][ids > 0].numpy(),
            ids[ids > 0].tolist(),
            None if salient is None else salient[n].numpy(),
            **options,
        )
        for n, ids in enumerate(class_ids)
    ]
    return torch.from_numpy(np.stack(labels))
