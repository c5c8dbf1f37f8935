"""encoder_features: what an encoder that is not trained makes of every train photo, kept on disk.

needs   the classifier, if deeplab.weights names it; images of the train split
makes   NNNNN.npy: (images, D x blocks, h, w) float16 of 64 images each, in the order of the split
costs   a forward pass per image, and D x blocks x h x w x 2 bytes of disk (deeplab.fixed_encoder
        asks for it: every training on other labels is then one of the decoder alone)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from getam.cache import atomic_write
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

SHARD = 64  # images; a killed run loses at most this much work


def run(job: Job) -> dict[str, Any]:
    settings, context = job.config.deeplab, job.context
    records = open_data(job).split(job.config.data.train)
    torch.manual_seed(job.config.seed)  # of weights 'none'
    network = build_deeplab(**encoder_of(job), num_classes=1, channels=1, atrous_rates=(1, 1, 1))
    if not isinstance(network, ViTDeepLab):
        raise UserError(
            f"deeplab.fixed_encoder: got the encoder {settings.encoder}, expected a plain ViT. Set "
            f"fixed_encoder to false, or another deeplab.encoder."
        )
    network.to(context.device).eval()

    parts = [*enumerate(batches(records, SHARD))]
    for number, part in context.track(distributed.share(parts), unit="shard"):
        path = shard_path(job.folder, number)
        if not path.exists():
            found = [look(network, some, settings, context.device) for some in batches(part, 16)]
            with atomic_write(path) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.concatenate(found))
    distributed.wait()
    return {"images": len(records)}


@torch.inference_mode()
def look(network: ViTDeepLab, records: Sequence[Record], settings: Any, device: str) -> np.ndarray:
    """Features (B, D x blocks, h, w) float16 of images letterboxed as they are in a test."""
    images = [read_photo(record) for record in records]
    boxed = [letterbox(image, settings.image_size, network.stride)[0] for image in images]
    batch = normalise_images(torch.stack(boxed).to(device), normalisation(network))
    with autocast(settings.precision, device):
        return network.features(batch).half().cpu().numpy()


def read_features(folder: Path, index: int) -> torch.Tensor:
    """Of the image at ``index`` of the split: (D x blocks, h, w) float32."""
    shard = _opened(shard_path(folder, index // SHARD))
    return torch.from_numpy(shard[index % SHARD].astype(np.float32))


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npy"


@lru_cache(maxsize=1024)  # open files
def _opened(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
