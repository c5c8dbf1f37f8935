"""Settings of the networks: classifier, deeplab, endtoend and predictions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from getam.config.base import (
    PRECISION,
    SHAPES_VIT,
    VIT,
    WEIGHTS,
    Arguments,
    Positive,
    Precision,
    Rate,
    Scales,
    Settings,
    Share,
)
from getam.config.label_settings import Crf

CORRECTION_WEIGHT = (
    "How much a pixel of a corrected mask counts in the loss; a pixel of a pseudo label counts 1. "
    "Only with data.corrections."
)


class Training(Settings):
    """The training of a network."""

    epochs: Positive = Field(10, description="Passes over the train photos.")
    batch_size: Positive = Field(32, description="Photos per training step.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="The optimiser.")
    lr_encoder: Rate = Field(5e-4, description="Learning rate of the encoder.")
    lr_head: Rate = Field(1e-3, description="Learning rate of everything after the encoder.")
    weight_decay: Rate = Field(0.05, description="Weight decay of the optimiser.")
    momentum: Rate = Field(0.9, description="Momentum, for optimizer: sgd.")
    schedule: Literal["cosine", "poly"] = Field(
        "cosine", description="How the learning rate falls to 0 during training."
    )
    poly_power: Rate = Field(0.9, description="Exponent, for schedule: poly.")
    warmup: Share = Field(
        0.1, description="Share of all steps in which the learning rate rises to its value."
    )
    frozen_blocks: int = Field(
        0, ge=0, description="How many of the lowest encoder blocks are not trained."
    )
    crop_scale: tuple[Share, Share] = Field(
        (0.4, 1.0),
        description="Smallest and largest area of a random crop, as shares of the photo.",
    )
    flip: Share = Field(0.5, description="Probability that a training photo is mirrored.")
    color_jitter: Rate = Field(
        0.3,
        description="Random change of brightness, contrast and saturation, at most by this share.",
    )
    precision: Precision = Field("auto", description=PRECISION)

    @field_validator("crop_scale")
    @classmethod
    def _smallest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected [smallest, largest], above 0, the smallest first")
        return value


class Classifier(Training):
    """A ViT with a class token, trained on image-level labels."""

    model: str = Field("vit_tiny_patch16_224", description=VIT)
    model_args: Arguments = Field(
        SHAPES_VIT,
        description="Further arguments of timm.create_model. The default belongs to the default "
        "model; with another model the default is {}.",
    )
    weights: str = Field("shapes", description=WEIGHTS)
    image_size: Positive = Field(
        96, description="Side of the square photo that the network gets, in pixels."
    )
    patch_drop_rate: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Share of the patches of a photo that each training step leaves out, chosen at "
        "random each time. A training step takes less time; the class maps see all patches.",
    )


class DeepLab(Training):
    """The segmentation network."""

    labels: Literal["pseudolabels", "masks"] = Field(
        "pseudolabels",
        description="What the network learns from. masks: the true masks of the train split, to "
        "know what full supervision would reach.",
    )
    encoder: str = Field(
        "vit_tiny_patch16_224",
        description=f"{VIT} Or the name of an encoder of segmentation-models-pytorch.",
    )
    encoder_args: Arguments = Field(
        SHAPES_VIT,
        description="Further arguments of timm.create_model. The default belongs to the default "
        "encoder; with another encoder the default is {}.",
    )
    weights: str = Field(
        "classifier",
        description=f"{WEIGHTS} classifier: the weights of the network that the maps are computed "
        "from (see maps.source).",
    )
    fixed_encoder: bool = Field(
        False,
        description="Do not train the encoder; train the decoder on encoder outputs that the stage "
        "encoder_features writes once. Much faster on a CPU. Without crops and color_jitter; only "
        "for a plain ViT.",
    )
    blocks: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="Transformer blocks whose outputs the decoder gets, concatenated; 0 is the "
        "lowest. null: the last block. Only for a plain ViT.",
    )
    image_size: Positive = Field(
        96,
        description="Side of the training crop, in pixels. For a prediction, the long side of the "
        "photo is resized to this.",
    )
    channels: Positive = Field(64, description="Channels of the decoder.")
    atrous_rates: tuple[Positive, Positive, Positive] = Field(
        (2, 4, 6), description="Dilations of the three atrous convolutions of the decoder."
    )
    loss: Literal["cross_entropy", "balanced", "class_balanced"] = Field(
        "cross_entropy",
        description="cross_entropy: mean over all pixels. balanced: mean over background pixels "
        "plus mean over foreground pixels. class_balanced: mean of the means of each class.",
    )
    correction_weight: float = Field(1, gt=0, description=CORRECTION_WEIGHT)


class LossWeights(Settings):
    """Weights of the terms of the joint loss."""

    background: Rate = Field(1, description="Cross-entropy of the background pixels.")
    foreground: Rate = Field(1, description="Cross-entropy of the foreground pixels.")
    classification: Rate = Field(1, description="Classification loss of the image-level labels.")
    class_balanced: bool = Field(
        False,
        description="true: the foreground term is the mean of the means of each class. false: the "
        "mean over all foreground pixels.",
    )
    saliency: Rate = Field(1, description="Saliency term; there is none without saliency maps.")
    energy: Rate = Field(
        1e-7, description="Dense-CRF energy, a sum over pairs of pixels. 0: do not compute it."
    )
    bilateral_sxy: float = Field(
        100, gt=0, description="Energy: standard deviation of the distance, in pixels."
    )
    bilateral_srgb: float = Field(
        15, gt=0, description="Energy: standard deviation of the colour, in levels of 0..255."
    )


class Joint(Training):
    """The second phase: the network is trained on the labels that it makes of each batch."""

    loss: LossWeights = LossWeights()
    correction_weight: float = Field(1, gt=0, description=CORRECTION_WEIGHT)


class EndToEnd(Settings):
    """The paper's end-to-end mode: one network, a ViT classifier with a decoder, two phases.

    Its labels are made as maps.method, maps.start_block and pseudolabels say, without dense CRF,
    scales and flip.
    """

    model: str = Field("vit_tiny_patch16_224", description=VIT)
    model_args: Arguments = Field(
        SHAPES_VIT,
        description="Further arguments of timm.create_model. The default belongs to the default "
        "model; with another model the default is {}.",
    )
    weights: str = Field(
        "shapes",
        description=f"{WEIGHTS} classifier: the network of the stage classifier. deeplab: the same "
        "with the encoder and decoder of the stage deeplab, which runs before; the decoder then "
        "is DeepLab's and not that of DPT. With both there is no first phase, and the section "
        "classification is not read.",
    )
    image_size: Positive = Field(96, description="Side of the training crop, in pixels.")
    channels: Positive = Field(
        32, description="Channels of the DPT decoder; not read with weights: deeplab."
    )
    classification: Training = Training()
    joint: Joint = Joint()


class Predictions(Settings):
    """The answers of the trained network: final masks of all labelled photos, and predictions of
    the val photos (and those of data.test)."""

    scales: Scales = Field(
        (1.0,),
        description="Sizes of the photo relative to image_size; the probabilities are averaged.",
    )
    flip: bool = Field(True, description="Average with the answer on the mirrored photo.")
    masks: bool = Field(
        True,
        description="Write a final mask of every labelled photo of train and val. The network "
        "chooses among background and the classes that the photo is labelled with.",
    )
    known_present: bool = Field(
        True,
        description="For a final mask, divide the probabilities of each class of the photo by one "
        "number, their mean over the hundredth of the pixels where they are highest, because the "
        "class is known to be there. false: rare and small classes are missed more often.",
    )
    pseudo_label_weight: float = Field(
        0.5,
        ge=0,
        le=10,
        description="What the pseudo label of a pixel adds to the probability of its class in the "
        "final masks of train; 0: only the network decides. In the mode end-to-end it has an "
        "effect only with endtoend.weights: deeplab: otherwise there is no stage pseudolabels.",
    )
    tile: int = Field(
        4096,
        ge=64,
        description="A photo with a longer side, in pixels, is cut into overlapping tiles of this "
        "side.",
    )
    batch_size: Positive = Field(16, description="Photos, or tiles, computed at a time.")
    precision: Precision = Field("auto", description=PRECISION)
    crf: Crf = Crf(
        enabled=True, gaussian_compat=3, bilateral_sxy=83, bilateral_srgb=5, bilateral_compat=4
    )
