"""encoder_features: stores the encoder output of every train photo, if the encoder is not trained.

Runs with deeplab.fixed_encoder. DeepLab then trains only its decoder, on these features.

needs   train photos; with deeplab.weights: classifier the network that the maps explain
makes   NNNNN.npy: (photos, D x blocks, h, w) float16, 64 photos per file, in the order of the split
costs   one forward pass and D x blocks x h x w x 2 bytes of disk per photo
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from getam.data.ahead import Behind, read_ahead
from getam.data.images import read_photo
from getam.data.transforms import letterbox, normalise_images, on_device
from getam.errors import UserError
from getam.networks.build import build_deeplab, normalisation
from getam.networks.decoders import ViTDeepLab
from getam.networks.precision import autocast
from getam.training import distributed
from stages.shared import batches, encoder_of, open_data

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import Record

SHARD = 64  # photos in a file; a killed run loses at most the work of two files
BATCH = 16


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.deeplab, job.context
    records = open_data(job).split(job.config.data.train)
    torch.manual_seed(job.config.seed)  # with weights 'none' the encoder is random
    network = build_deeplab(**encoder_of(job), num_classes=1, channels=1, atrous_rates=(1, 1, 1))
    check_plain_vit(network, settings.encoder)
    network.to(context.device).eval()

    parts = [*enumerate(batches(records, SHARD))]
    own = distributed.share(parts)
    total = sum(len(part) for _, part in own)
    todo = [r for number, part in own if not _has(job, number) for r in part]
    read = read_ahead(lambda record: boxed(network, record, settings), todo, BATCH, context.readers)
    with Behind() as behind:
        for number, part in context.track(own, total=total, size=lambda item: len(item[1])):
            if not _has(job, number):
                photos = (photo for _, photo in islice(read, len(part)))
                found = [look(network, some, settings) for some in batches(photos, BATCH)]
                behind(_write, job, number, np.concatenate(found))
    distributed.wait()
    return {"images": len(records)}


def _has(job: Job, number: int) -> bool:
    return job.pieces.has(shard_path(job.folder, number))


def _write(job: Job, number: int, features: np.ndarray) -> None:
    path = shard_path(job.folder, number)
    with job.pieces.write(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, features)


def check_plain_vit(network: nn.Module, encoder: str) -> None:
    """Refuse an encoder whose outputs cannot be stored.

    Raises:
        UserError: it is not a plain ViT.
    """
    if not isinstance(network, ViTDeepLab):
        raise UserError(
            f"deeplab.fixed_encoder: got the encoder {encoder}, expected a plain ViT. Set "
            f"deeplab.fixed_encoder to false, or deeplab.encoder to a plain ViT."
        )


def boxed(network: ViTDeepLab, record: Record, settings: Any) -> torch.Tensor:
    """A photo as in predictions: letterboxed, (3, S, S) uint8."""
    return letterbox(read_photo(record), settings.image_size, network.stride)[0]


@torch.inference_mode()
def look(network: ViTDeepLab, photos: Sequence[torch.Tensor], settings: Any) -> np.ndarray:
    """Encoder features (B, D x blocks, h, w) float16 of photos that :func:`boxed` made."""
    device = next(network.parameters()).device
    batch = normalise_images(on_device(torch.stack([*photos]), device), normalisation(network))
    with autocast(settings.precision, device):
        return network.features(batch).half().cpu().numpy()


def read_features(folder: Path, index: int) -> torch.Tensor:
    """The features (D x blocks, h, w) float16 of the photo at position ``index`` of the split.

    The file is closed again: with all files open, a process would reach its limit of open files.
    """
    path = shard_path(folder, index // SHARD)
    start, shape, dtype = _layout(path)
    size = math.prod(shape[1:])
    at = start + index % SHARD * size * dtype.itemsize
    return torch.from_numpy(np.fromfile(path, dtype, size, offset=at).reshape(shape[1:]))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


@cache
def _layout(path: Path) -> tuple[int, tuple[int, ...], np.dtype]:
    """Of a file of features: the position of the first value, the shape, and the type."""
    features = np.load(path, mmap_mode="r", allow_pickle=False)
    return features.offset, features.shape, features.dtype
