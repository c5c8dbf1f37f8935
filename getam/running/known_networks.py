"""Settings of networks that are known to fit, so that a check need not import torch and timm.

Only plain ViTs of timm in usual sizes are known, with their sizes here. A test compares each of
them with timm, and what is known here with the checks that build the network. Of all other
settings nothing is known, and a check builds the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from getam.config.base import SHAPES_VIT
from getam.running.fingerprints import SHIPPED
from getam.running.preflight_data import data_of
from getam.training import distributed

if TYPE_CHECKING:
    from getam.cache import Job

MOST = 4096  # larger sizes are built, to see whether a computer can


class Shape(NamedTuple):
    """The sizes of a ViT. Their names are those of timm's arguments."""

    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int


TINY, SMALL, BASE = (192, 12, 3), (384, 12, 6), (768, 12, 12)
SHAPES = {
    "vit_tiny_patch16_224": Shape(16, *TINY),
    "vit_small_patch16_224": Shape(16, *SMALL),
    "vit_small_patch16_384": Shape(16, *SMALL),
    "vit_base_patch16_224": Shape(16, *BASE),
    "vit_base_patch16_384": Shape(16, *BASE),
    "vit_small_patch14_dinov2": Shape(14, *SMALL),
    "vit_base_patch14_dinov2": Shape(14, *BASE),
    "vit_small_patch14_reg4_dinov2": Shape(14, *SMALL),
    "vit_base_patch14_reg4_dinov2": Shape(14, *BASE),
}
SHIPPED_FOR = ("vit_tiny_patch16_224", 96)  # model and image size of the weights "shapes"


def known_shape(model: str, args: Mapping[str, Any]) -> Shape | None:
    """The sizes of a plain ViT with these arguments; None if it is not known.

    >>> known_shape("vit_tiny_patch16_224", {"depth": 2})
    Shape(patch_size=16, embed_dim=192, depth=2, num_heads=3)
    """
    args = dict(args)
    if model not in SHAPES or not args.keys() <= set(Shape._fields):
        return None
    if not all(type(value) is int and 0 < value <= MOST for value in args.values()):
        return None
    shape = SHAPES[model]._replace(**args)
    return None if shape.embed_dim % shape.num_heads else shape


def classifier_fits(job: Job) -> bool:
    """Whether the classifier is known to be built and trained with these settings."""
    settings = job.config.classifier
    shape = known_shape(settings.model, settings.model_args)
    return (
        shape is not None
        and _size_fits(settings.image_size, shape)
        and settings.frozen_blocks <= shape.depth
        and _photos_of_a_step(job, settings.batch_size, labelled=True) > 0
        and _weights_fit(job, "classifier", settings.model, settings.model_args)
    )


def deeplab_fits(job: Job) -> bool:
    """Whether DeepLab is known to be built and trained with these settings."""
    settings = job.config.deeplab
    shape = known_shape(settings.encoder, settings.encoder_args)
    if shape is None or settings.channels > MOST or max(settings.atrous_rates) > MOST:
        return False
    if settings.fixed_encoder:
        trained = not settings.frozen_blocks and settings.image_size <= MOST
    else:
        trained = settings.frozen_blocks <= shape.depth and _size_fits(settings.image_size, shape)
    return (
        trained
        and all(block < shape.depth for block in settings.blocks or ())
        and _photos_of_a_step(job, settings.batch_size) > 1  # batch normalisation needs them
        and _weights_fit(job, "deeplab", settings.encoder, settings.encoder_args)
    )


def maps_fit(job: Job) -> bool:
    """Whether each method is known to give maps of the classifier."""
    return explained_shape(job) is not None and job.config.maps.start_block is None


def foreground_fits(job: Job) -> bool:
    """Whether the classifier is known to have the block that the foreground is found with."""
    shape, block = explained_shape(job), job.config.foreground.block
    return shape is not None and (block is None or block < shape.depth)


def explained_shape(job: Job) -> Shape | None:
    """The sizes of the classifier, if the maps explain it and it is known."""
    if "classifier" not in job.inputs:
        return None
    settings = job.config.classifier
    shape = known_shape(settings.model, settings.model_args)
    return shape if shape and _size_fits(settings.image_size, shape) else None


def _size_fits(side: int, shape: Shape) -> bool:
    return side <= MOST and side % shape.patch_size == 0


def _photos_of_a_step(job: Job, batch_size: int, labelled: bool = False) -> int:
    """How many photos one process gets in a training step, of all or of the labelled ones; 0 if
    they cannot be shared equally."""
    data = data_of(job)
    if data is not None:
        of = data.labelled if labelled else data.split
        batch_size = min(batch_size, len(of(job.config.data.train)))
    own, left = divmod(batch_size, distributed.planned())
    return 0 if left else own


def _weights_fit(job: Job, section: str, model: str, args: Mapping[str, Any]) -> bool:
    settings = getattr(job.config, section)
    if settings.weights in ("none", "timm"):
        return True
    if settings.weights == "classifier":
        theirs = job.config.classifier
        same = model == theirs.model and dict(args) == dict(theirs.model_args)
        return same and explained_shape(job) is not None
    file = job.context.file(f"{section}.weights", settings.weights)
    fitting = (model, settings.image_size) == SHIPPED_FOR and dict(args) == SHAPES_VIT
    return fitting and file == str(SHIPPED["shapes"])
