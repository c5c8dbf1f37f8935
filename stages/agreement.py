"""agreement: one figure that ranks settings without masks. It belongs to the command choose.

needs   pseudo labels, and the encoder_features of the same photos
makes   agreement.json: the agreement of the pseudo labels with readouts that learnt from the pseudo
        labels of other photos (getam/labels/label_agreement.py), and its IoU per class
        agreement.npy: the pixels of each photo that it is made of
costs   seconds: it reads the stored features twice
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from getam.data.images import image_size
from getam.data.masks import read_mask
from getam.data.transforms import letterbox_size
from getam.errors import UserError
from getam.labels.label_agreement import COUNTS, Agreement
from getam.labels.readout import held_out_answers, on_patches, patch_grid
from getam.networks.build import build_deeplab
from getam.networks.decoders import ViTDeepLab
from stages.encoder_features import read_features
from stages.shared import encoder_of, open_data, per_class

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import DataIndex


def check(job: Job) -> None:
    """Refuse an encoder whose features are not stored, before the classifier is trained.

    Raises:
        UserError: it is not a plain ViT, or lacks a block.
    """
    if not isinstance(_shape_of_network(job), ViTDeepLab):
        raise UserError(
            f"deeplab.encoder: got {job.config.deeplab.encoder}, but choose needs the patch "
            f"features of a plain ViT. Add --set deeplab.encoder=NAME of one, such as that of the "
            f"classifier, to the command choose alone."
        )


def _shape_of_network(job: Job) -> nn.Module:
    """The network without values."""
    with torch.device("meta"):
        given = {**encoder_of(job), "weights": "none"}
        return build_deeplab(**given, num_classes=1, channels=1, atrous_rates=(1, 1, 1))


def run(job: Job) -> dict[str, Any]:
    data = open_data(job)
    photos = Photos(job, data)
    agreement = Agreement(len(data.classes))
    answers = held_out_answers(photos.patches, len(data.classes) + 1)
    for (_, labels), record, answer in zip(photos.patches(), photos.records, answers):
        agreement.update(answer.argmax(0), labels, record.labels)
    figures = {"agreement": agreement.value(), "images": len(photos.records)}
    ious = per_class(("background", *data.classes), agreement.ious())
    text = json.dumps({**figures, "IoU per class": ious}, indent=1)
    (job.folder / "agreement.json").write_text(text, encoding="utf-8")
    agreement.save(job.folder / COUNTS)
    return figures


class Photos:
    """The labelled train photos: their stored features, and their pseudo labels."""

    def __init__(self, job: Job, data: DataIndex) -> None:
        self.job, self.classes = job, len(data.classes)
        split = data.split(job.config.data.train)
        self.positions = [n for n, record in enumerate(split) if record.labels is not None]
        self.records = [split[n] for n in self.positions]
        network = _shape_of_network(job)
        self.stride, self.width = network.stride, network.encoder.embed_dim

    def patches(self) -> Iterator[tuple[Tensor, np.ndarray]]:
        """The features (D, h, w) of the last block, and the pseudo label (4h, 4w), of each."""
        for position, record in zip(self.positions, self.records):
            size = image_size(record.image)
            _, boxed = letterbox_size(size, self.job.config.deeplab.image_size, self.stride)
            rows, columns = patch_grid(boxed, self.stride)
            features = read_features(self.job.inputs["encoder_features"], position).float()
            path = self.job.inputs["pseudolabels"] / "labels" / f"{record.id}.png"
            labels = on_patches(read_mask(path, size, self.classes), (rows, columns))
            yield features[-self.width :, :rows, :columns], labels
