"""Times GETAM maps, and beside them the forward pass, the released procedure and Grad-CAM.

    python benchmarks/maps.py                                       # ViT-S/16, 224 px, CPU
    python benchmarks/maps.py --device cuda --dtype bfloat16 --model vit_base_patch16_384 --size 384

All explain the same classes of the same batch, 1.5 per image, with random weights. In each round
every contender is timed once. The best round of each counts, because other work on the machine can
only add time.

    forward   model(images) without gradients, with fused attention
    getam     compute_maps
    released  the released procedure, written from its description: one forward pass with full
              attention matrices; then for each class of each image a backward pass of the whole
              batch, which also computes the gradient of every weight
    grad_cam  GradCAM of the package grad-cam; call k explains class k of every image in the batch
    grad_cam_fewest   the same, but call k gets only the images that have k or more classes
"""

from __future__ import annotations

import copy
import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import click
import timm
import torch
from rounds import best_rounds, peaks, tell, time_rounds
from torch import Tensor, nn

from getam.maps.compute import METHODS, compute_maps

CLASSES = 20


def forward(model: nn.Module, images: Tensor) -> Tensor:
    """The scores alone."""
    with torch.inference_mode():
        return model(images)


class Released:
    """One backward pass of the whole batch per image and class, with full attention matrices."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self.matrices: list[Tensor] = []
        for block in self.model.blocks:
            block.attn.fused_attn = False
            block.attn.attn_drop.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        output.retain_grad()
        self.matrices.append(output)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        self.matrices.clear()
        logits = self.model(images)
        maps = logits.new_zeros(*targets.shape, self.matrices[0].shape[-1] - 1)
        for b, c in targets.nonzero().tolist():
            self.model.zero_grad()
            for matrix in self.matrices:
                matrix.grad = None
            logits[b, c].backward(retain_graph=True)
            for matrix in self.matrices[len(self.matrices) // 2 :]:
                gradient, attention = matrix.grad[b], matrix[b].detach()
                relevance = (gradient * attention).relu().mean(0) * gradient.relu().mean(0)
                maps[b, c] += relevance[0, 1:]
        return maps.detach()


class PackageGradCam:
    """GradCAM of the package grad-cam: call k explains the k-th class of every image.

    For an image with fewer classes it explains the first class again; `fewest` leaves it out.
    """

    def __init__(self, model: nn.Module, fewest: bool = False) -> None:
        from pytorch_grad_cam import GradCAM

        self.model = copy.deepcopy(model)
        layer = self.model.blocks[-1].norm1
        self.cam = GradCAM(self.model, [layer], reshape_transform=self._grid_first)
        self.fewest = fewest

    def _grid_first(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.model.num_prefix_tokens :].float()
        return patches.unflatten(1, self.model.patch_embed.grid_size).permute(0, 3, 1, 2)

    def __call__(self, images: Tensor, targets: Tensor) -> list:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        classes = [row.nonzero().flatten().tolist() for row in targets]
        found = []
        for k in range(max(map(len, classes))):
            wanted = {b: present[k : k + 1] for b, present in enumerate(classes)}
            if self.fewest:
                wanted = {b: kth for b, kth in wanted.items() if kth}
            chosen = [ClassifierOutputTarget((kth or classes[b])[0]) for b, kth in wanted.items()]
            found.append(self.cam(images[list(wanted)], chosen))
        return found


RIVALS = {
    "released": Released,
    "grad_cam": PackageGradCam,
    "grad_cam_fewest": partial(PackageGradCam, fewest=True),
}


def draw_targets(batch: int) -> Tensor:
    """(batch, CLASSES): two classes in the first half of the images, one in the others."""
    targets = torch.zeros(batch, CLASSES)
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
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "tf32", "bfloat16"]), default="float32")
@click.option("--method", type=click.Choice(METHODS), default="getam", show_default=True)
@click.option("--threads", default=os.cpu_count(), show_default=True, help="CPU threads.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(RIVALS)))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(
    name, size, batch, rival_batch, device, dtype, method, threads, rounds, only, json_file
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if dtype == "tf32":
        torch.set_float32_matmul_precision("high")
    model = timm.create_model(name, num_classes=CLASSES, img_size=size).eval().to(device)
    images, targets = torch.randn(batch, 3, size, size, device=device), draw_targets(batch)
    rival_batch = min(batch, rival_batch or batch)
    few = images[:rival_batch], draw_targets(rival_batch)
    rivals = {rival: RIVALS[rival](model) for rival in only or RIVALS}
    contenders = {
        "forward": lambda: forward(model, images),
        "getam": lambda: compute_maps(model, images, targets, method=method),
        **{rival: lambda run=run: run(*few) for rival, run in rivals.items()},
    }
    bfloat16 = torch.autocast(device.split(":")[0], torch.bfloat16)
    with bfloat16 if dtype == "bfloat16" else nullcontext():
        taken = list(time_rounds(contenders, rounds, device))
        memory = peaks(contenders, device)
    report(taken, json_file, memory, {
        "model": name, "size": size, "batch": batch, "rival batch": rival_batch,
        "device": device, "dtype": dtype,
        "method": method, "threads": threads, "rounds": rounds, "torch": torch.__version__,
    })  # fmt: skip


def report(
    taken: list[dict[str, float]], json_file: Path | None, memory: dict[str, float], settings: dict
) -> None:
    """Ratios of the times per image, and images per second."""
    best = best_rounds(taken)
    ours = dict.fromkeys(("forward", "getam"), settings["batch"])
    each = {name: best[name] / ours.get(name, settings["rival batch"]) for name in best}
    ratios = {"getam / forward": each["getam"] / each["forward"]}
    for rival in [name for name in each if name not in ours]:
        ratios[f"{rival} / getam"] = each[rival] / each["getam"]
    speeds = {name: 1 / seconds for name, seconds in each.items()}
    tell(ratios, speeds, "images/s", taken, json_file, settings, memory)


if __name__ == "__main__":
    main()
