"""Bringing the class maps of an image to one scale, so that classes can compete for its pixels."""

from __future__ import annotations

import torch

__all__ = ["balance", "normalise"]


def normalise(maps: torch.Tensor) -> torch.Tensor:
    """Divide each map by its own maximum, so that the strongest pixel of a class is (almost) one.

    `M / (max M + 1e-5)`: a map of zeros stays zero, and one whose maximum is not well above 1e-5
    comes out faint.

    Args:
        maps: (..., H, W), not negative; half precision is returned as float32.

    Returns:
        Same shape, in [0, 1).

    Raises:
        ValueError: negative or NaN values.

    >>> normalise(torch.tensor([[[0.0, 2.0]], [[0.0, 0.0]]])).round(decimals=4).tolist()
    [[[0.0, 1.0]], [[0.0, 0.0]]]
    """
    maps = maps.to(torch.float64 if maps.dtype == torch.float64 else torch.float32)
    if maps.numel() == 0:
        return maps
    if not maps.amin() >= 0:
        raise ValueError(
            f"Got maps with values down to {maps.amin().item():g}, "
            "expected none below 0 and no NaN: clamp them with .clamp(min=0)."
        )
    return maps / (maps.amax(dim=(-2, -1), keepdim=True) + 1e-5)


def balance(maps: torch.Tensor) -> torch.Tensor:
    """Let the maps of one image compete by how far they rise above their own means.

    `M_c / mean M_c`, divided by the greatest value of all classes. Where each map is divided by its
    maximum alone, one that is spread over the image beats a compact one also where that is strong.

    Args:
        maps: (..., K, H, W), the maps of one image, not negative.

    Returns:
        Same shape, in [0, 1]; a map of zeros stays zero.

    >>> spread, compact = [0.9, 0.7, 0.8, 1.0], [0.0, 0.6, 1.0, 0.0]
    >>> balanced = balance(torch.tensor([[spread], [compact]]))
    >>> balanced.argmax(dim=0).tolist(), balanced.amax().item()
    ([[0, 1, 1, 0]], 1.0)
    """
    if maps.numel() == 0:
        return maps
    least = torch.finfo(maps.dtype).tiny
    raised = maps / maps.mean(dim=(-2, -1), keepdim=True).clamp(min=least)
    return raised / raised.amax(dim=(-3, -2, -1), keepdim=True).clamp(min=least)
