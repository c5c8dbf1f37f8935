"""foreground: finds which part of each train photo is object, by the network's patch features.

needs   the network that the maps explain, and its maps; train photos
makes   foreground/ID.png: the object score on the patch grid, grey, 128 or more on objects. With
        foreground.class_rounds or foreground.multiple_instance it is lowered where each class of
        the photo scores below one half. With foreground.multiple_instance it is the score of what
        the classes explain, fitted after them. With foreground.class_objects it is that of each
        class instead, fitted in the photos with this class, and not lowered.
        With foreground.classes: patch_classifier also classes/ID.png: this score times the share
        of each class of the photo, one class below the other in the order of their ids
costs   one forward pass of the lower blocks per photo; 4 D h w bytes of memory for each of the
        foreground.images photos that it learns from; while it learns twice that, three times with
        foreground.class_objects, and four times with foreground.multiple_instance
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from getam.data.ahead import Behind, batches
from getam.data.images import read_scores, write_scores
from getam.data.sampling import evenly
from getam.data.transforms import resize_maps
from getam.errors import UserError
from getam.labels.normalise import balance, normalise
from getam.labels.patch_finder import Finder, fit_finder
from getam.labels.patch_foreground import default_block, patch_features
from getam.maps.file import MapFile
from getam.networks.build import load_classifier, network_build, normalisation
from getam.networks.precision import autocast
from getam.training import distributed
from stages.shared import (
    explained,
    multi_hot,
    open_data,
    scaled_side,
    shared_batches,
    square_batches,
)

if TYPE_CHECKING:
    from pathlib import Path

    from getam.cache import Job
    from getam.data.index import Record
    from getam.running.context import Context

PEAK = 0.7  # of a map's maximum
BORDER = 0.1  # of the side of an image
FITTED = ("rounds", "threshold", "class_rounds", "multiple_instance", "class_objects")


def check(job: Job) -> None:
    from getam.running.preflight import check_sizes, explained_network

    network, settings = explained_network(job)
    with torch.device("meta"):
        side = Features(network, settings.image_size, job.config.foreground, job.context).side
    check_sizes(network, "foreground.scale", {job.config.foreground.scale: (side, side)})


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.foreground, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    network = load_classifier(explained(job), context.device)
    side = network_build(explained(job))["image_size"]
    features_of = Features(network, side, settings, context)

    kinds = ["foreground"] if settings.classes == "maps" else ["foreground", "classes"]
    todo = [r for r in records if not _is_done(job, kinds, r)]
    sample = evenly(data.labelled(job.config.data.train), settings.images)
    if todo:
        maps = MapFile(job.inputs["maps"] / "maps.h5")
        learnt = _of_sample(features_of, sample, context)
        find = _learn(sample, learnt, maps, settings, len(data.classes))
        rest = [record for record in todo if record.id not in learnt]
        known, own = distributed.share([*learnt.items()]), shared_batches(rest, settings.batch_size)
        features = chain(known, features_of(own))
        with Behind(waiting=settings.batch_size) as behind:
            for image_id, patches in context.track(features, total=len(known) + len(own)):
                for kind, scores in find(patches, maps.read(image_id)[0]):
                    behind(_write, job, job.folder / kind / f"{image_id}.png", scores)
    distributed.wait()
    if distributed.rank():
        return {}
    shares = object_shares(job.folder / "foreground", [record.id for record in records])
    return {"images": len(records), "learnt from": len(sample), **shares}


def _write(job: Job, path: Path, scores: Tensor) -> None:
    """In a thread, which waits for the scores of a GPU while the next photos are computed."""
    with job.pieces.write(path) as temporary:
        write_scores(temporary, scores.cpu().numpy())


def _of_sample(features_of: Features, sample: list[Record], context: Context) -> dict[str, Tensor]:
    """Id -> features of the photos that are learnt from. Each process computes its share."""
    size = features_of.settings.batch_size
    own = shared_batches(sample, size)
    found = [*batches(context.track(features_of(own), total=len(own)), size)]
    if distributed.count() > 1:  # sent with its device, a tensor would stay on that of its sender
        found = [[(image_id, patches.cpu()) for image_id, patches in batch] for batch in found]
    gathered = distributed.gather(found)
    return {i: patches.to(features_of.device) for batch in gathered for i, patches in batch}


def _is_done(job: Job, kinds: Sequence[str], record: Record) -> bool:
    """Whether an interrupted run made all files of an image; one of background has no classes."""
    wanted = kinds[:1] if record.labels == () else kinds
    return all(job.pieces.has(job.folder / kind / f"{record.id}.png") for kind in wanted)


def object_shares(folder: Path, ids: Sequence[str]) -> dict[str, float]:
    """The share of object patches in ``ID.png``, at the border of the photos and elsewhere.

    Warns if the border has more: a border nearly always shows background.
    """
    called = [read_scores(folder / f"{image_id}.png") >= 0.5 for image_id in ids]
    border = [_border(found.shape) for found in called]
    at_border = np.concatenate([found[where] for found, where in zip(called, border)]).mean()
    elsewhere = np.concatenate([found[~where] for found, where in zip(called, border)]).mean()
    if at_border > elsewhere:
        warnings.warn(
            f"foreground: got {at_border:.0%} object at the border of photos and {elsewhere:.0%} "
            f"elsewhere, expected less at the border. The stage has probably taken the background "
            f"for object, because the maps are strongest there. Look at it with 'inspect "
            f"foreground', and try another maps.method.",
            stacklevel=1,
        )
    return {"object": float(elsewhere), "object at the border": float(at_border)}


def _border(shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) bool: True at the border, which is a tenth of the sides wide."""
    rows, columns = (max(1, round(side * BORDER)) for side in shape)
    inside = np.zeros(shape, bool)
    inside[rows:-rows, columns:-columns] = True
    return ~inside


class Features:
    """Yields the id and the patch features (h, w, D) of photos, which are stretched to squares."""

    def __init__(
        self, network: nn.Module, image_size: int, settings: Any, context: Context
    ) -> None:
        self.network, self.settings, self.context = network, settings, context
        self.statistics = normalisation(network)
        self.device = str(next(network.parameters()).device)
        self.side = scaled_side(network, image_size, settings.scale)
        self.block = default_block(network) if settings.block is None else settings.block
        if self.block >= len(network.blocks):
            raise UserError(
                f"foreground.block: got {self.block}, expected 0 to {len(network.blocks) - 1}."
            )

    def __call__(self, records: Sequence[Record]) -> Iterator[tuple[str, Tensor]]:
        size = self.settings.batch_size
        read = square_batches(records, self.side, size, self.statistics, self.context)
        for batch, images in read:
            with autocast(self.settings.precision, self.device):
                features = patch_features(self.network, images, self.block)
            yield from zip((record.id for record in batch), features)


def _learn(
    records: Sequence[Record],
    features: Mapping[str, Tensor],
    maps: MapFile,
    settings: Any,
    count: int,
) -> Finder:
    patches = torch.cat([found.flatten(0, 1) for found in features.values()])
    told = [
        _told_by_maps(*maps.read(record.id)[:2], features[record.id].shape[:2])
        for record in records
    ]
    peaks, classes = (torch.cat(parts).to(patches.device) for parts in zip(*told))
    if not peaks.any():
        raise UserError(
            "foreground: got no class map among the photos that it learns from, expected at least "
            "one. Give train photos image-level labels, or raise foreground.images."
        )
    labels = torch.from_numpy(multi_hot(records, count)).to(patches.device)
    options = {name: getattr(settings, name) for name in FITTED}
    by_maps = settings.classes == "maps"
    try:
        return fit_finder(patches, peaks, classes, labels, named_by_maps=by_maps, **options)
    except ValueError as error:
        raise UserError(f"foreground.rounds, foreground.threshold: {error}") from None


def _told_by_maps(
    class_ids: np.ndarray, maps: np.ndarray, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """For each patch of a photo: whether a map is near its maximum (h * w,) bool, and the class
    0..C-1 whose map is strongest (h * w,), -1 if the photo has no class."""
    if not len(class_ids):
        return torch.zeros(grid[0] * grid[1]).bool(), torch.full((grid[0] * grid[1],), -1)
    enlarged = resize_maps(torch.from_numpy(maps)[None], grid)[0]
    strongest = balance(normalise(enlarged)).argmax(dim=0).flatten()
    ids = torch.from_numpy(class_ids.astype(np.int64))
    return (enlarged > PEAK).any(dim=0).flatten(), ids[strongest] - 1
