"""foreground: which part of each image is object, by the network's own patch features.

needs   the network that is explained, and its maps; images of the train split
makes   foreground/ID.png: grey, on the patch grid, at least 128 where there is object
costs   a forward pass of the lower blocks per image, and one more for those it learns from
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from getam.cache import atomic_write
from getam.data.images import write_scores
from getam.data.transforms import resize_maps
from getam.errors import UserError
from getam.foreground import Foreground, default_block, fit_foreground, patch_features
from getam.mapfile import MapFile
from getam.networks import load_classifier, network_build, normalisation
from getam.precision import autocast
from stages.common import batches, explained, open_data, scaled_side, square_batch

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import Record

PEAK = 0.7  # of a map's maximum


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.foreground, job.context
    records = open_data(job).split(job.config.data.train)
    network = load_classifier(explained(job), context.device)
    look = Features(network, network_build(explained(job))["image_size"], settings)

    folder = job.folder / "foreground"
    folder.mkdir(exist_ok=True)
    todo = [record for record in records if not (folder / f"{record.id}.png").exists()]
    sample = evenly(records, settings.images)
    if todo:
        foreground = _learn(look, sample, MapFile(job.inputs["maps"] / "maps.h5"))
        parts = [*batches(todo, settings.batch_size)]
        for batch in context.track(parts, unit=f"batch of {settings.batch_size} image"):
            for record, scores in zip(batch, foreground(look(batch)).cpu().numpy()):
                with atomic_write(folder / f"{record.id}.png") as temporary:
                    write_scores(temporary, scores)
    return {"images": len(records), "learnt from": len(sample)}


class Features:
    """Patch features (B, h, w, D) of images stretched to squares."""

    def __init__(self, network: nn.Module, image_size: int, settings: Any) -> None:
        self.network, self.settings = network, settings
        self.statistics = normalisation(network)
        self.device = str(next(network.parameters()).device)
        self.side = scaled_side(network, image_size, settings.scale)
        self.block = default_block(network) if settings.block is None else settings.block
        if self.block >= len(network.blocks):
            raise UserError(
                f"foreground.block: got {self.block}, expected 0 to {len(network.blocks) - 1}."
            )

    def __call__(self, records: Sequence[Record]) -> Tensor:
        images = square_batch(records, self.side, self.statistics, self.device)
        with autocast(self.settings.precision, self.device):
            return patch_features(self.network, images, self.block)


def evenly(records: Sequence[Record], count: int) -> list[Record]:
    """At most ``count`` of the records, evenly spread."""
    return list(records[:: -(-len(records) // count)])


def _learn(look: Features, records: Sequence[Record], maps: MapFile) -> Foreground:
    features, peaks = [], []
    for batch in batches(records, look.settings.batch_size):
        features.append(look(batch))
        peaks += _peaks(batch, maps, features[-1].shape[1:3])
    peaks = torch.cat(peaks).to(features[0].device)
    if not peaks.any():
        raise UserError("foreground: got maps without any class, expected image-level labels.")
    patches = torch.cat([f.flatten(0, 2) for f in features])
    return fit_foreground(patches, peaks, look.settings.rounds, look.settings.threshold)


def _peaks(records: Sequence[Record], maps: MapFile, grid: tuple[int, int]) -> Iterator[Tensor]:
    """Where a map of an image is near its maximum: (h * w,) bool each."""
    for record in records:
        image_maps = torch.from_numpy(maps.read(record.id)[1])[None]
        enlarged = resize_maps(image_maps, grid)[0]
        yield (enlarged > PEAK).any(dim=0).flatten()
