"""deeplab: a segmentation network learns from the pseudo labels.

needs   pseudo labels, or (deeplab.labels: masks) the masks of the train split, for the fully
        supervised line with the same network and schedule; the classifier, to start from
makes   network.safetensors, network.json, history.json
costs   epochs x images x a training step of the network; the longest stage
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchvision import tv_tensors

from getam import ranks
from getam.data.augmentation import to_image, training_transform
from getam.data.images import read_image, read_mask
from getam.errors import UserError
from getam.losses import SEGMENTATION
from getam.networks import build_deeplab, normalisation, save_network
from getam.training import train
from stages.common import explained, open_data

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.deeplab, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    read = _labels_of(job, data, records)

    build = {
        "encoder": settings.encoder,
        "num_classes": len(data.classes) + 1,
        "image_size": settings.image_size,
        "args": dict(settings.encoder_args),
        "channels": settings.channels,
        "atrous_rates": list(settings.atrous_rates),
    }
    torch.manual_seed(job.config.seed)
    if settings.weights == "classifier":
        weights = str(explained(job) / "network.safetensors")
    else:
        weights = context.file("deeplab.weights", settings.weights)
    network = build_deeplab(**build, weights=weights)
    augment = training_transform(
        settings.image_size,
        settings.crop_scale,
        settings.flip,
        settings.color_jitter,
        normalisation(network),
    )

    def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = read_image(records[index].image)
        mask = read(records[index], image.shape[:2])
        return augment(to_image(image), tv_tensors.Mask(torch.from_numpy(mask)))

    loss = SEGMENTATION[settings.loss]
    history = train(
        network,
        len(records),
        item,
        lambda network, batch: loss(network(batch[0]).float(), batch[1]),
        settings,
        seed=job.config.seed,
        scratch=job.scratch,
        device=context.device,
        workers=context.loader_workers,
        track=context.track,
    )

    if ranks.rank():
        return {}
    save_network(job.folder, network, {"kind": "deeplab", **build}, data.classes)
    (job.folder / "history.json").write_text(json.dumps(history.epochs, indent=1))
    return {"loss": history.epochs[-1]["loss"], "trained on": settings.labels}


def _labels_of(
    job: Job, data: DataIndex, records: Sequence[Record]
) -> Callable[[Record, tuple[int, int]], np.ndarray]:
    """What reads the labels (H, W) of a record to learn from."""
    if job.config.deeplab.labels == "pseudolabels":
        folder = job.inputs["pseudolabels"] / "labels"
        return lambda r, size: read_mask(folder / f"{r.id}.png", size, len(data.classes))
    missing = [r.id for r in records if r.mask is None]
    if missing:
        raise UserError(
            f"deeplab.labels: masks needs a mask for every train image, got none for "
            f"{len(missing)} of {len(records)}, {missing[0]!r} first. Add masks/ID.png, or train "
            f"on the pseudo labels."
        )
    return data.read_mask
