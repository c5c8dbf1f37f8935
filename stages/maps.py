"""maps: computes where each class is in every train photo, on the patch grid.

needs   the classifier or the end-to-end network; train photos and their image-level labels (a
        photo without labels gets the classes that the network predicts)
makes   maps.h5 (see getam.maps.file)
costs   about 1.7 forward passes per photo, scale and flip
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from getam.data.ahead import Behind, read_ahead
from getam.data.images import read_photo
from getam.data.transforms import normalise_images, on_device, resize_maps, to_square
from getam.maps.compute import compute_maps
from getam.maps.file import merge_shards, write_shard
from getam.networks.build import load_classifier, network_build, normalisation
from getam.networks.precision import autocast
from getam.training import distributed
from stages.shared import batches, class_scores, explained, multi_hot, open_data, scaled_side

if TYPE_CHECKING:
    from pathlib import Path

    from getam.cache import Job
    from getam.data.index import Record

SHARD = 64  # photos in a file; a killed run loses at most the work of two files

Squares = list[torch.Tensor]  # a photo (3, S, S) uint8 at each size
ImageMaps = tuple[str, np.ndarray, np.ndarray]  # id, class ids (K,), maps (K, h, w)


def check(job: Job) -> None:
    from getam.running.preflight import check_maps, check_sizes, explained_network

    check_maps(job, [job.config.maps.method], job.config.maps.start_block)
    network, settings = explained_network(job)
    sides = {s: scaled_side(network, settings.image_size, s) for s in job.config.maps.scales}
    check_sizes(network, "maps.scales", {s: (side, side) for s, side in sides.items()})


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.maps, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    network = load_classifier(explained(job), context.device)
    image_size = network_build(explained(job))["image_size"]
    explain = Explainer(network, image_size, settings, len(data.classes))

    parts = [*batches(records, SHARD)]
    shards = [job.scratch / f"{number:05}.h5" for number in range(len(parts))]
    own = distributed.share([*zip(shards, parts)])
    total = sum(len(part) for _, part in own)
    todo = [record for path, part in own if not job.pieces.has(path) for record in part]
    read = read_ahead(explain.squares, todo, settings.batch_size, context.readers)
    with Behind() as behind:
        for path, part in context.track(own, total=total, size=lambda item: len(item[1])):
            if not job.pieces.has(path):
                squares = [made for _, made in islice(read, len(part))]
                behind(_write, job, path, [*explain(part, squares)], explain.grid)
    distributed.wait()
    if distributed.rank():
        return {}
    merge_shards(
        job.folder / "maps.h5",
        shards,
        explain.grid,
        data.classes,
        settings.method,
        dict(settings),
    )
    return {"images": len(records), "grid": list(explain.grid)}


def _write(job: Job, path: Path, maps: Sequence[ImageMaps], grid: tuple[int, int]) -> None:
    with job.pieces.write(path) as temporary:
        write_shard(temporary, maps, grid)


class Explainer:
    """Computes maps of photos, averaged over scales and flips, on the patch grid of scale 1."""

    def __init__(self, network: nn.Module, image_size: int, settings: Any, classes: int) -> None:
        self.network, self.settings, self.classes = network, settings, classes
        self.statistics = normalisation(network)
        self.device = next(network.parameters()).device
        self.sizes = [scaled_side(network, image_size, scale) for scale in settings.scales]
        side = image_size // network.patch_embed.feat_ratio()
        self.grid = (side, side)

    def squares(self, record: Record) -> Squares:
        """A photo as the network gets it: stretched to a square of each size."""
        image = read_photo(record)
        return [to_square(image, size) for size in self.sizes]

    def __call__(
        self, records: Sequence[Record], squares: Sequence[Squares] | None = None
    ) -> Iterator[ImageMaps]:
        """Yield (id, class ids (K,), un-normalised maps (K, h, w)) of each photo, in order.

        Args:
            squares: what the method ``squares`` gives of each photo. None: read them.
        """
        images = [*map(self.squares, records)] if squares is None else squares
        targets = self._targets(records, images)
        maps = np.zeros((len(records), self.classes, *self.grid), np.float32)
        # Sorted by number of classes, because a batch takes as many passes as its fullest image.
        order = np.argsort(-targets.sum(1), kind="stable")
        for start in range(0, len(order), self.settings.batch_size):
            chosen = order[start : start + self.settings.batch_size]
            maps[chosen] = self._average([images[i] for i in chosen], targets[chosen])
        for record, present, image_maps in zip(records, targets, maps):
            yield record.id, np.flatnonzero(present).astype(np.uint8) + 1, image_maps[present]

    def _average(self, images: Sequence[Squares], targets: np.ndarray) -> np.ndarray:
        wanted = torch.from_numpy(targets).to(self.device)
        total, count = 0, 0
        for batch, mirrored in self._views(images):
            with autocast(self.settings.precision, self.device):
                maps = compute_maps(
                    self.network,
                    batch,
                    wanted,
                    method=self.settings.method,
                    start_block=self.settings.start_block,
                )
            total = total + resize_maps(maps.flip(-1) if mirrored else maps, self.grid)
            count += 1
        return (total / count).cpu().numpy()

    def _views(self, images: Sequence[Squares]) -> Iterator[tuple[torch.Tensor, bool]]:
        for of_size in zip(*images):
            batch = on_device(torch.stack(of_size), self.device)
            batch = normalise_images(batch, self.statistics)
            yield batch, False
            if self.settings.flip:
                yield batch.flip(-1), True

    def _targets(self, records: Sequence[Record], images: Sequence[Squares]) -> np.ndarray:
        """The classes to explain (N, C) bool: the labels, or what the network predicts."""
        targets = multi_hot(records, self.classes)
        unlabelled = [n for n, record in enumerate(records) if record.labels is None]
        for start in range(0, len(unlabelled), self.settings.batch_size):
            chosen = unlabelled[start : start + self.settings.batch_size]
            batch, _ = next(self._views([images[n] for n in chosen]))
            scores = class_scores(self.network, iter([batch]))
            best = scores == scores.max(1, keepdims=True)
            targets[chosen] = best | (scores > self.settings.predicted_above)
        return targets
