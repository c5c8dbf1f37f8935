"""Makes models of timm and segmentation-models-pytorch; what these refuse becomes a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

from getam.errors import UserError
from getam.networks.downloads import check_tag, fetch_weights
from getam.networks.weights import check_arguments, load_weights, only_weights

DEEPEST = 1000  # blocks; to build more takes minutes
REFUSALS = (  # what timm, torch and segmentation-models-pytorch raise at arguments
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError),
)


def is_vit(name: str) -> bool:
    """Whether a model of timm is a plain ViT.

    Raises:
        UserError: timm has no such model.
    """
    if not timm.is_model(name):
        raise _unknown_model(name)
    check_tag(name)
    entry = timm.model_entrypoint(name.split(".")[0])
    return entry.__module__.rsplit(".", 1)[-1].startswith(("vision_transformer", "deit", "eva"))


def create_model(name: str, weights: str, args: Mapping[str, Any], **own: Any) -> nn.Module:
    """A model of timm with the user's ``args``, and arguments that GETAM sets itself."""
    check_arguments(f"arguments of {name}", args)
    _check_own(name, args, own)
    if weights == "timm":
        fetch_weights(name)
    try:
        with only_weights():
            network = timm.create_model(name, pretrained=weights == "timm", **args, **own)
    except REFUSALS as error:
        if "out of memory" in str(error):
            raise
        raise UserError(
            f"{name} does not take these arguments ({_reason(error)}). Change model_args or "
            f"encoder_args."
        ) from None
    if weights not in ("timm", "none"):
        load_weights(network, Path(weights), name)
    return network


def _check_own(name: str, args: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    both = sorted(args.keys() & own.keys())
    if both:
        raise UserError(
            f"arguments of {name}: got {both[0]}, which GETAM sets itself from the classes and the "
            f"image_size. Remove it from model_args or encoder_args."
        )
    depth = args.get("depth", 1)
    if isinstance(depth, int) and depth > DEEPEST:
        raise UserError(
            f"arguments of {name}: got depth {depth}, expected at most {DEEPEST} blocks. Lower it."
        )


def _reason(error: Exception) -> str:
    """What an exception says, in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def deeplab_over_convolutions(
    encoder: str,
    num_classes: int,
    args: Mapping[str, Any],
    channels: int,
    atrous_rates: tuple[int, int, int],
    weights: str,
) -> nn.Module:
    check_arguments(f"arguments of {encoder}", args)
    if weights == "timm":
        fetch_weights(encoder)
    try:
        with only_weights():
            network = smp.DeepLabV3Plus(
                f"tu-{encoder}",
                encoder_weights="imagenet" if weights == "timm" else None,
                decoder_channels=channels,
                decoder_atrous_rates=tuple(atrous_rates),
                classes=num_classes,
                **args,
            )
    except REFUSALS as error:
        if "out of memory" in str(error):
            raise
        raise UserError(
            f"deeplab.encoder: DeepLabV3+ cannot use {encoder} ({_reason(error)}). Set another "
            f"encoder, or change encoder_args."
        ) from None
    if weights not in ("timm", "none"):
        load_weights(network.encoder.model, Path(weights), encoder)
    network.stride = 32
    return network


def _unknown_model(name: str) -> UserError:
    base = name.split(".")[0]
    near = difflib.get_close_matches(base, timm.list_models(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "timm.list_models() lists them."
    return UserError(f"{name}: timm has no such model; {hint}")
