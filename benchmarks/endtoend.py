"""Times a joint step of the end-to-end mode, and a plain supervised step of the same network.

    python benchmarks/endtoend.py                                  # the example's network, CPU
    python benchmarks/endtoend.py --device cuda --dtype bfloat16 --model vit_base_patch16_384 \\
        --size 256 --batch 16 --channels 256 --classes 20

Both steps are a forward and a backward pass on the same batch, with 1.5 classes per image and
random weights. In each round every step is timed once; the best round of each counts. With random
weights no pixel is uncertain. So the energy of uncertain pixels is timed separately, and the second
ratio includes it.

    supervised  scores and logits; cross-entropy with ready-made labels; classification loss
    joint       labels by the network itself, then the joint loss
    forward, maps, pamr, completion, losses, backward      the parts of the joint step
    energy      energy and its gradient for 2 % of the pixels, half of them in one image
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click
import torch
from rounds import best_rounds, peaks, tell, time_rounds
from torch import Tensor

from getam.config.schema import SHAPES_VIT, Config
from getam.data.transforms import normalise_images
from getam.labels.completion_batch import complete_batch, gather_present
from getam.labels.normalise import normalise
from getam.labels.pamr import pamr
from getam.maps.compute import compute_maps
from getam.networks.build import build_endtoend, normalisation
from getam.training.crf_loss import dense_energy
from getam.training.joint import JointLoss, online_labels
from getam.training.losses import balanced_cross_entropy, multi_label_soft_margin

UNCERTAIN = 0.02
"""Share of uncertain pixels, as in every joint epoch of the embedded example."""
PARTS = ("forward", "maps", "pamr", "completion", "losses", "backward")


class Steps:
    """A batch and a network, with the steps that are timed."""

    def __init__(self, network, classes: int, size: int, batch: int, device: str) -> None:
        self.network = network.train().to(device)
        self.config = Config()
        self.statistics = normalisation(network)
        weights = self.config.endtoend.joint.loss
        self.loss = JointLoss(network.encoder, weights, self.config.maps, self.config.pseudolabels)
        self.pixels = torch.randint(0, 256, (batch, 3, size, size), device=device).float()
        self.images = normalise_images(self.pixels, self.statistics)
        self.targets = draw_targets(batch, classes).to(device)
        self.saliency = torch.zeros(batch, size, size, dtype=torch.bool, device=device)
        self.saliency[:, size // 4 : -size // 4, size // 4 : -size // 4] = True
        self.labels = self._labels()
        self.slots, self.ids = gather_present(self._maps(), self.targets)
        self.refined = normalise(pamr(self.pixels, self.slots))
        uncertain = torch.full((batch, 1, 1), UNCERTAIN / 2, device=device)
        uncertain[0] *= batch
        half = torch.rand(batch, size // 2, size // 2, device=device)
        self.gate = (half < uncertain.clamp(max=1)).float()
        with torch.no_grad():
            self.scores, self.logits = (t.float() for t in network.scores_and_logits(self.images))

    def contenders(self) -> dict[str, Callable[[], object]]:
        return {
            "supervised": self.supervised,
            "joint": lambda: self._backward(self._joint()["loss"]),
            "forward": lambda: self.network.scores_and_logits(self.images),
            "maps": self._maps,
            "pamr": lambda: pamr(self.pixels, self.slots),
            "completion": self._complete,
            "losses": self.losses,
            "energy": self.energy,
        }

    def supervised(self) -> None:
        scores, logits = self.network.scores_and_logits(self.images)
        loss = multi_label_soft_margin(scores.float(), self.targets)
        self._backward(loss + balanced_cross_entropy(logits.float(), self.labels))

    def losses(self) -> None:
        """All terms of the loss, and their gradients at scores and logits."""
        scores, logits = (t.detach().requires_grad_() for t in (self.scores, self.logits))
        terms = self.loss.terms(
            scores, logits, self.targets, self.labels, self.saliency, self.pixels
        )
        sum(getattr(self.loss.weights, name) * term for name, term in terms.items()).backward()

    def energy(self) -> None:
        """The dense-CRF energy and its gradient, for the share ``UNCERTAIN`` of the pixels."""
        probabilities = self.logits.softmax(dim=1)[:, :, ::2, ::2].requires_grad_()
        dense_energy(probabilities, self.pixels[:, :, ::2, ::2], self.gate).backward()

    def _joint(self) -> dict[str, Tensor]:
        return self.loss(self.network, (self.images, self.targets, self.saliency))

    def _backward(self, loss: Tensor) -> None:
        loss.backward()
        self.network.zero_grad(set_to_none=True)

    def _maps(self) -> Tensor:
        return compute_maps(self.network.encoder, self.images, self.targets)

    def _labels(self) -> Tensor:
        return online_labels(
            self.network.encoder,
            self.images,
            self.pixels,
            self.targets,
            self.saliency,
            self.config.maps,
            self.config.pseudolabels,
        )

    def _complete(self) -> Tensor:
        return complete_batch(self.refined, self.ids, self.saliency, background_power=300)


def draw_targets(batch: int, classes: int) -> Tensor:
    """(batch, classes): two classes in the first half of the images, one in the others."""
    targets = torch.zeros(batch, classes)
    rows = torch.arange(batch)
    targets[rows, rows % classes] = 1
    half = rows[: batch // 2]
    targets[half, (half + 1) % classes] = 1
    return targets


@click.command(help=__doc__.partition("\n")[0])
@click.option("--model", help="Name of the ViT in timm. Default: that of the embedded example.")
@click.option("--size", default=96, show_default=True, help="Side of the images, in pixels.")
@click.option("--batch", default=16, show_default=True, help="Images per batch.")
@click.option("--channels", default=32, show_default=True, help="Channels of the decoder.")
@click.option("--classes", default=5, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32")
@click.option("--threads", default=os.cpu_count(), show_default=True, help="CPU threads.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(model, size, batch, channels, classes, device, dtype, threads, rounds, json_file) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    name, args = (model, {}) if model else ("vit_tiny_patch16_224", SHAPES_VIT)
    network = build_endtoend(name, classes, size, args, channels).to(device)
    half = torch.autocast(device.split(":")[0], torch.bfloat16)
    with half if dtype == "bfloat16" else nullcontext():
        steps = Steps(network, classes, size, batch, device)
        contenders = steps.contenders()
        taken = list(time_rounds(contenders, rounds, device))
        memory = peaks(contenders, device)
    report(taken, json_file, memory, {
        "model": name, "size": size, "batch": batch, "channels": channels, "classes": classes,
        "device": device, "dtype": dtype, "threads": threads, "rounds": rounds,
        "uncertain": UNCERTAIN, "torch": torch.__version__,
    })  # fmt: skip


def report(
    taken: list[dict[str, float]], json_file: Path | None, memory: dict[str, float], settings: dict
) -> None:
    """The ratios, and milliseconds per image of each part."""
    best = best_rounds(taken)
    best["backward"] = best["joint"] - sum(best[part] for part in PARTS if part in best)
    whole = best["joint"] + best["energy"]
    ratios = {
        "joint / supervised": best["joint"] / best["supervised"],
        "with energy / supervised": whole / best["supervised"],
    }
    milliseconds = {name: 1000 * seconds / settings["batch"] for name, seconds in best.items()}
    tell(ratios, milliseconds, "ms/image", taken, json_file, settings, memory)


if __name__ == "__main__":
    main()
