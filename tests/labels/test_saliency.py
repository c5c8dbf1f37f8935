"""The ONNX saliency model, against maps made elsewhere with the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from getam.data.images import read_image
from getam.data.masks import read_saliency
from getam.errors import UserError
from getam.labels.saliency import SaliencyModel
from tests.conftest import ROOT

pytest.importorskip("onnxruntime")
SHARED = ROOT.parent / "shared"


@pytest.fixture
def model() -> SaliencyModel:
    path = SHARED / "weights" / "u2netp.onnx"
    if not path.exists():
        pytest.skip("needs the shared U2-Netp weights")
    return SaliencyModel(str(path))


def test_saliency_of_a_real_photo_agrees_with_the_map_made_elsewhere(model):
    """Agrees, not equals: that map was made from the photo at another size."""
    image_id, data = "2007_000504", SHARED / "data" / "voc6"
    image = read_image(data / "images" / f"{image_id}.jpg")
    made = model(image)
    kept = read_saliency(data / "saliency" / f"{image_id}.png", image.shape[:2])
    assert made.shape == kept.shape
    assert made.dtype == np.float32
    assert np.abs(made - kept).mean() < 0.02
    assert ((made > 0.5) == (kept > 0.5)).mean() > 0.98


def test_a_file_that_is_no_model_is_one_clear_sentence(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"model\.onnx: cannot load this saliency model"):
        SaliencyModel(str(path))(np.zeros((8, 8, 3), np.uint8))
