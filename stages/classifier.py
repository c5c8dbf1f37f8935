"""classifier: trains a timm ViT to tell which classes are in a photo.

needs   train photos with image-level labels; val photos with labels, to measure the network
makes   network.safetensors, network.json, history.json, scores.npz (class probabilities of val)
costs   epochs x photos x one training step of the ViT
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from getam.data.augmentation import to_image, training_transform
from getam.data.images import read_photo
from getam.data.kept import kept
from getam.metrics.classification import average_precision, mean_average_precision
from getam.networks.build import build_classifier, normalisation, save_network
from getam.networks.patch_dropout import drop_patches
from getam.training import distributed
from getam.training.loop import train
from getam.training.losses import multi_label_soft_margin
from stages.shared import (
    class_scores,
    multi_hot,
    open_data,
    per_class,
    shared_batches,
    square_batches,
)

if TYPE_CHECKING:
    from torch import nn

    from getam.cache import Job
    from getam.data.index import DataIndex


def check(job: Job) -> None:
    from getam.running.preflight import check_training, without_weights

    settings = job.config.classifier
    network = without_weights(
        build_classifier,
        job.context.file("classifier.weights", settings.weights),
        model=settings.model,
        num_classes=1,
        image_size=settings.image_size,
        args=dict(settings.model_args),
    )
    drop_patches(network, settings.patch_drop_rate)
    check_training(job, "classifier", network, settings.image_size)


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.classifier, job.context
    data = open_data(job)
    records = data.labelled(job.config.data.train)
    labels = torch.from_numpy(multi_hot(records, len(data.classes))).float()

    build = {
        "model": settings.model,
        "num_classes": len(data.classes),
        "image_size": settings.image_size,
        "args": dict(settings.model_args),
    }
    torch.manual_seed(job.config.seed)
    weights = context.file("classifier.weights", settings.weights)
    network = build_classifier(**build, weights=weights)
    drop_patches(network, settings.patch_drop_rate)
    augment = training_transform(
        settings.image_size,
        settings.crop_scale,
        settings.flip,
        settings.color_jitter,
        normalisation(network),
    )

    @kept
    def photo(index: int) -> tuple[np.ndarray]:
        return (read_photo(records[index]),)

    history = train(
        network,
        len(records),
        lambda index: (augment(to_image(*photo(index))), labels[index]),
        lambda network, batch: multi_label_soft_margin(network(batch[0]), batch[1]),
        settings,
        seed=job.config.seed,
        pieces=job.pieces,
        scratch=job.scratch,
        device=context.device,
        workers=context.loader_workers,
        track=context.track,
    )

    figures = score(job, network, settings.image_size, data)
    if distributed.rank():
        return {}
    save_network(
        job.folder, network, {"kind": "classifier", **build}, data.classes, data.intensities
    )
    (job.folder / "history.json").write_text(json.dumps(history.epochs, indent=1))
    return {"loss": history.epochs[-1]["loss"], **figures}


def score(job: Job, classifier: nn.Module, image_size: int, data: DataIndex) -> dict[str, Any]:
    """Average precision of each class on val, and their mean. Rank 0 writes ``scores.npz``."""
    records = data.labelled(job.config.data.val)
    statistics = normalisation(classifier)
    own = shared_batches(records, 32)
    found = square_batches(own, image_size, 32, statistics, job.context)
    parts = [class_scores(classifier, iter([images])) for _, images in found]
    scores = np.concatenate(distributed.gather(parts))
    if distributed.rank():
        return {}
    labels = multi_hot(records, len(data.classes))
    np.savez(job.folder / "scores.npz", ids=[r.id for r in records], scores=scores, labels=labels)
    precisions = per_class(data.classes, average_precision(scores, labels))
    return {"val mAP": mean_average_precision(scores, labels), "val AP": precisions}
