"""What the maps need to know of a model, whatever library it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from torch import Tensor, nn

__all__ = ["PAGE", "Adapter", "TimmAdapter", "first_tensor"]

PAGE = "docs/your-own-model.md"


def first_tensor(output: Any) -> Tensor:
    """A model's output if it is a tensor, else its first element.

    >>> first_tensor(("scores", "tokens"))
    'scores'
    """
    return output[0] if isinstance(output, tuple | list) else output


@dataclass(frozen=True)
class Adapter:
    """A vision transformer, and where in it the maps find what they read.

    `compute_maps` takes an adapter in the place of a model. The prefix tokens (class token,
    distillation token, registers) come first, the patches of the grid follow, row by row.

    Args:
        model: the module that runs; its mode, flags and weights are left as they were.
        blocks: its transformer blocks, in the order they run. Each takes the tokens as its first
            argument and returns them, alone or first in a tuple.
        grid: the patch grid (h, w) of images of H x W pixels.
        num_prefix_tokens: how many tokens come before those of the patches.
        class_token: its place among the prefix tokens. None: the model has no class token, so only
            `legrad`, `grad_cam` and `cam` can explain it.
        run: images (B, 3, H, W) -> the model's output. None: `model(images)`.
        scores: the model's output -> scores (B, C).
        norm1: the name, in a block, of the norm before its attention; `grad_cam` reads its output.
        linear_head: gives the final norm and the weights (C, D) of a head that is linear in the
            normalised tokens, which `cam` needs. None: there is no such head.
        hybrid: whether a convolutional backbone makes the patches.
        prepared: a context in which the model calls `scaled_dot_product_attention`.

    >>> block = nn.TransformerEncoderLayer(8, 2, batch_first=True, norm_first=True)
    >>> adapter = Adapter(nn.Sequential(block), [block], grid=lambda H, W: (H // 4, W // 4))
    >>> adapter.grid(8, 12), adapter.class_token
    ((2, 3), 0)
    """

    model: nn.Module
    blocks: Sequence[nn.Module]
    grid: Callable[[int, int], tuple[int, int]]
    num_prefix_tokens: int = 1
    class_token: int | None = 0
    run: Callable[[Tensor], Any] | None = None
    scores: Callable[[Any], Tensor] = first_tensor
    norm1: str = "norm1"
    linear_head: Callable[[], tuple[nn.Module, Tensor] | None] | None = None
    hybrid: bool = False
    prepared: Callable[[], AbstractContextManager] = nullcontext

    def __post_init__(self) -> None:
        _check(self)

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """The patch grid (h, w) of images (B, 3, H, W).

        Raises:
            ValueError: `grid` gives something else than two whole numbers.
        """
        height, width = images.shape[-2:]
        found = self.grid(height, width)
        sides = tuple(found) if isinstance(found, Iterable) else ()
        if len(sides) != 2 or not all(isinstance(n, Integral) and n > 0 for n in sides):
            raise ValueError(
                f"The adapter's grid gave {found!r} for images of {height} x {width} pixels: "
                f"expected two whole numbers (h, w), the patches along each side ({PAGE})."
            )
        return int(sides[0]), int(sides[1])

    def classify(self, images: Tensor) -> Tensor:
        """The scores (B, C) of images (B, 3, H, W)."""
        return self.scores((self.run or self.model)(images))


def _check(adapter: Adapter) -> None:
    if not len(adapter.blocks):
        raise ValueError(
            f"The adapter has no blocks: expected the transformer blocks of the model, in the "
            f"order they run ({PAGE})."
        )
    if not callable(adapter.grid):
        raise ValueError(
            f"The adapter's grid is {adapter.grid!r}: expected a function (height, width) -> (h, "
            f"w), from pixels to patches ({PAGE})."
        )
    place, prefix = adapter.class_token, adapter.num_prefix_tokens
    if place is not None and not 0 <= place < prefix:
        raise ValueError(
            f"The adapter's class_token is {place}, but num_prefix_tokens is {prefix}: expected a "
            f"place among the prefix tokens, 0 to {prefix - 1}, or None ({PAGE})."
        )


class TimmAdapter(Adapter):
    """A model built as those of timm, whose unchanged parts may take short cuts."""
