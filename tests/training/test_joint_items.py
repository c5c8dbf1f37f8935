"""Training items of the end-to-end mode: everything known of a photo moves with its pixels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from getam.data.images import write_scores
from getam.data.index import Record
from getam.training.joint_items import Items, shares_of

STATISTICS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIZE = 32


@pytest.fixture
def record(tmp_path) -> Record:
    """A photo that is white on its left half. Class 1 is there, class 3 on the right."""
    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:, :24] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    left = np.zeros((4, 4), np.float32)
    left[:, :2] = 1
    write_scores(tmp_path / "classes.png", np.concatenate([left, 1 - left]))
    (tmp_path / "classes").mkdir()
    (tmp_path / "classes.png").rename(tmp_path / "classes" / "a.png")
    return Record("a", tmp_path / "a.png", labels=(1, 3))


def items(record: Record, folder, labels: list[float], **changed) -> Items:
    settings = SimpleNamespace(crop_scale=(1.0, 1.0), flip=0.0, color_jitter=0.0)
    vars(settings).update(changed)
    return Items(
        [record],
        np.array([labels]),
        SIZE,
        settings,
        STATISTICS,
        shares=shares_of(folder / "classes"),
        grid=(8, 8),
    )


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_shares_move_with_the_pixels_and_have_the_columns_of_their_classes(record, tmp_path, flip):
    torch.manual_seed(0)
    image, _, shares = items(record, tmp_path, [1, 0, 1, 0], flip=flip)(0)
    assert shares.shape == (4, 8, 8)
    white = torch.nn.functional.adaptive_avg_pool2d(image[:1], 8)[0]
    assert 0.2 < white.mean() < 0.8
    assert (shares[0] - white).abs().mean() < 0.1  # the scores are coarser than the photo
    assert (shares[2] - (1 - white)).abs().mean() < 0.1
    assert not shares[1].any()
    assert not shares[3].any()


def test_crops_are_the_same(record, tmp_path):
    torch.manual_seed(3)
    make = items(record, tmp_path, [1, 0, 1, 0], crop_scale=(0.1, 0.3))
    for _ in range(8):
        image, _, shares = make(0)
        assert shares[0].mean().item() == pytest.approx(image[0].mean().item(), abs=0.15)


def test_photo_without_a_class_has_no_shares(record, tmp_path):
    empty = Record("b", record.image, labels=())
    _, labels, shares = items(empty, tmp_path, [0, 0, 0, 0])(0)
    assert shares.shape == (4, 8, 8)
    assert not labels.any()
    assert not shares.any()
