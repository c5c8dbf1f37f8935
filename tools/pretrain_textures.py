"""Textures and outlines to pretrain on. The embedded example uses none of them."""

from __future__ import annotations

import math

import numpy as np

from getam.data import shapes


def _cell(u, v):
    """Position (a, b) in the unit cell, in [-0.5, 0.5), b upwards; and the cell's numbers."""
    return u % 1 - 0.5, v % 1 - 0.5, np.floor(u).astype(int), np.floor(v).astype(int)


def _coin(i, j, salt=0):
    """0 or 1 per cell, with equal chance. A cell always gets the same value."""
    return (i * 73856093 ^ j * 19349663 ^ salt * 83492791) * 2654435761 >> 13 & 1


def grid(u, v, duty):
    return np.minimum(u % 1, v % 1) < 0.55 * duty


def crosses(u, v, duty):
    a, b, *_ = _cell(u, v)
    return (np.minimum(abs(a), abs(b)) < 0.3 * duty) & (np.maximum(abs(a), abs(b)) < 0.4)


def triangles(u, v, duty):
    a, b, *_ = _cell(u, v)
    return (b > -0.4) & (2 * abs(a) < 0.45 - b)


def honeycomb(u, v, duty):
    s = np.float32(math.sqrt(3))
    a = [(u % 1 - 0.5, v % s - s / 2), ((u - 0.5) % 1 - 0.5, (v - s / 2) % s - s / 2)]
    near = a[0][0] ** 2 + a[0][1] ** 2 < a[1][0] ** 2 + a[1][1] ** 2
    x, y = (abs(np.where(near, p, q)) for p, q in zip(*a))
    return np.maximum(x, x / 2 + y * s / 2) > 0.5 - 0.25 * duty


def bricks(u, v, duty):
    row = np.floor(2 * v)
    return np.minimum(2 * v % 1 / 2, (u + 0.5 * (row % 2)) % 1) < 0.3 * duty


def spiral(u, v, duty):
    return (np.hypot(u, v) + np.arctan2(v, u) / (2 * np.pi)) % 1 < duty


def rays(u, v, duty):
    return np.arctan2(v, u) * 4 / np.pi % 1 < duty


def diamonds(u, v, duty):
    a, b, *_ = _cell(u, v / 1.4)
    return abs(a) + abs(b) < 0.75 * duty


def scales(u, v, duty):
    row = np.floor(2 * v)
    a, b = (u + 0.5 * (row % 2)) % 1 - 0.5, 2 * v % 1 / 2
    return abs(np.hypot(a, b) - 0.42) < 0.2 * duty


def weave(u, v, duty):
    _, _, i, j = _cell(u / 1.5, v / 1.5)
    return np.where((i + j) % 2 == 0, 2 * u % 1, 2 * v % 1) < duty


def dashes(u, v, duty):
    column = np.floor(1.5 * u)
    return (1.5 * u % 1 < duty) & ((0.8 * v + 0.5 * (column % 2)) % 1 < 0.55)


def corners(u, v, duty):
    a, b, *_ = _cell(u, v)
    inside = (abs(a) < 0.4) & (abs(b) < 0.4)
    return inside & ((a < -0.4 + 0.5 * duty) | (b < -0.4 + 0.5 * duty))


def frames(u, v, duty):
    a, b, *_ = _cell(u, v)
    return abs(np.maximum(abs(a), abs(b)) - 0.32) < 0.2 * duty


def truchet(u, v, duty):
    a, b, i, j = _cell(u, v)
    a = np.where(_coin(i, j), a, -a)
    near = np.minimum(np.hypot(a - 0.5, b - 0.5), np.hypot(a + 0.5, b + 0.5))
    return abs(near - 0.5) < 0.3 * duty


def mosaic(u, v, duty):
    _, _, i, j = _cell(1.6 * u, 1.6 * v)
    return _coin(i, j, 1) == 1


def moons(u, v, duty):
    a, b, *_ = _cell(u, v)
    return (np.hypot(a, b) < 0.42) & (np.hypot(a - 0.2, b) > 0.34)


def hearts(u, v, duty):
    a, b, *_ = _cell(u, v)
    return (a / 0.42) ** 2 + ((b + 0.05) / 0.42 - 0.8 * np.sqrt(abs(a) / 0.42)) ** 2 < 0.8


def stars(u, v, duty):
    a, b, *_ = _cell(u, v)
    return np.hypot(a, b) < 0.32 + 0.14 * np.cos(5 * np.arctan2(b, a))


def tees(u, v, duty):
    a, b, *_ = _cell(u, v)
    inside = (abs(a) < 0.4) & (abs(b) < 0.4)
    return inside & ((abs(a) < 0.28 * duty) | (b > 0.4 - 0.55 * duty))


def ladders(u, v, duty):
    return (u % 1 < 0.3) | ((u % 1 < 0.7) & (1.5 * v % 1 < 0.5))


def hourglasses(u, v, duty):
    a, b, *_ = _cell(u, v)
    return (abs(a) < abs(b)) & (abs(b) < 0.42)


def islands(u, v, duty):
    wave = np.sin(5.1 * u + 1.3 * np.sin(2.3 * v)) + np.sin(4.3 * v + 1.7 * np.sin(2.9 * u + 1))
    return wave > 0.5 - duty


def polygon(rng, angle):
    turn = 2 * np.pi / rng.integers(3, 7)
    return 1.1 * np.cos(turn / 2) / np.cos(angle % turn - turn / 2)


def star(rng, angle):
    return 0.95 + rng.uniform(0.12, 0.25) * np.cos(rng.integers(4, 8) * angle)


def egg(rng, angle):
    return (1 + rng.uniform(0.1, 0.25) * np.cos(angle)) / np.hypot(1, 0.5 * np.sin(angle))


TEXTURES: dict[str, shapes.Texture] = {
    f.__name__: f
    for f in (
        *(grid, crosses, triangles, honeycomb, bricks, spiral, rays, diamonds, scales, weave),
        *(dashes, corners, frames, truchet, mosaic, moons, hearts, stars, tees, ladders),
        *(hourglasses, islands),
    )
}
OUTLINES: dict[str, shapes.Outline] = {f.__name__: f for f in (polygon, star, egg)}
