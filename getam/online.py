"""Pseudo labels of a training batch, by the network that learns from them.

Maps, PAMR and label completion are the functions of the multi-stage mode, on the device and without
a loop over images or classes (GETAM's double backward propagation, arXiv 2112.02841).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from getam.completion import completion_options
from getam.completion_batch import complete_batch, gather_present
from getam.data.transforms import resize_maps
from getam.maps import compute_maps
from getam.refinement import balance, normalise, pamr

SMALLEST = 1e-30  # below every peak of a map that is not zero


def online_labels(
    classifier: nn.Module,
    images: Tensor,
    pixels: Tensor,
    targets: Tensor,
    saliency: Tensor | None,
    maps: Any,
    labels: Any,
) -> Tensor:
    """Label every pixel of a batch; the classifier, its gradients and mode stay as they were.

    Args:
        classifier: as for :func:`getam.maps.compute_maps`.
        images: (B, 3, H, W), normalised as the classifier expects.
        pixels: (B, 3, H, W), the same images in 0..255.
        targets: (B, C) bool or 0/1, the image-level labels.
        saliency: (B, H, W), salient where > 0, or None.
        maps: settings with the fields ``method`` and ``start_block`` of ``getam.config.Maps``.
        labels: settings with those of ``getam.config.PseudoLabels``, except CRF and where the
            saliency is from.

    Returns:
        (B, H, W) uint8: 0 background, class ids, 255 ignore.
    """
    found = compute_maps(
        classifier, images, targets, method=maps.method, start_block=maps.start_block
    )
    return label_maps(*gather_present(found, targets), pixels, saliency, labels)


@torch.no_grad()
def label_maps(
    maps: Tensor, class_ids: Tensor, pixels: Tensor, saliency: Tensor | None, settings: Any
) -> Tensor:
    """Maps (B, K, h, w) of the classes (B, K), 0 for an empty slot, to labels (B, H, W).

    The other arguments are those of :func:`online_labels`.
    """
    # By their peaks first, as in maps.h5: un-normalised maps may be far below normalise's 1e-5.
    maps = maps / maps.amax(dim=(2, 3), keepdim=True).clamp(min=SMALLEST)
    if settings.pamr.enabled:
        dilations = tuple(settings.pamr.dilations)
        refined = pamr(pixels, maps, settings.pamr.iterations, dilations)
    else:
        refined = resize_maps(maps, pixels.shape[-2:])
    refined = normalise(refined)
    if settings.balance:
        refined = balance(refined)
    return complete_batch(refined, class_ids, saliency, **completion_options(settings))


def label_shares(labels: Tensor, classes: int) -> Tensor:
    """Share of the pixels with each label: background, 1..``classes``, ignored: (C + 2,).

    >>> label_shares(torch.tensor([0, 0, 2, 255]), 2).tolist()
    [0.5, 0.0, 0.25, 0.25]
    """
    counts = torch.bincount(labels.flatten(), minlength=256)
    return torch.cat([counts[: classes + 1], counts[255:]]) / labels.numel()
