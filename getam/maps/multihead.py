"""The attention inside `torch.nn.MultiheadAttention`, which torch runs as one function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace

from torch import Tensor
from torch.nn.functional import linear, multi_head_attention_forward

__all__ = ["NotUnderstood", "attend_in_heads", "multi_head_attention_forward"]

_ABSENT = ("bias_k", "bias_v", "key_padding_mask", "attn_mask", "static_k", "static_v")
_FALSE = ("add_zero_attn", "is_causal", "use_separate_proj_weight")


class NotUnderstood(Exception):
    """A block's attention is not of the kind that maps are defined for."""


def attend_in_heads(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], *args, **kwargs
) -> tuple[Tensor, Tensor | None]:
    """`multi_head_attention_forward` as projection, `attend` and projection.

    Args:
        attend: query, key and value (B, H, N, d) -> output (B, H, N, d).
        args, kwargs: those of `multi_head_attention_forward`.

    Raises:
        NotUnderstood: it has masks, extra tokens or dropout.
    """
    bound = inspect.signature(multi_head_attention_forward).bind(*args, **kwargs)
    bound.apply_defaults()
    given = SimpleNamespace(**bound.arguments)
    _check(given)
    query, key, value = _projected(given)
    output = attend(query, key, value).permute(2, 0, 1, 3).flatten(2)
    output = linear(output, given.out_proj_weight, given.out_proj_bias)
    if not given.need_weights:
        return output, None
    weights = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(dim=-1)
    return output, weights.mean(dim=1) if given.average_attn_weights else weights


def _check(given: SimpleNamespace) -> None:
    odd = [name for name in _ABSENT if getattr(given, name) is not None]
    odd += [name for name in _FALSE if getattr(given, name)]
    odd += ["dropout_p"] if given.training and given.dropout_p else []
    if odd or given.query.dim() != 3:
        raise NotUnderstood(
            f"expected plain attention, got nn.MultiheadAttention with {', '.join(odd)}"
            if odd
            else f"expected a batch, got a query of shape {tuple(given.query.shape)}"
        )


def _projected(given: SimpleNamespace) -> list[Tensor]:
    """Query, key and value, (B, H, N, d)."""
    biases = (None,) * 3 if given.in_proj_bias is None else given.in_proj_bias.chunk(3)
    parts = zip((given.query, given.key, given.value), given.in_proj_weight.chunk(3), biases)
    return [
        linear(tokens, weight, bias).unflatten(-1, (given.num_heads, -1)).permute(1, 2, 0, 3)
        for tokens, weight, bias in parts
    ]
