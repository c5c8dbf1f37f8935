"""Downloads the pretrained weights that a run needs before its first stage starts."""

from __future__ import annotations

from collections.abc import Callable, Collection

from getam.config.schema import Config


def fetch_needed(config: Config, stages: Collection[str], say: Callable[[str], None]) -> None:
    """Download what ``stages``, which are about to run, would download themselves.

    Args:
        say: told of each download that begins.

    Raises:
        UserError: some weights cannot be downloaded; it names the setting and the place.
    """
    for setting, weights, model, readers in (
        ("classifier.weights", config.classifier.weights, config.classifier.model, {"classifier"}),
        ("endtoend.weights", config.endtoend.weights, config.endtoend.model, {"endtoend"}),
        (
            "deeplab.weights",
            config.deeplab.weights,
            config.deeplab.encoder,
            {"deeplab", "encoder_features"},
        ),
    ):
        if weights == "timm" and readers & set(stages):
            from getam.networks.downloads import fetch_weights  # imports torch

            fetch_weights(model, setting, say)
