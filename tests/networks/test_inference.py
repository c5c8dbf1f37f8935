"""Whole-image inference and the fixed transforms around it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

from getam.data.resizing import enlarged
from getam.data.transforms import letterbox, to_square
from getam.networks.inference import Segmenter, segment_tiles
from getam.networks.tiling import cut, label_parts


class Echo(nn.Module):
    """Logits that are the image itself: what comes out shows where each pixel went."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return images * 8


def gradient(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    image[..., 1] = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return image


def test_letterbox_keeps_the_aspect_and_pads_to_a_multiple():
    pixels, (h, w) = letterbox(gradient(30, 60), 44, 16)
    assert pixels.shape == (3, 48, 48)
    assert (h, w) == (22, 44)
    assert (pixels[:, h:] == 128).all()


def test_square_is_stretched_not_transposed():
    square = to_square(gradient(20, 60), 32)
    assert square.shape == (3, 32, 32)
    assert square[0, 0, -1] > 240
    assert square[1, 0, -1] < 15


def probabilities_of(segmenter: Segmenter, image: np.ndarray) -> np.ndarray:
    """(K, H, W), as large as the image."""
    return enlarged(segmenter.coarse([image])[0], image.shape[:2])


def test_probabilities_line_up_with_the_image_at_every_scale_and_flip():
    image = gradient(40, 64)
    for scales, flip in [((1.0,), False), ((1.0,), True), ((0.5, 1.0, 2.0), True)]:
        result = probabilities_of(Segmenter(Echo(), 64, scales, flip), image)
        assert result.shape == (3, 40, 64)
        np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)
        assert (result[0] > result[1])[2, 40:].all()  # top right: the first channel
        assert (result[1] > result[0])[-3, :20].all()  # bottom left: the second


@pytest.fixture
def threads():
    """Sets the number of threads of torch."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("side", "scales", "fits"), [(96, (1.0, 1.5), 12), (384, (1.0,), 1), (2000, (1.0,), 1)]
)
def test_a_cpu_computes_few_images_of_a_large_network_at_a_time(side, scales, fits, threads):
    """A batch of 16 at 576 pixels and 21 classes has 446 MB, in several arrays at a time."""
    threads(1)
    assert Segmenter(Echo(), side, scales).fitting(16) == fits
    threads(2)
    assert Segmenter(Echo(), side, scales).fitting(16) == max(1, fits // 2)  # in two lanes


class Meeting(Echo):
    """Waits in each batch until as many batches are computed side by side as expected."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.all_here, self.threads = threading.Barrier(lanes, timeout=20), set()

    def forward(self, images):
        self.all_here.wait()
        self.threads.add(torch.get_num_threads())
        return super().forward(images)


@pytest.mark.parametrize(("given", "lanes", "each"), [(1, 1, 1), (2, 2, 1), (8, 4, 2)])
def test_batches_are_computed_side_by_side_and_share_the_threads(given, lanes, each, threads):
    images = [(n, gradient(40 + n, 64)) for n in range(8)]
    alone = Segmenter(Echo(), 64, flip=False)
    expected = [probabilities_of(alone, image) for _, image in images]
    threads(given)
    network = Meeting(lanes)
    photos = ((n, cut(image, 64)) for n, image in images)
    done = list(segment_tiles(Segmenter(network, 64, flip=False), photos, batch_size=2))
    assert network.threads == {each}
    assert torch.get_num_threads() == given
    for (n, size, parts), probabilities in zip(done, expected):
        assert size == images[n][1].shape[:2]
        np.testing.assert_allclose(enlarged(parts[0].grids, size), probabilities, atol=1e-5)


def test_images_of_other_sizes_share_a_batch_and_keep_their_order():
    images = [("a", gradient(40, 64)), ("b", gradient(64, 40)), ("c", gradient(10, 10))]
    segmenter = Segmenter(Echo(), 64, flip=False)
    photos = ((name, cut(image, 64)) for name, image in images)
    done = list(segment_tiles(segmenter, photos, batch_size=2))
    assert [name for name, _, _ in done] == ["a", "b", "c"]
    for (_, image), (_, size, parts) in zip(images, done):
        assert size == image.shape[:2]
        result = enlarged(parts[0].grids, size)
        np.testing.assert_allclose(result, probabilities_of(segmenter, image), atol=1e-5)


def test_parts_have_only_the_classes_that_a_photo_can_have():
    """What waits to be written holds only the classes of its photo."""
    images = [(n, gradient(40, 64)) for n in range(3)]
    own = {0: [1], 1: [1, 2], 2: []}
    photos = ((n, cut(image, 64)) for n, image in images)
    segmenter = Segmenter(Echo(), 64, flip=False)
    finished = segment_tiles(segmenter, photos, 2, own.get)
    photos = ((n, cut(image, 64)) for n, image in images)
    whole = segment_tiles(segmenter, photos, 2)
    for (n, size, parts), (_, _, all_classes) in zip(finished, whole):
        assert parts[0].grids[0].shape[0] == 1 + len(own[n])
        for crf in (None, {"steps": 1}):
            expected = label_parts(all_classes, size, own[n], crf)
            np.testing.assert_array_equal(label_parts(parts, size, crf=crf), expected)
