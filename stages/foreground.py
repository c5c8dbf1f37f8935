"""foreground: which part of each image is object, by the network's own patch features.

needs   the network that is explained, and its maps; images of the train split
makes   foreground/ID.png: grey, on the patch grid, at least 128 where there is object; with
        foreground.classes: features also classes/ID.png, that times the share of each class of the
        image, one below the other in the order of their ids
costs   a forward pass of the lower blocks per image, and one more for those it learns from
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from getam.cache import atomic_write
from getam.data.images import write_scores
from getam.data.transforms import resize_maps
from getam.errors import UserError
from getam.foreground import (
    PatchScore,
    class_shares,
    default_block,
    fit_classes,
    fit_foreground,
    patch_features,
)
from getam.mapfile import MapFile
from getam.networks import load_classifier, network_build, normalisation
from getam.precision import autocast
from getam.refinement import balance, normalise
from stages.common import batches, explained, open_data, scaled_side, square_batch

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import Record

PEAK = 0.7  # of a map's maximum


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.foreground, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    network = load_classifier(explained(job), context.device)
    look = Features(network, network_build(explained(job))["image_size"], settings)

    folder = job.folder / "foreground"
    for made in (folder, *([job.folder / "classes"] if settings.classes == "features" else [])):
        made.mkdir(exist_ok=True)
    todo = [record for record in records if not (folder / f"{record.id}.png").exists()]
    sample = evenly(records, settings.images)
    if todo:
        maps = MapFile(job.inputs["maps"] / "maps.h5")
        find = _learn(look, sample, maps, len(data.classes))
        parts = [*batches(todo, settings.batch_size)]
        for batch in context.track(parts, unit=f"batch of {settings.batch_size} image"):
            for record, features in zip(batch, look(batch)):
                for kind, scores in find(features, maps.read(record.id)[0]):
                    with atomic_write(job.folder / kind / f"{record.id}.png") as temporary:
                        write_scores(temporary, scores.cpu().numpy())
    return {"images": len(records), "learnt from": len(sample)}


@dataclass(frozen=True)
class Finder:
    """Scores of an image by its patch features (h, w, D) and the ids of its classes."""

    foreground: PatchScore
    classes: PatchScore | None

    def __call__(self, features: Tensor, class_ids: np.ndarray) -> Iterator[tuple[str, Tensor]]:
        """("classes", (K * h, w)), where it is asked and there are any; ("foreground", (h, w))."""
        found = self.foreground(features).clamp(0, 1)
        if self.classes is not None and len(class_ids):
            chosen = torch.from_numpy(class_ids.astype(np.int64) - 1).to(features.device)
            shares = class_shares(self.classes(features)[..., chosen]).permute(2, 0, 1)
            yield "classes", (found * shares).flatten(0, 1)
        yield "foreground", found


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


def _learn(look: Features, records: Sequence[Record], maps: MapFile, count: int) -> Finder:
    settings = look.settings
    features, peaks, classes = [], [], []
    for batch in batches(records, settings.batch_size):
        features.append(look(batch))
        for record in batch:
            grid = features[-1].shape[1:3]
            peak, named = _told_by_maps(*maps.read(record.id)[:2], grid)
            peaks.append(peak)
            classes.append(named)
    peaks, classes = (torch.cat(told).to(features[0].device) for told in (peaks, classes))
    if not peaks.any():
        raise UserError("foreground: got maps without any class, expected image-level labels.")
    patches = torch.cat([f.flatten(0, 2) for f in features])
    try:
        foreground = fit_foreground(patches, peaks, settings.rounds, settings.threshold)
    except ValueError as error:
        raise UserError(f"foreground.rounds, foreground.threshold: {error}") from None
    if settings.classes == "maps":
        return Finder(foreground, None)
    objects = (foreground(patches) > 0.5) & (classes >= 0)
    return Finder(foreground, fit_classes(patches[objects], classes[objects], count))


def _told_by_maps(
    class_ids: np.ndarray, maps: np.ndarray, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Where a map of an image is near its maximum (h * w,) bool, and which class of the image is
    strongest (h * w,), -1 where it has none."""
    if not len(class_ids):
        return torch.zeros(grid[0] * grid[1]).bool(), torch.full((grid[0] * grid[1],), -1)
    enlarged = resize_maps(torch.from_numpy(maps)[None], grid)[0]
    strongest = balance(normalise(enlarged)).argmax(dim=0).flatten()
    ids = torch.from_numpy(class_ids.astype(np.int64))
    return (enlarged > PEAK).any(dim=0).flatten(), ids[strongest] - 1
