"""A ViT that is trained on a part of the patches of each photo, which takes less time."""

from __future__ import annotations

from timm.layers import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from getam.errors import UserError

__all__ = ["drop_patches"]


def drop_patches(network: nn.Module, rate: float) -> None:
    """In training mode, leave out this share of the patches of each photo, others at each step.

    The tokens that are left have their own position embedding. In eval mode the network is as
    before (Liu et al., PatchDropout, arXiv 2208.07220).

    Args:
        network: a timm ViT.
        rate: 0 leaves the network as it is.

    Raises:
        UserError: the network is of another kind.
    """
    if not rate:
        return
    kind = type(network)
    if getattr(kind, "forward_features", None) is not VisionTransformer.forward_features:
        raise UserError(
            f"classifier.patch_drop_rate: got {rate:g}, but networks of timm's class "
            f"{kind.__name__} cannot leave out patches. Set classifier.patch_drop_rate to 0."
        )
    network.patch_drop = PatchDropout(rate, network.num_prefix_tokens)
