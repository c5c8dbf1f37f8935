"""Segmentation networks with a plain ViT as encoder: DeepLab, and the end-to-end network (DPT)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from torch import Tensor, nn

from getam.data.transforms import resize_maps

LEVELS = 4  # of the DPT decoder; the coarsest has 1/32 of the side of the image


class ViTDeepLab(nn.Module):
    """The DeepLabV3 decoder (ASPP) on the patch features of a plain ViT.

    Takes (B, 3, H, W), where H and W are multiples of ``stride`` (the patch size). With ``blocks``
    the outputs of these blocks are concatenated and reduced to ``channels`` for the decoder.
    Without ``blocks`` the decoder gets the output of the last block. If ``encoder`` is a whole
    classifier, this is an end-to-end network, as :class:`ViTEndToEnd`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        channels: int,
        atrous_rates: tuple[int, ...],
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.blocks = encoder, sorted(set(blocks or ()))
        self.stride = encoder.patch_embed.feat_ratio()
        width = encoder.embed_dim * len(self.blocks)
        self.join = _joined(width, channels) if self.blocks else nn.Identity()
        self.decoder = DeepLabV3Decoder(
            channels if self.blocks else encoder.embed_dim,
            channels,
            atrous_rates,
            aspp_separable=False,
            aspp_dropout=0.1,
        )
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor, with_scores: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, num_classes, H, W); ``with_scores`` as in :class:`ViTEndToEnd`."""
        if with_scores:
            return self.scores_and_logits(images)
        return resize_maps(self.decode(self.features(images)), images.shape[-2:])

    def features(self, images: Tensor) -> Tensor:
        """The encoder output (B, D x blocks, h, w) of images (B, 3, H, W)."""
        return self._tokens_and_features(images)[1]

    def scores_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (B, C) and logits (B, num_classes, H, W) from one pass of the encoder.

        Only if the encoder is a whole classifier.
        """
        tokens, features = self._tokens_and_features(images)
        logits = resize_maps(self.decode(features), images.shape[-2:])
        return self.encoder.forward_head(tokens), logits

    def _tokens_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens, found = self.encoder.forward_intermediates(
            images, indices=self.blocks or 1, norm=True, output_fmt="NCHW"
        )
        return tokens, torch.cat(found, dim=1)

    def decode(self, features: Tensor) -> Tensor:
        """Logits (B, num_classes, h, w) on the patch grid."""
        return self.head(self.decoder([self.join(features)]))


class FixedEncoderDeepLab(nn.Module):
    """A :class:`ViTDeepLab` without its encoder, to train the decoder on stored features.

    Takes the output of ``ViTDeepLab.features``, in any floating-point type. Shares its parameters
    with the whole network.
    """

    def __init__(self, whole: ViTDeepLab) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.join, self.decoder, self.head = whole.join, whole.decoder, whole.head

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, num_classes, h, w) on the patch grid."""
        return ViTDeepLab.decode(self, features.to(self.head.weight.dtype))


def _joined(width: int, channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Dropout2d(0.1),
        nn.Conv2d(width, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class ViTEndToEnd(nn.Module):
    """A ViT classifier, and a DPT decoder (arXiv 2103.13413) on features of four of its blocks.

    ``encoder`` is a whole classifier: ``compute_maps(network.encoder, ...)`` explains the same
    scores that :meth:`scores_and_logits` gives. Takes (B, 3, H, W), where H and W are multiples of
    ``stride``, so that the coarsest level of the decoder has whole pixels.
    """

    def __init__(self, encoder: nn.Module, num_classes: int, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        depth, patch = len(encoder.blocks), encoder.patch_embed.feat_ratio()
        self.blocks = [max(0, depth * level // LEVELS - 1) for level in range(1, LEVELS + 1)]
        # The decoder can only halve and double. So patches of 14 pixels are decoded as if they had
        # 16 pixels, and the logits are resized at the end.
        decoded = 2 ** round(math.log2(patch))
        self.stride = patch * max(1, 32 // decoded)
        self.decoder = DPTDecoder(
            [encoder.embed_dim] * LEVELS,
            [decoded] * LEVELS,
            intermediate_channels=[channels, 2 * channels, 4 * channels, 4 * channels],
            fusion_channels=channels,
        )
        self.head = DPTSegmentationHead(channels, num_classes)

    def forward(self, images: Tensor, with_scores: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (B, num_classes, H, W); ``with_scores`` the pair of :meth:`scores_and_logits`.

        Training calls this method, because DistributedDataParallel only wraps ``forward``.
        """
        both = self.scores_and_logits(images)
        return both if with_scores else both[1]

    def scores_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores (B, C) and logits (B, num_classes, H, W) from one pass of the encoder."""
        tokens, found = self.encoder.forward_intermediates(
            images, indices=sorted(set(self.blocks)), return_prefix_tokens=True
        )
        by_block = dict(zip(sorted(set(self.blocks)), found))
        features, prefix = zip(*(by_block[block] for block in self.blocks))
        logits = self.head(self.decoder(features, prefix))
        return self.encoder.forward_head(tokens), resize_maps(logits, images.shape[-2:])


JointNetwork = ViTDeepLab | ViTEndToEnd  # classifier and segmentation network in one
