"""Recording the attention of a model's blocks during one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import torch
from timm.layers import AttentionRope, GluMlp, Mlp, SwiGLU, SwiGLUPacked
from timm.models.eva import EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Attention, Block, ResPostBlock
from torch import Tensor, nn

from getam.maps.attention import (
    AtAttention,
    AttentionCall,
    AttentionOfClassToken,
    NotUnderstood,
    inputs_of_attention,
    resume_after_attention,
)
from getam.maps.probe import Batch, has_hooks, is_plain_transformer, patched_forward

__all__ = ["record_attention"]

Forward = Callable[..., Tensor]

# Outside their attention, blocks built of these treat every token by itself.
_TOKENWISE_BLOCKS = (Block, ResPostBlock, EvaBlock, EvaBlockPostNorm)
_TOKENWISE_ATTENTIONS = (Attention, AttentionRope, EvaAttention)
_TOKENWISE_MLPS = (Mlp, GluMlp, SwiGLU, SwiGLUPacked)


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
    >>> images, classes = torch.rand(1, 3, 8, 8), torch.tensor([[1]])
    >>> batch = Batch(vit.eval(), lambda: vit(images), classes, 2, (2, 2))
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
        logits = batch.classify()
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
        except NotUnderstood as error:
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
        call = self._checked(inputs_of_attention(forward, x, *args, **kwargs))
        self.calls.append(self._start_graph(index, call.first_rows(prefix).attended()))
        return resume_after_attention(forward, x[:, :prefix], self.calls[-1].output)

    def _run_from_class_token(
        self, index: int, forward: Forward, x: Tensor, *args, **kwargs
    ) -> Tensor:
        """The first block: of its output only the class token depends on row 0 of its attention."""
        tokens = self._observed(AttentionCall.attended, forward, x, *args, **kwargs)
        call = self.calls[-1]
        call = self._start_graph(index, call._replace(output=call.output[:, :, :1]))
        self.calls[-1] = call
        class_token = resume_after_attention(forward, x[:, :1], call.output)
        self.graph_in_class_token = torch.cat([class_token, tokens[:, 1:]], dim=1)
        return self.graph_in_class_token

    def _run_after_class_token(
        self, index: int, forward: Forward, x: Tensor, *args, **kwargs
    ) -> Tensor:
        """The second block: of its queries, keys and values only those of the class token depend.

        Prefix tokens have no rotary embedding, so what the class token attends with can be had
        without it.
        """
        first = inputs_of_attention(forward, x[:, :1])

        def attend(call: AttentionCall) -> AttentionCall:
            return call._replace(output=AttentionOfClassToken.apply(*first[:3], call))

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

        with AtAttention(answer):
            tokens = forward(*args, **kwargs)
        if len(seen) != 1:
            raise NotUnderstood(f"expected one scaled_dot_product_attention, got {len(seen)}")
        self.calls += seen
        return tokens

    def _checked(self, call: AttentionCall) -> AttentionCall:
        h, w = self.batch.grid
        tokens = self.batch.model.num_prefix_tokens + h * w
        expected = len(self.batch.classes), call.query.shape[1], tokens
        if call.query.shape[:3] != expected or call.key.shape[:3] != expected:
            raise NotUnderstood(
                f"expected all tokens to attend to all, (images, heads, tokens) = {expected}, got "
                f"query {tuple(call.query.shape)} and key {tuple(call.key.shape)}"
            )
        return call

    def _start_graph(self, index: int, call: AttentionCall) -> AttentionCall:
        if not self.graph or index != self.start:
            return call
        torch.set_grad_enabled(True)  # until the caller's no_grad() ends
        return call._replace(output=call.output.detach().requires_grad_())


def _is_tokenwise(block: nn.Module) -> bool:
    return (
        type(block) in _TOKENWISE_BLOCKS
        and type(block.attn) in _TOKENWISE_ATTENTIONS
        and type(block.mlp) in _TOKENWISE_MLPS
        and not any(map(has_hooks, block.modules()))
    )


def _head_reads_prefix_only(model: nn.Module) -> bool:
    return is_plain_transformer(model) and model.global_pool == "token" and model.attn_pool is None
