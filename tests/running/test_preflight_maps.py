"""A network of which no maps can be computed is refused before it is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import make_folder
from tests.running.test_preflight import DEEPER, assert_refused, run


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("good")
    make_folder(place / "data")
    return place


NO_MAPS = {
    "cait_xxs24_224": ("depth: 2, embed_dim: 16, num_heads: 2, patch_size: 32", "attends in a way"),
    "convit_tiny": ("depth: 2, embed_dim: 4, num_heads: 2, patch_size: 32", "attends in a way"),
    "vit_tiny_patch16_224": (
        "depth: 2, embed_dim: 16, num_heads: 2, patch_size: 32, global_pool: avg",
        "must read the class token",
    ),
    "beit_base_patch16_224": (
        "depth: 2, embed_dim: 16, num_heads: 2, patch_size: 32",
        "must read the class token",
    ),
}


@pytest.mark.parametrize("model", NO_MAPS)
@pytest.mark.parametrize("mode", ["multi-stage", "end-to-end"])
def test_a_network_that_has_no_maps_is_refused_before_it_is_trained(good, model, mode):
    arguments, words = NO_MAPS[model]
    section = "classifier" if mode == "multi-stage" else "endtoend"
    settings = (
        f"mode={mode}",
        f"{section}.model={model}",
        f"{section}.model_args={{{arguments}}}",
        f"{section}.image_size=224",
    )
    result = run(good, *settings, options=("--dry-run",))
    if mode == "end-to-end" and "attends" in words:
        words = "no such decoder"
    assert_refused(result, good, f"{section}.model: got {model}", words)


def test_compare_asks_each_method(good):
    settings = (
        "classifier.model=cait_xxs24_224",
        f"classifier.model_args={{{NO_MAPS['cait_xxs24_224'][0]}}}",
        "classifier.image_size=224",
    )
    result = run(good, *settings, "compare.methods=[grad_cam, attention]", command="compare")
    assert_refused(result, good, "maps.method attention cannot compute maps")


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("deit_tiny_distilled_patch16_224", "{depth: 2, embed_dim: 16, num_heads: 2}"),
        ("vit_tiny_r_s16_p8_224", "{depth: 2, embed_dim: 16, num_heads: 2}"),
        ("eva02_tiny_patch14_224", "{depth: 2, global_pool: token}"),
        ("beit_base_patch16_224", "{depth: 2, embed_dim: 16, num_heads: 2, global_pool: token}"),
        ("vit_small_patch14_reg4_dinov2", "{depth: 2, embed_dim: 16, num_heads: 2}"),
    ],
)
def test_a_network_that_has_maps_is_not_refused(good, model, arguments):
    settings = (
        f"classifier.model={model}",
        f"classifier.model_args={arguments}",
        "classifier.image_size=224",
    )
    result = run(good, *settings, options=("--dry-run", "--until", "maps"))
    assert result.exit_code == 0, result.output


def test_an_end_to_end_network_that_is_not_the_classifier_cannot_start_from_it(good):
    settings = (
        "mode=end-to-end",
        "endtoend.weights=classifier",
        f"endtoend.model_args={DEEPER}",
    )
    result = run(good, *settings, options=("--dry-run",))
    assert_refused(result, good, "endtoend.weights: got classifier, but endtoend.model_args is")
