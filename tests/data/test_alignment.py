"""Labels stay where they are on their photo, to a part of a pixel, when they are resized."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from getam.data.augmentation import to_image, training_transform
from getam.data.label_values import IGNORE
from getam.labels.readout import on_patches
from getam.networks.tiling import Second, _resized
from stages import deeplab

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def disc(height: int, width: int) -> np.ndarray:
    """A mask (H, W) of 0 and 1."""
    y, x = np.mgrid[:height, :width]
    return (np.hypot(y - height / 2, x - width / 2) < min(height, width) / 4).astype(np.uint8)


def centre(weights: np.ndarray) -> np.ndarray:
    """The mean position (y, x) in pixels; the first pixel has its centre at 0.5."""
    weights = weights.astype(float)
    places = [np.arange(side) + 0.5 for side in weights.shape]
    total = weights.sum()
    return np.array([weights.sum(1) @ places[0], weights.sum(0) @ places[1]]) / total


@pytest.mark.parametrize("side", [96, 64, 33])
def test_a_mask_is_cropped_and_resized_like_its_photo(side):
    mask = disc(48, 64)
    photo = np.repeat(255 * mask[..., None], 3, axis=2)
    transform = training_transform(side, (0.7, 1.0), 0.0, 0.0, PLAIN)
    torch.manual_seed(0)
    apart = []
    for _ in range(40):
        image, changed = transform(to_image(photo), tv_tensors.Mask(torch.from_numpy(mask)))
        apart.append(centre(changed.numpy()) - centre(image[0].numpy()))
    assert np.abs(np.mean(apart, axis=0)).max() < 0.1  # pixels; it was half a pixel


def test_several_masks_at_once_are_resized_too():
    masks = np.stack([disc(48, 64), 1 - disc(48, 64)])
    transform = training_transform(32, (0.7, 1.0), 0.5, 0.3, PLAIN)
    photo = np.zeros((48, 64, 3), np.uint8)
    for several in (masks, masks[:0]):
        _, found = transform(to_image(photo), tv_tensors.Mask(torch.from_numpy(several)))
        assert found.shape == (len(several), 32, 32)
        assert len(several) == 0 or torch.equal(found[0] + found[1], torch.ones_like(found[0]))


@pytest.mark.parametrize("size", [(300, 400), (375, 500), (267, 400), (400, 250), (61, 97)])
def test_the_labels_of_stored_features_lie_where_the_photo_does(size, monkeypatch):
    """A photo is resized to 336 pixels; a cell is a quarter of a patch of 14 pixels."""
    mask = disc(*size)
    settings = SimpleNamespace(image_size=336, flip=0.0)
    job = SimpleNamespace(
        config=SimpleNamespace(deeplab=settings), inputs={"encoder_features": None}
    )
    monkeypatch.setattr(deeplab, "read_features", lambda *_: torch.zeros(1, 24, 24))
    monkeypatch.setattr(deeplab, "image_size", lambda _: size)
    record = SimpleNamespace(image=None)
    item = deeplab._over_features(job, 14, [record], lambda *_: mask)
    _, labels = item(0)
    in_photo = centre(labels.numpy() == 1) * 3.5 * max(size) / 336
    pixels_per_cell = 3.5 * max(size) / 336
    assert np.abs(in_photo - centre(mask)).max() < 0.1 * pixels_per_cell
    shown = (labels.numpy() != IGNORE).nonzero()
    covered = (np.array(shown).max(1) + 1) * pixels_per_cell
    assert np.abs(covered - size).max() <= pixels_per_cell / 2 + 1


@pytest.mark.parametrize("resize", ["on patches", "in a part of a photo"])
def test_mirrored_labels_are_resized_to_mirrored_labels(resize):
    labels = np.random.default_rng(0).integers(0, 5, (70, 110)).astype(np.uint8)

    def resized(labels: np.ndarray) -> np.ndarray:
        if resize == "on patches":
            return on_patches(labels, (5, 8))
        return _resized(Second(labels, 0.5), (31, 45)).numbers

    found = resized(labels)
    assert (resized(labels[::-1, ::-1].copy()) == found[::-1, ::-1]).mean() > 0.9
