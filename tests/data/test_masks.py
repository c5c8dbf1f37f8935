"""Masks of a wrong size: what the message says about its cause."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from getam.data.masks import read_mask
from getam.errors import UserError


def test_a_mask_of_the_photo_before_it_was_turned_is_told_why(tmp_path):
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="EXIF orientation, this is its size when it is upright"):
        read_mask(tmp_path / "m.png", (80, 60))
    with pytest.raises(UserError) as caught:
        read_mask(tmp_path / "m.png", (80, 61))
    assert "EXIF" not in str(caught.value)
