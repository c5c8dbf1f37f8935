"""The adapter of a vision transformer of Hugging Face transformers, which is not imported here.

Its configuration says most of it. The attention of these models runs through a function that the
configuration names; maps are read where this function is `scaled_dot_product_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from getam.maps.adapter import PAGE, Adapter
from getam.maps.unchanged import is_unchanged

__all__ = ["of_transformers"]


class _Family(NamedTuple):
    """How the models of one folder of `transformers.models` differ."""

    norm1: str
    norm: str  # of the tokens after the last block
    prefix: Callable[[Any], int] = lambda config: 1
    class_token: bool = True
    resizes: bool = True  # only if asked to


def _registers(config: Any) -> int:
    return 1 + config.num_register_tokens


_FAMILIES = {
    "vit": _Family("layernorm_before", "layernorm"),
    "deit": _Family("layernorm_before", "layernorm", lambda config: 2),
    "dinov2": _Family("norm1", "layernorm", resizes=False),
    "dinov2_with_registers": _Family("norm1", "layernorm", _registers, resizes=False),
    "dinov3_vit": _Family("norm1", "norm", _registers, resizes=False),
    "clip": _Family("layer_norm1", "post_layernorm"),
    "siglip": _Family("layer_norm1", "post_layernorm", lambda config: 0, class_token=False),
}
# Ways to compute the same attention, which `sdpa` may replace.
_SAME = ("eager", "flash_attention_2", "flash_attention_3", "flex_attention")


def of_transformers(model: nn.Module, cls: type) -> Adapter:
    """The adapter of a model whose class, or one it is made from, is `cls` of transformers.

    Raises:
        ValueError: a family that is not known, or a model that has a text tower too.
    """
    family = _FAMILIES.get(cls.__module__.split(".")[2])
    config = getattr(model.config, "vision_config", model.config)
    blocks = _blocks(model, config)
    if family is None or blocks is None:
        inside = hasattr(model, "vision_model") and hasattr(model, "text_model")
        remedy = "pass its vision tower (model.vision_model)" if inside else _REMEDY
        raise ValueError(
            "Expected a model that maps can be computed of, but got a "
            f"{type(model).__name__} of {cls.__module__}: {remedy}."
        )
    patch = config.patch_size
    high, wide = (patch, patch) if isinstance(patch, int) else patch
    return Adapter(
        model,
        blocks,
        lambda height, width: (height // high, width // wide),
        num_prefix_tokens=family.prefix(config),
        class_token=0 if family.class_token else None,
        run=partial(_run, model, config, family),
        scores=_scores,
        norm1=family.norm1,
        linear_head=partial(_linear_head, model, family),
        prepared=partial(_fused, model),
    )


_REMEDY = (
    f"of transformers, use {', '.join(_FAMILIES)}, or write an adapter ({PAGE}), which takes under "
    "20 lines"
)


def _blocks(model: nn.Module, config: Any) -> nn.ModuleList | None:
    """The only list of as many parts as the configuration has layers."""
    depth = getattr(config, "num_hidden_layers", 0)
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
    found = [part for part in lists if len(part) == depth]
    return found[0] if len(found) == 1 and not hasattr(model, "text_model") else None


def _run(model: nn.Module, config: Any, family: _Family, images: Tensor) -> Any:
    size = config.image_size
    usual = (size, size) if isinstance(size, int) else tuple(size)
    if family.resizes and tuple(images.shape[-2:]) != usual:
        return model(images, interpolate_pos_encoding=True)
    return model(images)


def _scores(output: Any) -> Tensor:
    """The logits; of a model without classifier its features."""
    for name in ("logits", "image_embeds", "pooler_output"):
        if getattr(output, name, None) is not None:
            return getattr(output, name)
    raise ValueError(
        f"Got a {type(output).__name__} without logits or pooled features as the model's output: "
        "pass `scores`, a function of this output that gives (B, C) scores."
    )


def _linear_head(model: nn.Module, family: _Family) -> tuple[nn.Module, Tensor] | None:
    names = ("classifier", "cls_classifier", "distillation_classifier", "visual_projection")
    heads = [getattr(model, name) for name in names if hasattr(model, name)]
    norms = [part for name, part in model.named_modules() if name.split(".")[-1] == family.norm]
    linear = all(type(head) is nn.Linear and is_unchanged(head) for head in heads)
    if not heads or not linear or len(norms) != 1:
        return None
    [norm], weight = norms, torch.stack([head.weight for head in heads]).mean(dim=0)
    if family.norm == "post_layernorm" and hasattr(model, "classifier") and family.class_token:
        return nn.Identity(), weight  # CLIP's classifier averages tokens that no norm has seen
    return norm, weight[:, -norm.normalized_shape[0] :]  # DINOv2: class token, mean of patches


@contextmanager
def _fused(model: nn.Module) -> Iterator[None]:
    """Every part of the model attends by `scaled_dot_product_attention`."""
    configs = {id(part.config): part.config for part in model.modules() if _has_config(part)}
    name = "_attn_implementation_internal"
    changed = [
        (config, vars(config)[name])
        for config in configs.values()
        if vars(config).get(name) in _SAME or (name in vars(config) and vars(config)[name] is None)
    ]
    for config, _ in changed:
        setattr(config, name, "sdpa")
    try:
        yield
    finally:
        for config, found in changed:
            setattr(config, name, found)


def _has_config(part: nn.Module) -> bool:
    return hasattr(vars(part).get("config"), "__dict__")
