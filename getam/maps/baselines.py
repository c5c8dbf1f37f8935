"""The other map methods, which GETAM is compared with.

Each function takes a batch and the first block to use. It gives maps (G, K, h * w), at least 0.
Sources: gradient rollout, Chefer et al. 2021, arXiv 2103.15679 (its generic attention); attention
rollout, Abnar & Zuidema 2020, arXiv 2005.00928; Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391;
CAM, Zhou et al. 2016, arXiv 1512.04150.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock
from torch import Tensor, nn

from getam.maps.adapter import TimmAdapter, first_tensor
from getam.maps.attention import inputs_of_attention, precise, resume_after_attention
from getam.maps.probe import (
    Batch,
    class_gradients,
    classifies_as_timm,
    full_precision,
    patched_forward,
)
from getam.maps.recorder import Forward, Recorded, reads_prefix_only, record_attention
from getam.maps.unchanged import is_tokenwise, is_unchanged

__all__ = ["attention", "attention_rollout", "cam", "grad_cam", "gradient_rollout"]

_NORM_FIRST = (Block, EvaBlock)


def gradient_rollout(batch: Batch, start_block: int, discard: float = 0.0) -> Tensor:
    """Row 0 of `(I + M[L]) ... (I + M[start])`, `M[l] = mean_H relu(dy/dA[l] * A[l])`.

    `discard` is the share of the entries of each M[l], the smallest ones, that become 0.

    The product is computed from the left, for row 0 only. So the (N, N) matrices of only one block
    are in memory at a time.
    """
    logits, calls = record_attention(batch, start_block, every_row=True, whole=discard > 0)
    outputs = [call.output for call in calls]
    maps = []
    with full_precision(batch.classes.device):
        for gradients in class_gradients(batch, logits, outputs, batch.row):
            row = _class_token_of_identity(batch, calls[0])
            for call, gradient in zip(reversed(calls), reversed(gradients)):
                steps = (call.gradient(gradient) * call.probabilities()).relu_()
                row = row + _times_mean(row, steps if discard == 0 else _largest(steps, discard))
            maps.append(row[..., batch.patches])
        return torch.cat(maps, dim=1)


def attention_rollout(batch: Batch, start_block: int, discard: float = 0.0) -> Tensor:
    """Row 0 of `B[L] ... B[start]`, `B[l] = (I + mean_H A[l]) / 2`; the same for every class.

    `discard` is the share of the entries of each `mean_H A[l]`, the smallest ones, that become 0.
    Then the rows of `B[l]` are divided by their sums, as those of `A` have the sum 1.
    """
    _, calls = record_attention(batch, start_block, graph=False, every_row=True, whole=discard > 0)
    with full_precision(batch.classes.device):
        row = _class_token_of_identity(batch, calls[0])
        for call in reversed(calls):
            steps = call.probabilities()
            if discard:
                steps = _largest(steps, discard)
                row = row * 2 / (1 + steps.sum(dim=-1))
            row = (row + _times_mean(row, steps)) / 2
        return row[..., batch.patches].expand(*batch.classes.shape, -1)


def _times_mean(row: Tensor, matrices: Tensor) -> Tensor:
    """`row @ mean_H matrices`, (G, 1, N) and (G, H, R, N) for the first R of N rows -> (G, 1, N).

    One product reads all heads once; a mean over the heads would be a pass over memory of its own.
    """
    heads, rows = matrices.shape[1:3]
    weights = (row[:, :, :rows] / heads).expand(-1, heads, -1).flatten(1)
    return weights.unsqueeze(1) @ matrices.flatten(1, 2)


def _largest(matrices: Tensor, discard: float) -> Tensor:
    """(G, 1, N, N): the mean over heads, its smallest `int(discard * N * N)` entries set to 0."""
    mean = matrices.mean(dim=1, keepdim=True)
    entries = mean.flatten(1)
    smallest = entries.argsort(dim=1)[:, : int(discard * entries.shape[1])]
    return entries.scatter(1, smallest, 0.0).view_as(mean)


def attention(batch: Batch, start_block: int) -> Tensor:
    """`mean_H A[L][0]`, the same for every class."""
    _, calls = record_attention(batch, start_block, graph=False)
    with full_precision(batch.classes.device):
        row = calls[-1].rows(batch.row).probabilities().mean(dim=1)
        return row[..., batch.patches].expand(*batch.classes.shape, -1)


def grad_cam(batch: Batch, start_block: int) -> Tensor:
    """`relu(sum_d w[d] X[:, d])`, X the `norm1` output of a block, `w = mean_patches dy/dX`."""
    block, name = batch.adapter.blocks[start_block], batch.adapter.norm1
    norm = getattr(block, name, None)
    if norm is None:
        raise ValueError(
            f"Method grad_cam needs the layer {name} of the last block, but the last block of this "
            f"model has no {name}. Use another method."
        )

    def cut_graph(output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # until no_grad() ends
        return output.detach().requires_grad_()

    with torch.no_grad():
        if type(block) in _NORM_FIRST and is_tokenwise(block) and reads_prefix_only(batch.adapter):
            logits, output = _classify_by_prefix(batch, block, norm, cut_graph)
        else:
            logits, output = _classify_and_keep(
                batch, norm, "grad_cam", f"the last block's {name}", cut_graph
            )
    with full_precision(batch.classes.device):
        patches, _ = batch.patches, _by_image(batch, output)
        weights = [
            precise(gradient[:, patches]).mean(dim=1)
            for (gradient,) in class_gradients(batch, logits, [output], patches, _why_zero(block))
        ]
        features = precise(output.detach()[:, patches])
        return (torch.stack(weights, dim=1) @ features.mT).relu()


def _classify_by_prefix(
    batch: Batch, block: nn.Module, norm: nn.Module, change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The scores and the output of `norm`; the last block goes on with its prefix tokens alone."""
    prefix, kept = slice(batch.adapter.num_prefix_tokens), []

    def keep(forward: Forward, tokens: Tensor) -> Tensor:
        kept.append(change(forward(tokens)))
        return kept[-1]

    def run(forward: Forward, x: Tensor, *args, **kwargs) -> Tensor:
        with patched_forward(norm, keep):
            call = inputs_of_attention(forward, x, *args, **kwargs)
        return resume_after_attention(forward, x[:, prefix], call.rows(prefix).attended().output)

    with patched_forward(block, run):
        logits = batch.classify()
    return logits, kept[0]


def _why_zero(block: nn.Module) -> str:
    if isinstance(block, (ResPostBlock, EvaBlockPostNorm)):
        return (
            "grad_cam reads the last block's norm1, which in this model comes after the attention "
            "(post-norm), where patches no longer reach the class token. Use getam"
        )
    return "after the last block's norm1, patches reach no token that the head reads. Use getam"


def cam(batch: Batch, start_block: int) -> Tensor:
    """`relu(W[c] X)`, X the normalised patch tokens after the last block and W the linear head."""
    model = batch.adapter.model
    if isinstance(batch.adapter, TimmAdapter) and batch.adapter.scores is first_tensor:
        weight = _linear_head(model)
        _, tokens = _classify_and_keep(batch, model.norm, "cam", "the model's norm")
        tokens = model.fc_norm(tokens)[:, batch.patches]
    else:
        norm, weight = (batch.adapter.linear_head or tuple)() or _refuse_cam(model)
        _, tokens = _classify_and_keep(
            batch, batch.adapter.blocks[-1], "cam", "the last block", first_tensor
        )
        tokens = norm(_by_image(batch, tokens))[:, batch.patches]
    with full_precision(batch.classes.device):
        return (precise(weight[batch.classes]) @ precise(tokens).mT).relu()


def _classify_and_keep(
    batch: Batch,
    part: nn.Module,
    method: str,
    name: str,
    change: Callable[[Tensor], Tensor] = lambda output: output,
) -> tuple[Tensor, Tensor]:
    """The scores, and the output of a part of the model after the hooks of others."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        kept.append(change(output))
        return kept[-1]

    handle = part.register_forward_hook(keep)
    try:
        logits = batch.classify()
    finally:
        handle.remove()
    if len(kept) != 1:
        raise ValueError(
            f"{method} reads the output of {name}: expected it to run once, but it ran "
            f"{len(kept)} times"
        )
    return logits, kept[0]


def _linear_head(model: nn.Module) -> Tensor:
    """The weights (C, D) of the head; the mean of both heads of a distilled model, as its score."""
    heads = [getattr(model, name) for name in ("head", "head_dist") if hasattr(model, name)]
    linear = heads and all(type(head) is nn.Linear and is_unchanged(head) for head in heads)
    pools = hasattr(model, "fc_norm") and getattr(model, "attn_pool", None) is None
    if not (linear and pools and classifies_as_timm(model)):
        _refuse_cam(model)
    return torch.stack([head.weight for head in heads]).mean(dim=0)


def _refuse_cam(model: nn.Module) -> NoReturn:
    raise ValueError(
        "Method cam needs scores that are linear in the pooled tokens (timm's norm, fc_norm "
        f"and head, no attention pooling). Those of {type(model).__name__} are not: use "
        f"grad_cam."
    )


def _by_image(batch: Batch, tokens: Tensor) -> Tensor:
    """The tokens, if they are (G, N, D): prefix tokens and patches, or patches alone."""
    h, w = batch.grid
    expected = len(batch.classes), batch.adapter.num_prefix_tokens + h * w
    patches_alone = len(batch.classes), h * w
    if tokens.dim() != 3 or tokens.shape[:2] not in (expected, patches_alone):
        raise ValueError(
            f"expected tokens of shape {(*expected, 'D')} in the last block, got "
            f"{tuple(tokens.shape)}"
        )
    return tokens


def _class_token_of_identity(batch: Batch, call: Recorded) -> Tensor:
    """Row 0 of the identity matrix, (G, 1, N): the start of a rollout."""
    images, _, tokens = call.tokens[1]
    row = precise(call.output.new_zeros(images, 1, tokens))
    row[..., batch.row] = 1
    return row
