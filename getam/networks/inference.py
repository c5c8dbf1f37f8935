"""Class probabilities of whole images, averaged over scales and flips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

    @torch.inference_mode()
    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(H, W, 3) uint8 images -> their probabilities, each (K, H, W) float32."""
        totals: list[Tensor | None] = [None] * len(images)
        for scale in self.scales:
            side = max(1, round(self.image_size * scale))
            boxed = [letterbox(image, side, self.network.stride) for image in images]
            batch = torch.stack([pixels for pixels, _ in boxed]).to(self.device)
            batch = normalise_images(batch, self.statistics)
            probabilities = self._probabilities(batch)
            for n, (image, (_, (h, w))) in enumerate(zip(images, boxed)):
                resized = resize_maps(probabilities[n : n + 1, :, :h, :w], image.shape[:2])[0]
                totals[n] = resized if totals[n] is None else totals[n] + resized
        return [(total / len(self.scales)).cpu().numpy() for total in totals]

    def _probabilities(self, batch: Tensor) -> Tensor:
        probabilities = self._run(batch)
        if self.flip:
            # The padding is mirrored along with the image, so that flipping back aligns both.
            probabilities = (probabilities + self._run(batch.flip(-1)).flip(-1)) / 2
        return probabilities

    def _run(self, batch: Tensor) -> Tensor:
        with autocast(self.precision, self.device):
            return self.network(batch).float().softmax(1)


def segment(
    segmenter: Segmenter, images: Iterator[tuple[str, np.ndarray]], batch_size: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(id, image) -> (id, image, probabilities (K, H, W)), in batches."""
    waiting: list[tuple[str, np.ndarray]] = []
    for pair in images:
        waiting.append(pair)
        if len(waiting) == batch_size:
            yield from _flush(segmenter, waiting)
            waiting = []
    if waiting:
        yield from _flush(segmenter, waiting)


def _flush(segmenter: Segmenter, pairs: list[tuple[str, np.ndarray]]) -> Iterator[tuple]:
    for (name, image), p in zip(pairs, segmenter([image for _, image in pairs])):
        yield name, image, p
