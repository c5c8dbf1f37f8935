"""endtoend: trains one network, first on the classes, then on pixel labels that it makes itself.

needs   train photos with image-level labels; saliency maps (from the data folder, an ONNX model or
        the stage foreground) unless pseudolabels.saliency is none; val photos with labels, to
        measure the network; masks of val, if there are any, to measure it after each epoch;
        corrected masks of train, if there are any, in place of the labels that the network makes;
        with endtoend.weights: classifier that classifier, with deeplab both networks of the mode
        multi-stage; then there is no first phase
makes   network.safetensors, network.json, history.json, scores.npz (class probabilities of val)
costs   saliency maps that are not in the data folder: as the stage pseudolabels; first phase: as
        the stage classifier; second phase: a step takes about as long as two training steps of the
        whole network
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from getam.data.ahead import batches, read_ahead
from getam.data.images import read_photo
from getam.data.resizing import enlarged_argmax
from getam.labels.salient_photos import SalientPhotos
from getam.metrics.segmentation import ConfusionMatrix
from getam.networks.build import build_endtoend, normalisation, save_network
from getam.networks.inference import Boxed, Segmenter
from getam.running.photo_work import written
from getam.running.run_saliency import saliency_of
from getam.training import distributed
from getam.training.joint import JointLoss
from getam.training.joint_items import Items, ReadMask, salient, shares_of
from getam.training.joint_start import LEARNT, check_start, decoder_of, start
from getam.training.loop import mix, train
from getam.training.losses import multi_label_soft_margin
from stages.classifier import score
from stages.shared import multi_hot, open_data, teaches

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record
    from getam.networks.decoders import JointNetwork

Row = dict[str, Any]


def check(job: Job) -> None:
    from getam.running.preflight import (
        check_corrections,
        check_maps,
        check_masks,
        check_photos,
        check_saliency,
        check_sizes,
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
        check_saliency(saliency_of(job, data, records), records, decoded=True)
        check_masks(data, data.split(job.config.data.val), decoded=True)
    check_start(job.config)
    starts = settings.weights in LEARNT
    network = without_weights(
        build_endtoend,
        "none" if starts else _weights(job),
        model=settings.model,
        num_classes=1,
        image_size=settings.image_size,
        args=dict(settings.model_args),
        **decoder_of(job.config),
    )
    if not starts:
        check_training(job, "endtoend.classification", network.encoder, settings.image_size)
    check_training(job, "endtoend.joint", network, settings.image_size)
    check_maps(job, [job.config.maps.method], job.config.maps.start_block)
    tall = {settings.model: (settings.image_size + network.stride, settings.image_size)}
    check_sizes(network, "endtoend.model", tall)


def _weights(job: Job) -> str:
    """Where the encoder starts from, as :func:`getam.networks.build.build_endtoend` takes it."""
    if job.config.endtoend.weights in LEARNT:
        return str(job.inputs["classifier"] / "network.safetensors")
    return job.context.file("endtoend.weights", job.config.endtoend.weights)


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.endtoend, job.context
    data = open_data(job)
    records = _with_saliency(job, data)
    build = {
        "model": settings.model,
        "num_classes": len(data.classes),
        "image_size": settings.image_size,
        "args": dict(settings.model_args),
        **decoder_of(job.config, job.inputs.get("deeplab")),
    }
    torch.manual_seed(job.config.seed)
    network = start(build, _weights(job), job.inputs.get("deeplab")).to(context.device)

    learnt = settings.weights in LEARNT
    classification = [] if learnt else _learn_classes(job, network, records)
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


def _learn_classes(job: Job, network: JointNetwork, records: Sequence[Record]) -> list[Row]:
    """First phase: train the encoder alone, as the stage classifier does."""
    settings = job.config.endtoend.classification
    return _train(
        job,
        "classification",
        network.encoder,
        len(records),
        _items(job, network, records, settings),
        lambda encoder, batch: multi_label_soft_margin(encoder(batch[0]), batch[1]),
        seed=job.config.seed,
    )


def _learn_jointly(
    job: Job, network: JointNetwork, records: Sequence[Record], data: DataIndex
) -> list[Row]:
    """Second phase: the network labels each batch, then learns from all losses together."""
    settings, labels = job.config.endtoend.joint, job.config.pseudolabels
    network.requires_grad_(True)  # each phase freezes its own blocks
    masks = [] if labels.saliency == "none" else [salient(labels.saliency_threshold)]
    shares, weight = _shares(job), None
    if any(teaches(job, record) for record in records):
        masks, weight = [*masks, _correction(job, data)], settings.correction_weight
    return _train(
        job,
        "joint",
        network,
        len(records),
        _items(job, network, records, settings, masks=masks, shares=shares),
        JointLoss(
            network.encoder,
            settings.loss,
            job.config.maps,
            labels,
            correction_weight=weight,
            with_shares=shares is not None,
        ),
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


def _items(
    job: Job, network: JointNetwork, records: Sequence[Record], settings: Any, **known: Any
) -> Items:
    encoder, size = network.encoder, job.config.endtoend.image_size
    return Items(
        records,
        multi_hot(records, encoder.num_classes),
        size,
        settings,
        normalisation(network),
        grid=encoder.patch_embed.dynamic_feat_size((size, size)),
        **known,
    )


def _shares(job: Job) -> ReadMask | None:
    """Reads the class shares of the stage foreground; None if it made none."""
    foreground = job.inputs.get("foreground")
    folder = foreground and foreground / "classes"
    return shares_of(folder) if folder and folder.is_dir() else None


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
    settings, records = job.config.pseudolabels, list(data.labelled(job.config.data.train))
    saliency = saliency_of(job, data, records)
    if saliency.sources in (("folder",), ("none",)):
        return records
    folder = job.scratch.absolute() / "saliency"  # a Dask worker has another current folder
    files = {record.id: folder / f"{record.id}.png" for record in records}
    own = distributed.share(records)
    todo = [record for record in own if not job.pieces.has(files[record.id])]
    done = written(SalientPhotos(saliency, settings, files, job.pieces), todo, job.context)
    for _ in job.context.track(done, total=len(own), initial=len(own) - len(todo), size=int):
        pass
    distributed.wait()
    return [replace(record, saliency=files[record.id]) for record in records]


def _validation(job: Job, network: JointNetwork, data: DataIndex) -> Callable[[], dict[str, float]]:
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
