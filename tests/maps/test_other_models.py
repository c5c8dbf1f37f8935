"""Models of other libraries: what is left as it was, and what is refused with which remedy."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import getam
from getam import compute_maps
from getam.maps.compute import METHODS
from getam.maps.families import adapter_of
from tests.conftest import ROOT
from tests.oracles import build, draw_images
from tests.other_models import OTHERS, build_other

TARGETS = torch.eye(2, 5)
PAGE = ROOT / "docs/your-own-model.md"


def state(model: nn.Module) -> list:
    """All that a call could leave behind in a model and its configuration."""
    seen = []
    for module in model.modules():
        own = {name: value for name, value in vars(module).items() if name[0] != "_"}
        hooks = [list(value) for name, value in vars(module).items() if name.endswith("_hooks")]
        config = dict(vars(own["config"])) if "config" in own else None
        seen.append((own, hooks, list(vars(module)), config))
    return seen + [(p.requires_grad, p.grad is None, p._version) for p in model.parameters()]


class Broken(nn.Module):
    def forward(self, *args, **kwargs):
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["torchvision", "hf_vit", "open_clip"])
@pytest.mark.parametrize("breaks", [False, True])
def test_a_model_is_as_before_also_after_an_error(name, method, breaks):
    model, images = build_other(name), draw_images(2)[..., :32]
    model.train()
    blocks = OTHERS[name].blocks(model)
    blocks[1].eval().requires_grad_(False)
    if hasattr(model, "config"):
        model.set_attn_implementation("eager")
    if breaks:
        blocks[-1].mlp = Broken()
    weights, before = copy.deepcopy(model.state_dict()), state(model)
    if breaks:
        with pytest.raises(RuntimeError, match="on purpose"):
            compute_maps(model, images, TARGETS, method=method)
    else:
        compute_maps(model, images, TARGETS, method=method)
    assert state(model) == before
    assert torch.is_grad_enabled()
    assert all(torch.equal(weights[key], now) for key, now in model.state_dict().items())


@pytest.mark.parametrize("name", ["hf_clip", "open_clip"])
def test_the_similarity_to_texts_is_explained_as_a_linear_head_is(name):
    """Of a projection to 5 numbers: the scores are mixtures of these, known by linearity."""
    tower, images = build_other(name), draw_images(2)[..., :32]
    texts = torch.randn(3, 5, dtype=torch.float64)
    changed = copy.deepcopy(tower)
    with torch.no_grad():
        if name == "open_clip":
            changed.proj = nn.Parameter(tower.proj @ texts.mT)
        else:
            changed.visual_projection.weight = nn.Parameter(texts @ tower.visual_projection.weight)
    read = OTHERS[name].scores
    for method in ("getam", "legrad", "grad_cam"):
        expected = compute_maps(changed, images, torch.eye(2, 3), method=method)
        given = {"method": method, "scores": lambda output: read(output) @ texts.mT}
        found = compute_maps(tower, images, torch.eye(2, 3), **given)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_an_unknown_model_is_one_sentence_with_its_module_and_the_page():
    with pytest.raises(ValueError, match=r"docs/your-own-model\.md") as error:
        compute_maps(nn.Sequential(nn.Flatten()), draw_images(2), TARGETS)
    assert "torch.nn.modules.container" in str(error.value)
    assert PAGE.is_file()
    assert str(error.value).count(". ") == 0


def test_an_unknown_family_of_transformers_names_its_module():
    library = pytest.importorskip("transformers")
    model = library.ViTMAEModel(library.ViTMAEConfig(hidden_size=32, num_hidden_layers=1))
    with pytest.raises(ValueError, match=r"models\.vit_mae\..*docs/your-own-model\.md"):
        compute_maps(model, draw_images(2), TARGETS)


def test_a_whole_clip_is_refused_with_the_part_to_pass():
    library = pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = library.CLIPConfig(text_config={**small, "vocab_size": 9}, vision_config=small)
    with pytest.raises(ValueError, match=r"pass its vision tower \(model\.vision_model\)"):
        compute_maps(library.CLIPModel(config), draw_images(2), TARGETS)


def test_a_whole_open_clip_is_refused_with_the_part_to_pass():
    model = pytest.importorskip("open_clip.model")
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}
    text = {"width": 64, "heads": 1, "layers": 1, "vocab_size": 9, "context_length": 4}
    with pytest.raises(ValueError, match=r"vision tower \(model\.visual\)"):
        compute_maps(model.CLIP(5, vision, text), draw_images(2), TARGETS)


def test_a_class_made_of_one_of_theirs_is_known():
    transformers = pytest.importorskip("transformers")

    class Own(transformers.ViTForImageClassification):
        def forward(self, pixel_values):
            return super().forward(pixel_values).logits

    plain = build_other("hf_vit")
    model = Own(plain.config).double().eval()
    model.load_state_dict(plain.state_dict())
    images = draw_images(2)[..., :32]
    with pytest.raises(ValueError, match="pass `scores`"):
        compute_maps(model, images, TARGETS)
    found = compute_maps(model, images, TARGETS, scores=lambda logits: logits)
    assert torch.equal(found, compute_maps(plain, images, TARGETS))


@pytest.mark.parametrize("name", ["torchvision", "hf_vit", "open_clip"])
def test_a_compiled_model_is_known_as_the_plain_one_is(name):
    model, images = build_other(name), draw_images(2)[..., :32]
    expected = compute_maps(model, images, TARGETS)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compute_maps(compiled, images, TARGETS), expected)
    compiled.register_forward_hook(lambda module, args, output: output)
    with pytest.raises(ValueError, match=r"pass the plain one \(model\._orig_mod\)"):
        compute_maps(compiled, images, TARGETS)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"add_bias_kv": True}, "nn.MultiheadAttention with bias_k, bias_v"),
        ({"add_zero_attn": True}, "nn.MultiheadAttention with add_zero_attn"),
        ({"kdim": 32, "vdim": 16}, ""),
    ],
)
def test_multihead_attention_of_another_kind_is_refused(change, complaint):
    model = build_other("torchvision")
    other = nn.MultiheadAttention(32, 4, batch_first=True, **change).double().eval()
    attend = model.encoder.layers[3].self_attention = other
    if "vdim" in change:
        attend.forward = lambda q, k, v, **more: nn.MultiheadAttention.forward(
            attend, q, k, v[..., :16], **more
        )
        complaint = "use_separate_proj_weight"
    with pytest.raises(ValueError, match=rf"block 3 \(EncoderBlock\).*{complaint}"):
        compute_maps(model, draw_images(2)[..., :32], TARGETS)


def test_the_weights_that_a_block_asks_of_multihead_attention_are_given():
    model = build_other("torchvision")
    attend = model.encoder.layers[3].self_attention
    plain, seen = attend.forward, []

    def with_weights(*args, need_weights, **kwargs):
        seen.append(plain(*args, need_weights=True, **kwargs))
        return seen[-1]

    attend.forward = with_weights
    images = draw_images(2)[..., :32]
    maps = compute_maps(model, images, TARGETS)
    weights = seen[-1][1]
    model(images)
    torch.testing.assert_close(weights, seen[-1][1].detach(), rtol=1e-12, atol=1e-15)
    assert torch.equal(maps, compute_maps(build_other("torchvision"), images, TARGETS))


def test_a_model_of_timm_needs_no_adapter():
    model = build("vit")
    assert adapter_of(model).model is model
    assert torch.equal(
        compute_maps(adapter_of(model), draw_images(2), TARGETS),
        compute_maps(model, draw_images(2), TARGETS),
    )


def test_maps_of_timm_models_import_no_optional_library():
    code = (
        "import sys, torch, timm\n"
        "from getam import compute_maps\n"
        "from timm.models.vision_transformer import VisionTransformer\n"
        "vit = VisionTransformer(8, 4, num_classes=2, embed_dim=8, depth=2, num_heads=2)\n"
        "compute_maps(vit, torch.rand(1, 3, 8, 8), torch.ones(1, 2))\n"
        "wrong = {'transformers', 'open_clip', 'legrad', 'torchcam'} & set(sys.modules)\n"
        "sys.exit(f'imported {wrong}' if wrong else 0)\n"
    )
    folder = Path(getam.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=folder).returncode == 0


def test_the_package_itself_requires_no_library_of_models_but_timm():
    required = (ROOT / "setup.cfg").read_text()
    required = required.partition("install_requires =")[2].partition("\n\n")[0]
    assert "timm" in required
    for library in ("transformers", "open_clip", "legrad", "torchcam", "grad-cam"):
        assert library not in required
