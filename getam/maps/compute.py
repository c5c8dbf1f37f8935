"""GETAM and the methods it is compared with, for any vision transformer.

Block l has the attention `A = A[l]` and, for the score y of a class, the gradient `G = dy/dA[l]`.
Both are (H, N, N): heads, tokens, tokens. The three attention-gradient methods combine A and G,
take row 0 (the class token), drop the columns of the prefix tokens, and add up the blocks from
`start_block` to the last (GETAM, arXiv 2112.02841):

    getam               mean_H relu(G * A) * mean_H relu(G)                 (the authors' code)
    getam_paper         relu( mean_H(G) * mean_H(A) * relu(mean_H(G)) )     (the paper's text)
    attention_gradient  mean_H relu(G * A)                                  (the paper's ablation)

The other methods are described in `getam.maps.baselines` and `getam.maps.legrad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from getam.maps import baselines
from getam.maps.adapter import Adapter
from getam.maps.families import adapter_of, check_class_token
from getam.maps.legrad import legrad
from getam.maps.probe import Batch, class_gradients, full_precision, scores_from_block, undisturbed
from getam.maps.recorder import record_attention

__all__ = ["METHODS", "compute_maps", "default_start_block", "start_block_of"]


def _getam(gradient: Tensor, attention: Tensor) -> Tensor:
    return (gradient * attention).relu().mean(dim=1) * gradient.relu().mean(dim=1)


def _getam_paper(gradient: Tensor, attention: Tensor) -> Tensor:
    mean_gradient = gradient.mean(dim=1)
    return (mean_gradient * attention.mean(dim=1) * mean_gradient.relu()).relu()


def _attention_gradient(gradient: Tensor, attention: Tensor) -> Tensor:
    return (gradient * attention).relu().mean(dim=1)


def _sum_over_blocks(
    batch: Batch, start_block: int, combine: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    logits, calls = record_attention(batch, start_block)
    outputs = [call.output for call in calls]
    maps = []
    with full_precision(batch.classes.device):
        rows = [call.rows(batch.row).probabilities() for call in calls]
        for gradients in class_gradients(batch, logits, outputs, batch.row):
            at_class_token = [gradient[:, :, batch.row] for gradient in gradients]
            blocks = zip(calls, rows, at_class_token)
            maps.append(sum(combine(call.gradient(grad), row) for call, row, grad in blocks))
        return torch.cat(maps, dim=1)[..., batch.patches]


Method = Callable[[Batch, int], Tensor]

_OVER_BLOCKS: dict[str, Method] = {
    "getam": partial(_sum_over_blocks, combine=_getam),
    "getam_paper": partial(_sum_over_blocks, combine=_getam_paper),
    "attention_gradient": partial(_sum_over_blocks, combine=_attention_gradient),
    "gradient_rollout": baselines.gradient_rollout,
    "attention_rollout": baselines.attention_rollout,
    "legrad": legrad,
}
_AT_LAST_BLOCK: dict[str, Method] = {
    "attention": baselines.attention,
    "grad_cam": baselines.grad_cam,
    "cam": baselines.cam,
}

METHODS = (*_OVER_BLOCKS, *_AT_LAST_BLOCK)
_WITHOUT_CLASS_TOKEN = ("legrad", "grad_cam", "cam")
_ROLLOUTS = ("gradient_rollout", "attention_rollout")


def compute_maps(
    model: nn.Module | Adapter,
    images: Tensor,
    targets: Tensor,
    *,
    method: str = "getam",
    start_block: int | None = None,
    scores: Callable[[Any], Tensor] | None = None,
    discard: float = 0.0,
) -> Tensor:
    """Compute class maps: where in an image the evidence for a class is, on the patch grid.

    One backward pass explains one class of every image. Images with the same number of classes
    form a group, and the groups run one after the other from `start_block` on. So a batch is
    fastest if all its images have the same number of classes. Images without a class cost nothing.
    The three attention-gradient methods form no (N, N) tensor.

    Args:
        model: a vision transformer of timm, torchvision, transformers (ViT, DeiT, DINOv2, DINOv3,
            CLIP vision, SigLIP) or open_clip (`model.visual`), a module that has timm's `blocks`,
            `patch_embed`, `cls_token` and `num_prefix_tokens`, or an `Adapter` of another model. It
            runs in evaluation mode, in the caller's autocast state. Afterwards its mode, flags,
            weights and gradients are as before, also after an error.
        images: (B, 3, H, W), normalised as the model expects.
        targets: (B, C) bool or 0/1, the classes to explain.
        method: one of `METHODS`. `attention` and `attention_rollout` give all classes one map.
        start_block: the first block that is used, 0 (lowest) to depth - 1. None: see
            `default_start_block`. `attention`, `grad_cam` and `cam` accept only None.
        scores: a differentiable function of the model's output that gives the scores (B, C) to
            explain, such as the similarity of CLIP's image features to C texts. None: the scores
            of the classifier; of a model without classifier its pooled features.
        discard: only for rollouts: the share, at least 0 and below 1, of the smallest entries of
            each block's matrix that becomes 0.

    Returns:
        (B, C, h, w), float32 (float64 for float64 images), not normalised, at least 0, and 0
        where `targets` is 0.

    Raises:
        ValueError: an argument has a wrong shape or value; the model has no class token and the
            method needs it, or has blocks of an unknown kind; or the scores have no gradient at the
            class token of a block that is used, because the map would be zero.

    >>> from timm.models.vision_transformer import VisionTransformer
    >>> _ = torch.manual_seed(0)
    >>> vit = VisionTransformer((8, 12), 4, num_classes=3, embed_dim=8, depth=4, num_heads=2)
    >>> targets = torch.tensor([[1, 0, 1], [0, 0, 0]])
    >>> maps = compute_maps(vit, torch.rand(2, 3, 8, 12), targets)
    >>> tuple(maps.shape), (maps.amax(dim=(2, 3)) > 0).int().tolist()
    ((2, 3, 2, 3), [[1, 0, 1], [0, 0, 0]])
    """
    adapter = adapter_of(model)
    _check_inputs(images, targets)
    start_block = start_block_of(adapter, method, start_block)
    _check_model(adapter, method)
    explain = _method(method, discard)
    grid = adapter.grid_of(images)
    if scores is not None:
        adapter = replace(adapter, scores=scores, linear_head=None)
    present = targets.cpu() == 1
    explained = present.any(dim=1).nonzero().squeeze(1)
    with undisturbed(adapter.model), adapter.prepared():
        dtype = torch.promote_types(images.dtype, torch.float32)
        maps = torch.zeros(*targets.shape, *grid, dtype=dtype, device=images.device)
        if not len(explained):
            return maps
        classify = scores_from_block(adapter, images[explained.to(images.device)], start_block)
        for members, classes in _by_class_count(present[explained]):
            run = partial(classify, members.to(images.device))
            batch = Batch(adapter, run, classes.to(images.device), targets.shape[1], grid)
            found = explain(batch, start_block).unflatten(-1, grid)
            maps[explained[members][:, None], classes] = found.to(dtype)
        return maps


def _method(name: str, discard: float) -> Method:
    if not 0 <= discard < 1:
        raise ValueError(f"Got discard={discard}, expected a share of at least 0 and below 1.")
    if discard and name not in _ROLLOUTS:
        raise ValueError(
            f"Got discard={discard} for method {name}, which has no matrices to discard entries "
            f"from: expected 0, or one of the methods {', '.join(_ROLLOUTS)}."
        )
    found = _OVER_BLOCKS.get(name) or _AT_LAST_BLOCK[name]
    return partial(found, discard=discard) if discard else found


def default_start_block(model: nn.Module | Adapter, method: str = "getam") -> int:
    """The first block that `method` uses if `start_block` is None.

    `getam`, `attention_gradient`: half of the depth, as in the released code (6 of 12).
    `getam_paper`: 0 for a plain transformer, half of the depth for a hybrid (with a convolutional
    backbone). Rollouts and `legrad`: 0. The other methods use only the last block.

    >>> from timm.models.vision_transformer import VisionTransformer
    >>> vit = VisionTransformer(8, 4, embed_dim=8, depth=4, num_heads=2)
    >>> [default_start_block(vit, method) for method in ("getam", "getam_paper", "grad_cam")]
    [2, 0, 3]
    """
    adapter = adapter_of(model)
    depth, hybrid = len(adapter.blocks), adapter.hybrid
    if method in _AT_LAST_BLOCK:
        return depth - 1
    if method in ("getam", "attention_gradient") or (method == "getam_paper" and hybrid):
        return depth // 2
    return 0


def _by_class_count(targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield groups of images with K classes each: indices of images (G,) and of classes (G, K)."""
    counts = targets.sum(dim=1)
    for count in counts.unique().tolist():
        members = (counts == count).nonzero().squeeze(1)
        yield members, targets[members].nonzero()[:, 1].view(-1, count)


def _check_model(adapter: Adapter, method: str) -> None:
    if method not in _WITHOUT_CLASS_TOKEN:
        check_class_token(adapter, ", ".join(_WITHOUT_CLASS_TOKEN))
    if next(adapter.model.parameters()).is_inference():
        raise ValueError(
            "The model was built under torch.inference_mode(), so its weights cannot give "
            "gradients. Build and load the model outside of torch.inference_mode()."
        )


def _check_inputs(images: Tensor, targets: Tensor) -> None:
    for name, given in (("images", images), ("targets", targets)):
        if not isinstance(given, Tensor):
            raise ValueError(
                f"Got {name} of type {type(given).__name__}, expected a torch.Tensor: pass "
                f"torch.as_tensor({name})."
            )
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"Got images of type {images.dtype} and shape {tuple(images.shape)}, expected a "
            f"floating-point type and (B, 3, H, W)."
        )
    if targets.dim() != 2 or len(targets) != len(images):
        raise ValueError(
            f"Got targets of shape {tuple(targets.shape)}, expected ({len(images)}, C): one row "
            f"per image."
        )
    if not ((targets == 0) | (targets == 1)).all():
        raise ValueError("Got targets other than 0 and 1, expected bool or 0/1: round soft labels.")


def start_block_of(model: nn.Module | Adapter, method: str, start_block: int | None) -> int:
    """The start block to use: the given one, or the default of the method.

    Raises:
        ValueError: an unknown method, or a start block that this method or model cannot have.
    """
    depth = len(adapter_of(model).blocks)
    if method not in METHODS:
        raise ValueError(f"Got method={method!r}, expected one of {', '.join(METHODS)}.")
    if start_block is None:
        return default_start_block(model, method)
    if method in _AT_LAST_BLOCK:
        raise ValueError(
            f"Got a start_block for method {method}, which uses only the last block: expected "
            f"None. Leave out start_block."
        )
    if not 0 <= start_block < depth:
        raise ValueError(
            f"Got start_block={start_block}, expected 0 to {depth - 1}, the blocks of the model."
        )
    return start_block
