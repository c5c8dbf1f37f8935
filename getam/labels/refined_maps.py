"""What refinement makes of class maps, measured against masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from getam.data.images import read_photo
from getam.data.resizing import reduced
from getam.data.transforms import resize_maps
from getam.labels.crf import dense_crf
from getam.labels.normalise import normalise
from getam.labels.pamr import pamr
from getam.metrics.localisation import inside_mask
from getam.metrics.segmentation import ThresholdSweep

if TYPE_CHECKING:
    from getam.data.index import DataIndex, Record

Seeds = tuple[str, np.ndarray, np.ndarray]  # image id, class ids (K,), maps (K, h, w)
Figures = dict[str, dict[str, float]]  # measure -> image id -> figure


class Refine:
    """Measures the maps of some photos against masks. Can be sent to worker processes.

    Args:
        refiners: some of ``none``, ``pamr`` and ``crf``.
        settings: the fields of ``getam.config.schema.PseudoLabels``: of each refiner, and the
            longest side at which photos are refined.
        thresholds: at which the maps are cut.
    """

    def __init__(
        self, refiners: Sequence[str], settings: Any, thresholds: np.ndarray, data: DataIndex
    ) -> None:
        self.refiners, self.thresholds, self.data = refiners, thresholds, data
        self.longest, pamr = settings["longest_side"], dict(settings["pamr"])
        self.pamr = {"iterations": pamr["iterations"], "dilations": tuple(pamr["dilations"])}
        self.crf = {name: v for name, v in dict(settings["crf"]).items() if name != "enabled"}

    def __call__(
        self, records: Sequence[Record], seeds: Sequence[Seeds]
    ) -> tuple[list[ThresholdSweep], Figures]:
        """The mIoU of each refiner, and the pointing game and energy of each photo."""
        sweeps = [
            ThresholdSweep(len(self.data.classes) + 1, self.thresholds) for _ in self.refiners
        ]
        inside: Figures = {"pointing": {}, "energy": {}}
        for record, (_, class_ids, maps) in zip(records, seeds):
            mask = self.data.read_mask(record)
            photo = read_photo(record)
            image = photo if self.longest is None else reduced(photo, self.longest)
            peaks = maps.max(axis=(1, 2), keepdims=True)
            maps = torch.from_numpy(maps / np.maximum(peaks, 1e-30))
            for refiner, sweep in zip(self.refiners, sweeps):
                found = getattr(self, f"refine_{refiner}")(image, maps)
                if found.shape[1:] != mask.shape:
                    found = resize_maps(torch.from_numpy(found)[None], mask.shape)[0].numpy()
                sweep.update(found, class_ids, mask)
            found = inside_mask(maps.numpy(), class_ids, mask)
            for measure, values in found._asdict().items():
                if not np.isnan(values).all():
                    inside[measure][record.id] = float(np.nanmean(values))
        return sweeps, inside

    def refine_none(self, image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
        """Enlarge the maps, and divide each by its maximum."""
        return normalise(resize_maps(maps[None], image.shape[:2])[0]).numpy()

    def refine_pamr(self, image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
        """Refine the maps with PAMR, and divide each by its maximum."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        return normalise(pamr(pixels, maps[None], **self.pamr)[0]).numpy()

    def refine_crf(self, image: np.ndarray, maps: torch.Tensor) -> np.ndarray:
        """Refine the maps with dense CRF. The background score is 1 minus the strongest map."""
        enlarged = self.refine_none(image, maps)
        scores = np.concatenate([1 - enlarged.max(0, keepdims=True), enlarged])
        return dense_crf(image, scores / scores.sum(0), **self.crf)[1:].clip(0, 1)
