"""Class probabilities of whole images, averaged over scales and flips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from getam.data.transforms import letterbox, normalise_images, resize_maps
from getam.networks.build import normalisation
from getam.networks.precision import autocast


class Segmenter:
    """Runs a segmentation network over images of any size.

    Each image is resized so that its long side is ``image_size`` times a scale, then padded to a
    square. Its probabilities are resized back, and averaged over scales and flips.
    """

    def __init__(
        self,
        network: nn.Module,
        image_size: int,
        scales: Sequence[float] = (1.0,),
        flip: bool = True,
        precision: str = "fp32",
    ) -> None:
        self.network, self.image_size, self.scales, self.flip = network, image_size, scales, flip
        self.precision = precision
        self.statistics = normalisation(network)
        self.device = next(network.parameters()).device

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(H, W, 3) uint8 images -> their probabilities, each (K, H, W) float32."""
        pairs = zip(images, self.coarse(images))
        return [enlarged(grids, image.shape[:2]) for image, grids in pairs]

    @torch.inference_mode()
    def coarse(self, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """(H, W, 3) uint8 images -> of each its probabilities (K, h, w) float32 at every scale.

        They have the size of the network's input, however large the image is. :func:`enlarged`
        makes one array of them, as large as the image.
        """
        found: list[list[np.ndarray]] = [[] for _ in images]
        for scale in self.scales:
            side = max(1, round(self.image_size * scale))
            boxed = [letterbox(image, side, self.network.stride) for image in images]
            batch = torch.stack([pixels for pixels, _ in boxed]).to(self.device)
            probabilities = self._probabilities(normalise_images(batch, self.statistics)).cpu()
            for own, one, (_, (h, w)) in zip(found, probabilities, boxed):
                own.append(one[:, :h, :w].numpy().copy())
        return found

    def _probabilities(self, batch: Tensor) -> Tensor:
        probabilities = self._run(batch)
        if self.flip:
            # The padding is mirrored along with the image, so that flipping back aligns both.
            probabilities = (probabilities + self._run(batch.flip(-1)).flip(-1)) / 2
        return probabilities

    def _run(self, batch: Tensor) -> Tensor:
        with autocast(self.precision, self.device):
            return self.network(batch).float().softmax(1)


def enlarged(grids: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The mean over scales of probabilities (K, h, w), each enlarged to (K, H, W) first."""
    resized = [resize_maps(torch.from_numpy(grid)[None], size)[0].numpy() for grid in grids]
    return resized[0] if len(resized) == 1 else sum(resized) / np.float32(len(resized))


def segment(
    segmenter: Segmenter, images: Iterable[tuple[Any, np.ndarray]], batch_size: int
) -> Iterator[tuple[Any, np.ndarray, list[np.ndarray]]]:
    """(name, image) -> (name, image, ``Segmenter.coarse`` of the image), in batches."""
    images = iter(images)
    while pairs := list(islice(images, batch_size)):
        found = segmenter.coarse([image for _, image in pairs])
        yield from ((name, image, grids) for (name, image), grids in zip(pairs, found))
