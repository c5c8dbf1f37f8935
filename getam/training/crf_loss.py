"""The dense-CRF energy of a prediction, as a loss, in plain torch.

Pixels that are near in position and colour should have the same label (Tang et al. 2018, arXiv
1803.09569; used by GETAM, arXiv 2112.02841). Here the sum over all pairs of pixels is exact, which
is affordable at half resolution. Other code approximates it with a permutohedral lattice, which
needs a compiled extension.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["dense_energy"]

CHUNK = 1 << 22
"""Affinities in memory at a time: 16 MiB in float32."""


def dense_energy(
    probabilities: Tensor,
    images: Tensor,
    gate: Tensor,
    *,
    sigma_rgb: float = 15,
    sigma_xy: float = 50,
    chunk: int = CHUNK,
) -> Tensor:
    """The Potts energy E of the uncertain pixels, averaged over the images of a batch::

        E = sum_i gate_i sum_j w_ij sum_k p_ik (1 - p_jk)
        w_ij = exp( -|c_i - c_j|^2 / (2 sigma_rgb^2) - |x_i - x_j|^2 / (2 sigma_xy^2) )

    i and j run over all pixels of one image, k over the labels; c is the colour, x the position.
    As published, E is not divided by the number of pairs. It grows with the fourth power of the
    side of the image, so a weight (1e-7 in the paper) is meant for one image size.

    Costs pixels x gated pixels x (labels + 6) multiply-adds, where gated pixels have a gate above
    0. ``chunk`` bounds the memory.

    Args:
        probabilities: (B, K, H, W); the gradient flows to both pixels of a pair.
        images: (B, 3, H, W), 0..255.
        gate: (B, H, W) in [0, 1], how much a pixel counts; in the paper 1 for uncertain pixels.
        sigma_rgb: standard deviation of the colour, in levels of 0..255.
        sigma_xy: standard deviation of the distance, in pixels of ``images``.
        chunk: affinities in memory at a time.

    Returns:
        Scalar, float32 (float64 for float64 probabilities), at least 0.

    >>> p = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])[None]  # two pixels, sure of other labels
    >>> alike, one = torch.zeros(1, 3, 1, 2), torch.tensor([[[1.0, 0.0]]])
    >>> round(dense_energy(p, alike, one, sigma_xy=1).item(), 4), round(math.exp(-0.5), 4)
    (0.6065, 0.6065)
    """
    dtype = torch.promote_types(probabilities.dtype, torch.float32)
    with torch.autocast(probabilities.device.type, enabled=False):  # its sums want float32
        features = _features(images.to(dtype), sigma_rgb, sigma_xy)
        p = probabilities.to(dtype).flatten(2).transpose(1, 2)
        return _Energy.apply(p, features, gate.to(dtype).flatten(1), chunk)


def _features(images: Tensor, sigma_rgb: float, sigma_xy: float) -> Tensor:
    """Colour and position (B, N, 5), scaled so that w = exp(-|f_i - f_j|^2)."""
    batch, _, height, width = images.shape
    ys = torch.arange(height, dtype=images.dtype, device=images.device)
    xs = torch.arange(width, dtype=images.dtype, device=images.device)
    position = torch.stack(torch.meshgrid(ys, xs, indexing="ij")) / (sigma_xy * math.sqrt(2))
    colour = images / (sigma_rgb * math.sqrt(2))
    both = torch.cat([colour, position.expand(batch, -1, -1, -1)], dim=1)
    return both.flatten(2).transpose(1, 2)


class _Energy(torch.autograd.Function):
    """Computes value and gradient in one pass over the affinities, without storing them all.

    dE/dp_i = gate_i sum_j w_ij (1 - p_j) - sum_j gate_j w_ij p_j
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, features: Tensor, gate: Tensor, chunk: int) -> Tensor:
        gradient = torch.zeros_like(p)
        energy = p.new_zeros(())
        order = gate.argsort(dim=1, descending=True)
        gated = (gate > 0).sum(dim=1).tolist()  # per image: a few images have nearly all of them
        for n, count in enumerate(gated):
            for rows in order[n, :count].split(max(1, chunk // p.shape[1])):
                gates = gate[n, rows, None]
                own = gates * p[n, rows]
                weights = _affinity(features[n], rows)
                pull = weights @ (1 - p[n])
                energy += (own * pull).sum()
                gradient[n].index_add_(0, rows, gates * pull)
                gradient[n].addmm_(weights.T, own, alpha=-1)
        ctx.save_for_backward(gradient)
        return energy / len(p)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient / len(gradient), None, None, None


def _affinity(features: Tensor, rows: Tensor) -> Tensor:
    """w (R, N) between the pixels ``rows`` (R,) of an image and all its N pixels."""
    chosen = features[rows]
    squares = features.square().sum(1)
    exponent = torch.addmm(squares[None], chosen, features.T, beta=-1, alpha=2)
    exponent -= squares[rows, None]
    return exponent.clamp_(max=0).exp_()
