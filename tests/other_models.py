"""Tiny vision transformers of torchvision, transformers and open_clip, and their full matrices.

`Family.attend` makes a copy of a model compute its attention as matrices, with none of the code
under test: a slow module in the place of each `nn.MultiheadAttention`, or an attention function of
transformers whose softmax is not float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SQUARE, WIDE, CLASSES = (32, 32), (32, 48), 5


class Family(NamedTuple):
    """What the tests know of a kind of models, apart from the adapters."""

    build: Callable[[], nn.Module]
    blocks: Callable[[nn.Module], nn.ModuleList]
    head: Callable[[nn.Module, Tensor], Tensor]  # tokens after the last block -> scores
    patch_scores: Callable[[nn.Module, Tensor], Tensor] | None  # the same tokens -> cam of patches
    norm1: str
    prefix: int
    sizes: tuple[tuple[int, int], ...] = (SQUARE, WIDE)
    reads_class_token: bool = True
    scores: Callable[[Any], Tensor] = lambda output: output


class SlowAttention(nn.Module):
    """What `nn.MultiheadAttention` computes, one head at a time; keeps its matrices."""

    def __init__(self, theirs: nn.MultiheadAttention, kept: list[Tensor]) -> None:
        super().__init__()
        self.theirs, self.kept, self.batch_first = theirs, kept, theirs.batch_first
        self.in_proj_bias = None  # or torch's encoder layer goes another way, past this module

    def forward(self, query, key, value, need_weights=True, attn_mask=None, **other):
        assert query is key is value
        assert attn_mask is None
        x = query if self.batch_first else query.transpose(0, 1)
        theirs, width = self.theirs, x.shape[-1]
        q, k, v = (x @ theirs.in_proj_weight.T + theirs.in_proj_bias).split(width, dim=-1)
        one = width // theirs.num_heads
        heads = [slice(h * one, h * one + one) for h in range(theirs.num_heads)]
        scores = torch.stack([q[..., h] @ k[..., h].mT / one**0.5 for h in heads], dim=1)
        matrix = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        self.kept.append(matrix)
        out = torch.cat([matrix[:, n] @ v[..., h] for n, h in enumerate(heads)], dim=-1)
        out = theirs.out_proj(out)
        return (out if self.batch_first else out.transpose(0, 1)), None


def materialised(model: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A copy of the model, and the list to which it appends its matrices (B, H, N, N)."""
    model, kept = copy.deepcopy(model), []
    if hasattr(model, "config"):
        _exact_attention(model, kept)
        return model, kept
    for part in [*model.modules()]:
        for name, child in [*part.named_children()]:
            if type(child) is nn.MultiheadAttention:
                setattr(part, name, SlowAttention(child, kept))
            elif hasattr(child, "fused_attn"):  # timm's
                child.fused_attn = False
                child.attn_drop.register_forward_hook(lambda _, __, out: kept.append(out))
    return model, kept


def _exact_attention(model: nn.Module, kept: list[Tensor]) -> None:
    def attend(module, query, key, value, attention_mask, scaling=None, **kwargs):
        assert attention_mask is None
        scores = query @ key.transpose(2, 3) * scaling
        kept.append(scores.exp() / scores.exp().sum(dim=-1, keepdim=True))
        return (kept[-1] @ value).transpose(1, 2), kept[-1]

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register("exact", attend)
    model.set_attn_implementation("exact")


def slow_run(model: nn.Module, image: Tensor) -> Any:
    """The model's output, with the position embedding of transformers resized where needed."""
    config = getattr(model, "config", None)
    config = getattr(config, "vision_config", config)
    if config is not None and "dino" not in config.model_type and image.shape[-2:] != SQUARE:
        return model(image, interpolate_pos_encoding=True)
    return model(image)


_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}


def _torchvision() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 4, 4, 32, 48, num_classes=CLASSES)


def _of(name: str, config: str, **more: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        library = pytest.importorskip("transformers")
        size = {**_SIZE, "num_labels": CLASSES, **more}
        return getattr(library, name)(getattr(library, config)(**size))

    return make


def _siglip() -> nn.Module:
    library = pytest.importorskip("transformers")
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = library.SiglipConfig(vision_config=_SIZE, text_config=text, num_labels=CLASSES)
    return library.SiglipForImageClassification(config)


def _timm_tower() -> nn.Module:
    open_clip = pytest.importorskip("open_clip.timm_model")
    tower = open_clip.TimmModel("vit_tiny_patch16_224", CLASSES, pool="token")
    tower.trunk = VisionTransformer(WIDE, 8, num_classes=0, embed_dim=192, depth=4, num_heads=4)
    return tower


def _logits(output: Any) -> Tensor:
    return output.logits


def _deit_head(model: nn.Module, x: Tensor) -> Tensor:
    x = model.deit.layernorm(x)
    return (model.cls_classifier(x[:, 0]) + model.distillation_classifier(x[:, 1])) / 2


def _deit_patches(model: nn.Module, x: Tensor) -> Tensor:
    both = model.cls_classifier.weight + model.distillation_classifier.weight
    return model.deit.layernorm(x)[:, 2:] @ both.T / 2


def _dino(name: str, config: str, base: str, registers: int) -> Family:
    def head(model: nn.Module, x: Tensor) -> Tensor:
        x = getattr(model, base).layernorm(x)
        return model.classifier(torch.cat([x[:, 0], x[:, 1 + registers :].mean(1)], dim=-1))

    def patches(model: nn.Module, x: Tensor) -> Tensor:
        x = getattr(model, base).layernorm(x)[:, 1 + registers :]
        return x @ model.classifier.weight[:, 32:].T

    more = {"num_register_tokens": registers} if registers else {}
    build = _of(name, config, mlp_ratio=2, layerscale_value=0.5, **more)
    return Family(build, _layers, head, patches, "norm1", 1 + registers, scores=_logits)


def _layers(model: nn.Module) -> nn.ModuleList:
    names = ("layers", "layer", "resblocks", "blocks")
    found = [part for name, part in model.named_modules() if name.split(".")[-1] in names]
    return found[0]


def _pooled(output: Any) -> Tensor:
    return output.pooler_output


def _open_clip_family(size: tuple[int, int], **more: Any) -> Family:
    def make() -> nn.Module:
        open_clip = pytest.importorskip("open_clip.transformer")
        given = {"patch_size": 8, "width": 32, "layers": 4, "heads": 4, "mlp_ratio": 1.5, **more}
        return open_clip.VisionTransformer(image_size=size, output_dim=CLASSES, **given)

    def head(model: nn.Module, x: Tensor) -> Tensor:
        return model.ln_post(x)[:, 0] @ model.proj

    def patches(model: nn.Module, x: Tensor) -> Tensor:
        return model.ln_post(x)[:, 1:] @ model.proj

    return Family(make, _layers, head, patches, "ln_1", 1, sizes=(size,))


def _patches_of(norm: str, classifier: str, prefix: int = 1) -> Callable:
    return lambda model, x: (
        model.get_submodule(norm)(x)[:, prefix:] @ model.get_submodule(classifier).weight.T
    )


OTHERS: dict[str, Family] = {
    "torchvision": Family(
        _torchvision,
        _layers,
        lambda model, x: model.heads(model.encoder.ln(x)[:, 0]),
        _patches_of("encoder.ln", "heads.head"),
        "ln_1",
        1,
        sizes=(SQUARE,),  # it takes no others
    ),
    "hf_vit": Family(
        _of("ViTForImageClassification", "ViTConfig"),
        _layers,
        lambda model, x: model.classifier(model.vit.layernorm(x)[:, 0]),
        _patches_of("vit.layernorm", "classifier"),
        "layernorm_before",
        1,
        scores=_logits,
    ),
    "hf_deit": Family(
        _of("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        _layers,
        _deit_head,
        _deit_patches,
        "layernorm_before",
        2,
        scores=_logits,
    ),
    "hf_dinov2": _dino("Dinov2ForImageClassification", "Dinov2Config", "dinov2", 0),
    "hf_dinov2_registers": _dino(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        "dinov2_with_registers",
        4,
    ),
    "hf_dinov3": Family(
        _of("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=4),
        _layers,
        lambda model, x: model.norm(x)[:, 0],
        None,
        "norm1",
        5,
        scores=_pooled,
    ),
    "hf_clip": Family(
        _of("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=CLASSES),
        _layers,
        lambda model, x: model.visual_projection(model.vision_model.post_layernorm(x[:, 0])),
        _patches_of("vision_model.post_layernorm", "visual_projection"),
        "layer_norm1",
        1,
        scores=lambda output: output.image_embeds,
    ),
    "hf_siglip": Family(
        _siglip,
        _layers,
        lambda model, x: model.classifier(model.vision_model.post_layernorm(x).mean(1)),
        _patches_of("vision_model.post_layernorm", "classifier", 0),
        "layer_norm1",
        0,
        reads_class_token=False,
        scores=_logits,
    ),
    "hf_siglip_pooled": Family(
        _of("SiglipVisionModel", "SiglipVisionConfig"),
        _layers,
        lambda model, x: model.head(model.post_layernorm(x)),
        None,
        "layer_norm1",
        0,
        reads_class_token=False,
        scores=_pooled,
    ),
    "open_clip": _open_clip_family(SQUARE),
    "open_clip_wide": _open_clip_family(WIDE, ls_init_value=0.5),
    "open_clip_timm": Family(
        _timm_tower,
        _layers,
        lambda model, x: model.head(model.trunk.forward_head(model.trunk.norm(x))),
        None,
        "norm1",
        1,
        sizes=(WIDE,),
    ),
}


def build_other(name: str, seed: int = 0) -> nn.Module:
    """A model of that family in evaluation mode, float64, every parameter drawn at random."""
    torch.manual_seed(seed)
    model = OTHERS[name].build().eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model
