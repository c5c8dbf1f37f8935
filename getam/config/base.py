"""What all sections of the settings share: their base class, kinds of numbers, common values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Scales = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
PRECISION = (
    "Number format of the network's calculations. auto: bf16 on a GPU that supports it, fp16 on "
    "another GPU, fp32 on a CPU."
)
WEIGHTS = (
    "Weights to start from. timm: pretrained weights, downloaded by timm. shapes: those of the "
    "embedded example. none: random. Or the path of a local file."
)

# The small ViT that ships with the package, in timm's terms.
SHAPES_VIT = {"patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
