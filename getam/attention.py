"""Reading the attention of a vision transformer while it classifies.

GETAM looks at row 0 (the class token) of every attention matrix and of its gradient. Neither matrix
is needed for that. With `O = A V` a block's attention output,

    A[0] = softmax(scale * q[0] K^T)        dy/dA[0] = dy/dO[0] V^T        (per head)

so it is enough to keep the query, key and value of a block and the gradient at row 0 of `O`. Fused
attention stays on and memory grows with the number of tokens, not with its square.

These four are taken where every kind of block has them in the same form, whatever it does before
(query and key norms, rotary embeddings, grouped heads) and after (norms, gates, projections): at
its call of `torch.nn.functional.scaled_dot_product_attention`, seen through a torch function mode.
A block that does not make exactly one such call is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from timm.layers import Attention, AttentionRope, GluMlp, Mlp, SwiGLU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from getam.probe import Batch, patched_forward

__all__ = ["AttentionCall", "record_attention"]

Forward = Callable[..., Tensor]

# Outside their attention, blocks built of these treat every token by itself.
_TOKENWISE_BLOCKS = (Block, ResPostBlock, EvaBlock, EvaBlockPostNorm)
_TOKENWISE_ATTENTIONS = (Attention, AttentionRope, EvaAttention)
_TOKENWISE_MLPS = (Mlp, GluMlp, SwiGLU, SwiGLUPacked)
_PREFIX_READING_MODELS = (VisionTransformer, VisionTransformerDistilled, Eva)


class AttentionCall(NamedTuple):
    """What one block's attention is given, and its output.

    Shapes: `query` and `output` (B, H, R, d) for the first R of N tokens, `key` and `value`
    (B, H, N, d); `bias` is None or broadcasts to (B, H, R, N), additive or boolean (True: may
    attend).

    >>> q, k, v = torch.rand(3, 1, 2, 5, 4)
    >>> call = AttentionCall(q, k, v, None, 0.5).first_rows(2).attended()
    >>> bool(torch.allclose(call.probabilities() @ v, call.output))
    True
    """

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    scale: float
    output: Tensor | None = None

    def first_rows(self, rows: int) -> AttentionCall:
        """The same for the first `rows` queries, its output not computed yet."""
        bias = self.bias
        if bias is not None and bias.dim() > 1 and bias.shape[-2] > 1:
            bias = bias[..., :rows, :]
        return self._replace(query=self.query[:, :, :rows], bias=bias, output=None)

    def attended(self) -> AttentionCall:
        """With its output."""
        output = scaled_dot_product_attention(*self[:3], self.bias, scale=self.scale)
        return self._replace(output=output)

    def probabilities(self) -> Tensor:
        """`A = softmax(scale * Q K^T + bias)`, (B, H, R, N), in [0, 1], float32 at least."""
        query, key = _precise(self.query) * self.scale, _precise(self.key)
        scores = (key @ query.mT).mT  # in this order a single row is read without copying the key
        if self.bias is None:
            return scores.softmax(dim=-1)
        if self.bias.dtype == torch.bool:
            return scores.masked_fill(~self.bias, float("-inf")).softmax(dim=-1)
        return (scores + self.bias).softmax(dim=-1)

    def gradient(self, output_gradient: Tensor) -> Tensor:
        """`dy/dA = dy/dO V^T` for the rows given, (B, H, R, d) -> (B, H, R, N)."""
        return (_precise(self.value) @ _precise(output_gradient).mT).mT


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def record_attention(
    batch: Batch, start_block: int, *, graph: bool = True, every_row: bool = False
) -> tuple[Tensor, list[AttentionCall]]:
    """Classify the images of a batch and record the attention of `blocks[start_block:]`.

    The graph reaches from the logits down to the attention output of `start_block` and no further;
    with `graph=False` there is none. Only row 0 (the class token) of each output is promised
    unless `every_row` is set, and what only other rows need is left out: what follows the last
    block's attention, where the head does not read it, and their part of the graph in
    `start_block`.

    Returns:
        Logits (G, C) and an `AttentionCall` for each block, in their order.

    Raises:
        ValueError: a block that does not attend exactly once, from all tokens to all tokens.

    >>> from timm.models.vision_transformer import VisionTransformer
    >>> vit = VisionTransformer(8, 4, num_classes=2, embed_dim=8, depth=3, num_heads=2)
    >>> batch = Batch(vit.eval(), torch.rand(1, 3, 8, 8), torch.tensor([[1]]), 2, (2, 2))
    >>> logits, calls = record_attention(batch, start_block=1)
    >>> len(calls), tuple(calls[0].first_rows(1).probabilities().shape)
    (2, (1, 2, 1, 5))
    """
    blocks = batch.model.blocks
    recorder = _Recorder(batch, start_block, graph, every_row)
    with torch.no_grad(), ExitStack() as patches:
        for index in range(start_block, len(blocks)):
            run = partial(recorder.run, index, blocks[index])
            patches.enter_context(patched_forward(blocks[index], run))
        logits = batch.model(batch.images)
    expected = len(blocks) - start_block
    if len(recorder.calls) != expected:
        raise ValueError(
            f"expected {expected} blocks to run, each once, but saw {len(recorder.calls)} runs: a "
            "compiled or scripted model hides its blocks, pass the plain one"
        )
    return logits, recorder.calls


class _Recorder:
    """Runs the blocks of one forward pass and collects their attention calls."""

    def __init__(self, batch: Batch, start: int, graph: bool, every_row: bool) -> None:
        self.batch = batch
        self.start = start
        self.last = len(batch.model.blocks) - 1
        self.graph = graph
        self.every_row = every_row
        self.prefix_only = _head_reads_prefix_only(batch.model)
        self.calls: list[AttentionCall] = []
        self.graph_in_class_token: Tensor | None = None

    def run(self, index: int, block: nn.Module, forward: Forward, *args, **kwargs) -> Tensor:
        how = self._run
        if args and _is_tokenwise(block):
            if index == self.last and self.prefix_only:
                how = self._run_for_prefix
            elif index == self.start and self.graph and not self.every_row:
                how = self._run_from_class_token
            elif args[0] is self.graph_in_class_token:
                how = self._run_after_class_token
        try:
            return how(index, forward, *args, **kwargs)
        except _NotUnderstood as error:
            raise ValueError(
                f"block {index} ({type(block).__name__}) attends in a way that maps cannot be read "
                f"from: {error}"
            ) from None

    def _run(self, index: int, forward: Forward, *args, **kwargs) -> Tensor:
        """Any block."""
        return self._observed(
            lambda call: self._start_graph(index, call.attended()), forward, *args, **kwargs
        )

    def _run_for_prefix(self, index: int, forward: Forward, x: Tensor, *args, **kwargs) -> Tensor:
        """The last block: every token is attended to, but only prefix tokens go on to the head."""
        prefix = self.batch.model.num_prefix_tokens
        call = self._checked(_inputs(forward, x, *args, **kwargs))
        self.calls.append(self._start_graph(index, call.first_rows(prefix).attended()))
        return _resume(forward, x[:, :prefix], self.calls[-1].output)

    def _run_from_class_token(
        self, index: int, forward: Forward, x: Tensor, *args, **kwargs
    ) -> Tensor:
        """The first block: of its output only the class token depends on row 0 of its attention."""
        tokens = self._observed(AttentionCall.attended, forward, x, *args, **kwargs)
        call = self.calls[-1]
        call = self._start_graph(index, call._replace(output=call.output[:, :, :1]))
        self.calls[-1] = call
        class_token = _resume(forward, x[:, :1], call.output)
        self.graph_in_class_token = torch.cat([class_token, tokens[:, 1:]], dim=1)
        return self.graph_in_class_token

    def _run_after_class_token(
        self, index: int, forward: Forward, x: Tensor, *args, **kwargs
    ) -> Tensor:
        """The second block: of its queries, keys and values only those of the class token depend.

        Prefix tokens have no rotary embedding, so what the class token attends with can be had
        without it.
        """
        first = _inputs(forward, x[:, :1])

        def attend(call: AttentionCall) -> AttentionCall:
            return call._replace(output=_AttentionOfClassToken.apply(*first[:3], call))

        return self._observed(attend, forward, x, *args, **kwargs)

    def _observed(
        self,
        attend: Callable[[AttentionCall], AttentionCall],
        forward: Forward,
        *args,
        **kwargs,
    ) -> Tensor:
        seen = []

        def answer(call: AttentionCall) -> Tensor:
            seen.append(attend(self._checked(call)))
            return seen[-1].output

        with _AtAttention(answer):
            tokens = forward(*args, **kwargs)
        if len(seen) != 1:
            raise _NotUnderstood(f"expected one scaled_dot_product_attention, got {len(seen)}")
        self.calls += seen
        return tokens

    def _checked(self, call: AttentionCall) -> AttentionCall:
        h, w = self.batch.grid
        tokens = self.batch.model.num_prefix_tokens + h * w
        expected = len(self.batch.images), call.query.shape[1], tokens
        if call.query.shape[:3] != expected or call.key.shape[:3] != expected:
            raise _NotUnderstood(
                f"expected all tokens to attend to all, (images, heads, tokens) = {expected}, got "
                f"query {tuple(call.query.shape)} and key {tuple(call.key.shape)}"
            )
        return call

    def _start_graph(self, index: int, call: AttentionCall) -> AttentionCall:
        if not self.graph or index != self.start:
            return call
        torch.set_grad_enabled(True)  # until the caller's no_grad() ends
        return call._replace(output=call.output.detach().requires_grad_())


class _AttentionOfClassToken(torch.autograd.Function):
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
        ctx.call = call._replace(output=output)
        ctx.save_for_backward(column)
        return output

    @staticmethod
    def backward(ctx, gradient):
        call, (column,) = ctx.call, ctx.saved_tensors
        query, key, value, output = call.query, call.key, call.value, call.output
        row = call.first_rows(1).probabilities().to(gradient.dtype)
        weighted = column * gradient
        along_column = (weighted * (value[:, :, :1] - output)).sum(dim=-1, keepdim=True)
        along_row = row.mT * ((value - output[:, :, :1]) @ gradient[:, :, :1].mT)
        return (
            call.scale * (along_row * key).sum(dim=2, keepdim=True),
            call.scale * (along_column * query).sum(dim=2, keepdim=True),
            weighted.sum(dim=2, keepdim=True),
            None,
        )


class _AtAttention(TorchFunctionMode):
    """Within it, `answer` gives the output of each scaled dot product attention."""

    def __init__(self, answer: Callable[[AttentionCall], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is scaled_dot_product_attention:
            return self.answer(_read_call(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


class _NotUnderstood(Exception):
    """A block's attention is not of the kind that maps are defined for."""


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
        raise _NotUnderstood(
            "expected plain attention, "
            f"got dropout_p={dropout_p}, is_causal={is_causal}, enable_gqa={enable_gqa}"
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return AttentionCall(query, key, value, attn_mask, scale)


def _inputs(forward: Forward, *args, **kwargs) -> AttentionCall:
    """Run a block as far as its attention."""

    def stop(call: AttentionCall) -> Tensor:
        raise _Attended(call)

    try:
        with _AtAttention(stop):
            forward(*args, **kwargs)
    except _Attended as attended:
        return attended.call
    raise _NotUnderstood("expected one scaled_dot_product_attention, got 0")


def _resume(forward: Forward, x: Tensor, output: Tensor) -> Tensor:
    """Run a token-wise block on some tokens only, from their attention output on.

    What else a block is passed (rotary embedding, mask) serves its attention and is left out.
    """
    with _AtAttention(lambda call: output):
        return forward(x)


def _is_tokenwise(block: nn.Module) -> bool:
    return (
        type(block) in _TOKENWISE_BLOCKS
        and type(block.attn) in _TOKENWISE_ATTENTIONS
        and type(block.mlp) in _TOKENWISE_MLPS
    )


def _head_reads_prefix_only(model: nn.Module) -> bool:
    return (
        type(model) in _PREFIX_READING_MODELS
        and model.global_pool == "token"
        and getattr(model, "attn_pool", None) is None
        and not {"forward", "forward_features", "forward_head", "pool"} & vars(model).keys()
    )
