"""Brings the class maps of an image to one scale, so that they can be compared at each pixel."""

from __future__ import annotations

import torch

__all__ = ["balance", "normalise"]


def normalise(maps: torch.Tensor) -> torch.Tensor:
    """Divide each map by its own maximum: `M / (max M + 1e-5)`.

    The strongest pixel of a map is then almost one. A map of zeros stays zero. A map whose maximum
    is not well above 1e-5 stays clearly below one.

    Args:
        maps: (..., H, W), not negative; half precision is returned as float32.

    Returns:
        Same shape, in [0, 1).

    Raises:
        ValueError: a value is negative or NaN.

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
    """Scale the maps of one image by their means: `M_c / mean M_c`, divided by the greatest value.

    The class that rises most above its own mean is then the strongest at a pixel. With
    :func:`normalise` alone, a map that is spread over the image can be stronger than a compact map
    even where the compact map is strong.

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
