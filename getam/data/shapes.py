"""The embedded example: a data set of patterned things, drawn from a seed.

Every thing has a *telling part*, a patterned cap that names its class, and a *plain part* of a
random colour that belongs to it all the same. A classifier needs only the cap, so its maps stop
there: the partial activation that label completion is there to mend. Hues, contrast and grounds
are random, so colours tell no class. Plain pebbles lie about: background to the masks, often lit
in the saliency maps, which are soft, slightly off and miss some things, as real ones are.

The small ViT beside this file, ``vit_shapes.safetensors``, has never seen these patterns or
outlines: ``tools/pretrain_shapes.py`` trains it on others. It is a timm model, made by

    timm.create_model("vit_tiny_patch16_224", img_size=96, patch_size=8, embed_dim=128, depth=6,
                      num_heads=4, num_classes=5, pretrained=True,
                      pretrained_cfg_overlay={"file": WEIGHTS, "num_classes": 0})

Image i of a split is drawn from ``SeedSequence(seed, spawn_key=(split, i))`` alone: it depends
neither on how many others are drawn nor on their order.
"""

from __future__ import annotations

import colorsys
import csv
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from getam.data.palette import write_label_png
from getam.errors import UserError

Rng = np.random.Generator
Texture = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
Outline = Callable[[Rng, np.ndarray], np.ndarray]

SPLITS = ("train", "val")
SMALLEST = 48  # pixels; on less, two of the larger things find no room


# A texture takes positions (u, v) in periods and the share of its marks, and tells the marks.
TEXTURES: dict[str, Texture] = {
    "stripes": lambda u, v, share: u % 1 < share,
    "checks": lambda u, v, share: (1.5 * u % 2 < 1) ^ (1.5 * v % 2 < 1),
    "dots": lambda u, v, share: (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < share / np.pi,
    "zigzag": lambda u, v, share: (v + np.abs(u % 2 - 1)) % 1 < share,
    "rings": lambda u, v, share: np.hypot(u, v) % 1 < share,
}
CLASSES = tuple(TEXTURES)


# An outline takes angles and gives radii around 1.


def ellipse(rng: Rng, angle: np.ndarray) -> np.ndarray:
    return 1 / np.hypot(np.cos(angle), np.sin(angle) / rng.uniform(0.7, 1.0))


def box(rng: Rng, angle: np.ndarray) -> np.ndarray:
    power = rng.uniform(3, 8)
    total = np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power
    return 0.92 * total ** (-1 / power)


def blob(rng: Rng, angle: np.ndarray) -> np.ndarray:
    phase = rng.uniform(0, 2 * np.pi, 3)
    return 1 + sum(0.08 * np.sin(k * angle + phase[k - 2]) for k in (2, 3, 4))


OUTLINES: dict[str, Outline] = {f.__name__: f for f in (ellipse, box, blob)}


class Recipe(NamedTuple):
    """What scenes are made of. Lengths in pixels, pairs are lowest and highest value."""

    textures: Mapping[str, Texture] = TEXTURES
    outlines: Mapping[str, Outline] = OUTLINES
    things: tuple[int, int] = (1, 3)
    pebbles: tuple[int, int] = (0, 2)
    radius: tuple[float, float] = (13, 22)
    period: tuple[float, float] = (6, 10)
    missed: float = 0.1  # share of things that the saliency map does not show
    lit: float = 0.5  # share of pebbles that it does


class Scene(NamedTuple):
    """A drawn image and what is known of it."""

    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) uint8, 0 background, else 1 + number of the texture
    cap: np.ndarray  # (H, W) bool, the patterned parts
    saliency: np.ndarray  # (H, W) uint8


class _Thing(NamedTuple):
    y: float
    x: float
    radius: float
    label: int


def write_shapes(
    folder: Path, *, seed: int = 0, train: int = 900, val: int = 200, size: int = 96
) -> None:
    """Write the example as a data folder (see ``getam.data.folder``), about 10 ms an image.

    Args:
        folder: made if missing; files of the same names in it are replaced.
        seed: of everything; the same seed gives the same files.
        train, val: number of images of each split.
        size: side of the square images in pixels; things keep their size, so it sets the room.

    Raises:
        UserError: a split without images, or a size below 48.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     write_shapes(Path(name), train=2, val=1)
    ...     print((Path(name) / "labels.csv").read_text())
    image,classes
    train_0000,stripes
    train_0001,zigzag
    val_0000,rings
    <BLANKLINE>
    """
    counts = dict(zip(SPLITS, (train, val)))
    if min(counts.values()) < 1 or size < SMALLEST:
        raise UserError(
            f"The shapes example got {train} train and {val} val images of {size} pixels, expected "
            f"at least one image each and {SMALLEST} pixels. Set data.shapes accordingly."
        )
    for name in ("images", "masks", "saliency", "splits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    with open(folder / "labels.csv", "w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["image", "classes"])
        for split, count in counts.items():
            ids = [f"{split}_{number:04}" for number in range(count)]
            (folder / "splits" / f"{split}.txt").write_text("\n".join(ids) + "\n")
            for number, image_id in enumerate(ids):
                scene = draw_image(seed, split, number, size)
                _write_scene(folder, image_id, scene)
                table.writerow([image_id, " ".join(class_names(scene))])


def draw_image(seed: int, split: str, number: int, size: int = 96) -> Scene:
    """One image of the example, the same whatever else is drawn.

    >>> scene = draw_image(0, "train", 0)
    >>> scene.image.shape, scene.labels.shape, class_names(scene)
    ((96, 96, 3), (96, 96), ['stripes'])
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), number))
    return draw_scene(np.random.Generator(np.random.PCG64(sequence)), size, Recipe())


def class_names(scene: Scene) -> list[str]:
    """The image-level labels of a scene of the example: the classes seen in it, in id order."""
    return [CLASSES[label - 1] for label in np.unique(scene.labels) if label]


def draw_scene(rng: Rng, size: int, recipe: Recipe) -> Scene:
    """A scene of ``size`` x ``size`` pixels.

    Every thing keeps clear of the others and its cap is seen, whole or in good part.

    >>> scene = draw_scene(np.random.default_rng(0), 96, Recipe(things=(1, 1), pebbles=(0, 0)))
    >>> bool(scene.cap.any() and scene.labels[scene.cap].all())
    True
    """
    image = _background(rng, size)
    labels, cap = np.zeros((size, size), np.uint8), np.zeros((size, size), bool)
    glow = np.zeros((size, size))
    rows, columns = _grid(size)
    textures = list(recipe.textures.values())
    for thing in _arrange(rng, size, recipe):
        y, x = rows - thing.y, columns - thing.x
        inside = _inside(rng, recipe, y, x, thing.radius)
        image[inside] = _colour(rng, (0.0, 0.8), (0.15, 0.95))
        labels[inside], cap[inside] = thing.label, False
        if thing.label:
            part, y, x = _cap(rng, inside, y, x, thing.radius)
            texture, period = textures[thing.label - 1], rng.uniform(*recipe.period)
            image[part], cap[part] = _pattern(rng, texture, period, y, x), True
        seen = rng.random() < (1 - recipe.missed if thing.label else recipe.lit)
        glow[inside] = rng.uniform(0.7, 1.0) if seen else 0.2
    return Scene(_photograph(rng, image), labels, cap, _saliency(rng, glow))


def _write_scene(folder: Path, image_id: str, scene: Scene) -> None:
    name = f"{image_id}.png"
    Image.fromarray(scene.image).save(folder / "images" / name)
    Image.fromarray(scene.saliency).save(folder / "saliency" / name)
    write_label_png(folder / "masks" / name, scene.labels)


def _arrange(rng: Rng, size: int, recipe: Recipe) -> list[_Thing]:
    """Things, then pebbles; one that finds no free place in 30 tries is left out."""
    things, pebbles = (rng.integers(low, high + 1) for low, high in (recipe.things, recipe.pebbles))
    radii = [*rng.uniform(*recipe.radius, things), *rng.uniform(5, 10, pebbles)]
    labels = [*rng.integers(1, len(recipe.textures) + 1, things), *[0] * pebbles]
    placed: list[_Thing] = []
    for radius, label in zip(radii, labels):
        for _ in range(30):
            y, x = rng.uniform(0.7 * radius, size - 0.7 * radius, 2)
            if all(np.hypot(y - o.y, x - o.x) > 0.95 * (radius + o.radius) for o in placed):
                placed.append(_Thing(y, x, radius, label))
                break
    return placed


def _inside(rng: Rng, recipe: Recipe, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    outline = list(recipe.outlines.values())[rng.integers(len(recipe.outlines))]
    turn = rng.uniform(0, 2 * np.pi)
    return np.hypot(y, x) < radius * outline(rng, np.arctan2(y, x) + turn)


def _cap(
    rng: Rng, inside: np.ndarray, y: np.ndarray, x: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc to one side, cut off by the outline; its pixels' position from its centre."""
    way = rng.uniform(0, 2 * np.pi)
    y, x = y - 0.38 * radius * np.sin(way), x - 0.38 * radius * np.cos(way)
    part = inside & (np.hypot(y, x) < 0.72 * radius)
    return part, y[part], x[part]


def _pattern(rng: Rng, texture: Texture, period: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Colours (pixels, 3): the texture at some turn, dark on light or light on dark."""
    turn = rng.uniform(0, 2 * np.pi)
    u = (np.cos(turn) * x + np.sin(turn) * y) / period
    v = (np.cos(turn) * y - np.sin(turn) * x) / period
    marks = texture(u, v, rng.uniform(0.4, 0.6)) ^ (rng.random() < 0.5)
    dark, light = _colour(rng, (0.0, 1.0), (0.05, 0.35)), _colour(rng, (0.0, 0.7), (0.75, 1.0))
    return np.where(marks[:, None], light, dark)


def _background(rng: Rng, size: int) -> np.ndarray:
    """Two colours mixed by coarse patches and by grain, often longer one way than the other."""
    coarse = _noise(rng, size, *rng.integers(2, 5, 2))
    grain = _noise(rng, size, *rng.integers(3, size // 2, 2))
    one, two = (_colour(rng, (0.0, 0.7), (0.15, 0.9)) for _ in range(2))
    return one + (0.55 * coarse + 0.45 * grain)[..., None] * (two - one)


def _photograph(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Uneven light, a lens, a sensor: (H, W, 3) in [0, 1] to uint8."""
    light = 0.75 + 0.5 * _noise(rng, len(image), 3, 3)
    image = _blur(image * light[..., None]) + rng.normal(0, 0.02, image.shape)
    return (255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8)


def _saliency(rng: Rng, glow: np.ndarray) -> np.ndarray:
    """What a saliency model might say: soft at the edges, which wander, and dark in places."""
    size = len(glow)
    uneven = _blur(glow, times=6) + 0.5 * (_noise(rng, size, size // 8, size // 8) - 0.5)
    return (255 / (1 + np.exp(-10 * (uneven - 0.5))) + 0.5).astype(np.uint8)


def _colour(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """RGB (3,) in [0, 1] of any hue."""
    return np.array(
        colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    )


def _noise(rng: Rng, size: int, rows: int, columns: int) -> np.ndarray:
    """(size, size) in [0, 1]: uniform values at the corners of cells, bilinear in between."""
    # Not as a matrix product: that would differ between BLAS builds, and start threads.
    values = rng.random((rows + 1, columns + 1))
    for cells in (rows, columns):
        cell, share = _places(size, int(cells))
        values = (values[cell] * (1 - share) + values[cell + 1] * share).T
    return values


def _blur(values: np.ndarray, times: int = 1) -> np.ndarray:
    """The filter (1, 2, 1) / 4 along rows and columns, edges repeated, ``times`` over."""
    for _ in range(2 * times):
        padded = np.concatenate([values[:1], values, values[-1:]])
        values = ((padded[:-2] + 2 * values + padded[2:]) / 4).swapaxes(0, 1)
    return values


@cache
def _grid(size: int) -> np.ndarray:
    return np.mgrid[:size, :size].astype(float)


@cache
def _places(size: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``size`` pixels the cell it is in, and how far along (size, 1)."""
    place = np.linspace(0, cells, size)
    cell = np.minimum(place.astype(int), cells - 1)
    return cell, (place - cell)[:, None]
