"""Reading the attention of a vision transformer while it classifies.

GETAM looks at row 0 (the class token) of every attention matrix and of its gradient. Neither matrix
is needed for that. With `O = A V` a block's attention output,

    A[0] = softmax(scale * q[0] K^T)        dy/dA[0] = dy/dO[0] V^T        (per head)

so it is enough to keep the query, key and value of a block and the gradient at row 0 of `O`. Fused
attention stays on and memory grows with the number of tokens, not with its square.

These four are taken where every kind of block has them in the same form, whatever it does before
(query and key norms, rotary embeddings, grouped heads) and after (norms, gates, projections): at
its call of `torch.nn.functional.scaled_dot_product_attention`, seen through a torch function mode.
`nn.MultiheadAttention` hides this call inside one function, which `getam.maps.multihead` replaces.

A block that computes its matrix itself, because somebody changed its attention, is read where the
matrix passes through its `attn_drop`: right as well, but with (N, N) matrices in memory. A block
that attends in no such way, or more than once, is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from getam.maps.multihead import NotUnderstood, attend_in_heads, multi_head_attention_forward

__all__ = [
    "AtAttention",
    "AttentionCall",
    "AttentionMatrix",
    "AttentionOfClassToken",
    "NotUnderstood",
    "at_attention_matrix",
    "inputs_of_attention",
    "resume_after_attention",
]

Forward = Callable[..., Tensor]


class AttentionCall(NamedTuple):
    """What one block's attention is given, and its output.

    Shapes: `query` and `output` (B, H, R, d) for the first R of N tokens, `key` and `value`
    (B, H, N, d); `bias` is None or broadcasts to (B, H, R, N), additive or boolean (True: may
    attend).

    >>> q, k, v = torch.rand(3, 1, 2, 5, 4)
    >>> call = AttentionCall(q, k, v, None, 0.5).rows(slice(2)).attended()
    >>> bool(torch.allclose(call.probabilities() @ v, call.output))
    True
    """

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    scale: float
    output: Tensor | None = None

    @property
    def tokens(self) -> tuple[torch.Size, torch.Size]:
        """(B, H, N) of the tokens that attend, and of those they attend to."""
        return self.query.shape[:3], self.key.shape[:3]

    def rows(self, rows: slice) -> AttentionCall:
        """The same for some of the queries, its output not computed yet."""
        bias = self.bias
        if bias is not None and bias.dim() > 1 and bias.shape[-2] > 1:
            bias = bias[..., rows, :]
        return self._replace(query=self.query[:, :, rows], bias=bias, output=None)

    def attended(self) -> AttentionCall:
        """With its output."""
        output = scaled_dot_product_attention(*self[:3], self.bias, scale=self.scale)
        return self._replace(output=output)

    def probabilities(self) -> Tensor:
        """`A = softmax(scale * Q K^T + bias)`, (B, H, R, N), in [0, 1], float32 at least."""
        scores = _products(precise(self.query) * self.scale, precise(self.key))
        if self.bias is None:
            return scores.softmax(dim=-1)
        if self.bias.dtype == torch.bool:
            return scores.masked_fill(~self.bias, float("-inf")).softmax(dim=-1)
        return (scores + self.bias).softmax(dim=-1)

    def gradient(self, output_gradient: Tensor) -> Tensor:
        """`dy/dA = dy/dO V^T` for the rows given, (B, H, R, d) -> (B, H, R, N)."""
        return _products(precise(output_gradient), precise(self.value))


class AttentionMatrix(NamedTuple):
    """The same of a block that multiplies its values with a matrix `output`, (B, H, R, N)."""

    output: Tensor

    @property
    def tokens(self) -> tuple[torch.Size, torch.Size]:
        """(B, H, N) of the tokens that attend, and of those they attend to."""
        return self.output.shape[:3], self.output.mT.shape[:3]

    def rows(self, rows: slice) -> AttentionMatrix:
        """The same for some of the queries."""
        return AttentionMatrix(self.output[:, :, rows])

    def attended(self) -> AttentionMatrix:
        """With its output."""
        return self

    def probabilities(self) -> Tensor:
        """The matrix, float32 at least."""
        return precise(self.output)

    def gradient(self, output_gradient: Tensor) -> Tensor:
        """`dy/dA` for the rows given, (B, H, R, N)."""
        return precise(output_gradient)


def _products(rows: Tensor, tokens: Tensor) -> Tensor:
    """(B, H, R, d), (B, H, N, d) -> (B, H, R, N)"""
    if rows.shape[2] == 1:  # a matrix product would copy the tokens into one block of memory
        return (tokens * rows).sum(dim=-1).unsqueeze(2)
    return rows @ tokens.mT


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is that: half precision is too coarse for sums."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class AttentionOfClassToken(torch.autograd.Function):
    """`O = A V`, differentiable in row 0 of Q, K and V only, in linear time and memory.

    dV[0] = sum_i A[i,0] dO[i]
    dK[0] = scale * sum_i A[i,0] <dO[i], V[0] - O[i]> Q[i]
    dQ[0] = scale * sum_j A[0,j] <dO[0], V[j] - O[0]> K[j]
    """

    @staticmethod
    def forward(ctx, first_query, first_key, first_value, call):
        output = call.attended().output
        unit = torch.zeros_like(call.value)
        unit[:, :, 0] = 1
        column = call._replace(value=unit).attended().output[..., :1]  # A[:, 0]
        # An output kept otherwise would keep itself alive, through its graph.
        ctx.save_for_backward(call.query, call.key, call.value, output, column)
        ctx.bias_and_scale = call.bias, call.scale
        return output

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, output, column = ctx.saved_tensors
        call = AttentionCall(query, key, value, *ctx.bias_and_scale)
        row = call.rows(slice(1)).probabilities().to(gradient.dtype)
        weighted = column * gradient
        along_column = (weighted * (value[:, :, :1] - output)).sum(dim=-1, keepdim=True)
        first = gradient[:, :, :1]
        along_row = _products(first, value) - (first * output[:, :, :1]).sum(dim=-1, keepdim=True)
        return (
            call.scale * ((row * along_row).mT * key).sum(dim=2, keepdim=True),
            call.scale * (along_column * query).sum(dim=2, keepdim=True),
            weighted.sum(dim=2, keepdim=True),
            None,
        )


class AtAttention(TorchFunctionMode):
    """Within it, `answer` gives the output of each scaled dot product attention."""

    def __init__(self, answer: Callable[[AttentionCall], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is scaled_dot_product_attention:
            return self.answer(_read_call(*args, **(kwargs or {})))
        if func is multi_head_attention_forward:
            return attend_in_heads(self._attend, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.answer(AttentionCall(query, key, value, None, query.shape[-1] ** -0.5))


@contextmanager
def at_attention_matrix(
    block: nn.Module, answer: Callable[[AttentionMatrix], AttentionMatrix]
) -> Iterator[None]:
    """Within it, `answer` gives each attention matrix that passes an `attn_drop` of the block."""

    def see(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        square = output.dim() == 4 and output.shape[-1] == output.shape[-2]
        return answer(AttentionMatrix(output)).output if square else output

    named = [part for name, part in block.named_modules() if name.split(".")[-1] == "attn_drop"]
    handles = [part.register_forward_hook(see) for part in named]  # after the hooks of others
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Attended(Exception):
    """A block was run only to see what it attends with."""

    def __init__(self, call: AttentionCall) -> None:
        self.call = call


def _read_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    if dropout_p or is_causal or enable_gqa:
        raise NotUnderstood(
            "expected plain attention, "
            f"got dropout_p={dropout_p}, is_causal={is_causal}, enable_gqa={enable_gqa}"
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return AttentionCall(query, key, value, attn_mask, scale)


def inputs_of_attention(forward: Forward, *args, **kwargs) -> AttentionCall:
    """Run a block as far as its attention."""

    def stop(call: AttentionCall) -> Tensor:
        raise _Attended(call)

    try:
        with AtAttention(stop):
            forward(*args, **kwargs)
    except _Attended as attended:
        return attended.call
    raise NotUnderstood("expected one scaled_dot_product_attention, got 0")


def resume_after_attention(forward: Forward, x: Tensor, output: Tensor) -> Tensor:
    """Run a token-wise block on some tokens only, from their attention output on.

    What else a block is passed (rotary embedding, mask) serves its attention and is left out.
    """
    with AtAttention(lambda call: output):
        return forward(x)
