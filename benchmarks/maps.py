"""Times GETAM maps, and beside them the forward pass and the code of others.

    python benchmarks/maps.py                                       # ViT-S/16, 224 px, CPU
    python benchmarks/maps.py --classes 3 --only grad_cam --only torchcam --only chefer
    python benchmarks/maps.py --device cuda --dtype bfloat16 --model vit_base_patch16_384 --size 384

All explain the same classes of the same batch, with random weights: 1.5 per image, or --classes. In
each round every contender is timed once. The best round of each counts, because other work on the
machine can only add time.

    forward   model(images) without gradients, with fused attention
    getam, legrad, ...   compute_maps with this method
    released  the released procedure, written from its description: one forward pass with full
              attention matrices; then for each class of each image a backward pass of the whole
              batch, which also computes the gradient of every weight
    grad_cam  GradCAM of the package grad-cam; call k explains class k of every image in the batch
    grad_cam_fewest   the same, but call k gets only the images that have k or more classes
    torchcam  GradCAM of the package torchcam, one forward pass per k as above
    chefer    gradient rollout, one class of one image at a time, with full matrices (Chefer et al.)
    torchcam_legrad   LeGrad of torchcam, on torchvision's ViT, one class of one image at a time
    legrad_torch      LeGrad of the package legrad-torch, on open_clip's ViT, one image at a time
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
import torch
from map_rivals import CLASSES, RIVALS, USUAL, Rival, of_timm
from products import count
from rounds import best_rounds, peaks, tell, time_rounds
from torch import Tensor, nn

from getam.maps.compute import METHODS, compute_maps

THEIRS = " of others"


def forward(model: nn.Module, images: Tensor) -> Tensor:
    """The scores alone."""
    with torch.inference_mode():
        return model(images)


def draw_targets(batch: int, classes: int | None) -> Tensor:
    """(batch, CLASSES): `classes` per image; None: two in the first half, one in the others."""
    targets = torch.zeros(batch, CLASSES)
    if classes:
        targets[:, :classes] = 1
        return targets
    rows = torch.arange(batch)
    targets[rows, rows % 10] = 1
    half = rows[: batch // 2]
    targets[half, 10 + half % 10] = 1
    return targets


@click.command(help=__doc__.partition("\n")[0])
@click.option("--model", "name", default="vit_small_patch16_224", show_default=True)
@click.option("--size", default=224, show_default=True, help="Side of the images, in pixels.")
@click.option("--batch", default=8, show_default=True, help="Images per batch.")
@click.option("--rival-batch", type=int, help="Images per batch of the rivals. Default: --batch.")
@click.option(
    "--classes", type=click.IntRange(1, CLASSES), help="Classes per image.  [default: 1.5]"
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "tf32", "bfloat16"]), default="float32")
@click.option("--method", type=click.Choice(METHODS), default="getam", show_default=True)
@click.option("--threads", default=os.cpu_count(), show_default=True, help="CPU threads.")
@click.option("--rounds", default=7, show_default=True)
@click.option(
    "--processor-time", is_flag=True, help="Measure the processor time, for a machine in use."
)
@click.option("--only", multiple=True, type=click.Choice(list(RIVALS)))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(
    name, size, batch, rival_batch, classes, device, dtype, method, threads, rounds,
    processor_time, only, json_file,
) -> None:  # fmt: skip
    clock = time.process_time if processor_time else time.perf_counter
    torch.set_num_threads(threads)
    if dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    images, targets = torch.randn(batch, 3, size, size, device=device), draw_targets(batch, classes)
    rival_batch = min(batch, rival_batch or batch)
    few = images[:rival_batch], draw_targets(rival_batch, classes)
    chosen = {rival: RIVALS[rival] for rival in only or USUAL}
    models = {make: build(make, name, size, device) for make in {of_timm, *_makers(chosen)}}
    model = models[of_timm]
    contenders = {
        "forward": lambda: forward(model, images),
        method: lambda: compute_maps(model, images, targets, method=method),
        "legrad": lambda: compute_maps(model, images, targets, method="legrad"),
    }
    for rival, how in chosen.items():
        theirs = models[how.model]
        contenders[how.ours] = partial(compute_maps, theirs, images, targets, method=how.method)
        try:
            contenders[rival + THEIRS] = partial(how.make(theirs), *few)
        except ImportError as error:
            raise click.UsageError(
                f"{rival}: the package {error.name} is not installed (pip install grad-cam, or see "
                f"maps.py in benchmarks/README.md). --only released compares without it."
            ) from None
    bfloat16 = torch.autocast(device.split(":")[0], torch.bfloat16)
    with bfloat16 if dtype == "bfloat16" else nullcontext():
        taken = list(time_rounds(contenders, rounds, device, clock))
        memory = peaks(contenders, device)
        if device == "cpu":
            tell_products(model, images, contenders, method)
    report(taken, chosen, method, json_file, memory, {
        "model": name, "size": size, "batch": batch, "rival batch": rival_batch,
        "device": device, "dtype": dtype, "method": method, "classes": classes,
        "threads": threads, "rounds": rounds, "torch": torch.__version__,
        "clock": clock.__name__,
    })  # fmt: skip


def tell_products(model: nn.Module, images: Tensor, contenders: dict, method: str) -> None:
    """The products of matrices alone, in forward passes: the lower limit of the time."""
    forward_pass = count(torch.no_grad()(partial(model, images)))
    for ours in dict.fromkeys((method, "legrad")):
        ratio = count(contenders[ours]) / forward_pass
        click.echo(f"{ours + ' / forward, products':28} {ratio:8.2f}")


def _makers(chosen: Mapping[str, Rival]) -> set[Callable]:
    return {rival.model for rival in chosen.values()}


def build(make: Callable[[str, int], nn.Module], name: str, size: int, device: str) -> nn.Module:
    """A model in evaluation mode, with the same random weights in every run."""
    torch.manual_seed(0)
    return make(name, size).eval().to(device)


def report(
    taken: list[dict[str, float]],
    chosen: Mapping[str, Rival],
    method: str,
    json_file: Path | None,
    memory: dict[str, float],
    settings: dict,
) -> None:
    """Ratios of the times per image, and images per second."""
    sizes = {rival + THEIRS: settings["rival batch"] for rival in chosen}
    best = {
        name: seconds / sizes.get(name, settings["batch"])
        for name, seconds in best_rounds(taken).items()
    }
    ratios = {f"{ours} / forward": best[ours] / best["forward"] for ours in (method, "legrad")}
    for rival, how in chosen.items():
        for ours in dict.fromkeys((how.ours, method)):
            ratios[f"{rival} / our {ours}"] = best[rival + THEIRS] / best[ours]
    speeds = {name: 1 / seconds for name, seconds in best.items()}
    tell(ratios, speeds, "images/s", taken, json_file, settings, memory)


if __name__ == "__main__":
    main()
