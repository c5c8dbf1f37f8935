"""encoder_features: stores the encoder output of every train photo, if the encoder is not trained.

Runs with deeplab.fixed_encoder. DeepLab then trains only its decoder, on these features.

needs   train photos; with deeplab.weights: classifier the network that the maps explain
makes   NNNNN.npy: (photos, D x blocks, h, w) float16, 64 photos per file, in the order of the split
costs   one forward pass and D x blocks x h x w x 2 bytes of disk per photo
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from getam.data.images import read_photo
from getam.data.transforms import letterbox, normalise_images
from getam.errors import UserError
from getam.networks.build import build_deeplab, normalisation
from getam.networks.decoders import ViTDeepLab
from getam.networks.precision import autocast
from getam.training import distributed
from stages.shared import batches, encoder_of, open_data

if TYPE_CHECKING:
    from getam.cache import Job
    from getam.data.index import Record

SHARD = 64  # photos in a file; a killed run loses at most the work of one file


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
    for number, part in context.track(own, total=total, size=lambda item: len(item[1])):
        path = shard_path(job.folder, number)
        if not job.pieces.has(path):
            found = [look(network, some, settings, context.device) for some in batches(part, 16)]
            with job.pieces.write(path) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.concatenate(found))
    distributed.wait()
    return {"images": len(records)}


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


@torch.inference_mode()
def look(network: ViTDeepLab, records: Sequence[Record], settings: Any, device: str) -> np.ndarray:
    """Encoder features (B, D x blocks, h, w) float16 of photos, letterboxed as in predictions."""
    images = [read_photo(record) for record in records]
    boxed = [letterbox(image, settings.image_size, network.stride)[0] for image in images]
    batch = normalise_images(torch.stack(boxed).to(device), normalisation(network))
    with autocast(settings.precision, device):
        return network.features(batch).half().cpu().numpy()


def read_features(folder: Path, index: int) -> torch.Tensor:
    """The features (D x blocks, h, w) float32 of the photo at position ``index`` of the split."""
    shard = _opened(shard_path(folder, index // SHARD))
    return torch.from_numpy(shard[index % SHARD].astype(np.float32))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


@lru_cache(maxsize=1024)  # open files
def _opened(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
