"""Recording the attention of a model's blocks during one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from getam.maps.adapter import Adapter
from getam.maps.attention import (
    AtAttention,
    AttentionCall,
    AttentionMatrix,
    AttentionOfClassToken,
    NotUnderstood,
    at_attention_matrix,
    inputs_of_attention,
    resume_after_attention,
)
from getam.maps.probe import Batch, is_plain, patched_forward
from getam.maps.unchanged import is_tokenwise, treats_tokens

__all__ = ["Forward", "Recorded", "Recorder", "reads_prefix_only", "record_attention"]

Forward = Callable[..., Tensor]
Recorded = AttentionCall | AttentionMatrix

_ATTENDS_ONCE = (
    "one call of scaled_dot_product_attention, or one (images, heads, tokens, tokens) matrix that "
    "passes through attn_drop"
)


def record_attention(
    batch: Batch,
    start_block: int,
    *,
    graph: bool = True,
    every_row: bool = False,
    whole: bool = False,
) -> tuple[Tensor, list[Recorded]]:
    """Classify the images of a batch and record the attention of `blocks[start_block:]`.

    The graph reaches from the logits down to the attention output of `start_block` and no further;
    with `graph=False` there is none. Only row 0 (the class token) of each output is promised
    unless `every_row` is set, and what only other rows need is left out: what follows the last
    block's attention, where the head does not read it, and their part of the graph in
    `start_block`. With `whole` every call has all its rows, also that of the last block.

    Returns:
        Logits (G, C) and, for each block in their order, an `AttentionCall`, or an
        `AttentionMatrix` where a changed block computes its matrix itself.

    Raises:
        ValueError: a block that does not attend exactly once, from all tokens to all tokens, or
            blocks that do not run in their order, each once.

    >>> from timm.models.vision_transformer import VisionTransformer
    >>> vit = VisionTransformer(8, 4, num_classes=2, embed_dim=8, depth=3, num_heads=2)
    >>> images, classes = torch.rand(1, 3, 8, 8), torch.tensor([[1]])
    >>> adapter = Adapter(vit.eval(), vit.blocks, lambda height, width: (2, 2))
    >>> batch = Batch(adapter, lambda: vit(images), classes, 2, (2, 2))
    >>> logits, calls = record_attention(batch, start_block=1)
    >>> len(calls), tuple(calls[0].rows(slice(1)).probabilities().shape)
    (2, (1, 2, 1, 5))
    """
    blocks = batch.adapter.blocks
    recorder = Recorder(batch, start_block, graph, every_row, whole)
    with torch.no_grad(), ExitStack() as patches:
        for index in range(start_block, len(blocks)):
            run = partial(recorder.run, index)
            patches.enter_context(patched_forward(blocks[index], run))
        logits = batch.classify()
    recorder.check_all_ran()
    return logits, recorder.calls


class Recorder:
    """Runs the blocks of one forward pass and collects their attention calls."""

    def __init__(
        self, batch: Batch, start: int, graph: bool, every_row: bool, whole: bool = False
    ) -> None:
        self.batch = batch
        self.blocks = batch.adapter.blocks
        self.start = start
        self.last = len(self.blocks) - 1
        self.graph = graph
        self.first_token_only = not every_row and batch.adapter.class_token == 0
        self.prefix_only = not whole and reads_prefix_only(batch.adapter)
        # Looked at here, as `patched_forward` changes the blocks too.
        self.tokenwise = self.find_tokenwise({start, min(start + 1, self.last), self.last})
        self.calls: list[Recorded] = []
        self.graph_in_class_token: Tensor | None = None

    def find_tokenwise(self, indices: Iterable[int]) -> set[int]:
        """Those of the blocks that can run on some of their tokens."""
        return {index for index in indices if is_tokenwise(self.blocks[index])}

    def check_all_ran(self) -> None:
        """Refuse a model that left out blocks."""
        expected = len(self.blocks) - self.start
        if len(self.calls) != expected:
            raise ValueError(
                f"expected the last {expected} blocks to run, but saw {len(self.calls)}: the "
                "model's forward leaves out blocks, or it is scripted and hides them"
            )

    def run(self, index: int, forward: Forward, *args, **kwargs) -> Tensor:
        expected = self.start + len(self.calls)
        if index != expected:
            raise ValueError(
                f"expected the blocks to run in their order, each once, but block {index} ran "
                f"where block {expected} was due"
            )
        try:
            return self.how(index, args)(index, forward, *args, **kwargs)
        except NotUnderstood as error:
            raise ValueError(
                f"block {index} ({type(self.blocks[index]).__name__}) attends in a way that maps "
                f"cannot be read from: {error}"
            ) from None

    def how(self, index: int, args: tuple) -> Forward:
        if args and index in self.tokenwise:
            if index == self.last and self.prefix_only:
                return self._run_for_prefix
            if index == self.start and self.graph and self.first_token_only:
                return self._run_from_class_token
            if args[0] is self.graph_in_class_token:
                return self._run_after_class_token
        return self.run_any

    def run_any(self, index: int, forward: Forward, *args, **kwargs) -> Tensor:
        """Any block."""

        def attend(call: Recorded) -> Recorded:
            return self.start_graph(index, call.attended())

        return self.observed(attend, forward, *args, block=self.blocks[index], **kwargs)

    def _run_for_prefix(self, index: int, forward: Forward, x: Tensor, *args, **kwargs) -> Tensor:
        """The last block: every token is attended to, but only prefix tokens go on to the head."""
        prefix = self.batch.adapter.num_prefix_tokens
        call = self._checked(inputs_of_attention(forward, x, *args, **kwargs))
        self.calls.append(self.start_graph(index, call.rows(slice(prefix)).attended()))
        return resume_after_attention(forward, x[:, :prefix], self.calls[-1].output)

    def _run_from_class_token(
        self, index: int, forward: Forward, x: Tensor, *args, **kwargs
    ) -> Tensor:
        """The first block: of its output only the class token depends on row 0 of its attention."""
        tokens = self.observed(AttentionCall.attended, forward, x, *args, **kwargs)
        call = self.calls[-1]
        call = self.start_graph(index, call._replace(output=call.output[:, :, :1]))
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

        return self.observed(attend, forward, x, *args, **kwargs)

    def observed(
        self,
        attend: Callable[[Recorded], Recorded],
        forward: Forward,
        *args,
        block: nn.Module | None = None,
        **kwargs,
    ) -> Tensor:
        """Run a block and keep what `attend` makes of its attention.

        Looks at matrices too, where `block` is given.
        """
        seen: list[Recorded] = []

        def answer(call: Recorded) -> Recorded:
            seen.append(attend(self._checked(call)))
            return seen[-1]

        with ExitStack() as stack:
            stack.enter_context(AtAttention(lambda call: answer(call).output))
            if block is not None:
                stack.enter_context(at_attention_matrix(block, answer))
            tokens = forward(*args, **kwargs)
        if len(seen) != 1:
            raise NotUnderstood(f"expected {_ATTENDS_ONCE}, got {len(seen)}")
        self.calls += seen
        return tokens

    def _checked(self, call: Recorded) -> Recorded:
        h, w = self.batch.grid
        tokens = self.batch.adapter.num_prefix_tokens + h * w
        heads = call.tokens[0][1]
        expected = len(self.batch.classes), heads, tokens
        if call.tokens != (expected, expected):
            found = " and ".join(str(tuple(shape)) for shape in call.tokens)
            raise NotUnderstood(
                f"expected all tokens to attend to all, (images, heads, tokens) = {expected}, got "
                f"{found}"
            )
        return call

    def start_graph(self, index: int, call: Recorded) -> Recorded:
        if not self.starts_graph(index):
            return call
        torch.set_grad_enabled(True)  # until the caller's no_grad() ends
        return call._replace(output=call.output.detach().requires_grad_())

    def starts_graph(self, index: int) -> bool:
        """Whether a graph starts at the output of the attention of this block."""
        return self.graph and index == self.start


def reads_prefix_only(adapter: Adapter) -> bool:
    """Whether the scores are made of the prefix tokens after the last block alone."""
    model = adapter.model
    plain = is_plain(adapter) and all(map(treats_tokens, model.norm.modules()))
    return plain and model.global_pool == "token" and model.attn_pool is None
