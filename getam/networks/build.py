"""Builds, saves and loads the networks: ViT classifier, DeepLab and end-to-end network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from getam.errors import UserError
from getam.networks.decoders import JointNetwork, ViTDeepLab, ViTEndToEnd
from getam.networks.description import NAME, read_description, write_description
from getam.networks.models import create_model, deeplab_over_convolutions, is_vit


def build_classifier(
    model: str, num_classes: int, image_size: int, args: Mapping[str, Any], weights: str = "none"
) -> nn.Module:
    """A timm ViT that computes its logits (B, num_classes) from the class token.

    Args:
        model: timm name, with or without a pretrained tag.
        num_classes: size of the new head.
        image_size: side in pixels of the square image that the position embedding is made for.
            The network takes other sizes too.
        args: further arguments of ``timm.create_model``.
        weights: ``"timm"`` (timm downloads them), ``"none"``, or a local file.

    Raises:
        UserError: the model is unknown or has no class token, or the weights do not fit it.
    """
    size = {"img_size": image_size, "dynamic_img_size": True} if is_vit(model) else {}
    network = create_model(model, weights, args, num_classes=num_classes, **size)
    if not hasattr(network, "blocks") or getattr(network, "cls_token", None) is None:
        raise UserError(
            f"{model}: got a model without a class token, expected a timm ViT that has one (ViT, "
            f"DeiT, hybrid, DINOv2), because GETAM reads the attention of the class token."
        )
    if not hasattr(getattr(network, "patch_embed", None), "dynamic_feat_size"):
        raise UserError(
            f"{model}: got a model with patches or attention of another kind (XCiT attends between "
            "channels), expected a timm ViT (ViT, DeiT, hybrid, DINOv2): GETAM reads the class "
            "token's attention to the patches."
        )
    return network


def build_deeplab(
    encoder: str,
    num_classes: int,
    image_size: int,
    args: Mapping[str, Any],
    channels: int,
    atrous_rates: tuple[int, int, int],
    weights: str = "none",
    blocks: Sequence[int] | None = None,
) -> nn.Module:
    """DeepLab with ``num_classes`` outputs, background included: (B,3,H,W) -> (B,num_classes,H,W).

    With a plain ViT as encoder: the DeepLabV3 decoder on the patch features of ``blocks`` (None:
    the last). With a convolutional timm encoder: DeepLabV3+. Both by segmentation-models-pytorch.

    Raises:
        UserError: the encoder is unknown or lacks one of the blocks, or the weights do not fit it.
    """
    if is_vit(encoder):
        size = {"img_size": image_size, "dynamic_img_size": True}
        vit = create_model(encoder, weights, args, num_classes=0, **size)
        _check_blocks(encoder, blocks, len(vit.blocks))
        return ViTDeepLab(vit, num_classes, channels, atrous_rates, blocks)
    _check_blocks(encoder, blocks, 0)
    return deeplab_over_convolutions(encoder, num_classes, args, channels, atrous_rates, weights)


def build_endtoend(
    model: str,
    num_classes: int,
    image_size: int,
    args: Mapping[str, Any],
    channels: int,
    weights: str = "none",
    atrous_rates: tuple[int, int, int] | None = None,
    blocks: Sequence[int] | None = None,
) -> JointNetwork:
    """A classifier of ``num_classes``, with a decoder for these classes and background.

    Args:
        channels: channels of the decoder where it fuses its levels; 256 in DPT.
        atrous_rates: of a DeepLabV3 decoder. None: the decoder is that of DPT.
        blocks: as for :func:`build_deeplab`; not for DPT. The other arguments are those of
            :func:`build_classifier`.

    Raises:
        UserError: as :func:`build_classifier`; or the size is no multiple of the network's stride,
            or the model lacks one of the blocks.
    """
    encoder = build_classifier(model, num_classes, image_size, args, weights)
    if atrous_rates is None:
        network = ViTEndToEnd(encoder, num_classes + 1, channels)
    else:
        _check_blocks(model, blocks, len(encoder.blocks))
        network = ViTDeepLab(encoder, num_classes + 1, channels, atrous_rates, blocks)
    if image_size % network.stride:
        fitting = -(-image_size // network.stride) * network.stride
        raise UserError(
            f"endtoend.image_size: got {image_size}, expected a multiple of {network.stride} for "
            f"the decoder over {model}, such as {fitting}."
        )
    return network


BUILDERS = {"classifier": build_classifier, "deeplab": build_deeplab, "endtoend": build_endtoend}


def save_network(
    folder: Path,
    network: nn.Module,
    build: Mapping[str, Any],
    classes: Sequence[str],
    intensities: tuple[float, float] | None = None,
) -> None:
    """Write ``network.safetensors`` and ``network.json`` into ``folder``.

    ``network.json`` says how to build the network. It has the names of the classes 1..C and, if the
    photos have more than 8 bits, the ``intensities`` that became 0 and 255.
    """
    # Clones, because safetensors refuses tensors that share storage.
    state = {name: tensor.cpu().clone() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "network.safetensors")
    extra = {"intensities": list(intensities)} if intensities else {}
    write_description(folder, {**build, "classes": list(classes), **extra})


def load_network(folder: Path, device: str | torch.device = "cpu") -> nn.Module:
    """The network that :func:`save_network` wrote, in eval mode.

    Raises:
        UserError: the two files are missing, damaged or do not belong together.
    """
    build, file = network_build(folder), folder / "network.safetensors"
    network = BUILDERS[build.pop("kind")](**build)
    try:
        network.load_state_dict(load_file(file))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{file}: these weights do not fit the network of {folder / NAME} "
            f"({' '.join(str(error).split())[:200]}). Expected the two files that were saved "
            "together: train the network again, or copy both."
        ) from None
    return network.to(device).eval()


def load_classifier(folder: Path, device: str | torch.device = "cpu") -> nn.Module:
    """The classifier in ``folder``, or the one in its end-to-end network, in eval mode."""
    network = load_network(folder, device)
    return network.encoder if network_build(folder)["kind"] == "endtoend" else network


def network_build(folder: Path) -> dict[str, Any]:
    """How the network in ``folder`` was built: ``kind`` and the arguments of its builder."""
    apart = ("classes", "intensities")
    described = read_description(folder)
    return {name: value for name, value in described.items() if name not in apart}


def network_classes(folder: Path) -> tuple[str, ...]:
    """The names of the classes 1..C that the network in ``folder`` knows."""
    return tuple(read_description(folder)["classes"])


def network_intensities(folder: Path) -> tuple[float, float] | None:
    """The values that became 0 and 255 in the photos it learnt from; None: these had 8 bits."""
    return tuple(read_description(folder).get("intensities", ())) or None


def encoder_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that can be pretrained: those of the encoder without its heads."""
    encoder = getattr(network, "encoder", network)
    heads = {id(p) for m in _heads(encoder) for p in m.parameters()}
    return [p for p in encoder.parameters() if id(p) not in heads]


def freeze_blocks(network: nn.Module, blocks: int) -> None:
    """Do not train the embedding and the first ``blocks`` blocks of a ViT encoder.

    Raises:
        UserError: the encoder has fewer blocks.
    """
    if not blocks:
        return
    encoder = getattr(network, "encoder", network)
    depth = len(getattr(encoder, "blocks", ()))
    if blocks > depth:
        raise UserError(f"frozen_blocks: got {blocks}, expected at most {depth} blocks.")
    for part in (encoder.patch_embed, *encoder.blocks[:blocks]):
        part.requires_grad_(False)
    for name in ("cls_token", "dist_token", "reg_token", "pos_embed"):
        if isinstance(getattr(encoder, name, None), nn.Parameter):
            getattr(encoder, name).requires_grad_(False)


def normalisation(network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of RGB in [0, 1] that the encoder was pretrained with."""
    encoder = getattr(network, "encoder", network)
    config = getattr(encoder, "pretrained_cfg", None) or {}
    mean = config.get("mean", (0.485, 0.456, 0.406))
    return tuple(mean), tuple(config.get("std", (0.229, 0.224, 0.225)))


def _check_blocks(encoder: str, blocks: Sequence[int] | None, depth: int) -> None:
    wrong = [block for block in blocks or () if not 0 <= block < depth]
    if wrong:
        expected = f"0 to {depth - 1}" if depth else f"none, as {encoder} is no plain ViT"
        raise UserError(f"deeplab.blocks: got {wrong[0]}, expected {expected}.")


def _heads(encoder: nn.Module) -> list[nn.Module]:
    names = ("head", "head_dist", "fc")
    return [m for n in names if isinstance(m := getattr(encoder, n, None), nn.Module)]
