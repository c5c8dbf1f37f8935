"""What the end-to-end mode trains on: augmented photos, with what is known of each one's pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors

from getam.data.augmentation import to_image, training_transform
from getam.data.images import read_photo, read_scores
from getam.data.kept import kept
from getam.data.masks import read_saliency
from getam.data.transforms import resize_maps
from getam.labels.patch_classes import unstacked

if TYPE_CHECKING:
    from pathlib import Path

    from getam.data.index import Record
    from getam.data.transforms import Statistics

__all__ = ["Items", "ReadMask", "salient", "shares_of"]

ReadMask = Callable[["Record", tuple[int, int]], np.ndarray]


class Items:
    """Training items: augmented photo (3, S, S), image-level labels (C,), and what else is known.

    That are ``masks`` (S, S) each and, with ``shares``, the shares of the classes (C, h, w) in
    [0, 1] on the patch grid, 0 for a class that the photo does not have. All of them are cropped
    and mirrored like the photo.

    Args:
        labels: (N, C), the image-level labels of the records.
        size: S.
        settings: the fields of ``getam.config.schema.Training``.
        statistics: as for :func:`getam.data.augmentation.training_transform`.
        masks: functions that read a mask (H, W) of a photo of this size.
        shares: a function that reads the shares (K, H, W) uint8, 0..255, of the classes of a photo.
        grid: (h, w).
    """

    def __init__(
        self,
        records: Sequence[Record],
        labels: np.ndarray,
        size: int,
        settings: Any,
        statistics: Statistics,
        masks: Sequence[ReadMask] = (),
        shares: ReadMask | None = None,
        grid: tuple[int, int] = (1, 1),
    ) -> None:
        self.records, self.masks, self.shares, self.grid = records, masks, shares, grid
        self.labels, self.read = torch.from_numpy(labels).float(), kept(self._read)
        self.augment = training_transform(
            size, settings.crop_scale, settings.flip, settings.color_jitter, statistics
        )

    def __call__(self, index: int) -> tuple[Tensor, ...]:
        labels = self.labels[index]
        image, *masks = self.read(index)
        masks = [tv_tensors.Mask(torch.from_numpy(mask)) for mask in masks]
        changed = self.augment(to_image(image), *masks)
        image, *masks = changed if masks else (changed,)
        if self.shares:
            masks[-1] = self._on_grid(masks[-1], labels)
        return image, labels, *masks

    def _read(self, index: int) -> tuple[np.ndarray, ...]:
        record = self.records[index]
        image = read_photo(record)
        known = [*self.masks, *([self.shares] if self.shares else [])]
        return image, *(read(record, image.shape[:2]) for read in known)

    def _on_grid(self, shares: Tensor, labels: Tensor) -> Tensor:
        found = torch.zeros(len(labels), *self.grid)
        if len(shares):
            found[labels > 0] = F.adaptive_avg_pool2d(shares.float()[None] / 255, self.grid)[0]
        return found


def salient(threshold: float) -> ReadMask:
    """Reads the salient pixels, 0 or 1."""
    return lambda r, size: (read_saliency(r.saliency, size) > threshold).astype(np.uint8)


def shares_of(folder: Path) -> ReadMask:
    """Reads what the stage foreground wrote into ``classes/ID.png``, enlarged to the photo."""

    def read(record: Record, size: tuple[int, int]) -> np.ndarray:
        count = len(record.labels or ())
        if not count:
            return np.zeros((0, *size), np.uint8)
        scores = unstacked(read_scores(folder / f"{record.id}.png"), count)
        whole = (resize_maps(torch.from_numpy(one)[None, None], size)[0, 0] for one in scores)
        return np.stack([(one * 255).round().to(torch.uint8).numpy() for one in whole])

    return read
