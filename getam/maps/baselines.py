"""The other map methods, which GETAM is compared with.

Each function takes a batch and the first block to use. It gives maps (G, K, h * w), at least 0.
Sources: gradient rollout, Chefer et al. 2021, arXiv 2103.15679 (its generic attention); attention
rollout, Abnar & Zuidema 2020, arXiv 2005.00928; Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391;
CAM, Zhou et al. 2016, arXiv 1512.04150.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from getam.maps.attention import AttentionCall
from getam.maps.probe import Batch, class_gradients, full_precision, patched_forward
from getam.maps.recorder import record_attention

__all__ = ["attention", "attention_rollout", "cam", "grad_cam", "gradient_rollout"]


def gradient_rollout(batch: Batch, start_block: int) -> Tensor:
    """Row 0 of `(I + M[L]) ... (I + M[start])`, `M[l] = mean_H relu(dy/dA[l] * A[l])`.

    The product is computed from the left, for row 0 only. So the (N, N) matrices of only one block
    are in memory at a time.
    """
    logits, calls = record_attention(batch, start_block, every_row=True)
    outputs = [call.output for call in calls]
    maps = []
    with full_precision(batch.classes.device):
        for gradients in class_gradients(batch, logits, outputs, tokens=slice(1)):
            row = _class_token_of_identity(calls[0])
            for call, gradient in zip(reversed(calls), reversed(gradients)):
                step = (call.gradient(gradient) * call.probabilities()).relu().mean(dim=1)
                row = row + row[:, :, : step.shape[1]] @ step
            maps.append(row[..., batch.patches])
        return torch.cat(maps, dim=1)


def attention_rollout(batch: Batch, start_block: int) -> Tensor:
    """Row 0 of `B[L] ... B[start]`, `B[l] = (I + mean_H A[l]) / 2`; the same for every class."""
    _, calls = record_attention(batch, start_block, graph=False, every_row=True)
    with full_precision(batch.classes.device):
        row = _class_token_of_identity(calls[0])
        for call in reversed(calls):
            step = call.probabilities().mean(dim=1)
            row = (row + row[:, :, : step.shape[1]] @ step) / 2
        return row[..., batch.patches].expand(*batch.classes.shape, -1)


def attention(batch: Batch, start_block: int) -> Tensor:
    """`mean_H A[L][0]`, the same for every class."""
    _, calls = record_attention(batch, start_block, graph=False)
    with full_precision(batch.classes.device):
        row = calls[-1].first_rows(1).probabilities().mean(dim=1)
        return row[..., batch.patches].expand(*batch.classes.shape, -1)


def grad_cam(batch: Batch, start_block: int) -> Tensor:
    """`relu(sum_d w[d] X[:, d])`, X the `norm1` output of a block, `w = mean_patches dy/dX`."""
    norm = getattr(batch.model.blocks[start_block], "norm1", None)
    if norm is None:
        raise ValueError(
            "Method grad_cam needs the layer norm1 of the last block, but the last block of this "
            "model has no norm1. Use another method."
        )
    kept: list[Tensor] = []

    def keep(forward: Callable[..., Tensor], *args, **kwargs) -> Tensor:
        kept.append(forward(*args, **kwargs).detach().requires_grad_())
        torch.set_grad_enabled(True)  # until no_grad() ends
        return kept[-1]

    with torch.no_grad(), patched_forward(norm, keep):
        logits = batch.classify()
    with full_precision(batch.classes.device):
        weights = [
            _precise(gradient[:, batch.patches]).mean(dim=1)
            for (gradient,) in class_gradients(batch, logits, kept, tokens=batch.patches)
        ]
        features = _precise(kept[0].detach()[:, batch.patches])
        return (torch.stack(weights, dim=1) @ features.mT).relu()


def cam(batch: Batch, start_block: int) -> Tensor:
    """`relu(W[c] X)`, X the normalised patch tokens after a block and W the linear head."""
    model = batch.model
    weight = _linear_head(model)
    kept: list[Tensor] = []

    def keep(forward: Callable[..., Tensor], *args, **kwargs) -> Tensor:
        kept.append(forward(*args, **kwargs))
        return kept[-1]

    with patched_forward(model.blocks[start_block], keep):
        batch.classify()
    tokens = model.fc_norm(model.norm(kept[0]))[:, batch.patches]
    with full_precision(batch.classes.device):
        return (_precise(weight[batch.classes]) @ _precise(tokens).mT).relu()


def _linear_head(model: nn.Module) -> Tensor:
    """The weights (C, D) of the head; the mean of both heads of a distilled model, as its score."""
    heads = [getattr(model, name) for name in ("head", "head_dist") if hasattr(model, name)]
    linear = heads and all(isinstance(head, nn.Linear) for head in heads)
    if not linear or getattr(model, "attn_pool", None) is not None or not hasattr(model, "fc_norm"):
        raise ValueError(
            "Method cam needs scores that are linear in the pooled tokens (timm's norm, fc_norm "
            f"and head, no attention pooling). Those of {type(model).__name__} are not: use "
            f"grad_cam."
        )
    return torch.stack([head.weight for head in heads]).mean(dim=0)


def _class_token_of_identity(call: AttentionCall) -> Tensor:
    """Row 0 of the identity matrix, (G, 1, N): the start of a rollout."""
    row = torch.zeros_like(_precise(call.key[:, 0, :, 0]))
    row[:, 0] = 1
    return row[:, None]


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
