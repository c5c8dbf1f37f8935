"""The output of the encoder of a segmentation network, beside the probabilities of its pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["features_and_probabilities"]


@torch.inference_mode()
def features_and_probabilities(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and probabilities of normalised images, from one pass of the network.

    Args:
        network: DeepLab or the end-to-end network, in eval mode; unchanged afterwards.
        images: (B, 3, H, W), their sides multiples of the network's stride.

    Returns:
        features: (B, D, h, w) float32, on the patch grid: of a ViT the output of the last block
            after its final norm, of a convolutional encoder its last feature map.
        probabilities: (B, C + 1, H, W) float32.
    """
    encoder, caught = network.encoder, []
    is_vit = hasattr(encoder, "blocks")
    layer = encoder.blocks[-1] if is_vit else encoder
    handle = layer.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    try:
        probabilities = network(images).float().softmax(1)
    finally:
        handle.remove()
    features = _on_grid(encoder, caught[-1], images) if is_vit else caught[-1][-1]
    return features.float(), probabilities


def _on_grid(encoder: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
    """The tokens (B, N, D) of a ViT without its prefix tokens, as (B, D, h, w)."""
    patches = encoder.norm(tokens)[:, encoder.num_prefix_tokens :]
    grid = encoder.patch_embed.dynamic_feat_size(images.shape[-2:])
    return patches.transpose(1, 2).unflatten(2, grid)
