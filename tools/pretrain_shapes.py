"""Makes ``getam/data/vit_shapes.safetensors``, the small ViT that the embedded example starts from.

    python tools/pretrain_shapes.py --out getam/data/vit_shapes.safetensors

The ViT is trained on scenes that are drawn as in the example, but with other textures and outlines.
The drawing gives the labels. There are two losses: which textures are in the scene (class token),
and whether each patch is a texture, a plain part or background (patch tokens). Most steps use crops
of 32 pixels around a texture, which cost a ninth of the 96 pixels of the last steps.
"""

from __future__ import annotations

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
from pretrain_textures import OUTLINES, TEXTURES
from safetensors.torch import save_file
from torch import Tensor, nn

from getam.config.schema import SHAPES_VIT, Classifier
from getam.data import shapes

MODEL, SIZE = Classifier().model, Classifier().image_size
PATCH = SHAPES_VIT["patch_size"]
MIN_PIXELS = 60  # a texture counts as present if a crop has this many pixels of it
CLASS_WEIGHT = 5.0  # of the image loss, which is small: a mean over many absent textures

Pool = tuple[Tensor, Tensor]
Phase = tuple[int, int, int]  # crop size, batch size, steps


RECIPE = shapes.Recipe(TEXTURES, OUTLINES, things=(2, 5), radius=(12, 24), period=(6, 12))
PLAIN = len(TEXTURES) + 1  # pixel label of the plain part of an object; 0 is background


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
    """Random crops, turned and mirrored, channels shuffled and scaled: images and targets."""
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
    """Upper left corner of a crop around a random pixel with texture, off by up to a quarter."""
    patterned = np.flatnonzero((textures > 0) & (textures < PLAIN))
    target = np.array(np.unravel_index(rng.choice(patterned), textures.shape))
    corner = target - size // 2 + rng.integers(-size // 4, size // 4 + 1, 2)
    return corner.clip(0, SIZE - size)


def normalise(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], as timm does with the mean and deviation 0.5."""
    return images.float() / 127.5 - 1


def targets(textures: Tensor) -> tuple[Tensor, Tensor]:
    """Targets for textures (B, H, W): shares per patch (B, N, K + 2), presence (B, K)."""
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
    """Quality on scenes that the model was not trained on, as text."""
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
    """Write the encoder without its heads, in float16."""
    state = model.vit.state_dict().items()
    save_file({k: v.half() for k, v in state if not k.startswith("head.")}, path)


def train(
    model: Pretrainer, pool: Pool, phase: Phase, lr: float, rng: np.random.Generator
) -> Iterator[tuple[int, list[float]]]:
    """Train one phase, with warm-up and decay. Yields (step, mean losses) every 50 steps."""
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
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The safetensors file to write."
)
@click.option("--scenes", default=14000, show_default=True, help="Number of training scenes.")
@click.option("--held-out", default=128, show_default=True, help="Number of scenes to measure on.")
@click.option(
    "--phase",
    "phases",
    type=(int, int, int),
    multiple=True,
    metavar="SIZE BATCH STEPS",
    default=[(32, 128, 1500), (64, 64, 300), (SIZE, 48, 400)],
    show_default=True,
    help="Crop size in pixels, batch size and number of steps of a phase; the phases follow each "
    "other.",
)
@click.option("--lr", default=1.5e-3, show_default=True, help="Learning rate.")
@click.option("--seed", default=1, show_default=True, help="Seed of all random numbers.")
@click.option("--workers", default=2, show_default=True, help="Processes that draw scenes.")
def main(out, scenes, held_out, phases, lr, seed, workers):
    """Draw the scenes, train the ViT, and write its weights after each phase."""
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
