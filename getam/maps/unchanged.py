"""Which parts of a model are still as timm and torch define them.

The short cuts of the maps rest on knowing the code that runs. People change models in many ways:
another class in the place of a norm, a new `forward` on one object or on a whole class, hooks,
parametrized weights, compiled parts. What is changed runs as it is, without short cuts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import torch
from timm.layers import (
    AttentionRope,
    DropPath,
    GluMlp,
    LayerNorm,
    LayerNormFp32,
    Mlp,
    RmsNorm,
    RmsNormFp32,
    SwiGLU,
)
from timm.layers.activations import GELU, GELUTanh, QuickGELU
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Attention, Block, LayerScale, ResPostBlock
from torch import Tensor, nn

__all__ = [
    "has_hooks",
    "has_library_method",
    "is_tokenwise",
    "is_unchanged",
    "may_fuse",
    "treats_tokens",
]

_BLOCKS = {Block, ResPostBlock, EvaBlock, EvaBlockPostNorm}
_ATTENTIONS = {Attention, AttentionRope, EvaAttention}
_MLPS = {Mlp, GluMlp, SwiGLU}
_PARTS = {
    *(nn.Linear, nn.Identity, nn.Dropout, DropPath, LayerScale),
    *(nn.LayerNorm, LayerNorm, LayerNormFp32, RmsNorm, RmsNormFp32),
    *(nn.GELU, GELU, GELUTanh, QuickGELU, nn.SiLU, nn.ReLU, nn.Sigmoid),
}


def is_tokenwise(block: nn.Module) -> bool:
    """Whether a block treats every token by itself, but for one call of fused attention.

    Such a block can run on some of its tokens, once the output of its attention is known.

    >>> block = Block(8, num_heads=2)
    >>> is_tokenwise(block)
    True
    >>> block.norm2 = nn.Sequential(block.norm2, nn.Softmax(dim=1))
    >>> is_tokenwise(block)
    False
    """
    attn, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    if not (type(block) in _BLOCKS and type(attn) in _ATTENTIONS and type(mlp) in _MLPS):
        return False
    parts = set(block.modules()) - {block, attn, mlp}
    known = all(map(_is_simple, (block, attn, mlp))) and all(map(treats_tokens, parts))
    # The class token must have no rotary embedding.
    return known and attn.fused_attn and getattr(attn, "num_prefix_tokens", 1) > 0


def treats_tokens(part: nn.Module) -> bool:
    """Whether a norm, a linear layer or the like treats every token by itself.

    >>> treats_tokens(nn.LayerNorm(8)), treats_tokens(nn.LayerNorm((5, 8)))
    (True, False)
    """
    return type(part) in _PARTS and _is_simple(part)


def is_unchanged(module: nn.Module) -> bool:
    """Whether the module runs code of timm or torch only; the modules in it are not looked at.

    >>> layer = nn.Linear(2, 2)
    >>> is_unchanged(layer)
    True
    >>> layer.forward = lambda x: x
    >>> is_unchanged(layer)
    False
    """
    cls = type(module)
    return (
        _is_from_library(cls, "forward", cls.forward)
        and _is_library_class(cls, cls.__call__)
        and not has_hooks(module)
        # A new `forward`, a compiled call, or a function in the place of a module.
        and not any(map(callable, vars(module).values()))
    )


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody's hooks see, and may change, what goes into the module or comes out.

    >>> layer = nn.Identity()
    >>> handle = layer.register_forward_hook(print)
    >>> has_hooks(layer)
    True
    """
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch.nn.modules.module._has_any_global_hook()
    )


def has_library_method(module: nn.Module, method: str) -> bool:
    """Whether a method is the one in the source of timm or torch, or there is none.

    >>> block = Block(8, num_heads=2)
    >>> has_library_method(block, "forward"), has_library_method(block, "no_such_method")
    (True, True)
    """
    cls = type(module)
    return method not in vars(module) and _is_from_library(cls, method, getattr(cls, method, None))


def may_fuse(attention: nn.Module) -> bool:
    """Whether fused attention gives what the module gives without it.

    Fused attention leaves out `attn_drop` and takes the scale from the width of a head, so a module
    that somebody gave another scale, or something else to do with its matrix, must not be fused.

    >>> attention = Attention(8, num_heads=2)
    >>> may_fuse(attention)
    True
    >>> attention.scale *= 2
    >>> may_fuse(attention)
    False
    """
    drop = getattr(attention, "attn_drop", None)
    return (
        is_unchanged(attention)
        and type(drop) in (nn.Dropout, nn.Identity)
        and is_unchanged(drop)
        and getattr(attention, "scale", None) == _usual_scale(attention)
    )


def _usual_scale(attention: nn.Module) -> float:
    """That of fused attention; 0 where the width of a head is not known."""
    width = getattr(attention, "head_dim", 0)
    if not width and isinstance(getattr(attention, "qkv", None), nn.Linear):  # BEiT
        width = attention.qkv.out_features // (3 * attention.num_heads)
    return width**-0.5 if width else 0.0


def _is_simple(module: nn.Module) -> bool:
    """Unchanged, and with weights that are the same for every token."""
    own = vars(module)
    weights = (*module._parameters.values(), *module._buffers.values())
    loose = any(isinstance(value, Tensor) for value in own.values())  # in a parameter's place
    matrix = module.weight if type(module) is nn.Linear else None
    return (
        is_unchanged(module)
        and not loose
        and len(own.get("normalized_shape", (0,))) == 1
        and own.get("chunk_dim", -1) == -1
        and all(w is matrix or w.dim() == 1 for w in weights if w is not None)
    )


@cache
def _is_library_class(cls: type, call: Callable = nn.Module.__call__) -> bool:
    """Also not a class that somebody made of one of theirs, as parametrized layers are."""
    named = getattr(sys.modules.get(cls.__module__), cls.__qualname__, None)
    ours = named is cls and cls.__module__.startswith(("timm.", "torch.nn.modules."))
    return ours and call is nn.Module.__call__


@cache
def _is_from_library(cls: type, name: str, function: Callable | None) -> bool:
    """Also not a function that somebody put in its place, whatever its name says."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), nn.Module)
    if owner is nn.Module:  # no such method, or the one that only says so
        return True
    code = getattr(function, "__code__", None)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    own = getattr(function, "__qualname__", None) == f"{owner.__qualname__}.{name}"
    return _is_library_class(owner) and own and code is not None and code.co_filename == file
