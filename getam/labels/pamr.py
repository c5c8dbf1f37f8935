"""Pixel-adaptive mask refinement (PAMR): class maps that follow the edges of the image.

Araslanov & Roth 2020, arXiv 2005.08104. A pure function.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import torch
import torch.nn.functional as F

__all__ = ["pamr"]

DILATIONS = (1, 2, 4, 8, 12, 24)

SLOWER = "the same steps in torch are used, which take several times as long."

# On a CPU the image is cut into bands of rows, and threads compute one band each. A band fits the
# second-level cache of a core. With several threads it is so small that torch does not split its
# operations further. Images that fit in one band are computed in groups instead, which takes fewer
# operations; these are large enough for torch to split them over threads.
_BAND_ELEMENTS = (1 << 15) - 1
_BAND_ELEMENTS_ALONE = (1 << 16) - 1  # of one thread: measured to be the fastest
_GROUP_ELEMENTS = 1 << 18


@torch.inference_mode(False)  # threads cannot write to inference tensors
@torch.no_grad()
def pamr(
    images: torch.Tensor,
    masks: torch.Tensor,
    iterations: int = 10,
    dilations: Sequence[int] = DILATIONS,
) -> torch.Tensor:
    """Refine maps so that they follow the edges of the image (pixel-adaptive mask refinement).

    Each iteration replaces the mask at pixel p by a weighted sum over its 8 neighbours q at every
    dilation (without p itself)::

        w[p, q] = softmax_q( mean_channels( -|I[p] - I[q]| / (1e-8 + 0.1 * sigma[p]) ) )

    Pixels beyond the border repeat the border. `sigma` is computed per channel: the unbiased
    standard deviation over p and its neighbours at all dilations, where p counts once per dilation
    (Araslanov & Roth 2020, arXiv 2005.08104).

    Time grows with pixels x 8 dilations x classes x iterations. Most of the memory holds the
    weights: 8 x dilations floats per pixel. On a CPU these are the weights of one image (or of some
    small ones), on other devices those of the whole batch. On a GPU with Triton, two kernels do the
    work (:mod:`getam.labels.pamr_kernels`), for float32 and images of three channels.

    Args:
        images: (B, 3, H, W), 0..255, any dtype. Any other number of channels works too.
        masks: (B, C, h, w), resized bilinearly to (H, W) first, C may be 0. On the same device.
        iterations: how often the masks are replaced; 0 only resizes.
        dilations: distances of the neighbours in pixels.

    Returns:
        (B, C, H, W) in the dtype of `masks` (float32 for integer masks), without gradient. The
        values are weighted means, so they stay within the range of `masks`. float64 masks are
        computed in float64, all others in float32.

    Raises:
        ValueError: a shape, a device, `iterations` or `dilations` is not as described.

    >>> images = torch.zeros(1, 3, 6, 8)  # a flat image: every neighbour weighs the same
    >>> pamr(images, torch.full((1, 2, 3, 4), 0.5)).shape
    torch.Size([1, 2, 6, 8])
    """
    _check_pamr(images, masks, iterations, dilations)
    result_dtype = masks.dtype if masks.is_floating_point() else torch.float32
    dtype = torch.float64 if masks.dtype == torch.float64 else torch.float32
    size = images.shape[-2:]
    result = masks.new_empty((*masks.shape[:2], *size), dtype=result_dtype)
    if not result.numel():
        return result
    chunk, rows = _portions(images, masks)
    for image, mask, out in zip(images.split(chunk), masks.split(chunk), result.split(chunk)):
        # Rows that are contiguous per channel take a third less time than those of a decoded photo.
        image, mask = image.to(dtype).contiguous(), mask.to(dtype)
        if mask.shape[-2:] != size:
            mask = F.interpolate(mask, size=size, mode="bilinear", align_corners=False)
        if iterations:
            refine = _fused_for(image) or partial(_refine, rows=rows)
            mask = refine(image, mask, iterations, dilations)
        out.copy_(mask)
    return result


def _fused_for(image: torch.Tensor) -> Callable[..., torch.Tensor] | None:
    """The kernels for these images, if there are any."""
    suits = image.device.type == "cuda" and image.dtype == torch.float32 and image.shape[1] == 3
    return _checked_kernels(str(image.device)) if suits else None


@cache
def _checked_kernels(device: str) -> Callable[..., torch.Tensor] | None:
    """``refine_fused``, if Triton is installed, compiles it, and it gives what torch gives."""
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(2, 3, 20, 24, generator=generator) * 255).to(device)
    mask = torch.rand(2, 3, 20, 24, generator=generator).to(device)
    try:
        from getam.labels.pamr_kernels import refine_fused

        found = refine_fused(image, mask, 2, (1, 4))
    except ImportError:
        return None
    except Exception as error:  # compilers raise many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"PAMR's kernels do not run on {device} ({reason}); {SLOWER}", stacklevel=2)
        return None
    if torch.allclose(found, _refine(image, mask, 2, (1, 4), 20), rtol=1e-3):
        return refine_fused
    warnings.warn(
        f"PAMR's kernels give other values than torch on {device}; {SLOWER}", stacklevel=2
    )
    return None


def _portions(images: torch.Tensor, masks: torch.Tensor) -> tuple[int, int]:
    """Images per group and rows per band: few enough for the caches of a CPU, elsewhere all."""
    if images.device.type != "cpu":
        return max(1, len(images)), images.shape[-2]
    height, width = images.shape[-2:]
    widest = width * max(images.shape[1], masks.shape[1])
    if widest * height <= _BAND_ELEMENTS:
        return max(1, _GROUP_ELEMENTS // (widest * height)), height
    band = _BAND_ELEMENTS_ALONE if torch.get_num_threads() == 1 else _BAND_ELEMENTS
    return 1, max(1, band // widest)


def _check_pamr(
    images: torch.Tensor, masks: torch.Tensor, iterations: int, dilations: Sequence[int]
) -> None:
    if images.ndim != 4 or masks.ndim != 4 or len(images) != len(masks):
        raise ValueError(
            f"Got images of shape {tuple(images.shape)} and masks of shape {tuple(masks.shape)}, "
            "expected (B, 3, H, W) and (B, C, h, w) with the same B: add the missing dimension."
        )
    if images.device != masks.device:
        raise ValueError(
            f"Got images on {images.device} and masks on {masks.device}, "
            "expected one device: move one of them with .to()."
        )
    if iterations < 0:
        raise ValueError(f"Got iterations={iterations}, expected 0 or more.")
    if not dilations or min(dilations) < 1:
        raise ValueError(f"Got dilations={dilations!r}, expected one or more distances >= 1.")


def _refine(
    image: torch.Tensor, mask: torch.Tensor, iterations: int, dilations: Sequence[int], rows: int
) -> torch.Tensor:
    radius = max(dilations)
    weights = image.new_empty((len(image), 8 * len(dilations), *image.shape[-2:]))
    weight_bands = [band.unbind(1) for band in weights.unsqueeze(2).split(rows, dim=-2)]
    # Two padded buffers alternate as source and target, so that neighbours are views, not copies.
    buffers = [_pad(mask, radius) for _ in range(2)]
    insides = [buffer[..., radius:-radius, radius:-radius] for buffer in buffers]
    sums = [inside.split(rows, dim=-2) for inside in insides]
    neighbours = [_neighbour_bands(buffer, dilations, rows) for buffer in buffers]
    colours = _neighbour_bands(_pad(image, radius), dilations, rows)
    threads = min(torch.get_num_threads(), len(weight_bands))
    with ThreadPoolExecutor(threads) as pool:
        run = pool.map if threads > 1 else map
        shares = list(run(_weigh, image.split(rows, dim=-2), colours, weight_bands))
        for step in range(iterations):
            source, target = step % 2, (step + 1) % 2
            list(run(_sum, sums[target], neighbours[source], weight_bands, shares))
            _replicate_border(buffers[target], radius)
    return insides[iterations % 2]


@torch.no_grad()  # each thread has its own gradient mode
def _weigh(
    centre: torch.Tensor, views: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Fill the weights (B, 1, rows, W) of a band from the colours (B, 3, rows, W) around it.

    The weights are not divided by their sum. Returns 1 / their sum, (B, 1, rows, W): it costs less
    to multiply the few sums of the masks by it.
    """
    difference = torch.empty_like(centre)
    scale = _deviation(centre, views, difference).mul_(0.1).add_(1e-8).mul_(-centre.shape[1])
    channels = [*zip(difference.split(1, dim=1), scale.reciprocal_().split(1, dim=1))]
    total = torch.zeros_like(weights[0])
    for view, weight in zip(views, weights):
        torch.sub(view, centre, out=difference).abs_()
        torch.mul(*channels[0], out=weight)
        for one, its_scale in channels[1:]:
            weight.addcmul_(one, its_scale)
        # The softmax needs no subtraction of the maximum: in any image every exponent is between
        # -74 and 0, and one of them is at least -32.
        total.add_(weight.exp_())
    return total.reciprocal_()


@torch.no_grad()
def _sum(
    total: torch.Tensor,
    views: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    share: torch.Tensor,
) -> None:
    """Fill the total (B, C, rows, W) of a band with the weighted mean of its neighbours."""
    torch.mul(views[0], weights[0], out=total)
    for view, weight in zip(views[1:], weights[1:]):
        total.addcmul_(view, weight)
    total.mul_(share)


def _deviation(
    centre: torch.Tensor, views: Sequence[torch.Tensor], difference: torch.Tensor
) -> torch.Tensor:
    """Unbiased standard deviation over the neighbours and, once per dilation, the centre.

    It is computed from differences to the centre. Squares of the colours themselves would lose all
    digits where the image is flat. The differences of the centre are zero, so the two terms that
    are subtracted here never come close to each other.
    """
    total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    for view in views:
        torch.sub(view, centre, out=difference)
        total.add_(difference)
        squares.addcmul_(difference, difference)
    samples = len(views) // 8 * 9
    squares.addcmul_(total, total, value=-1 / samples)
    return squares.div_(samples - 1).sqrt_()


def _neighbour_bands(
    padded: torch.Tensor, dilations: Sequence[int], rows: int
) -> list[tuple[torch.Tensor, ...]]:
    """For each band of rows, its views of the neighbours: dilations in order, then row-major."""
    radius = max(dilations)
    height, width = padded.shape[-2] - 2 * radius, padded.shape[-1] - 2 * radius
    offsets = [
        (radius + dy * d, radius + dx * d)
        for d in dilations
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if dy or dx
    ]
    views = [padded[..., y : y + height, x : x + width].split(rows, dim=-2) for y, x in offsets]
    return list(zip(*views))


def _pad(x: torch.Tensor, radius: int) -> torch.Tensor:
    return F.pad(x, (radius,) * 4, mode="replicate")


def _replicate_border(padded: torch.Tensor, radius: int) -> None:
    padded[..., :radius, :] = padded[..., radius : radius + 1, :]
    padded[..., -radius:, :] = padded[..., -radius - 1 : -radius, :]
    padded[..., :radius] = padded[..., radius : radius + 1]
    padded[..., -radius:] = padded[..., -radius - 1 : -radius]
