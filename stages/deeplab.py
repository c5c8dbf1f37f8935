"""deeplab: trains a segmentation network on the pseudo labels.

needs   train photos and their pseudo labels (with deeplab.labels: masks their masks instead, to
        know what full supervision reaches); corrected masks, if there are any, in place of these
        pseudo labels; with deeplab.weights: classifier the network that the maps explain; with
        deeplab.fixed_encoder the encoder_features
makes   network.safetensors, network.json, history.json
costs   epochs x photos x one training step of the network; mostly the longest stage
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torchvision import tv_tensors

from getam.data.augmentation import to_image, training_transform
from getam.data.images import image_size, read_photo
from getam.data.kept import kept
from getam.data.label_values import IGNORE
from getam.data.masks import read_mask
from getam.data.transforms import letterbox_size, resize_maps
from getam.errors import UserError
from getam.networks.build import build_deeplab, normalisation, save_network
from getam.networks.decoders import FixedEncoderDeepLab
from getam.training import distributed
from getam.training.loop import train
from getam.training.losses import SEGMENTATION
from stages.encoder_features import check_plain_vit, read_features
from stages.shared import encoder_of, open_data, teaches

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex, Record


LABELS_PER_PATCH = 4  # along a side, with deeplab.fixed_encoder; finer labels add nothing

ReadLabels = Callable[["Record", tuple[int, int]], np.ndarray]
MakeItem = Callable[[int], tuple[torch.Tensor, ...]]


def check(job: Job) -> None:
    from getam.running import preflight
    from getam.running.preflight import check_training, data_of, without_weights

    settings, data = job.config.deeplab, data_of(job)
    if settings.labels == "pseudolabels":
        preflight.check_corrections(job, lambda record: teaches(job, record))
    elif data is not None:
        records = data.split(job.config.data.train)
        _labels_of(job, data, records)
        preflight.check_masks(data, records, decoded=True)
    given = encoder_of(job)
    weights = given.pop("weights")
    network = without_weights(
        build_deeplab,
        "none" if settings.weights == "classifier" else weights,
        **given,
        num_classes=2,
        channels=settings.channels,
        atrous_rates=list(settings.atrous_rates),
    )
    if settings.weights == "classifier":
        _check_same_encoder(job, network)
    side = settings.image_size
    if settings.fixed_encoder:
        check_plain_vit(network, settings.encoder)
        _check_not_frozen(settings.frozen_blocks)
        side, _ = letterbox_size((side, side), side, network.stride)
    check_training(job, "deeplab", network, side)
    tall = {settings.encoder: (side + network.stride, side)}
    preflight.check_sizes(network, "deeplab.encoder", tall)


def _check_not_frozen(blocks: int) -> None:
    if blocks:
        raise UserError(
            f"deeplab.frozen_blocks: got {blocks} with deeplab.fixed_encoder, which trains no "
            f"block at all. Set deeplab.frozen_blocks to 0, or deeplab.fixed_encoder to false."
        )


def _check_same_encoder(job: Job, network: nn.Module) -> None:
    """The weights of the network that is explained must fit this encoder."""
    from getam.running.preflight import explained_network

    explained, _ = explained_network(job)
    theirs, ours = explained.state_dict(), getattr(network, "encoder", network).state_dict()
    wrong = [
        name
        for name, tensor in ours.items()
        if not name.startswith(("head", "pos_embed"))
        and (name not in theirs or theirs[name].shape != tensor.shape)
    ]
    if wrong:
        raise UserError(
            f"deeplab.weights: got classifier, but {len(wrong)} of {len(ours)} tensors of "
            f"deeplab.encoder {job.config.deeplab.encoder} do not fit the network that the maps "
            f"explain, the first is {wrong[0]!r}. Set deeplab.encoder and deeplab.encoder_args as "
            f"for this network, or set deeplab.weights to timm, none or a file."
        )


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.deeplab, job.context
    data = open_data(job)
    records = data.split(job.config.data.train)
    read = _labels_of(job, data, records)

    build = {
        **encoder_of(job),
        "num_classes": len(data.classes) + 1,
        "channels": settings.channels,
        "atrous_rates": list(settings.atrous_rates),
    }
    torch.manual_seed(job.config.seed)
    network = build_deeplab(**build)
    del build["weights"]
    if settings.fixed_encoder:
        _check_not_frozen(settings.frozen_blocks)
        learner = FixedEncoderDeepLab(network)
        item = _over_features(job, network.stride, records, read)
    else:
        learner, item = network, _augmented(settings, network, records, read)
    corrected = _corrected(job, records)
    if any(corrected):
        item = _weighted(item, corrected, settings.correction_weight)

    loss = SEGMENTATION[settings.loss]
    history = train(
        learner,
        len(records),
        item,
        lambda learner, batch: loss(_sized_as(batch[1], learner(batch[0])), *batch[1:]),
        settings,
        seed=job.config.seed,
        pieces=job.pieces,
        scratch=job.scratch,
        device=context.device,
        workers=context.loader_workers,
        track=context.track,
    )

    if distributed.rank():
        return {}
    save_network(job.folder, network, {"kind": "deeplab", **build}, data.classes, data.intensities)
    (job.folder / "history.json").write_text(json.dumps(history.epochs, indent=1))
    figures = {"loss": history.epochs[-1]["loss"], "trained on": settings.labels}
    return {**figures, **({"corrections": sum(corrected)} if any(corrected) else {})}


def _augmented(
    settings: Any, network: nn.Module, records: Sequence[Record], read: ReadLabels
) -> MakeItem:
    """Training items: a photo and its labels, cropped, mirrored and recoloured at random."""
    augment = training_transform(
        settings.image_size,
        settings.crop_scale,
        settings.flip,
        settings.color_jitter,
        normalisation(network),
    )

    @kept
    def photo(index: int) -> tuple[np.ndarray, np.ndarray]:
        image = read_photo(records[index])
        return image, read(records[index], image.shape[:2])

    def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = photo(index)
        return augment(to_image(image), tv_tensors.Mask(torch.from_numpy(mask)))

    return item


def _over_features(job: Job, stride: int, records: Sequence[Record], read: ReadLabels) -> MakeItem:
    """Training items: the stored encoder features of a photo and its labels, mirrored at random."""
    settings = job.config.deeplab

    @kept
    def labels_of(index: int, grid: torch.Size) -> tuple[np.ndarray]:
        size = image_size(records[index].image)
        mask = read(records[index], size)
        _, boxed = letterbox_size(size, settings.image_size, stride)
        cell = stride / LABELS_PER_PATCH
        labels = np.full([LABELS_PER_PATCH * side for side in grid], IGNORE, np.uint8)
        rows, columns = (
            _centres(count, cell * side / resized, side)
            for count, side, resized in zip(labels.shape, size, boxed)
        )
        labels[: len(rows), : len(columns)] = mask[np.ix_(rows, columns)]
        return (labels,)

    def item(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        features = read_features(job.inputs["encoder_features"], index)
        pair = features, *map(torch.from_numpy, labels_of(index, features.shape[1:]))
        return tuple(part.flip(-1) for part in pair) if torch.rand(()) < settings.flip else pair

    return item


def _centres(count: int, cell: float, side: int) -> np.ndarray:
    """Of ``count`` cells in a row, the pixels at the centres of those inside a photo of this side.

    >>> _centres(4, 3.0, 10)
    array([1, 4, 7])
    """
    centres = ((np.arange(count) + 0.5) * cell).astype(int)
    return centres[centres < side]


def _weighted(item: MakeItem, corrected: Sequence[bool], weight: float) -> MakeItem:
    """The items, each with the weight of its labels in the loss.

    The weight is on the loss, not on how often a photo is drawn: an epoch has the same steps and
    takes the same time with corrections as without.
    """
    weights = torch.tensor([weight if own else 1.0 for own in corrected])
    return lambda index: (*item(index), weights[index])


def _sized_as(labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return resize_maps(logits.float(), labels.shape[-2:])


def _labels_of(job: Job, data: DataIndex, records: Sequence[Record]) -> ReadLabels:
    """The function that reads the training labels (H, W) of a photo."""
    if job.config.deeplab.labels == "pseudolabels":
        return _labels_or_corrections(job, data)
    missing = [r.id for r in records if r.mask is None]
    if missing:
        raise UserError(
            f"deeplab.labels: got masks, but {len(missing)} of {len(records)} train photos have "
            f"no mask, the first is {missing[0]!r}. Add masks/ID.png for each of them, or set "
            f"deeplab.labels to pseudolabels."
        )
    return data.read_mask


def _labels_or_corrections(job: Job, data: DataIndex) -> ReadLabels:
    folder, classes = job.inputs["pseudolabels"] / "labels", len(data.classes)

    def read(record: Record, size: tuple[int, int]) -> np.ndarray:
        if teaches(job, record):
            return data.read_correction(record, size)
        return read_mask(folder / f"{record.id}.png", size, classes)

    return read


def _corrected(job: Job, records: Sequence[Record]) -> list[bool]:
    """Which train photos have a corrected mask that is learnt from."""
    if job.config.deeplab.labels == "masks":
        return [False] * len(records)
    return [teaches(job, record) for record in records]
