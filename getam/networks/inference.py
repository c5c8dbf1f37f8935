"""Class probabilities of whole images, averaged over scales and flips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from getam.data.ahead import batches, read_ahead
from getam.data.transforms import letterbox, normalise_images, on_device
from getam.labels.own_classes import own_shares
from getam.networks.build import normalisation
from getam.networks.precision import autocast
from getam.networks.threads import fewer_threads
from getam.networks.tiling import Cut, Part

PIXELS = 1 << 18  # of the network's input that a CPU computes at a time
MOST_LANES = 4

Boxed = list[tuple[Tensor, tuple[int, int]]]
Chosen = Sequence[Sequence[int] | None]


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

    def coarse(self, images: Sequence[np.ndarray], classes: Chosen = ()) -> list[list[np.ndarray]]:
        """(H, W, 3) uint8 images -> of each its probabilities (K, h, w) float32 at every scale.

        They have the size of the network's input, however large the image is. ``enlarged`` of
        ``getam.data.resizing`` makes one array of them, as large as the image.
        """
        return self.of_boxed([self.boxed(image) for image in images], classes)

    def fitting(self, batch_size: int) -> int:
        """The batch size, or on a CPU fewer images, which need less memory and take as long.

        Probabilities have a value for each class at each pixel of the network's input.
        """
        if self.device.type != "cpu":
            return batch_size
        side = self.image_size * max(self.scales)
        return min(batch_size, max(1, int(PIXELS / self.lanes // side**2)))

    @property
    def lanes(self) -> int:
        """How many batches a CPU computes side by side, each with its part of torch's threads.

        This is faster than one batch with all threads: those wait for each other after every
        operation, and above all where other processes use the same cores.
        """
        return min(MOST_LANES, torch.get_num_threads()) if self.device.type == "cpu" else 1

    def boxed(self, image: np.ndarray) -> Boxed:
        """An image (H, W, 3) as the network gets it: pixels (3, S, S) and (h, w) at every scale.

        (h, w) is the size of the image in the square. Much smaller than a large photo.
        """
        sides = [max(1, round(self.image_size * scale)) for scale in self.scales]
        return [letterbox(image, side, self.network.stride) for side in sides]

    @torch.inference_mode()
    def of_boxed(self, images: Sequence[Boxed], classes: Chosen = ()) -> list[list[np.ndarray]]:
        """What :meth:`coarse` gives of the images that :meth:`boxed` was given.

        Args:
            classes: for each image the class ids that it can have: background and these share the
                probabilities (:func:`getam.labels.own_classes.own_shares`). None: all classes.
        """
        found: list[list[np.ndarray]] = [[] for _ in images]
        chosen = classes or [None] * len(images)
        for boxed in zip(*images):
            batch = on_device(torch.stack([pixels for pixels, _ in boxed]), self.device)
            probabilities = self._probabilities(normalise_images(batch, self.statistics))
            for own, one, (_, (h, w)), ids in zip(found, probabilities, boxed, chosen):
                # Chosen on the device, so that a GPU copies neither padding nor other classes.
                inner = one[:, :h, :w]
                kept = inner.clone() if ids is None else own_shares(inner, [0, *ids])
                own.append(kept.contiguous().cpu().numpy())
        return found

    def _probabilities(self, batch: Tensor) -> Tensor:
        probabilities = self._run(batch)
        if self.flip:
            # The padding is mirrored along with the image, so that flipping back aligns both.
            for one, mirrored in zip(probabilities, self._run(batch.flip(-1))):
                one.add_(mirrored.flip(-1)).div_(2)
        return probabilities

    def _run(self, batch: Tensor) -> Tensor:
        with autocast(self.precision, self.device):
            probabilities = self.network(batch).float()
        for one in probabilities.split(1):  # all images at once would need the memory again
            one.copy_(one.softmax(1))
        return probabilities


def segment_tiles(
    segmenter: Segmenter,
    photos: Iterable[tuple[Any, Cut]],
    batch_size: int,
    classes: Callable[[Any], Sequence[int] | None] = lambda _name: None,
) -> Iterator[tuple[Any, tuple[int, int], list[Part]]]:
    """(name, photo) -> (name, size (H, W) of the photo, its parts), in their order.

    Args:
        batch_size: tiles that are computed at a time.
        classes: name -> the class ids that the photo can have, as for :meth:`Segmenter.of_boxed`.
    """
    parts: list[Part] = []
    for name, size, part in _in_batches(segmenter, _tiles(photos), batch_size, classes):
        parts.append(part)
        if (part.tile.core[0].stop, part.tile.core[1].stop) == size:
            yield name, size, parts
            parts = []


def _tiles(photos: Iterable[tuple[Any, Cut]]) -> Iterator[tuple]:
    for name, photo in photos:
        for tile, image in photo.tiles:
            yield name, photo.size, tile, image


def _in_batches(
    segmenter: Segmenter,
    tiles: Iterable[tuple],
    batch_size: int,
    classes: Callable[[Any], Sequence[int] | None],
) -> Iterator[tuple[Any, tuple[int, int], Part]]:
    lanes = segmenter.lanes
    threads = torch.get_num_threads()

    def compute(batch: list[tuple]) -> list[Part]:
        chosen = [classes(name) for name, *_ in batch]
        found = segmenter.coarse([image for *_, image in batch], chosen)
        return [
            Part(*here, grids, None if ids is None else np.array([0, *ids], np.uint8))
            for (_, _, *here), grids, ids in zip(batch, found, chosen)
        ]

    with fewer_threads(threads - threads // lanes):
        for batch, parts in read_ahead(compute, batches(tiles, batch_size), lanes, lanes):
            yield from ((name, size, part) for (name, size, *_), part in zip(batch, parts))
