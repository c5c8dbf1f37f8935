"""Times bfloat16 and float32 on this machine: forward pass, training step and maps of a ViT.

    python benchmarks/precision.py                      # ViT-S/14 at 196 px, CPU
    python benchmarks/precision.py --device cuda --size 392

Weights are random, half of the blocks are frozen in training, and every image has one class. In
each round every contender is timed once; the best round of each counts. If a ratio is below one,
bfloat16 is slower than float32 here, because the processor has no instructions for it: set
``precision`` to fp32 on this machine.
"""

from __future__ import annotations

import os
from pathlib import Path

import click
import torch
from rounds import best_rounds, tell, time_rounds

from getam.maps.compute import compute_maps
from getam.networks.build import build_classifier, freeze_blocks
from getam.networks.precision import autocast
from getam.training.losses import multi_label_soft_margin

CLASSES = 6
WORK = ("forward", "training step", "maps")


class Contenders:
    """A network and a batch, with the work that is timed in each precision."""

    def __init__(self, model: str, size: int, batch: int, device: str) -> None:
        self.network = build_classifier(model, CLASSES, size, {}).to(device)
        freeze_blocks(self.network, len(self.network.blocks) // 2)
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.targets = torch.eye(CLASSES, device=device)[torch.arange(batch) % CLASSES]
        self.device = device

    def forward(self, precision: str) -> None:
        with torch.inference_mode(), autocast(precision, self.device):
            self.network.eval()(self.images)

    def training_step(self, precision: str) -> None:
        with autocast(precision, self.device):
            loss = multi_label_soft_margin(self.network.train()(self.images), self.targets)
        loss.backward()

    def maps(self, precision: str) -> None:
        with autocast(precision, self.device):
            compute_maps(self.network.eval(), self.images, self.targets)


@click.command(help=__doc__.partition("\n")[0])
@click.option(
    "--model", default="vit_small_patch14_dinov2", show_default=True, help="Name in timm."
)
@click.option("--size", default=196, show_default=True, help="Side of the images, in pixels.")
@click.option("--batch", default=16, show_default=True, help="Images per batch.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=os.cpu_count(), show_default=True, help="CPU threads.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(model, size, batch, device, threads, rounds, json_file) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    does = Contenders(model, size, batch, device)
    contenders = {
        f"{work}, {precision}": lambda work=work, precision=precision: getattr(
            does, work.replace(" ", "_")
        )(precision)
        for work in WORK
        for precision in ("fp32", "bf16")
    }
    taken = list(time_rounds(contenders, rounds, device))
    best = best_rounds(taken)
    ratios = {
        f"{work}: fp32 / bf16": best[f"{work}, fp32"] / best[f"{work}, bf16"] for work in WORK
    }
    milliseconds = {name: 1000 * seconds / batch for name, seconds in best.items()}
    settings = {"model": model, "size": size, "batch": batch, "device": device}
    settings |= {"threads": threads, "rounds": rounds, "torch": torch.__version__}
    tell(ratios, milliseconds, "ms/image", taken, json_file, settings)


if __name__ == "__main__":
    main()
