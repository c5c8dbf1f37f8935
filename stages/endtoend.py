"""endtoend: trains one network, first on the classes, then on pixel labels that it makes itself.

needs   train photos with image-level labels; saliency maps (from the data folder, an ONNX model or
        the stage foreground) unless pseudolabels.saliency is none; val photos with labels, to
        measure the network; masks of val, if there are any, to measure it after each epoch;
        corrected masks of train, if there are any, in place of the labels that the network makes
makes   network.safetensors, network.json, history.json, scores.npz (class probabilities of val)
costs   first phase: as the stage classifier; second phase: a step takes about as long as two
        training steps of the whole network
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors

from getam.data.ahead import batches, read_ahead
from getam.data.augmentation import to_image, training_transform
from getam.data.images import read_photo, read_saliency
from getam.data.resizing import enlarged_argmax
from getam.data.transforms import resize_maps
from getam.labels.saliency import Saliency, open_saliency
from getam.labels.steps import salient_pixels
from getam.metrics.segmentation import ConfusionMatrix
from getam.networks.build import build_endtoend, normalisation, save_network
from getam.networks.inference import Boxed, Segmenter
from getam.training import distributed
from getam.training.joint import JointLoss
from getam.training.loop import mix, train
from getam.training.losses import multi_label_soft_margin
from stages.classifier import score
from stages.shared import multi_hot, open_data, teaches

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record
    from getam.networks.decoders import ViTEndToEnd

Row = dict[str, Any]
ReadMask = Callable[["Record", tuple[int, int]], np.ndarray]


def check(job: Job) -> None:
    from getam.running.preflight import (
        check_corrections,
        check_maps,
        check_photos,
        check_saliency,
        check_splits,
        check_training,
        data_of,
        without_weights,
    )

    settings, data = job.config.endtoend, data_of(job)
    check_splits(job)
    check_corrections(job, lambda record: teaches(job, record))
    check_photos(job)
    if data is not None:
        records = data.labelled(job.config.data.train)
        check_saliency(_open_saliency(job, data, records), records)
    network = without_weights(
        build_endtoend,
        job.context.file("endtoend.weights", settings.weights),
        model=settings.model,
        num_classes=1,
        image_size=settings.image_size,
        args=dict(settings.model_args),
        channels=settings.channels,
    )
    check_training(job, "endtoend.classification", network.encoder, settings.image_size)
    check_training(job, "endtoend.joint", network, settings.image_size)
    check_maps(job, [job.config.maps.method], job.config.maps.start_block)


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.endtoend, job.context
    data = open_data(job)
    records = _with_saliency(job, data)
    build = {
        "model": settings.model,
        "num_classes": len(data.classes),
        "image_size": settings.image_size,
        "args": dict(settings.model_args),
        "channels": settings.channels,
    }
    torch.manual_seed(job.config.seed)
    weights = context.file("endtoend.weights", settings.weights)
    network = build_endtoend(**build, weights=weights).to(context.device)

    classification = _learn_classes(job, network, records)
    joint = _learn_jointly(job, network, records, data)

    figures = score(job, network.encoder, settings.image_size, data)
    if distributed.rank():
        return {}
    save_network(job.folder, network, {"kind": "endtoend", **build}, data.classes, data.intensities)
    epochs = [{"phase": "classification", **row} for row in classification]
    epochs += [{"phase": "joint", **_named(row, data.classes)} for row in joint]
    (job.folder / "history.json").write_text(json.dumps(epochs, indent=1))
    figures = {"loss": joint[-1]["loss"], **figures}
    if "val mIoU" in joint[-1]:
        figures["val mIoU per epoch"] = [row["val mIoU"] for row in joint]
    return {**figures, "epochs": epochs}


def _learn_classes(job: Job, network: ViTEndToEnd, records: Sequence[Record]) -> list[Row]:
    """First phase: train the encoder alone, as the stage classifier does."""
    settings = job.config.endtoend.classification
    return _train(
        job,
        "classification",
        network.encoder,
        len(records),
        Items(records, settings, job.config, network),
        lambda encoder, batch: multi_label_soft_margin(encoder(batch[0]), batch[1]),
        seed=job.config.seed,
    )


def _learn_jointly(
    job: Job, network: ViTEndToEnd, records: Sequence[Record], data: DataIndex
) -> list[Row]:
    """Second phase: the network labels each batch, then learns from all losses together."""
    settings, labels = job.config.endtoend.joint, job.config.pseudolabels
    network.requires_grad_(True)  # each phase freezes its own blocks
    masks = [] if labels.saliency == "none" else [_salient(labels.saliency_threshold)]
    weight = None
    if any(teaches(job, record) for record in records):
        masks, weight = [*masks, _correction(job, data)], settings.correction_weight
    return _train(
        job,
        "joint",
        network,
        len(records),
        Items(records, settings, job.config, network, masks),
        JointLoss(network.encoder, settings.loss, job.config.maps, labels, weight),
        seed=mix(job.config.seed, 1),
        measure=_validation(job, network, data),
    )


def _train(
    job: Job,
    phase: str,
    network: nn.Module,
    items: int,
    item: Callable[[int], tuple[Tensor, ...]],
    loss: Callable,
    **options: Any,
) -> list[Row]:
    """Train one phase, with its own optimiser and schedule. A finished phase is only loaded."""
    context = job.context
    history = train(
        network,
        items,
        item,
        loss,
        job.config.endtoend[phase],
        pieces=job.pieces,
        scratch=job.scratch / phase,
        device=context.device,
        workers=context.loader_workers,
        track=context.track,
        **options,
    )
    return history.epochs


class Items:
    """Training items: augmented photo (3, S, S), image-level labels (C,), and ``masks`` (S, S).

    ``masks`` are functions that read such of a photo; they are cropped and mirrored like the photo.
    """

    def __init__(
        self,
        records: Sequence[Record],
        settings: Any,
        config: Any,
        network: ViTEndToEnd,
        masks: Sequence[ReadMask] = (),
    ) -> None:
        self.records, self.masks = records, masks
        self.labels = torch.from_numpy(multi_hot(records, network.encoder.num_classes)).float()
        self.augment = training_transform(
            config.endtoend.image_size,
            settings.crop_scale,
            settings.flip,
            settings.color_jitter,
            normalisation(network),
        )

    def __call__(self, index: int) -> tuple[Tensor, ...]:
        record = self.records[index]
        image = read_photo(record)
        masks = [torch.from_numpy(read(record, image.shape[:2])) for read in self.masks]
        changed = self.augment(to_image(image), *map(tv_tensors.Mask, masks))
        image, *masks = changed if masks else (changed,)
        return image, self.labels[index], *masks


def _salient(threshold: float) -> ReadMask:
    """Reads the salient pixels, 0 or 1."""
    return lambda r, size: (read_saliency(r.saliency, size) > threshold).astype(np.uint8)


def _correction(job: Job, data: DataIndex) -> ReadMask:
    """Reads the corrected mask that is learnt from; -1 everywhere if a photo has none."""

    def read(record: Record, size: tuple[int, int]) -> np.ndarray:
        if teaches(job, record):
            return data.read_correction(record, size).astype(np.int16)
        return np.full(size, -1, np.int16)

    return read


def _with_saliency(job: Job, data: DataIndex) -> list[Record]:
    """The labelled train photos, with the paths of their saliency maps if saliency is used.

    Saliency maps that do not come from the data folder are computed once and kept in ``scratch``.
    """
    records = list(data.labelled(job.config.data.train))
    saliency = _open_saliency(job, data, records)
    if saliency.sources in (("folder",), ("none",)):
        return records
    folder = job.scratch / "saliency"
    records = [(record, folder / f"{record.id}.png") for record in records]
    for record, path in job.context.track(distributed.share(records)):
        if not job.pieces.has(path):
            image = read_photo(record)
            soft = saliency.of(record, image, image.shape[:2])
            enlarged = soft._replace(on_grid=resize_maps(soft.on_grid, image.shape[:2]))
            salient = salient_pixels(enlarged)[0].numpy()
            with job.pieces.write(path) as temporary:
                Image.fromarray(salient.astype(np.uint8) * 255).save(temporary, format="PNG")
    distributed.wait()
    return [replace(record, saliency=path) for record, path in records]


def _open_saliency(job: Job, data: DataIndex, records: Sequence[Record]) -> Saliency:
    return open_saliency(
        job.config.pseudolabels,
        records,
        job.context.saliency or data.root / "saliency",
        job.context.file("pseudolabels.saliency_model", job.config.pseudolabels.saliency_model),
        job.inputs.get("foreground"),
    )


def _validation(job: Job, network: ViTEndToEnd, data: DataIndex) -> Callable[[], dict[str, float]]:
    """A function that measures the mIoU of the network on val.

    It gives {} if no mask of val shows a class.
    """
    records = [r for r in data.split(job.config.data.val) if r.mask is not None]
    segmenter = Segmenter(network, job.config.endtoend.image_size, flip=False)

    def photo(record: Record) -> tuple[Boxed, tuple[int, int]]:
        image = read_photo(record)
        return segmenter.boxed(image), image.shape[:2]

    def measure() -> dict[str, float]:
        confusion = ConfusionMatrix(len(data.classes) + 1)
        batch_size = segmenter.fitting(job.config.endtoend.joint.batch_size)
        read = read_ahead(photo, distributed.share(records), batch_size, job.context.readers)
        for batch in batches(read, batch_size):
            found = segmenter.of_boxed([boxed for _, (boxed, _) in batch])
            for (record, (_, size)), grids in zip(batch, found):
                mask = data.read_mask(record, size)
                confusion.update(enlarged_argmax(grids, size), mask)
        total = distributed.add_up(confusion)
        return {"val mIoU": total.miou()} if total.has_classes else {}

    return measure if records else dict


def _named(row: Row, classes: Sequence[str]) -> Row:
    """A row of the history in which each label share has the name of its class."""
    names = ("background", *classes, "ignored")
    return {**row, "label share": dict(zip(names, row["label share"]))}
