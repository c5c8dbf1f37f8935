"""Settings of the stages that make labels: maps, foreground, pseudolabels, compare."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from getam.config.base import PRECISION, Positive, Precision, Scales, Settings, Share

Method = Literal[
    "getam",
    "getam_paper",
    "attention_gradient",
    "grad_cam",
    "cam",
    "attention",
    "attention_rollout",
    "gradient_rollout",
    "legrad",
]
Refiner = Literal["none", "pamr", "crf"]


class Maps(Settings):
    """Class maps of the train photos, on the patch grid of the network."""

    source: Literal["classifier", "endtoend"] = Field(
        "classifier",
        description="The network that the maps are computed from: that of the stage classifier, or "
        "that of the stage endtoend. Only for mode multi-stage.",
    )
    method: Method = Field(
        "getam",
        description="How a map is computed. getam: as in the paper's code. getam_paper: as in "
        "its text. The others are other published methods, to compare with.",
    )
    start_block: int | None = Field(
        None,
        ge=0,
        description="First transformer block whose map is added to the sum; 0 is the lowest. "
        "null: the default of the method, for getam the middle block.",
    )
    scales: Scales = Field(
        (1.0,), description="Sizes of the photo relative to image_size; the maps are averaged."
    )
    flip: bool = Field(True, description="Average each map with that of the mirrored photo.")
    batch_size: Positive = Field(16, description="Photos computed at a time.")
    precision: Precision = Field("fp32", description=PRECISION)
    predicted_above: Share = Field(
        0.5,
        description="A photo without a line in the label table gets maps of its most probable "
        "class, and of every class whose predicted probability is above this value. A photo with "
        "an empty field has no class, so it gets no map.",
    )


class Foreground(Settings):
    """Object or background by the patch features of the network.

    The stage runs when pseudolabels.saliency contains ``features``. It learns from the class maps,
    and needs no saliency maps.
    """

    block: int | None = Field(
        None,
        ge=0,
        description="Transformer block whose output is used as features; 0 is the lowest. "
        "null: the block at two thirds of the depth.",
    )
    scale: float = Field(
        1.5, gt=0, description="Size of the photo relative to the image_size of the network."
    )
    images: Positive = Field(
        200,
        description="Largest number of train photos to learn from; they are chosen at equal "
        "distances in the list.",
    )
    rounds: Positive = Field(
        3,
        description="How many times the object scores are fitted; each round learns from the "
        "answers of the round before.",
    )
    threshold: Share = Field(
        0.5,
        description="A patch whose score is above this value counts as object in the next round. "
        "Above 0.5 the objects get smaller with each round. For the pseudo labels, "
        "pseudolabels.saliency_threshold decides what is object.",
    )
    classes: Literal["maps", "patch_classifier"] = Field(
        "maps",
        description="What decides the class of an object. maps: the class maps of its own photo. "
        "patch_classifier: a linear classifier of patches, trained on the maps of many photos. In "
        "the mode end-to-end both together: the maps of the network are weighted with it.",
    )
    class_rounds: int = Field(
        0,
        ge=0,
        description="How many times the patch classifier is fitted again. Each round separates the "
        "patches of a class from all other objects, also from those in photos without this class. "
        "An object that is like no class of its photo becomes background. 0: never. Read "
        "only with classes: patch_classifier.",
    )
    multiple_instance: bool = Field(
        False,
        description="Learn a second score of each class, from the image-level labels alone: which "
        "object patches are only in photos with this class (multiple-instance learning). The "
        "classes compete for each patch. The class score of a patch is the geometric mean of both. "
        "Then the object score is fitted again: what no class explains becomes background, and "
        "parts of a class that were missed become object. Read only with classes: "
        "patch_classifier.",
    )
    class_objects: bool = Field(
        False,
        description="As the last step, fit one object score for each class, in the photos with "
        "this class: it separates what was found of the class from the background. These scores "
        "take the place of the one object score for all classes, which can be low on a class that "
        "few photos have. pseudolabels.saliency_threshold should be about 0.1 higher with it. Read "
        "only with classes: patch_classifier.",
    )
    batch_size: Positive = Field(16, description="Photos computed at a time.")
    precision: Precision = Field("fp32", description=PRECISION)


class Pamr(Settings):
    """Pixel-adaptive mask refinement: the maps are made to follow the edges of the photo."""

    enabled: bool = Field(True, description="Refine with PAMR.")
    iterations: Positive = Field(10, description="How many times the maps are refined.")
    dilations: tuple[Positive, ...] = Field(
        (1, 2, 4, 8, 12, 24),
        min_length=1,
        description="Distances to the neighbours of a pixel, in pixels.",
    )


Width = Annotated[float, Field(ge=0.1)]  # of a kernel; the library ends the process near 0


class Crf(Settings):
    """Dense CRF: smooths labels along the edges of the photo."""

    enabled: bool = Field(False, description="Smooth with the dense CRF.")
    gaussian_sxy: Width = Field(
        3, description="Position kernel: standard deviation of the distance, in pixels."
    )
    gaussian_compat: float = Field(3, ge=0, description="Position kernel: weight.")
    bilateral_sxy: Width = Field(
        80, description="Colour kernel: standard deviation of the distance, in pixels."
    )
    bilateral_srgb: Width = Field(
        13, description="Colour kernel: standard deviation of the colour, in levels of 0..255."
    )
    bilateral_compat: float = Field(10, ge=0, description="Colour kernel: weight.")
    steps: Positive = Field(10, description="Iterations of the mean-field inference.")


class PseudoLabels(Settings):
    """From class maps to one label per pixel of each train photo.

    The order of the steps: PAMR, normalising, seeds, saliency, label completion, removing small
    objects, dense CRF.
    """

    saliency: Literal["folder", "onnx", "features", "none", "folder+features", "onnx+features"] = (
        Field(
            "folder",
            description="What says where objects are, of any class. folder: maps of the data "
            "folder. onnx: a saliency model. features: the stage foreground. folder+features, "
            "onnx+features: the mean of the two. none: nothing; then fallback decides what "
            "is background. folder and onnx are supervision beyond image-level labels.",
        )
    )
    saliency_model: str | None = Field(
        None, description="Path of the ONNX file, for saliency: onnx."
    )
    saliency_threshold: Share = Field(
        0.5, description="A pixel is salient if its saliency (0 to 1) is above this value."
    )
    pamr: Pamr = Pamr()
    balance: bool = Field(
        False,
        description="true: divide the map of each class by its mean. false: by its maximum. At "
        "each pixel the class with the highest value then wins. Not read with foreground.classes: "
        "patch_classifier, if the stage foreground runs.",
    )
    completion: bool = Field(
        True,
        description="Label completion: a pixel that would be background gets a class where the "
        "map of this class is high, see quantile.",
    )
    rule: Literal["paper", "released"] = Field(
        "paper",
        description="A pixel that completion would give to two classes becomes 255 (ignore) with "
        "paper, and the class with the lower id with released (the behaviour of the paper's code).",
    )
    quantile: Share = Field(
        0.9,
        description="For completion: a class is added only where its map is among its highest "
        "positive values. 0.9: the highest tenth. Higher: fewer pixels are added. 1: none.",
    )
    background_power: float = Field(
        32,
        gt=0,
        description="Background score of a pixel = (1 - strongest class map) to this power. "
        "Higher: more pixels get a class, fewer become 255 (ignore).",
    )
    opening: int = Field(
        10,
        ge=0,
        description="Remove objects into which a square of this side, in pixels, does not fit. "
        "0: remove nothing.",
    )
    fallback: Literal["power"] | Share | tuple[Share, Share] = Field(
        "power",
        description="What is background without saliency. power: where the background score wins. "
        "A number: where the strongest map is not above it. A pair [low, high]: background up to "
        "low, class above high, 255 (ignore) between.",
    )

    @field_validator("fallback")
    @classmethod
    def _low_first(cls, value: Any) -> Any:
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError("expected [low, high] with low not above high")
        return value

    longest_side: Positive | None = Field(
        1024,
        description="A photo with a longer side, in pixels, is reduced to this side, labelled, and "
        "its label enlarged to the size of the photo. null: label every photo at its own size.",
    )
    crf: Crf = Crf()
    crf_confidence: Share = Field(
        0.9,
        description="Probability of the label of a pixel before the dense CRF; the other labels "
        "share the rest. Read only with crf.enabled.",
    )


class Compare(Settings):
    """What the command compare measures on photos of the train split."""

    methods: tuple[Method, ...] = Field(
        get_args(Method), min_length=1, description="Map methods to compare."
    )
    refiners: tuple[Refiner, ...] = Field(
        ("none", "pamr", "crf"),
        min_length=1,
        description="Refinements to compare, on the maps of each method.",
    )
    images: Positive = Field(
        200,
        description="Train photos to measure on, at most; chosen at equal distances. They are "
        "photos with a mask, unless no photo has one.",
    )
    curve_images: int = Field(
        50,
        ge=0,
        description="Photos among these whose insertion and deletion curves are measured, at most. "
        "0: none.",
    )
    curve_steps: Positive = Field(
        10,
        description="Steps of these curves. Each class of a photo takes 2 * (curve_steps - 1) "
        "forward passes, and each photo 2 more, for each method, for the random map and for the "
        "centre prior.",
    )
    thresholds: Positive = Field(
        100, description="How many thresholds on the maps are tried, evenly from 0 to 1."
    )
