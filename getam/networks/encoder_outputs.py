"""The outputs of the encoder of a segmentation network, beside the probabilities of its pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["Outputs", "outputs_of"]


class Outputs(NamedTuple):
    """What one pass of a network gives for B images.

    Attributes:
        features: (B, D, h, w) float32, on the patch grid: of a ViT the output of the last block
            after its final norm, of a convolutional encoder its last feature map.
        lower: the same of the block at two thirds of the depth of a ViT, without the norm. None for
            a convolutional encoder.
        probabilities: (B, C + 1, H, W) float32.
    """

    features: Tensor
    lower: Tensor | None
    probabilities: Tensor


@torch.inference_mode()
def outputs_of(network: nn.Module, images: Tensor) -> Outputs:
    """The outputs for normalised images (B, 3, H, W), whose sides are multiples of the stride.

    ``network`` is DeepLab or the end-to-end network, in eval mode; it is unchanged afterwards.
    """
    encoder, caught = network.encoder, {}

    def catch(name: str, layer: nn.Module) -> RemovableHandle:
        return layer.register_forward_hook(lambda *given: caught.update({name: given[-1]}))

    is_vit = hasattr(encoder, "blocks")
    layers = {"last": encoder.blocks[-1] if is_vit else encoder}
    if is_vit:
        layers["lower"] = encoder.blocks[len(encoder.blocks) * 2 // 3]
    handles = [catch(name, layer) for name, layer in layers.items()]
    try:
        probabilities = network(images).float().softmax(1)
    finally:
        for handle in handles:
            handle.remove()
    if not is_vit:
        return Outputs(caught["last"][-1].float(), None, probabilities)
    features = _on_grid(encoder, encoder.norm(caught["last"]), images)
    return Outputs(features, _on_grid(encoder, caught["lower"], images), probabilities)


def _on_grid(encoder: nn.Module, tokens: Tensor, images: Tensor) -> Tensor:
    """The tokens (B, N, D) of a ViT without its prefix tokens, as (B, D, h, w) float32."""
    grid = encoder.patch_embed.dynamic_feat_size(images.shape[-2:])
    patches = tokens[:, encoder.num_prefix_tokens :]
    return patches.transpose(1, 2).unflatten(2, grid).float()
