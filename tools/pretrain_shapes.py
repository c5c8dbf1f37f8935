"""Makes ``getam/data/vit_shapes.safetensors``, the small ViT that the embedded example starts from.

    python tools/pretrain_shapes.py --out getam/data/vit_shapes.safetensors

Scenes are drawn as the example's are, but with other textures and other outlines. Two losses, both
from labels that drawing gives for free: which textures are in the picture (class token) and which
texture, plain part or background each patch holds (patch tokens). Most steps see crops of 32
pixels around a pattern, at a ninth of the cost of the 96 pixels that the last steps see.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from getam.config import SHAPES_VIT, Classifier
from getam.data import shapes

MODEL, SIZE = Classifier().model, Classifier().image_size
PATCH = SHAPES_VIT["patch_size"]
MIN_PIXELS = 60  # of a texture that counts as seen in a crop
CLASS_WEIGHT = 5.0  # the image loss, a mean over many absent textures, against the patch loss

Pool = tuple[Tensor, Tensor]
Phase = tuple[int, int, int]  # crop size, batch size, steps


def _cell(u, v):
    """Position (a, b) in [-0.5, 0.5) of the unit cell, b upwards, and the cell's numbers."""
    return u % 1 - 0.5, v % 1 - 0.5, np.floor(u).astype(int), np.floor(v).astype(int)


def _coin(i, j, salt=0):
    """A fair coin per cell, the same for the same cell."""
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
RECIPE = shapes.Recipe(TEXTURES, OUTLINES, things=(2, 5), radius=(12, 24), period=(6, 12))
PLAIN = len(TEXTURES) + 1  # dense label of an object's plain part; 0 is background


def draw(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """One training scene: image (96, 96, 3) and the texture of every pixel (96, 96), uint8."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))
    scene = shapes.draw_scene(rng, SIZE, RECIPE)
    return scene.image, np.where((scene.labels > 0) & ~scene.cap, PLAIN, scene.labels)


def draw_pool(seed: int, count: int, workers: int) -> Pool:
    """Images (count, 3, 96, 96) and textures (count, 96, 96), uint8."""
    with ProcessPoolExecutor(workers) as pool:
        images, textures = zip(*pool.map(partial(draw, seed), range(count), chunksize=32))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return pixels, torch.from_numpy(np.stack(textures))


def make_batch(pool: Pool, size: int, count: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Crops, turned and mirrored, channels shuffled and scaled: images and targets."""
    images, textures = pool
    numbers = rng.integers(0, len(images), count)
    places = [aim(textures[n].numpy(), size, rng) for n in numbers]
    crops = [(n, slice(y, y + size), slice(x, x + size)) for n, (y, x) in zip(numbers, places)]
    x = torch.stack([images[n, rng.permutation(3)][:, rows, cols] for n, rows, cols in crops])
    t = torch.stack([textures[crop] for crop in crops])
    turns = int(rng.integers(4))
    x, t = x.rot90(turns, (2, 3)), t.rot90(turns, (1, 2))
    if rng.random() < 0.5:
        x, t = x.flip(3), t.flip(2)
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (count, 3, 1, 1)).astype(np.float32))
    return normalise(x) * gain, *targets(t)


def aim(textures: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Upper left corner of a crop around some patterned pixel, off by up to a quarter."""
    patterned = np.flatnonzero((textures > 0) & (textures < PLAIN))
    target = np.array(np.unravel_index(rng.choice(patterned), textures.shape))
    corner = target - size // 2 + rng.integers(-size // 4, size // 4 + 1, 2)
    return corner.clip(0, SIZE - size)


def normalise(images: Tensor) -> Tensor:
    """uint8 to float32 in [-1, 1], as the mean and deviation of 0.5 in timm's configuration do."""
    return images.float() / 127.5 - 1


def targets(textures: Tensor) -> tuple[Tensor, Tensor]:
    """What textures (B, H, W) ask for: shares per patch (B, N, K + 2), presence (B, K)."""
    one_hot = F.one_hot(textures.long(), PLAIN + 1).permute(0, 3, 1, 2).float()
    shares = F.avg_pool2d(one_hot, PATCH).flatten(2).transpose(1, 2)
    return shares, (one_hot.sum((2, 3)) >= MIN_PIXELS)[:, 1:PLAIN].float()


class Pretrainer(nn.Module):
    """The ViT with a head on its class token and one on its patch tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = timm.create_model(
            MODEL, img_size=SIZE, num_classes=len(TEXTURES), dynamic_img_size=True, **SHAPES_VIT
        )
        self.dense = nn.Linear(self.vit.embed_dim, PLAIN + 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of every patch (B, N, K + 2) and of the image (B, K)."""
        tokens = self.vit.forward_features(images)
        return self.dense(tokens[:, self.vit.num_prefix_tokens :]), self.vit.forward_head(tokens)


def losses(model: Pretrainer, images: Tensor, shares: Tensor, present: Tensor) -> Tensor:
    """The two losses: cross entropy of patches, binary cross entropy of images."""
    patches, classes = model(images)
    of_patches = F.cross_entropy(patches.flatten(0, 1), shares.flatten(0, 1))
    return torch.stack([of_patches, F.binary_cross_entropy_with_logits(classes, present)])


@torch.no_grad()
def measure(model: Pretrainer, pool: Pool) -> str:
    """How good it is on scenes it was not trained on."""
    model.eval()
    shares, present = targets(pool[1])
    patches, classes = model(normalise(pool[0]))
    model.train()
    wanted = shares.argmax(-1)
    hit = patches.argmax(-1) == wanted
    textured = (wanted > 0) & (wanted < PLAIN)
    found = classes > 0
    f1 = 2 * (found & (present > 0)).sum() / (found.sum() + present.sum())
    share, share_textured = hit.float().mean(), hit[textured].float().mean()
    return f"patches right {share:.3f}, of textured ones {share_textured:.3f}, image F1 {f1:.3f}"


def save(model: Pretrainer, path: Path) -> None:
    """The encoder alone, float16."""
    state = model.vit.state_dict().items()
    save_file({k: v.half() for k, v in state if not k.startswith("head.")}, path)


def train(
    model: Pretrainer, pool: Pool, phase: Phase, lr: float, rng: np.random.Generator
) -> Iterator[tuple[int, list[float]]]:
    """One phase, which warms up and anneals; gives (step, mean losses) every 50 steps."""
    size, count, steps = phase
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.08)
    weights, running = torch.tensor([1.0, CLASS_WEIGHT]), torch.zeros(2)
    for step in range(1, steps + 1):
        parts = losses(model, *make_batch(pool, size, count, rng))
        optimizer.zero_grad()
        (weights * parts).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running += parts.detach()
        if step % 50 == 0:
            yield step, (running / 50).tolist()
            running.zero_()


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="safetensors file")
@click.option("--scenes", default=14000, show_default=True, help="drawn once, kept in memory")
@click.option("--held-out", default=128, show_default=True, help="scenes to measure on")
@click.option(
    "--phase",
    "phases",
    type=(int, int, int),
    multiple=True,
    metavar="SIZE BATCH STEPS",
    default=[(32, 128, 1500), (64, 64, 300), (SIZE, 48, 400)],
    show_default=True,
    help="crop size, batch size, steps; one after the other",
)
@click.option("--lr", default=1.5e-3, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--workers", default=2, show_default=True, help="processes that draw")
def main(out, scenes, held_out, phases, lr, seed, workers):
    """Draw the scenes, train, write the weights (first ones after the first phase)."""
    start = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - start:5.0f} s  {text}")

    pool, unseen = draw_pool(seed, scenes, workers), draw_pool(seed + 1, held_out, workers)
    say(f"{scenes} scenes drawn")
    torch.manual_seed(seed)
    model, rng = Pretrainer(), np.random.default_rng(seed)
    for phase in phases:
        for step, (patches, classes) in train(model, pool, phase, lr, rng):
            text = f"loss of patches {patches:.3f}, of images {classes:.3f}"
            say(f"{phase[0]} pixels, step {step} of {phase[2]}: {text}")
        say(measure(model, unseen))
        save(model, out)


if __name__ == "__main__":
    main()
