"""Images to network inputs, changed at random for training.

Apart from ``transforms``, as importing torchvision takes a second or two, which processes that make
labels need not spend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from getam.data.transforms import Statistics, to_tensor


def to_image(image: np.ndarray) -> tv_tensors.Image:
    """(H, W, 3) uint8 to (3, H, W) uint8, which a transform then takes for an image."""
    return tv_tensors.Image(to_tensor(image))


def training_transform(
    size: int,
    crop_scale: tuple[float, float],
    flip: float,
    color_jitter: float,
    statistics: Statistics,
) -> Callable:
    """Random resized crop, flip and colour jitter, the same for an image and its mask.

    Takes (3, H, W) uint8, alone or with a ``tv_tensors.Mask``; gives (3, size, size) float32,
    normalised, and the mask (size, size).
    """
    jitter = [v2.ColorJitter(color_jitter, color_jitter, color_jitter)] if color_jitter else []
    return v2.Compose(
        [
            _ResizedCrop(size, scale=tuple(crop_scale), antialias=True),
            v2.RandomHorizontalFlip(flip),
            *jitter,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*statistics),
        ]
    )


class _ResizedCrop(v2.RandomResizedCrop):
    """A random crop, resized; each pixel of a mask is the one at its centre.

    torchvision takes the pixel at its corner, which moves a mask by half a pixel against its photo.
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Mask):
            return super().transform(inpt, params)
        part = functional.crop(inpt, **params).as_subclass(torch.Tensor)
        layers = part[None] if part.ndim == 2 else part
        resized = functional.resize_image(layers, self.size, InterpolationMode.NEAREST_EXACT)
        return tv_tensors.Mask(resized[0] if part.ndim == 2 else resized)
