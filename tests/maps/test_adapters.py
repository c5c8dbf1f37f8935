"""An adapter of your own: the maps of its model, and what is refused with which remedy."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from getam import Adapter, compute_maps
from getam.maps.compute import default_start_block
from tests.conftest import ROOT
from tests.oracles import ORACLES, draw_images
from tests.other_models import materialised

TARGETS = torch.eye(2, 5)
PAGE = ROOT / "docs/your-own-model.md"


class Encoder(nn.Module):
    """A model of one's own: two registers, then the class token, then the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 8, 8)
        self.prefix = nn.Parameter(torch.randn(1, 3, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(3)])
        self.head = nn.Linear(16, 5)

    def forward(self, images):
        x = self.embed(images).flatten(2).mT
        x = torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1)
        for layer in self.layers:
            x = layer(x)
        return {"scores": self.head(x[:, 2]), "tokens": x}


def own_model() -> nn.Module:
    torch.manual_seed(0)
    model = Encoder().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("method", ["getam", "gradient_rollout", "attention_rollout", "attention"])
def test_the_class_token_is_where_the_adapter_says(method):
    model, images = own_model(), draw_images(2)
    adapter = Adapter(
        model,
        model.layers,
        grid=lambda height, width: (height // 8, width // 8),
        num_prefix_tokens=3,
        class_token=2,
        scores=lambda output: output["scores"],
    )
    slow, kept = materialised(model)
    start = default_start_block(adapter, method)
    maps = compute_maps(adapter, images, TARGETS, method=method)
    for n in range(2):
        kept.clear()
        with torch.enable_grad():
            score = slow(images[n : n + 1])["scores"][0, n]
        order = [2, 0, 1, *range(3, kept[0].shape[-1])]  # class token first, as the oracle has it
        gradients = torch.autograd.grad(score, kept)
        a, g = (torch.cat([*part])[:, :, order][..., order] for part in (kept, gradients))
        expected = ORACLES[method](a[start:], g[start:])[3:].view(4, 6)
        torch.testing.assert_close(maps[n, n], expected.detach(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"blocks": []}, "has no blocks: expected the transformer blocks"),
        ({"grid": (4, 6)}, r"grid is \(4, 6\): expected a function"),
        ({"grid": lambda height, width: (height / 8, width / 8)}, r"gave \(4\.0, 6\.0\)"),
        ({"grid": lambda height, width: height // 8}, "gave 4 for images of 32 x 48 pixels"),
        ({"grid": lambda height, width: (height // 64, 1)}, r"gave \(0, 1\)"),
        ({"class_token": 3}, "class_token is 3, but num_prefix_tokens is 3: .* 0 to 2, or None"),
        ({"class_token": -1}, "class_token is -1"),
        ({"scores": lambda output: output}, "got a dict: pass `scores`"),
        ({"scores": lambda output: None}, "got a NoneType"),
    ],
)
def test_an_adapter_that_cannot_be_right_is_refused_with_what_was_expected(change, complaint):
    model = own_model()
    fields = {
        "blocks": model.layers,
        "grid": lambda height, width: (height // 8, width // 8),
        "num_prefix_tokens": 3,
        "class_token": 2,
        "scores": lambda output: output["scores"],
    }
    with pytest.raises(ValueError, match=complaint):
        compute_maps(Adapter(model, **{**fields, **change}), draw_images(2), TARGETS)


def test_sides_of_the_grid_may_be_integers_of_numpy():
    model = own_model()
    adapter = Adapter(model, model.layers, lambda height, width: np.array([height, width]) // 8)
    assert adapter.grid_of(draw_images(2)) == (4, 6)


def test_the_example_of_the_page_runs_and_is_short():
    [code] = re.findall(r"```python\n(# my_vit.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(code.strip().splitlines()) < 20
    names = {"Encoder": Encoder, "images": draw_images(2).float(), "targets": TARGETS}
    exec(code, names)
    assert names["maps"].shape == (2, 5, 4, 6)
    assert (names["maps"].amax(dim=(2, 3)) > 0).equal(TARGETS.bool())
