"""Every setting with its type, default and meaning.

The defaults are those of the embedded example. ``getam.config.loading`` reads the settings that
differ from them. The sections are in ``label_settings`` and ``network_settings``.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from pydantic import Field, field_validator

from getam.config.base import SHAPES_VIT, Machine, Positive, Seed, Settings
from getam.config.label_settings import Compare, Crf, Foreground, Maps, Pamr, PseudoLabels
from getam.config.network_settings import (
    Classifier,
    DeepLab,
    EndToEnd,
    Joint,
    LossWeights,
    Predictions,
    Training,
)

__all__ = [
    "SHAPES_VIT",
    "Classifier",
    "Compare",
    "Config",
    "Crf",
    "Data",
    "DeepLab",
    "EndToEnd",
    "Evaluation",
    "Foreground",
    "Joint",
    "LossWeights",
    "Maps",
    "Pamr",
    "Predictions",
    "PseudoLabels",
    "Shapes",
    "Training",
]


class Shapes(Settings):
    """The embedded example: generated images with exact masks (see ``getam.data.shapes``)."""

    seed: Seed = Field(0, description="Seed of the generated images.")
    train: Positive = Field(900, description="Number of train images.")
    val: Positive = Field(200, description="Number of val images.")
    size: Positive = Field(96, description="Side of an image, in pixels.")


class Data(Settings):
    """The photos, their image-level labels, and what else there is of them."""

    kind: Literal["shapes", "folder", "voc", "coco"] = Field(
        "shapes",
        description="Layout of the data. folder: your own photos (docs/own-data.md). voc: PASCAL "
        "VOC 2012. coco: MS COCO 2014. shapes: the embedded example.",
    )
    root: str | None = Field(
        None, description="The data folder. Moving it reruns nothing: only its content counts."
    )
    train: str = Field("train", description="Name of the split to learn from.")
    val: str = Field("val", description="Name of the split to measure on.")
    test: str | None = Field(
        None,
        description="Name of a split without masks to predict, for an evaluation server. null: "
        "none.",
    )
    classes: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Use only these classes; drop the others from the labels, and set their pixels "
        "in masks to 255 (ignore). null: all classes.",
    )
    saliency: str = Field(
        "saliency", description="Folder of saliency maps: a name below root, or a path."
    )
    review: str | None = Field(
        None,
        description="Path of a review.csv, which the page of the command review writes "
        "(docs/review.md). Its corrected classes replace those of the label table, and photos that "
        "it rejects leave the train split. null: none.",
    )
    corrections: str | None = Field(
        None,
        description="Folder of corrected masks, ID.png: a name below root, or a path. Networks "
        "learn from those of train photos instead of the pseudo label. The photos that are listed "
        "in sample.txt there only measure (docs/corrections.md). null: none.",
    )
    learn_from_sample: bool = Field(
        False,
        description="Learn from the corrected masks of the sample too. The figures of the sample "
        "then no longer say how good the network is on other photos.",
    )
    intensity_range: tuple[float, float] | None = Field(
        None,
        description="For photos of more than 8 bits (16-bit, float, thermal): the values that "
        "become black and white, lowest first, in all photos alike. null: measured once over the "
        "photos of train and val, without a thousandth of the values of each at either end.",
    )
    difficult: bool = Field(
        True, description="For voc: count objects that are marked difficult as labels."
    )
    shapes: Shapes = Shapes()

    @field_validator("intensity_range")
    @classmethod
    def _rising(cls, values: tuple[float, float] | None) -> tuple[float, float] | None:
        if values is not None and not -inf < values[0] < values[1] < inf:
            raise ValueError("expected two numbers, the lower one first")
        return values

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("expected each class once")
        return names


class Evaluation(Settings):
    """What is measured against masks."""

    thresholds: Positive = Field(
        100,
        description="How many thresholds on the maps are tried for the row seeds, evenly from 0 "
        "to 1.",
    )


class Config(Settings):
    """All settings. Each section is about the stage of its name."""

    mode: Literal["multi-stage", "end-to-end"] = Field(
        "multi-stage",
        description="multi-stage: classifier, maps, pseudo labels and DeepLab one after the other. "
        "end-to-end: one network that is trained on the pseudo labels it makes itself.",
    )
    seed: Seed = Field(0, description="Seed of everything random in training.")
    machine: Machine | None = Field(
        None,
        description="The machine that a preset such as folder has chosen its settings for. gpu: a "
        "GPU. cpu: a CPU. cpu_bf16: a CPU that is faster in bfloat16. If you set it together "
        "with --config, the preset takes the settings for this machine. null: the preset chooses, "
        "or has the same settings for every machine.",
    )
    data: Data = Data()
    # A small crop can lose a class. The lowest blocks of the shipped ViT see textures already.
    classifier: Classifier = Classifier(crop_scale=(0.8, 1.0), frozen_blocks=2)
    maps: Maps = Maps()
    foreground: Foreground = Foreground()
    pseudolabels: PseudoLabels = PseudoLabels(background_power=300)  # the paper's 32 leaves gaps
    deeplab: DeepLab = DeepLab(epochs=7, batch_size=16, crop_scale=(0.7, 1.0), frozen_blocks=1)
    endtoend: EndToEnd = EndToEnd(
        classification=Training(epochs=6, crop_scale=(0.8, 1.0)),
        joint=Joint(epochs=7, batch_size=8, lr_encoder=2e-4, lr_head=2e-3, crop_scale=(0.7, 1.0)),
    )
    # 12 x 12 patches are coarse. The mirrored image would take twice the time and adds nothing.
    predictions: Predictions = Predictions(scales=(1.0, 1.5), flip=False)
    evaluation: Evaluation = Evaluation()
    compare: Compare = Compare()
