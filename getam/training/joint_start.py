"""What the end-to-end network starts from: pretrained weights, the classifier, or DeepLab."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from getam.errors import UserError
from getam.networks.build import build_endtoend, network_build
from getam.networks.decoders import JointNetwork
from getam.networks.weights import ENCODER, load_weights

__all__ = ["LEARNT", "check_start", "decoder_of", "start"]

LEARNT = ("classifier", "deeplab")
"""The values of ``endtoend.weights`` with which the network has learnt the classes already."""

_DECODER = ("channels", "atrous_rates", "blocks")


def decoder_of(config: Any, deeplab: Path | None = None) -> dict[str, Any]:
    """The arguments of :func:`getam.networks.build.build_endtoend` for the decoder.

    Args:
        config: the fields of ``getam.config.schema.Config``.
        deeplab: the artifact of the stage deeplab, if there is one yet. None: its settings.
    """
    if config.endtoend.weights != "deeplab":
        return {"channels": config.endtoend.channels}
    if deeplab is not None:
        described = network_build(deeplab)
        return {name: described.get(name) for name in _DECODER}
    theirs = config.deeplab
    blocks = None if theirs.blocks is None else list(theirs.blocks)
    return {
        "channels": theirs.channels,
        "atrous_rates": list(theirs.atrous_rates),
        "blocks": blocks,
    }


def start(build: Mapping[str, Any], weights: str, deeplab: Path | None = None) -> JointNetwork:
    """The network at the start of its training.

    Args:
        build: the arguments of :func:`getam.networks.build.build_endtoend`, without ``weights``.
        weights: of the encoder, as :func:`getam.networks.build.build_endtoend` takes them.
        deeplab: the artifact of a DeepLab whose encoder and decoder the network takes over. The
            class head stays that of ``weights``.
    """
    network = build_endtoend(**build, weights=weights)
    if deeplab is not None:
        file = deeplab / "network.safetensors"
        load_weights(network.encoder, file, build["model"])
        decoder = {k: v for k, v in load_file(file).items() if not k.startswith(ENCODER)}
        with torch.no_grad():
            own = network.state_dict()
            for name, value in decoder.items():
                own[name].copy_(value)
    return network


def check_start(config: Any) -> None:
    """Refuse settings with which the networks of other stages are no start for this one.

    Raises:
        UserError: they have another encoder, or they do not learn from image-level labels alone.
    """
    ours = config.endtoend
    if ours.weights not in LEARNT:
        return
    _check_same("classifier", ("model", "model_args"), config)
    if ours.weights == "classifier":
        return
    _check_same("deeplab", ("encoder", "encoder_args"), config)
    if config.deeplab.weights != "classifier":
        raise UserError(
            f"endtoend.weights: got deeplab, but deeplab.weights is {config.deeplab.weights}. The "
            "class head is that of the classifier, so the encoder must come from it too: set "
            "deeplab.weights to classifier, or endtoend.weights to another value."
        )
    if config.deeplab.labels != "pseudolabels":
        raise UserError(
            f"endtoend.weights: got deeplab, but deeplab.labels is {config.deeplab.labels}: the "
            "network would have learnt from the masks of train. Set deeplab.labels to "
            "pseudolabels, or endtoend.weights to another value."
        )


def _check_same(section: str, names: tuple[str, str], config: Any) -> None:
    """The model and its arguments in another section must be those of the end-to-end network."""
    for name, its in zip(names, ("model", "model_args")):
        theirs, ours = getattr(config[section], name), getattr(config.endtoend, its)
        if name.endswith("_args"):
            theirs, ours = dict(theirs), dict(ours)
        if theirs != ours:
            raise UserError(
                f"endtoend.weights: got {config.endtoend.weights}, but endtoend.{its} is {ours} "
                f"and {section}.{name} is {theirs}. Set both to the same value, or set "
                f"endtoend.weights to timm, none or a file."
            )
