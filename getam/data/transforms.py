"""Images to network inputs, as they are for maps and tests."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Statistics = tuple[Sequence[float], Sequence[float]]


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def to_square(image: np.ndarray, size: int) -> Tensor:
    """(H, W, 3) uint8, stretched to (3, size, size) uint8.

    Stretched rather than padded: every patch of the grid then shows a part of the image.
    """
    shrinks = image.shape[0] * image.shape[1] > size * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return to_tensor(cv2.resize(image, (size, size), interpolation=method))


def on_device(batch: Tensor, device: torch.device | str) -> Tensor:
    """A batch in the memory of the device. The copy to a GPU runs beside the work of the CPU."""
    if torch.device(device).type != "cuda":
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)


def normalise_images(images: Tensor, statistics: Statistics) -> Tensor:
    """(B, 3, H, W) uint8 to float32 with the encoder's mean and standard deviation."""
    mean, std = (torch.tensor(s, device=images.device).view(1, 3, 1, 1) for s in statistics)
    return (images.float() / 255 - mean) / std


def image_pixels(images: Tensor, statistics: Statistics) -> Tensor:
    """The pixels 0..255 that :func:`normalise_images` was given, as whole float32 numbers."""
    mean, std = (torch.tensor(s, device=images.device).view(1, 3, 1, 1) for s in statistics)
    return ((images.float() * std + mean) * 255).round().clamp(0, 255)


def letterbox(image: np.ndarray, side: int, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """An image with its long side resized to ``side``, padded right and below to a square.

    Returns (3, S, S) uint8, where S is ``side`` rounded up to a multiple, and the (h, w) of the
    image in it. The padding is grey (128).
    """
    square, (h, w) = letterbox_size(image.shape[:2], side, multiple)
    method = cv2.INTER_AREA if side < max(image.shape[:2]) else cv2.INTER_CUBIC
    canvas = np.full((square, square, 3), 128, np.uint8)
    canvas[:h, :w] = cv2.resize(image, (w, h), interpolation=method)
    return to_tensor(canvas), (h, w)


def letterbox_size(size: tuple[int, int], side: int, multiple: int) -> tuple[int, tuple[int, int]]:
    """Of an image of (H, W) what :func:`letterbox` makes: the square's side S, and its (h, w).

    >>> letterbox_size((300, 400), 200, 14)
    (210, (150, 200))
    """
    scale = side / max(size)
    return -(-side // multiple) * multiple, tuple(max(1, round(s * scale)) for s in size)


def enlarged_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels (h, w) uint8 as (H, W): each pixel gets the value with the greatest bilinear share.

    Outlines are smoother than by the nearest neighbour. Enlarges one value at a time.
    """
    if labels.shape == tuple(size):
        return labels
    best = np.zeros(size, np.float32)
    enlarged = np.zeros(size, np.uint8)
    for value in np.unique(labels):
        share = resize_maps(torch.from_numpy(labels == value)[None, None].float(), size)[
            0, 0
        ].numpy()
        wins = share > best
        best[wins] = share[wins]
        enlarged[wins] = value
    return enlarged


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, h, w) to (B, K, H, W), bilinear: the one way maps and probabilities are resized."""
    if maps.shape[-2:] == size:
        return maps
    if not maps.shape[1]:  # an image of background only
        return maps.new_zeros((*maps.shape[:2], *size))
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
