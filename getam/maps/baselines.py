"""The other map methods, which GETAM is compared with.

Each function takes a batch and the first block to use. It gives maps (G, K, h * w), at least 0.
Sources: gradient rollout, Chefer et al. 2021, arXiv 2103.15679 (its generic attention); attention
rollout, Abnar & Zuidema 2020, arXiv 2005.00928; Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391;
CAM, Zhou et al. 2016, arXiv 1512.04150.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.models.eva import EvaBlockPostNorm
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor, nn

from getam.maps.probe import Batch, class_gradients, classifies_as_timm, full_precision
from getam.maps.recorder import Recorded, record_attention
from getam.maps.unchanged import is_unchanged

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
    block = batch.model.blocks[start_block]
    norm = getattr(block, "norm1", None)
    if norm is None:
        raise ValueError(
            "Method grad_cam needs the layer norm1 of the last block, but the last block of this "
            "model has no norm1. Use another method."
        )

    def cut_graph(output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # until no_grad() ends
        return output.detach().requires_grad_()

    with torch.no_grad():
        logits, output = _classify_and_keep(
            batch, norm, "grad_cam", "the last block's norm1", cut_graph
        )
    with full_precision(batch.classes.device):
        patches = batch.patches
        weights = [
            _precise(gradient[:, patches]).mean(dim=1)
            for (gradient,) in class_gradients(batch, logits, [output], patches, _why_zero(block))
        ]
        features = _precise(output.detach()[:, patches])
        return (torch.stack(weights, dim=1) @ features.mT).relu()


def _why_zero(block: nn.Module) -> str:
    if isinstance(block, (ResPostBlock, EvaBlockPostNorm)):
        return (
            "grad_cam reads the last block's norm1, which in this model comes after the attention "
            "(post-norm), where patches no longer reach the class token. Use getam"
        )
    return "after the last block's norm1, patches reach no token that the head reads. Use getam"


def cam(batch: Batch, start_block: int) -> Tensor:
    """`relu(W[c] X)`, X the normalised patch tokens after the last block and W the linear head."""
    model = batch.model
    weight = _linear_head(model)
    _, tokens = _classify_and_keep(batch, model.norm, "cam", "the model's norm")
    tokens = model.fc_norm(tokens)[:, batch.patches]
    with full_precision(batch.classes.device):
        return (_precise(weight[batch.classes]) @ _precise(tokens).mT).relu()


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
        raise ValueError(
            "Method cam needs scores that are linear in the pooled tokens (timm's norm, fc_norm "
            f"and head, no attention pooling). Those of {type(model).__name__} are not: use "
            f"grad_cam."
        )
    return torch.stack([head.weight for head in heads]).mean(dim=0)


def _class_token_of_identity(call: Recorded) -> Tensor:
    """Row 0 of the identity matrix, (G, 1, N): the start of a rollout."""
    images, _, tokens = call.tokens[1]
    row = _precise(call.output.new_zeros(images, 1, tokens))
    row[..., 0] = 1
    return row


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
