"""Notes about settings and labels that are allowed, but that people often did not mean."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from getam.config.schema import Config
from getam.data.index import DataIndex
from getam.data.teaching import label_problems

LARGE = 224  # side in pixels; to train a whole ViT at this size takes a CPU many hours
SLOW = 1e-4  # learning rate at which a decoder with random weights hardly learns
VITS = ("vit", "deit", "eva", "flexivit")  # beginnings of timm's names


def hints(config: Config, stages: Collection[str], device: str | None) -> Iterator[str]:
    """A sentence for each doubtful setting of the ``stages`` that are about to run.

    Args:
        device: the device that was found; None if the user chose it.
    """
    encoder, model = config.deeplab.encoder, config.classifier.model
    vits = encoder.startswith(VITS) and model.startswith(VITS)
    if "classifier" in stages and "deeplab" in stages and vits and encoder != model:
        yield (
            f"classifier.model is {model}, and deeplab.encoder is {encoder}. To use one ViT for "
            f"both networks, set both."
        )
    textured = [name for name in _start_from_shapes(config) if name in stages]
    if textured and config.data.kind != "shapes":
        settings = " and ".join(f"{stage}.weights" for stage in textured)
        yield (
            f"{settings}: got shapes, the weights of the embedded example. They know generated "
            f"textures, not photos. Start from pretrained weights: --config folder has some for "
            f"your own photos. --config endtoend_paper, after the preset of a data set, has those "
            f"of the paper's end-to-end mode."
        )
    joint = config.endtoend.joint
    begins = config.endtoend.weights != "deeplab"  # the decoder begins with random weights
    if "endtoend" in stages and begins and (joint.epochs == 1 or joint.lr_head <= SLOW):
        yield (
            f"With endtoend.weights={config.endtoend.weights} the decoder begins with random "
            f"weights. endtoend.joint.epochs={joint.epochs} with lr_head={joint.lr_head:g} is "
            f"for networks that have been trained (weights=deeplab), and too little for such a "
            f"start. 'Photos' in docs/end-to-end.md names other values."
        )
    trained = ", ".join(_large(config, stages))
    if device == "cpu" and trained:
        yield (
            f"torch finds no GPU. These settings train a whole network ({trained}), which takes a "
            f"CPU very long. 'Without a GPU' in docs/own-data.md names smaller settings: --config "
            f"folder --device cpu."
        )


def label_hints(index: DataIndex, split: str, stages: Collection[str]) -> Iterator[str]:
    """How the data set was read, and what the labels of the split ``split`` cannot teach.

    Said before a stage that learns from the labels, as the command ``data`` does.
    """
    if not {"classifier", "endtoend"}.isdisjoint(stages):
        yield from index.notes
        yield from label_problems(split, index.split(split), index.classes)


def _start_from_shapes(config: Config) -> Iterator[str]:
    """The stages whose networks start from the weights of the embedded example."""
    for stage in ("classifier", "deeplab", "endtoend"):
        if getattr(config, stage).weights == "shapes":
            yield stage


def _large(config: Config, stages: Collection[str]) -> Iterator[str]:
    """The stages that train a whole network on large photos."""
    training = {
        "classifier": (config.classifier.image_size, not config.classifier.frozen_blocks),
        "endtoend": (config.endtoend.image_size, not config.endtoend.joint.frozen_blocks),
        "deeplab": (config.deeplab.image_size, not config.deeplab.fixed_encoder),
    }
    for stage, (side, whole) in training.items():
        if stage in stages and whole and side >= LARGE:
            yield f"{stage} at {side} pixels"
