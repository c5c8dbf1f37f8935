"""Typed settings: the defaults, in one place, of everything that can be set.

The defaults are the embedded example; ``getam.config_files`` reads what differs from them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISION = "auto: bf16 on a GPU that has it, fp16 on another, fp32 on a CPU"
Method = Literal[
    "getam",
    "getam_paper",
    "attention_gradient",
    "grad_cam",
    "cam",
    "attention",
    "attention_rollout",
    "gradient_rollout",
]

# The small ViT that ships with the package, in timm's terms.
SHAPES_VIT = {"patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Shapes(Settings):
    """The embedded example: generated images with exact masks (see ``getam.data.shapes``)."""

    seed: int = 0
    train: Positive = 900
    val: Positive = 200
    size: Positive = 96


class Data(Settings):
    """Where images, image-level labels, masks, saliency and splits come from."""

    kind: Literal["shapes", "folder", "voc", "coco"] = "shapes"
    root: str | None = Field(None, description="data folder; not part of any key")
    train: str = Field("train", description="split to learn from")
    val: str = Field("val", description="split to measure on")
    test: str | None = Field(None, description="split to predict only, for an evaluation server")
    classes: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="of these alone: the others vanish from labels and are ignored in masks",
    )
    saliency: str = Field("saliency", description="folder of saliency maps, below root or anywhere")
    difficult: bool = Field(True, description="of voc: objects marked difficult count as labels")
    shapes: Shapes = Shapes()

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("expected each class once")
        return names


class Training(Settings):
    """What every training loop needs; rates are per parameter group."""

    epochs: Positive = 10
    batch_size: Positive = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr_encoder: Rate = 5e-4
    lr_head: Rate = 1e-3
    weight_decay: Rate = 0.05
    momentum: Rate = Field(0.9, description="of sgd")
    schedule: Literal["cosine", "poly"] = "cosine"
    poly_power: Rate = 0.9
    warmup: Share = Field(0.1, description="share of all steps")
    frozen_blocks: int = Field(0, ge=0, description="lower encoder blocks kept as they are")
    crop_scale: tuple[Share, Share] = Field((0.4, 1.0), description="area of a random crop")
    flip: Share = Field(0.5, description="probability of a horizontal flip")
    color_jitter: Rate = Field(0.3, description="brightness, contrast and saturation, +-")
    precision: Precision = Field("auto", description=PRECISION)


class Classifier(Training):
    """A timm ViT with a class token, trained on image-level labels."""

    model: str = "vit_tiny_patch16_224"
    model_args: dict[str, Any] = Field(SHAPES_VIT, description="further arguments of the model")
    weights: str = Field(
        "shapes", description="'timm' (download), 'shapes' (shipped), 'none', or a local file"
    )
    image_size: Positive = 96


class Maps(Settings):
    """Maps of the labelled classes, on the patch grid."""

    source: Literal["classifier", "endtoend"] = Field(
        "classifier", description="the network that is explained, in the multi-stage mode"
    )
    method: Method = "getam"
    start_block: int | None = Field(None, ge=0, description="first block summed; None: method's")
    scales: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    flip: bool = True
    batch_size: Positive = 16
    precision: Precision = Field("fp32", description=PRECISION)
    predicted_above: Share = Field(0.5, description="class probability, for unlabelled images")


class Foreground(Settings):
    """Object or ground by the patch features of the network, for ``pseudolabels.saliency``."""

    block: int | None = Field(
        None, ge=0, description="whose output is taken; None: two thirds of the depth"
    )
    scale: float = Field(1.5, gt=0, description="of the side of the network's images")
    images: Positive = Field(200, description="at most, to learn from, evenly from the train split")
    rounds: Positive = Field(3, description="of learning from its own answers")
    threshold: Share = Field(
        0.5,
        description="of answers that the next round learns from; above 0.5 objects shrink to what "
        "is alike in them, round by round",
    )
    classes: Literal["maps", "features"] = Field(
        "maps",
        description="what names the class of an object: the maps of its image, or the features, by "
        "what the maps of many images call such patches",
    )
    batch_size: Positive = 16
    precision: Precision = Field("fp32", description=PRECISION)


class Pamr(Settings):
    """Pixel-adaptive mask refinement."""

    enabled: bool = True
    iterations: Positive = 10
    dilations: tuple[Positive, ...] = (1, 2, 4, 8, 12, 24)


class Crf(Settings):
    """Dense CRF. Standard deviations in pixels (sxy) and colour levels (srgb)."""

    enabled: bool = False
    gaussian_sxy: float = 3
    gaussian_compat: float = 3
    bilateral_sxy: float = 80
    bilateral_srgb: float = 13
    bilateral_compat: float = 10
    steps: Positive = 10


class PseudoLabels(Settings):
    """From maps to one label per pixel: PAMR, normalising, label completion, dense CRF."""

    saliency: Literal["folder", "onnx", "features", "none", "folder+features", "onnx+features"] = (
        Field(
            "folder",
            description="folder and onnx: supervision beyond image labels; features: the network's "
            "own; with +: the mean of both",
        )
    )
    saliency_model: str | None = Field(None, description="ONNX file, for saliency: onnx")
    saliency_threshold: Share = 0.5
    pamr: Pamr = Pamr()
    balance: bool = Field(
        False, description="classes compete by their maps over their means, not over their maxima"
    )
    completion: bool = True
    rule: Literal["paper", "released"] = "paper"
    quantile: Share = 0.9
    background_power: Rate = 32
    opening: int = Field(10, ge=0, description="side in pixels of the square; 0: no opening")
    fallback: Literal["power"] | Share | tuple[Share, Share] = Field(
        "power",
        description="without saliency: 'power', a threshold, or (background up to, seed above)",
    )
    crf: Crf = Crf()
    crf_confidence: Share = Field(0.9, description="probability of a label that enters the CRF")


class DeepLab(Training):
    """The segmentation network and its training."""

    labels: Literal["pseudolabels", "masks"] = Field(
        "pseudolabels", description="masks: the fully supervised line"
    )
    encoder: str = "vit_tiny_patch16_224"
    encoder_args: dict[str, Any] = SHAPES_VIT
    weights: str = Field(
        "classifier",
        description="'classifier' (the encoder of the network that is explained), or as there",
    )
    fixed_encoder: bool = Field(
        False,
        description="of a plain ViT: it stays as it is, and the decoder learns from features that "
        "are made once (stage features), without crops and jitter",
    )
    blocks: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None,
        min_length=1,
        description="of a plain ViT: whose outputs the decoder sees side by side; None: the last",
    )
    image_size: Positive = 96
    channels: Positive = Field(64, description="of the decoder")
    atrous_rates: tuple[Positive, Positive, Positive] = (2, 4, 6)
    loss: Literal["cross_entropy", "balanced", "class_balanced"] = Field(
        "cross_entropy",
        description="balanced: background and foreground each their own mean; class_balanced: each "
        "class",
    )


class LossWeights(Settings):
    """Weights of the terms of the joint loss, and the reach of its dense-CRF energy."""

    background: Rate = 1
    foreground: Rate = 1
    classification: Rate = 1
    class_balanced: bool = Field(
        False, description="the foreground's is the mean of its classes' own means, not of pixels"
    )
    saliency: Rate = Field(1, description="where there are saliency maps")
    energy: Rate = Field(1e-7, description="of a sum over pixel pairs; 0: not computed")
    bilateral_sxy: float = Field(100, gt=0)
    bilateral_srgb: float = Field(15, gt=0)


class Joint(Training):
    """The second phase: the network learns from the labels it makes of each batch."""

    loss: LossWeights = LossWeights()


class EndToEnd(Settings):
    """One network, a ViT classifier with a DPT decoder, trained in two phases.

    Its labels are made as ``maps.method``, ``maps.start_block`` and ``pseudolabels`` say (without
    dense CRF, scales and flip).
    """

    model: str = "vit_tiny_patch16_224"
    model_args: dict[str, Any] = Field(SHAPES_VIT, description="further arguments of the model")
    weights: str = Field("shapes", description="as those of the classifier")
    image_size: Positive = 96
    channels: Positive = Field(32, description="where the decoder fuses its levels")
    classification: Training = Training()
    joint: Joint = Joint()


class Evaluation(Settings):
    """Test-time settings and what is measured."""

    scales: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    flip: bool = True
    batch_size: Positive = 16
    precision: Precision = Field("fp32", description=PRECISION)
    thresholds: Positive = Field(100, description="of the seed sweep, evenly from 0 to 1")
    crf: Crf = Crf(
        enabled=True, gaussian_compat=3, bilateral_sxy=83, bilateral_srgb=5, bilateral_compat=4
    )


Refiner = Literal["none", "pamr", "crf"]


class Compare(Settings):
    """What ``compare`` puts side by side, on the train split's masks."""

    methods: tuple[Method, ...] = get_args(Method)
    refiners: tuple[Refiner, ...] = ("none", "pamr", "crf")
    images: Positive = Field(200, description="at most, evenly from the train split")
    thresholds: Positive = 100


class Config(Settings):
    """Everything. One section per stage."""

    mode: Literal["multi-stage", "end-to-end"] = "multi-stage"
    seed: int = 0
    data: Data = Data()
    classifier: Classifier = Classifier(crop_scale=(0.8, 1.0))  # a small crop can lose a class
    maps: Maps = Maps()
    foreground: Foreground = Foreground()
    pseudolabels: PseudoLabels = PseudoLabels(background_power=300)  # the paper's 32 leaves gaps
    deeplab: DeepLab = DeepLab(epochs=7, batch_size=16, crop_scale=(0.7, 1.0))
    endtoend: EndToEnd = EndToEnd(
        classification=Training(epochs=6, crop_scale=(0.8, 1.0)),
        joint=Joint(epochs=7, batch_size=8, lr_encoder=2e-4, lr_head=2e-3, crop_scale=(0.7, 1.0)),
    )
    evaluation: Evaluation = Evaluation(scales=(1.0, 1.5))  # 12 x 12 patches are coarse
    compare: Compare = Compare()
