"""Refusing before the first stage what a stage would refuse after hours.

Each stage has a function ``check(job)`` beside its ``run``. It looks at all settings, at the lists
and headers of the data, and at networks without weights, and raises UserError. Nothing it does
reaches an artifact, so it is no part of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from getam.errors import UserError
from getam.networks.downloads import pretrained_source
from getam.running.preflight_data import (
    check_corrections,
    check_masks,
    check_photos,
    check_saliency,
    check_sample,
    check_splits,
    data_of,
)
from getam.training import distributed

if TYPE_CHECKING:
    from getam.cache import Job

__all__ = [
    "check_corrections",
    "check_maps",
    "check_masks",
    "check_photos",
    "check_saliency",
    "check_sample",
    "check_sizes",
    "check_splits",
    "check_training",
    "data_of",
    "explained_network",
    "named",
    "without_weights",
]


def without_weights(build: Callable[..., nn.Module], weights: str, **options: Any) -> nn.Module:
    """A network as a stage will build it, on torch's meta device: it has shapes and no numbers.

    Weights of a local file are loaded once into a network that is then forgotten.

    Raises:
        UserError: an unknown model, arguments it does not take, weights that do not fit, or a model
            that timm has no weights for.
    """
    if weights not in ("timm", "none"):
        build(**options, weights=weights)
    try:
        with torch.device("meta"):
            network = build(**options, weights="none")
    except (RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"This network cannot be built ({reason}). Lower its channels, or mend its arguments."
        ) from None
    if weights == "timm":
        pretrained_source(options["model"] if "model" in options else options["encoder"])
    return network


def check_training(job: Job, section: str, network: nn.Module, side: int) -> None:
    """One training step's forward pass, without numbers, on as many photos as a batch has.

    Raises:
        UserError: the network cannot take photos of this side, or so few at a time; more frozen
            blocks than there are; processes of torchrun that cannot get equal shares of a batch.
    """
    settings = _section(job.config, section)
    data, batch = data_of(job), settings.batch_size
    if data is not None:  # DeepLab learns from all photos, the others from those with labels
        of = data.split if section == "deeplab" else data.labelled
        batch = min(batch, len(of(job.config.data.train)))
    depth = len(getattr(getattr(network, "encoder", network), "blocks", ()))
    if settings.frozen_blocks > depth:
        raise UserError(
            f"{section}.frozen_blocks: got {settings.frozen_blocks}, expected at most {depth}, the "
            f"blocks of the encoder."
        )
    try:
        distributed.check_shares(batch, distributed.planned())
    except UserError as error:
        raise UserError(f"{section}.{error}") from None
    images = torch.zeros(batch // distributed.planned(), 3, side, side, device="meta")
    try:
        network.train()(images)
    except Exception as error:  # torch and timm raise many kinds
        reason = " ".join(str(error).split())[:160]
        if "more than 1 value per channel" in reason:
            raise UserError(
                f"{section}.batch_size: got batches of {batch}, expected at least 2 photos: batch "
                f"normalisation needs them."
            ) from None
        raise UserError(_cannot_take(job, section.partition(".")[0], side, error, reason)) from None


def _cannot_take(job: Job, stage: str, side: int, error: Exception, reason: str) -> str:
    if isinstance(error, (TypeError, AttributeError)):  # it lacks what the decoder asks of a ViT
        name = "encoder" if stage == "deeplab" else "model"
        model = getattr(_section(job.config, stage), name)
        return f"{stage}.{name}: got {model}, which has no such decoder ({reason}). Choose a ViT."
    return (
        f"{stage}.image_size: got {side}, which this network cannot take ({reason}). Choose a "
        f"multiple of its patch size or stride, or the size that the model is made for."
    )


def check_sizes(network: nn.Module, setting: str, sizes: Mapping[Any, tuple[int, int]]) -> None:
    """Whether a network without weights takes photos of other sizes than those it learns from.

    Args:
        sizes: value of the setting -> the size (H, W) that it leads to.

    Raises:
        UserError: it does not.
    """
    for value, size in sizes.items():
        if reason := _refusal(network, size):
            instead = ", or the scale 1" if isinstance(value, float) else ""
            raise UserError(
                f"{setting}: got {value}, with which a later stage has photos of {size[1]} x "
                f"{size[0]} pixels. This network cannot take them ({reason}). Choose a model that "
                f"takes several sizes, such as a plain ViT{instead}."
            )


def _refusal(network: nn.Module, size: tuple[int, int]) -> str | None:
    """Why a network without weights cannot take photos of this size; None if it can."""
    try:
        network.eval()(torch.zeros(1, 3, *size, device="meta"))
    except Exception as error:  # torch and timm raise many kinds
        return " ".join(str(error).split())[:160] or type(error).__name__
    return None


def _section(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name)
    return config


def named(setting: str, check: Callable[[], Any]) -> Any:
    """The result of ``check``; a ValueError of it becomes a mistake in a setting.

    Raises:
        UserError: ``check`` raised ValueError.
    """
    try:
        return check()
    except ValueError as error:
        raise UserError(f"{setting}: {error}") from None


def explained_network(job: Job) -> tuple[nn.Module, Mapping[str, Any]]:
    """The network that the maps explain, without weights, and its settings."""
    settings = getattr(job.config, _explained(job))
    return without_weights(_classifier(settings), "none"), settings


def _explained(job: Job) -> str:
    return "endtoend" if job.stage == "endtoend" or "endtoend" in job.inputs else "classifier"


def _classifier(settings: Any) -> Callable[..., nn.Module]:
    from getam.networks.build import build_classifier

    return partial(
        build_classifier,
        model=settings.model,
        num_classes=1,
        image_size=settings.image_size,
        args=dict(settings.model_args),
    )


def check_maps(job: Job, methods: Sequence[str], start_block: int | None = None) -> None:
    """Whether maps can be computed of the network that will be trained.

    A ViT whose head reads the class token is known to be right. Of another network each method
    computes the maps of one photo of noise, with weights of noise.

    Raises:
        UserError: a method cannot, or it has no such start block.
    """
    from getam.maps.compute import compute_maps, start_block_of
    from getam.maps.probe import is_plain_transformer

    section, (network, settings) = _explained(job), explained_network(job)
    for method in methods:
        named("maps.start_block", partial(start_block_of, network, method, start_block))
    if is_plain_transformer(network) and getattr(network, "global_pool", "") == "token":
        return
    network = _of_noise(_classifier(settings)(weights="none"))
    photo = torch.rand(1, 3, settings.image_size, settings.image_size)
    model = f"{section}.model: got {settings.model}, of which"
    for method in methods:
        named(
            f"{model} maps.method {method} cannot compute maps",
            partial(
                compute_maps,
                network,
                photo,
                torch.ones(1, 1),
                method=method,
                start_block=start_block,
            ),
        )


def _of_noise(network: nn.Module) -> nn.Module:
    """All weights are drawn anew: some models begin with a head of zeros, which has no maps."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            spread = 0.05 if weight.dim() > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            if weight.dim() == 1:  # of norms and layer scales, which should let through
                weight += 0.5
    return network.eval()
