"""The weights of a ViT of Hugging Face transformers, under the names that timm gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["as_timm"]

_MARK = re.compile(r"^(?:(?:vit|deit|dinov2|dinov2_with_registers)\.)?embeddings\.cls_token$")
_BASE = re.compile(r"^(?:vit|deit|dinov2|dinov2_with_registers)\.")
_NAMES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.(cls_token|register_tokens)$", r"\1"),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)
_KEPT = re.compile(r"^(patch_embed|pos_embed|dist_token|cls_token|register_tokens|norm|blocks)\b")


def as_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the encoder as timm names it; any other as it is.

    Heads are left out: the classes are others.

    >>> one = torch.zeros(1)
    >>> sorted(as_timm({"vit.embeddings.cls_token": one, "classifier.bias": one}))
    ['cls_token']
    """
    if not any(map(_MARK.match, state)):
        return dict(state)
    renamed = {_renamed(name): value for name, value in state.items()}
    kept = {name: value for name, value in renamed.items() if _KEPT.match(name)}
    for name in [name for name in kept if ".attn.query." in name]:
        parts = [kept.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        kept[name.replace("query", "qkv")] = torch.cat(parts)
    if "register_tokens" in kept:  # timm's position embedding is then that of patches alone
        kept["reg_token"] = kept.pop("register_tokens")
        kept["cls_token"] = kept["cls_token"] + kept["pos_embed"][:, :1]
        kept["pos_embed"] = kept["pos_embed"][:, 1:]
    return kept


def _renamed(name: str) -> str:
    name = _BASE.sub("", name)
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
