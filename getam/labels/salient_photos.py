"""The salient pixels of photos as images, found as the stage pseudolabels finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from getam.data.transforms import enlarged_labels
from getam.labels.photo_batch import Photo, PhotoInputs, read_reduced, salient_batch

if TYPE_CHECKING:
    from getam.cache import Pieces
    from getam.data.index import Record
    from getam.labels.saliency import Saliency

__all__ = ["SalientPhotos"]


class Salient(NamedTuple):
    """The salient pixels (h, w) uint8, 0 or 1, of a photo of ``size`` (H, W)."""

    record: Record
    size: tuple[int, int]
    pixels: np.ndarray


class SalientPhotos:
    """Finds and writes the salient pixels: a ``getam.running.photo_work.Work``.

    Args:
        saliency: the saliency maps.
        settings: the fields of ``getam.config.schema.PseudoLabels``.
        files: image id -> the file to write: (H, W) uint8, 255 on salient pixels, 0 elsewhere.
    """

    slow_to_write = False

    def __init__(
        self, saliency: Saliency, settings: Any, files: Mapping[str, Path], pieces: Pieces
    ) -> None:
        self.saliency, self.pamr, self.longest = saliency, settings.pamr, settings.longest_side
        self.files, self.pieces = files, pieces
        self.dilations = settings.pamr.dilations

    def read(self, record: Record) -> Photo:
        image, size = read_reduced(record, self.longest)
        no_class, no_map = np.zeros(0, np.uint8), np.zeros((0, 1, 1), np.float32)
        inputs = PhotoInputs(image, no_class, no_map, self.saliency.of(record, image, size))
        return Photo(record, size, inputs)

    def compute(self, photos: Sequence[Photo], device: str = "cpu", **_: Any) -> list[Salient]:
        found = salient_batch([photo.inputs for photo in photos], self.pamr, device)
        return [Salient(p.record, p.size, one) for p, one in zip(photos, found)]

    def write(self, found: Salient) -> None:
        pixels = enlarged_labels(found.pixels, found.size) * np.uint8(255)
        with self.pieces.write(self.files[found.record.id]) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
