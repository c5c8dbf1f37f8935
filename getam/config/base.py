"""What all sections of the settings share: their base class, kinds of numbers, common values."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _plain(value: Any) -> Any:
    """Only what a manifest can hold."""
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        for inner in value.values():
            _plain(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _plain(inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("expected finite numbers")
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise ValueError("expected names with text, numbers, true, false, null, lists and maps")
    return value


Arguments = Annotated[dict[str, Any], AfterValidator(_plain)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, le=(1 << 32) - 1)]  # what numpy and torch both take
Rate = Annotated[float, Field(ge=0)]
Scales = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Machine = Literal["gpu", "cpu", "cpu_bf16"]
PRECISION = (
    "Number format of the network's calculations. auto: bf16 on a GPU that supports it and on a "
    "CPU that has amx_bf16, or avx512_bf16 and is of AMD; fp16 on another GPU, fp32 on another CPU."
)
WEIGHTS = (
    "Weights to start from. timm: pretrained weights, downloaded by timm. shapes: those of the "
    "embedded example. none: random. Or the path of a local file."
)

VIT = (
    "Name of the ViT in timm. Or hf: and a folder, or the name of a repository on the Hugging Face "
    "Hub, with a ViT, DeiT or DINOv2 of transformers; weights timm are then those of this model."
)

# The small ViT that ships with the package, in timm's terms.
SHAPES_VIT = {"patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}


class Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
