"""Labels photos of one size together, on one device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from getam.data.images import read_photo
from getam.data.resizing import reduced
from getam.labels.steps import SoftSaliency, label_images, refined_salient_pixels

if TYPE_CHECKING:
    from getam.data.index import Record

__all__ = [
    *("Photo", "PhotoInputs", "batch_bytes", "label_batch", "photo_bytes", "read_reduced"),
    "salient_batch",
]

PER_MAP = 16  # floats per pixel that the steps need for each class map, at their peak
MOST, SHARE = 2 << 30, 0.25  # bytes of a batch on a GPU: at most, and of the free memory
ON_CPU = 1 << 28


class PhotoInputs(NamedTuple):
    """What the label of one photo is made from.

    Attributes:
        pixels: (H, W, 3) uint8.
        class_ids: (K,) uint8, ascending; K may be 0.
        maps: (K, h, w) float32, the class maps on their grid, as for ``label_images``.
        saliency: the saliency maps of this photo, as a batch of one.
    """

    pixels: np.ndarray
    class_ids: np.ndarray
    maps: np.ndarray
    saliency: SoftSaliency

    @property
    def kind(self) -> tuple[Any, ...]:
        """Photos of one kind can be labelled together: all their arrays have the same sizes.

        The numbers of their classes may differ, by less than a factor of two. Empty slots fill up
        the batch, and they cost as much as classes.
        """
        slots = (len(self.class_ids) - 1).bit_length() if len(self.class_ids) else -1
        grids = self.maps.shape[1:], *(part.shape[1:] for part in self.saliency[:2])
        return (self.pixels.shape, slots, *grids)


class Photo(NamedTuple):
    """A photo that is read; ``size`` is its (H, W), which ``inputs`` may have reduced."""

    record: Record
    size: tuple[int, int]
    inputs: PhotoInputs


def read_reduced(record: Record, longest: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    """The pixels of a photo (h, w, 3), with a longest side of ``longest`` at most (None: as it
    is), and the size (H, W) of the photo itself."""
    photo = read_photo(record)
    return photo if longest is None else reduced(photo, longest), photo.shape[:2]


def photo_bytes(photo: PhotoInputs, dilations: Sequence[int]) -> int:
    """Memory that labelling this photo needs on the device: PAMR's weights and the maps."""
    height, width = photo.pixels.shape[:2]
    maps = len(photo.class_ids) + photo.saliency.on_grid.shape[1]
    return 4 * height * width * (8 * len(dilations) + PER_MAP * maps)


def batch_bytes(device: str) -> int:
    """Memory of a device that a batch of photos may need, as :func:`photo_bytes` counts it."""
    if not device.startswith("cuda"):
        return ON_CPU
    return int(min(MOST, SHARE * torch.cuda.mem_get_info(device)[0]))


def label_batch(
    photos: Sequence[PhotoInputs],
    settings: Any,
    *,
    shares: bool = False,
    device: str = "cpu",
    at_once: bool | None = None,
) -> np.ndarray:
    """Label photos of one ``kind``. A photo gets the label that it gets alone.

    Args:
        settings, shares, at_once: as for :func:`getam.labels.steps.label_images`.
        device: where the steps are computed.

    Returns:
        (B, H, W) uint8: 0 background, class ids, 255 ignore.
    """
    slots = max(len(photo.class_ids) for photo in photos)
    maps = torch.zeros(len(photos), slots, *photos[0].maps.shape[1:])
    class_ids = torch.zeros(len(photos), slots, dtype=torch.uint8)
    for n, photo in enumerate(photos):
        maps[n, : len(photo.maps)] = torch.from_numpy(photo.maps)
        class_ids[n, : len(photo.class_ids)] = torch.from_numpy(photo.class_ids)
    with _current(device):
        labels = label_images(
            _sent(maps, device),
            _sent(class_ids, device),
            *_pixels_and_saliency(photos, device),
            settings,
            shares=shares,
            at_once=at_once,
        )
    return labels.cpu().numpy()


def salient_batch(photos: Sequence[PhotoInputs], pamr: Any, device: str = "cpu") -> np.ndarray:
    """The salient pixels of photos of one ``kind``: (B, H, W) uint8, 0 or 1. Each photo has a
    saliency map at least; its classes are not read.

    Args:
        pamr: the fields of ``getam.config.schema.Pamr``.
        device: where they are computed.
    """
    with _current(device):
        found = refined_salient_pixels(*_pixels_and_saliency(photos, device), pamr)
    return found.to(torch.uint8).cpu().numpy()


def _pixels_and_saliency(photos: Sequence[PhotoInputs], device: str) -> tuple[Tensor, SoftSaliency]:
    """The photos (B, 3, H, W) in 0..255, and their saliency maps, on the device."""
    pixels = torch.from_numpy(np.stack([photo.pixels for photo in photos]))
    on_grid, at_size = (
        torch.cat(parts) for parts in zip(*(photo.saliency[:2] for photo in photos))
    )
    saliency = SoftSaliency(
        _sent(on_grid, device), _sent(at_size, device), photos[0].saliency.threshold
    )
    return _sent(pixels, device).permute(0, 3, 1, 2).float(), saliency


def _current(device: str) -> AbstractContextManager[Any]:
    """Makes a GPU the current one of this thread, so that nothing is allocated on the first GPU."""
    return torch.cuda.device(device) if device.startswith("cuda") else nullcontext()


def _sent(tensor: Tensor, device: str) -> Tensor:
    """The tensor on the device; to a GPU it is copied without waiting."""
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
