"""LeGrad, Bousselham et al., arXiv 2404.03214: each block explains the scores of its own output.

For block l, s[l] are the scores that the final norm and the head give when they read the output of
that block. The map is

    sum_l  mean over heads and query rows of relu( d s[l] / d A[l] )

A query row that the scores do not depend on has the gradient 0. So rows without a gradient are left
out: where the head reads the class token, one row is left, and no (N, N) matrix is formed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from getam.maps.adapter import first_tensor
from getam.maps.attention import NotUnderstood, resume_after_attention
from getam.maps.probe import Batch, class_gradients, full_precision, patched_forward
from getam.maps.recorder import Forward, Recorded, Recorder

__all__ = ["legrad"]

_WHY_ZERO = "the scores that the head reads from this block do not depend on its attention"


def legrad(batch: Batch, start_block: int) -> Tensor:
    """The sum over the blocks from `start_block` to the last, (G, K, h * w), at least 0."""
    maps = []
    for index, (call, output) in enumerate(_run_blocks(batch, start_block), start_block):
        scores = _scores_of(batch, output)
        found = class_gradients(batch, scores, [call.output], slice(None), _WHY_ZERO, index)
        with full_precision(batch.classes.device):
            rows = [_mean_over_rows(call, gradient) for (gradient,) in found]
            maps.append(torch.stack(rows, dim=1)[..., batch.patches])
    return sum(maps)


def _mean_over_rows(call: Recorded, gradient: Tensor) -> Tensor:
    """Mean over heads and all query rows of `relu(d s / d A)`, (G, N)."""
    seen = (gradient != 0).any(dim=-1).any(dim=1).any(dim=0).nonzero().squeeze(1)
    rows = call.gradient(gradient[:, :, seen]).relu()
    return rows.mean(dim=1).sum(dim=1) / call.tokens[1][2]


def _scores_of(batch: Batch, output: Any) -> Tensor:
    """The scores of the head if `output` is that of the last block: all blocks are left out."""
    blocks = batch.adapter.blocks

    def leave_out(forward: Forward, *args, **kwargs) -> Any:
        tokens = args[0] if args else next(iter(kwargs.values()))
        return tokens if isinstance(output, Tensor) else (tokens, *output[1:])

    with torch.enable_grad(), ExitStack() as stack:
        for block in blocks:
            stack.enter_context(patched_forward(block, leave_out))
        stack.enter_context(_after(blocks[-1], lambda _: output))
        return batch.classify()


def _run_blocks(batch: Batch, start_block: int) -> list[tuple[Recorded, Any]]:
    """Classify; for each block its attention and its output.

    A graph leads from the attention output to the output of the same block, and no further.
    """
    blocks, recorder = batch.adapter.blocks, _OneByOne(batch, start_block)
    outputs = []

    def leave(output: Any) -> Any:
        torch.set_grad_enabled(False)
        outputs.append(output if recorder.shortened is None else recorder.shortened)
        return _detached(output)

    with torch.no_grad(), ExitStack() as stack:
        for index in range(start_block, len(blocks)):
            stack.enter_context(patched_forward(blocks[index], partial(recorder.run, index)))
            stack.enter_context(_after(blocks[index], leave))
        batch.classify()
    recorder.check_all_ran()
    return [*zip(recorder.calls, outputs)]


@contextmanager
def _after(block: nn.Module, change: Callable[[Any], Any]):
    """Within it `change` makes the block's output, after the hooks of others."""
    handle = block.register_forward_hook(lambda module, args, output: change(output))
    try:
        yield
    finally:
        handle.remove()


class _OneByOne(Recorder):
    """Starts a new graph in each block, at the output of its attention."""

    def __init__(self, batch: Batch, start: int) -> None:
        super().__init__(batch, start, graph=True, every_row=True)
        blocks = range(start, len(self.blocks)) if self.prefix_only else ()
        self.tokenwise = self.find_tokenwise(blocks)
        self.shortened: Tensor | None = None  # the output of the last block, of its prefix tokens

    def how(self, index: int, args: tuple) -> Forward:
        return self._run_both if args and index in self.tokenwise else self._run_in_full

    def _run_in_full(self, index: int, forward: Forward, *args, **kwargs) -> Any:
        self.shortened = None
        return self.run_any(index, forward, *args, **kwargs)

    def _run_both(self, index: int, forward: Forward, x: Tensor, *args, **kwargs) -> Tensor:
        """All tokens without a graph, and the prefix tokens, which the head reads, with one."""
        prefix = self.batch.adapter.num_prefix_tokens
        tokens = self.observed(lambda call: call.attended(), forward, x, *args, **kwargs)
        call = self.calls[-1]
        call = self.start_graph(index, call._replace(output=call.output[:, :, :prefix]))
        self.calls[-1] = call
        self.shortened = resume_after_attention(forward, x[:, :prefix], call.output)
        return tokens

    def starts_graph(self, index: int) -> bool:
        return True


def _detached(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.detach()
    if isinstance(output, tuple) and isinstance(first_tensor(output), Tensor):
        return (output[0].detach(), *output[1:])
    raise NotUnderstood(f"expected tokens as the output of a block, got a {type(output).__name__}")
