"""Maps by their definitions, slowly, and the tiny transformers to try them on.

One image and one class at a time, through full attention matrices that the model itself computes
(unfused), with none of the code under test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from timm.layers import HybridEmbed, LayerNorm, SwiGLUPacked
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from torch import Tensor, nn

IMAGE, GRID, CLASSES = (32, 48), (4, 6), 5
_TINY = {
    "img_size": IMAGE,
    "patch_size": 8,
    "num_classes": CLASSES,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 4,
}


class PoolsWithClassToken(VisionTransformer):
    """The authors' readout: the class token is appended to every patch, which are then pooled."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.readout = nn.Linear(2 * self.embed_dim, self.embed_dim)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        patches = x[:, self.num_prefix_tokens :]
        both = torch.cat([patches, x[:, :1].expand_as(patches)], dim=-1)
        return self.head(nn.functional.gelu(self.readout(both)).mean(dim=1))


def _eva(**kwargs) -> Eva:
    return Eva(**_TINY, global_pool="token", head_init_scale=0, **kwargs)


def _hybrid() -> VisionTransformer:
    backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())
    embed = partial(HybridEmbed, backbone=backbone)
    return VisionTransformer(**{**_TINY, "patch_size": 2}, embed_layer=embed)


_vit = partial(VisionTransformer, **_TINY)


def _gated() -> VisionTransformer:
    model = _vit()
    for block in model.blocks:
        block.attn.gate = nn.Linear(model.embed_dim, model.embed_dim)
    return model


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "vit": _vit,
    "deit_distilled": partial(VisionTransformerDistilled, **_TINY),
    "deit3": partial(_vit, no_embed_class=True, init_values=0.5),
    "hybrid": _hybrid,
    "dinov2": partial(_vit, init_values=0.5, mlp_layer=SwiGLUPacked),
    "dinov2_registers": partial(_vit, init_values=0.5, reg_tokens=4, no_embed_class=True),
    "clip": partial(_vit, pre_norm=True, norm_layer=LayerNorm),
    "norms_everywhere": partial(
        _vit, qk_norm=True, scale_attn_norm=True, scale_mlp_norm=True, fc_norm=True
    ),
    "dynamic_size": partial(_vit, dynamic_img_size=True),
    "gated": _gated,
    "post_norm": partial(_vit, block_fn=ResPostBlock),
    "parallel_block": partial(_vit, block_fn=ParallelScalingBlock),
    "pools_prefix_too": partial(_vit, global_pool="avg", pool_include_prefix=True),
    "readout_with_class_token": partial(PoolsWithClassToken, **_TINY),
    "dinov3": partial(
        _eva,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        rope_type="dinov3",
        rope_rotate_half=True,
        num_reg_tokens=4,
        qkv_bias=False,
        init_values=0.5,
        dynamic_img_size=True,
    ),
    "eva02": partial(
        _eva,
        use_rot_pos_emb=True,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
    ),
    "eva_mixed_rope": partial(_eva, use_rot_pos_emb=True, rope_type="mixed", attn_type="rope"),
    "eva_grouped_heads": partial(
        _eva, use_rot_pos_emb=True, attn_type="rope", qkv_fused=False, num_kv_heads=2, qk_norm=True
    ),
    "eva_post_norm": partial(_eva, use_post_norm=True),
    "beit": partial(Beit, **_TINY, global_pool="token", use_rel_pos_bias=True, init_values=0.5),
}


def build(family: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A model of that family in evaluation mode, every parameter drawn at random."""
    torch.manual_seed(seed)
    model = FAMILIES[family]().eval().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def draw_images(number: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, 3, *IMAGE, generator=generator, dtype=torch.float64).to(dtype)


Matrices = dict[tuple[int, int], tuple[Tensor, Tensor]]


def all_matrices(model: nn.Module, images: Tensor, targets: Tensor) -> Matrices:
    """`attention_matrices` of every image and each of its classes."""
    return {
        (b, c): attention_matrices(model, images[b : b + 1], c)
        for b, c in targets.nonzero().tolist()
    }


def slow_maps(
    model: nn.Module,
    matrices: Matrices,
    targets: Tensor,
    method: str,
    start_block: int,
    **more: float,
) -> Tensor:
    """What `compute_maps` promises, (B, C, h, w)."""
    maps = torch.zeros(*targets.shape, *GRID, dtype=torch.float64)
    for (b, c), (attention, gradient) in matrices.items():
        tokens = ORACLES[method](attention[start_block:], gradient[start_block:], **more)
        maps[b, c] = tokens[model.num_prefix_tokens :].view(GRID)
    return maps


def attention_matrices(model: nn.Module, image: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """All `A[l]` and `dy[c]/dA[l]`, (L, H, N, N) each."""
    model = copy.deepcopy(model)
    matrices = []
    for attend in [part for part in model.modules() if hasattr(part, "fused_attn")]:
        attend.fused_attn = False
        attend.attn_drop.register_forward_hook(lambda _, __, out: matrices.append(out))
    score = model(image)[0, c]
    gradients = torch.autograd.grad(score, matrices)
    return torch.cat(matrices).detach(), torch.cat(gradients)


def _getam(a: Tensor, g: Tensor) -> Tensor:
    product, positive = (g * a).clamp(min=0), g.clamp(min=0)
    return (product.mean(1) * positive.mean(1)).sum(0)[0]


def _getam_paper(a: Tensor, g: Tensor) -> Tensor:
    a, g = a.mean(1), g.mean(1)
    return (g * a * g.clamp(min=0)).clamp(min=0).sum(0)[0]


def _attention_gradient(a: Tensor, g: Tensor) -> Tensor:
    return (g * a).clamp(min=0).mean(1).sum(0)[0]


def _without_smallest(matrix: Tensor, discard: float) -> Tensor:
    ordered = sorted(matrix.flatten().tolist())
    number = int(discard * len(ordered))
    return matrix * (matrix > ordered[number - 1]) if number else matrix


def _gradient_rollout(a: Tensor, g: Tensor, discard: float = 0.0) -> Tensor:
    relevance = torch.eye(a.shape[-1], dtype=a.dtype)
    for step in (g * a).clamp(min=0).mean(1):
        relevance = relevance + _without_smallest(step, discard) @ relevance
    return relevance[0]


def _attention_rollout(a: Tensor, g: Tensor, discard: float = 0.0) -> Tensor:
    identity = torch.eye(a.shape[-1], dtype=a.dtype)
    rollout = identity
    for step in a.mean(1):
        step = _without_smallest(step, discard) + identity
        rollout = step / (step.sum(1, keepdim=True) if discard else 2) @ rollout
    return rollout[0]


def _attention(a: Tensor, g: Tensor) -> Tensor:
    return a[-1].mean(0)[0]


def slow_legrad(model: nn.Module, images: Tensor, targets: Tensor, start_block: int) -> Tensor:
    """LeGrad by its formula, for a model of timm: its own norm and head read every block."""
    maps = torch.zeros(*targets.shape, *GRID, dtype=torch.float64)
    for b, c in targets.nonzero().tolist():
        matrices, outputs = matrices_and_outputs(model, images[b : b + 1])
        for matrix, tokens in [*zip(matrices, outputs)][start_block:]:
            score = model.forward_head(model.norm(tokens))[0, c]
            [gradient] = torch.autograd.grad(score, [matrix], retain_graph=True)
            maps[b, c] += legrad_of_block(gradient[0])[-GRID[0] * GRID[1] :].view(GRID)
    return maps


def matrices_and_outputs(model: nn.Module, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The attention matrices (1, H, N, N) and the outputs of all blocks, in one graph."""
    model, matrices, outputs = copy.deepcopy(model), [], []
    for attend in [part for part in model.modules() if hasattr(part, "attn_drop")]:
        attend.fused_attn = False
        attend.attn_drop.register_forward_hook(lambda _, __, out: matrices.append(out))
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: outputs.append(out))
    model(image)
    return matrices, outputs


def legrad_of_block(gradient: Tensor) -> Tensor:
    """LeGrad of one block from the gradient (H, N, N) of the scores of its own output."""
    return gradient.clamp(min=0).mean(dim=(0, 1))


ORACLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "getam": _getam,
    "getam_paper": _getam_paper,
    "attention_gradient": _attention_gradient,
    "gradient_rollout": _gradient_rollout,
    "attention_rollout": _attention_rollout,
    "attention": _attention,
}
