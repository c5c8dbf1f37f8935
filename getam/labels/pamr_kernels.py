"""PAMR on a GPU by two Triton kernels: one that makes the weights, one for each iteration.

The functions of ``getam.labels.pamr`` define what is computed. A GPU would spend most of its time
on starting their small operations, and on reading and writing the sums after each neighbour. Here a
sum stays in registers until all its neighbours are added, so an iteration reads each weight once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

__all__ = ["refine_fused"]

PIXELS = 256  # of a program
SLOTS = 4  # maps of a program at most; a power of two
FLOOR = tl.constexpr(1e-8)  # as in getam.labels.pamr


def refine_fused(
    image: torch.Tensor, mask: torch.Tensor, iterations: int, dilations: Sequence[int]
) -> torch.Tensor:
    """Replace masks by the weighted sums of their neighbours, ``iterations`` times.

    Args:
        image: (B, 3, H, W) float32, 0..255.
        mask: (B, C, H, W) float32 on the same GPU; C and H * W at least 1. Not changed.

    Returns:
        (B, C, H, W) float32.
    """
    batch, classes, height, width = mask.shape
    image, source = image.contiguous(), mask.contiguous()
    distances = torch.tensor(dilations, dtype=torch.int32, device=mask.device)
    weights = image.new_empty((batch, 8 * len(dilations), height, width))
    share = image.new_empty((batch, height, width))
    slots = min(SLOTS, triton.next_power_of_2(classes))
    blocks, groups = triton.cdiv(height * width, PIXELS), triton.cdiv(classes, slots)
    size = distances, len(dilations), height, width
    buffers = [torch.empty_like(source) for _ in range(min(iterations, 2))]
    with torch.cuda.device_of(image):
        _weigh[(blocks, batch)](image, weights, share, *size, PIXELS)
        for step in range(iterations):
            target = buffers[step % 2]
            # Programs of one block of pixels follow each other: then its weights are still cached.
            _sum[(groups * blocks, batch)](
                source, weights, share, target, *size, classes, groups, slots, PIXELS
            )
            source = target
    return source


@triton.jit
def _neighbour(y, x, distance, number: tl.constexpr, height, width):
    """Index of the neighbour 0 to 7 of pixels in their image; beyond the border, of the border."""
    place: tl.constexpr = number + (number > 3)  # without the pixel itself
    row = tl.minimum(tl.maximum(y + (place // 3 - 1) * distance, 0), height - 1)
    column = tl.minimum(tl.maximum(x + (place % 3 - 1) * distance, 0), width - 1)
    return row * width + column


@triton.jit
def _factor(total, squares, dilations):
    """-1 / (3 * (1e-8 + 0.1 * sigma)) from the sums of the differences and of their squares."""
    samples = dilations * 9.0
    variance = (squares - total * total / samples) / (samples - 1)
    return -1.0 / (3 * (FLOOR + 0.1 * tl.sqrt(variance)))


@triton.jit
def _weigh(
    image, weights, share, distances, dilations, height, width, PIXELS: tl.constexpr
):  # fmt: skip
    """Weights before they are divided by their sum, and 1 / their sum, for a block of pixels."""
    size = height * width
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < size
    y, x = pixel // width, pixel % width
    red = image + batch * 3 * size
    green, blue = red + size, red + 2 * size
    r = tl.load(red + pixel, inside, 0)
    g = tl.load(green + pixel, inside, 0)
    b = tl.load(blue + pixel, inside, 0)

    r_total, g_total, b_total = tl.zeros_like(r), tl.zeros_like(r), tl.zeros_like(r)
    r_squares, g_squares, b_squares = tl.zeros_like(r), tl.zeros_like(r), tl.zeros_like(r)
    for n in range(dilations):
        distance = tl.load(distances + n)
        for k in tl.static_range(8):
            near = _neighbour(y, x, distance, k, height, width)
            dr = tl.load(red + near, inside, 0) - r
            dg = tl.load(green + near, inside, 0) - g
            db = tl.load(blue + near, inside, 0) - b
            r_total, g_total, b_total = r_total + dr, g_total + dg, b_total + db
            r_squares, g_squares, b_squares = (
                r_squares + dr * dr, g_squares + dg * dg, b_squares + db * db
            )  # fmt: skip
    r_factor = _factor(r_total, r_squares, dilations)
    g_factor = _factor(g_total, g_squares, dilations)
    b_factor = _factor(b_total, b_squares, dilations)

    total = tl.zeros_like(r)
    place = weights + batch * dilations * 8 * size + pixel
    for n in range(dilations):
        distance = tl.load(distances + n)
        for k in tl.static_range(8):
            near = _neighbour(y, x, distance, k, height, width)
            exponent = tl.abs(tl.load(red + near, inside, 0) - r) * r_factor
            exponent += tl.abs(tl.load(green + near, inside, 0) - g) * g_factor
            exponent += tl.abs(tl.load(blue + near, inside, 0) - b) * b_factor
            weight = tl.exp(exponent)
            total += weight
            tl.store(place, weight, inside)
            place += size
    tl.store(share + batch * size + pixel, 1 / total, inside)


@triton.jit
def _sum(
    source, weights, share, target, distances, dilations, height, width, classes, groups,
    SLOTS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """One iteration for a block of pixels and some maps."""
    size = height * width
    slot = tl.program_id(0) % groups * SLOTS + tl.arange(0, SLOTS)
    pixel = tl.program_id(0) // groups * PIXELS + tl.arange(0, PIXELS)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < size
    wanted = (slot < classes)[:, None] & inside[None, :]
    y, x = pixel // width, pixel % width
    start = ((batch * classes + slot) * size)[:, None]
    total = tl.zeros((SLOTS, PIXELS), tl.float32)
    place = weights + batch * dilations * 8 * size + pixel
    for n in range(dilations):
        distance = tl.load(distances + n)
        for k in tl.static_range(8):
            near = _neighbour(y, x, distance, k, height, width)
            weight = tl.load(place, inside, 0)
            total += weight[None, :] * tl.load(source + start + near[None, :], wanted, 0)
            place += size
    total *= tl.load(share + batch * size + pixel, inside, 0)[None, :]
    tl.store(target + start + pixel[None, :], total, wanted)
