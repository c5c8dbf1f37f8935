"""Finds the adapter of a model: timm, torchvision, Hugging Face transformers, open_clip.

None of these libraries but timm is imported. A model of theirs is known by the module of its class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timm.models.xcit import Xcit
from torch import Tensor, nn

from getam.maps.adapter import PAGE, Adapter, TimmAdapter
from getam.maps.huggingface import of_transformers
from getam.maps.unchanged import has_hooks, is_unchanged

__all__ = ["adapter_of", "check_class_token"]

_FAMILIES = "a ViT, DeiT, hybrid ViT, BEiT, EVA, DINOv2 or DINOv3 of timm"
_OTHERS = "transformers, torchvision or open_clip"


def adapter_of(model: nn.Module | Adapter) -> Adapter:
    """The adapter of a model; an adapter is its own.

    Raises:
        ValueError: a model of another kind, or one whose attention cannot be seen.

    >>> from timm.models.vision_transformer import VisionTransformer
    >>> vit = VisionTransformer((8, 12), 4, embed_dim=8, depth=3, num_heads=2)
    >>> adapter = adapter_of(vit)
    >>> len(adapter.blocks), adapter.grid(8, 12), adapter_of(adapter) is adapter
    (3, (2, 3), True)
    """
    if isinstance(model, Adapter):
        return model
    _check_scripted(model)
    model = _uncompiled(model)
    for cls in type(model).__mro__:
        for library, adapt in _LIBRARIES.items():
            if cls.__module__.startswith(library):
                return adapt(model, cls)
    return _of_timm(model)


def _uncompiled(model: nn.Module) -> nn.Module:
    """The model inside of one that `torch.compile` made, unless hooks of others see the outer."""
    inner = vars(model).get("_modules", {}).get("_orig_mod")
    compiled = type(model).__module__.startswith("torch._dynamo.") and inner is not None
    return inner if compiled and not has_hooks(model) else model


def check_class_token(adapter: Adapter, without: str) -> None:
    """Refuse a model without class token for a method that reads its attention.

    Raises:
        ValueError: there is no class token; `without` are the methods that need none.
    """
    if adapter.class_token is None:
        raise ValueError(
            f"{type(adapter.model).__name__} has no class token, but this method computes maps "
            f"from the attention of the class token. Use a method that needs none ({without}), or "
            "a model that has one (timm: class_token=True, global_pool='token')."
        )


def _check_scripted(model: nn.Module) -> None:
    scripted = torch.jit.ScriptModule
    blocks = () if isinstance(model, scripted) else getattr(model, "blocks", None) or ()
    if any(isinstance(part, scripted) for part in (model, *blocks)):
        raise ValueError(
            f"{type(model).__name__} is scripted or traced by torch.jit, or its blocks are, which "
            "hides their attention: pass the model as it was before"
        )


def _of_timm(model: nn.Module) -> Adapter:
    name = type(model).__name__
    if isinstance(model, Xcit):
        raise ValueError(
            f"{name} attends between channels, not between image patches, so it has no attention "
            f"to read maps from: use {_FAMILIES}"
        )
    wanted = ("blocks", "patch_embed", "num_prefix_tokens")
    missing = [part for part in wanted if getattr(model, part, None) is None]
    if missing:
        raise _unknown(model, f"{name} lacks {', '.join(missing)}")
    if not hasattr(model.patch_embed, "dynamic_feat_size"):
        embed = type(model.patch_embed).__name__
        raise _unknown(
            model,
            f"its patch_embed ({embed}) lacks timm's dynamic_feat_size, which gives the number of "
            "patches of an image",
        )
    return TimmAdapter(
        model,
        model.blocks,
        lambda height, width: model.patch_embed.dynamic_feat_size((height, width)),
        num_prefix_tokens=model.num_prefix_tokens,
        class_token=0 if getattr(model, "cls_token", None) is not None else None,
        hybrid=hasattr(model.patch_embed, "backbone"),
    )


_INSIDE = {
    "module": "the one inside",
    "visual": "its vision tower",
    "_orig_mod": "the plain one",
}


def _unknown(model: nn.Module, what: str) -> ValueError:
    remedy = f"use {_FAMILIES}, or a ViT of {_OTHERS}, or write an adapter ({PAGE})"
    for name, part in _INSIDE.items():
        if hasattr(model, name):
            remedy = f"pass {part} (model.{name})"
    return ValueError(
        f"Expected a model that maps can be computed of, but got one of {type(model).__module__}: "
        f"{what}: {remedy}."
    )


def _of_torchvision(model: nn.Module, cls: type) -> Adapter:
    patch = model.patch_size
    return Adapter(
        model,
        model.encoder.layers,
        lambda height, width: (height // patch, width // patch),
        norm1="ln_1",
        linear_head=partial(_torchvision_head, model),
    )


def _torchvision_head(model: nn.Module) -> tuple[nn.Module, Tensor] | None:
    [*layers] = model.heads
    linear = len(layers) == 1 and type(layers[0]) is nn.Linear and is_unchanged(layers[0])
    return (model.encoder.ln, layers[0].weight) if linear else None


def _of_open_clip(model: nn.Module, cls: type) -> Adapter:
    if hasattr(model, "trunk"):  # a model of timm, and a projection after it
        inner = _of_timm(model.trunk)
        return Adapter(
            model,
            inner.blocks,
            inner.grid,
            num_prefix_tokens=inner.num_prefix_tokens,
            class_token=inner.class_token,
            hybrid=inner.hybrid,
        )
    if not hasattr(model, "transformer") or not hasattr(model, "conv1"):
        raise _unknown(model, "it is no VisionTransformer")
    high, wide = model.patch_size
    return Adapter(
        model,
        model.transformer.resblocks,
        lambda height, width: (height // high, width // wide),
        norm1="ln_1",
        linear_head=partial(_open_clip_head, model),
    )


def _open_clip_head(model: nn.Module) -> tuple[nn.Module, Tensor] | None:
    linear = model.attn_pool is None and model.proj is not None
    return (model.ln_post, model.proj.mT) if linear else None


_LIBRARIES: dict[str, Callable[[nn.Module, type], Adapter]] = {
    "torchvision.models.vision_transformer": _of_torchvision,
    "transformers.models.": of_transformers,
    "open_clip.": _of_open_clip,
}
