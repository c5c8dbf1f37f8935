"""Times refining, completing and scoring labels, in this project and in the plain way.

    python benchmarks/labels.py [--threads N] [--rounds N] [--size H W] [--classes K] [--json FILE]

In each round every way is timed once, so that other work on the machine slows all of them. Ratios
are medians over rounds. Peak memory is the memory that one call adds to a new process (Linux).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import torch
import torch.nn.functional as F
from rounds import copy_bandwidth

from getam.labels import crf
from getam.labels.completion import complete_labels
from getam.labels.crf import dense_crf
from getam.labels.normalise import normalise
from getam.labels.pamr import DILATIONS, pamr
from getam.metrics.segmentation import ConfusionMatrix, ThresholdSweep


def neighbours_by_convolution(x: torch.Tensor, centre: bool, folded: bool) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, 8 or 9 per dilation, H, W), one convolution per dilation."""
    batch, channels, height, width = x.shape
    kernels = torch.eye(9, dtype=x.dtype).view(9, 1, 3, 3)
    if not centre:
        kernels = kernels[[k for k in range(9) if k != 4]]
    groups = 1 if folded else channels
    kernels = kernels if folded else kernels.repeat(channels, 1, 1, 1)
    parts = []
    for d in DILATIONS:
        padded = F.pad(x, (d,) * 4, mode="replicate")
        if folded:
            padded = padded.flatten(0, 1).unsqueeze(1)
        found = F.conv2d(padded, kernels, dilation=d, groups=groups)
        parts.append(found.view(batch, channels, -1, height, width))
    return torch.cat(parts, dim=2)


@torch.no_grad()
def pamr_by_convolution(
    images: torch.Tensor, masks: torch.Tensor, folded: bool = False
) -> torch.Tensor:
    """PAMR that gets the neighbours by dilated convolutions. All classes share the weights.

    `folded`: the classes are a batch of the convolution, not its groups.
    """
    sigma = neighbours_by_convolution(images, True, folded).std(dim=2, keepdim=True)
    around = neighbours_by_convolution(images, False, folded)
    distances = (around - images.unsqueeze(2)).abs_() / (1e-8 + 0.1 * sigma)
    weights = distances.neg_().mean(dim=1, keepdim=True).softmax(dim=2)
    for _ in range(10):
        masks = (neighbours_by_convolution(masks, False, folded) * weights).sum(dim=2)
    return masks


PAMR_WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "views (ours)": pamr,
    "grouped convolutions": pamr_by_convolution,
    "folded convolutions": lambda images, masks: pamr_by_convolution(images, masks, folded=True),
}


def photo(height: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, torch.Tensor]:
    """A smooth image with edges and noise (H, W, 3) uint8, and maps (K, H, W) in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)

    def smooth(channels: int, cells: int) -> torch.Tensor:
        coarse = torch.rand((1, channels, cells, cells), generator=generator)
        return F.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)

    colours = (smooth(3, 12) * 8).round() * 28
    colours += 8 * torch.rand(3, height, width, generator=generator)
    image = colours.clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return image, normalise(smooth(classes, 8) ** 2)


def pamr_inputs(size: tuple[int, int], classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    image, maps = photo(*size, classes)
    return torch.from_numpy(image).permute(2, 0, 1)[None].float(), maps[None]


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def peak_mib_of_one_call(way: str, size: tuple[int, int], classes: int) -> float:
    """Peak memory of one call. Needs a new process, because a call reuses memory freed before."""
    function = PAMR_WAYS[way]
    function(*pamr_inputs((32, 32), classes))  # libraries load and spawn threads on first use
    inputs = pamr_inputs(size, classes)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    before = resident_mib("VmRSS")
    function(*inputs)
    return resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure_peak(way: str, size: tuple[int, int], classes: int, threads: int) -> float:
    command = [sys.executable, __file__, "--peak-of", way, "--threads", str(threads)]
    command += ["--size", *map(str, size), "--classes", str(classes)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def benchmark_pamr(size: tuple[int, int], classes: int, rounds: int, threads: int) -> dict:
    inputs = pamr_inputs(size, classes)
    reference = pamr(*inputs)
    difference = max(float((way(*inputs) - reference).abs().max()) for way in PAMR_WAYS.values())
    times = {name: [] for name in PAMR_WAYS}
    for _ in range(rounds):
        for name, way in PAMR_WAYS.items():
            times[name].append(seconds(lambda way=way: way(*inputs)))
    ours, *others = times
    pixels = size[0] * size[1]
    weights = 8 * len(DILATIONS) * pixels * 4
    traffic = 11 * weights / copy_bandwidth("cpu")  # written once, read in ten iterations
    return {
        "largest difference": difference,
        "speed-up over": {
            name: statistics.median(b / a for a, b in zip(times[ours], times[name]))
            for name in others
        },
        "best seconds": {name: min(values) for name, values in times.items()},
        "peak MiB": {name: measure_peak(name, size, classes, threads) for name in times},
        "floor": {
            "weights MiB": weights / 2**20,
            "weights read over 10 iterations MiB": 10 * weights / 2**20,
            "their traffic at the speed of a copy, ms": 1e3 * traffic,
            "ours / this traffic": min(times[ours]) / traffic,
            "multiply-adds of the sums": 10 * 8 * len(DILATIONS) * pixels * classes,
            "exponentials": 8 * len(DILATIONS) * pixels,
        },
    }


def timed_library(spent: list[float]) -> SimpleNamespace:
    """`pydensecrf.densecrf`, which also appends the seconds of each of its calls to `spent`."""

    def timed(function: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent.append(time.perf_counter() - start)
            return result

        return call

    library = crf._pydensecrf()

    class TimedCRF:
        def __init__(self, *args: int) -> None:
            self.crf = timed(library.DenseCRF2D)(*args)

        def __getattr__(self, name: str) -> Callable:
            return timed(getattr(self.crf, name))

    return SimpleNamespace(DenseCRF2D=TimedCRF)


def benchmark_crf(size: tuple[int, int], classes: int, rounds: int) -> dict:
    image, maps = photo(*size, classes)
    probabilities = torch.cat([1 - maps.amax(0, keepdim=True), maps]).softmax(0).numpy()
    find, spent = crf._pydensecrf, []
    library = find() and timed_library(spent)
    around, total, alone = [], [], []
    try:
        for _ in range(rounds):
            crf._pydensecrf = lambda: None
            alone.append(seconds(lambda: dense_crf(image, probabilities)))
            if library:
                spent.clear()
                crf._pydensecrf = lambda: library
                total.append(seconds(lambda: dense_crf(image, probabilities)))
                around.append(total[-1] - sum(spent))
    finally:
        crf._pydensecrf = find
    told = {"labels": classes + 1, "without pydensecrf, ms (best)": 1e3 * min(alone)}
    if library:
        ratio = statistics.median(a / t for a, t in zip(alone, total))
        told["Python around the library, ms (median)"] = 1e3 * statistics.median(around)
        told["with pydensecrf, ms (best)"] = 1e3 * min(total)
        told["ratio without/with pydensecrf (median)"] = ratio
    return told


def benchmark_labels(size: tuple[int, int], classes: int, rounds: int) -> dict:
    """Milliseconds per image of the numpy functions, in the best round."""
    _, maps = photo(*size, classes)
    maps, class_ids = maps.numpy(), list(range(1, classes + 1))
    saliency = maps.max(axis=0) > 0.2
    label = complete_labels(maps, class_ids, saliency)
    target = complete_labels(maps, class_ids, None)
    confusion = ConfusionMatrix(21)
    sweeps = {count: ThresholdSweep(21, np.arange(count) / count) for count in (1, 10, 100)}
    tasks = {
        "complete_labels, saliency": lambda: complete_labels(maps, class_ids, saliency),
        "complete_labels, no saliency": lambda: complete_labels(maps, class_ids, None),
        "ConfusionMatrix.update": lambda: confusion.update(label, target),
    }
    for count, sweep in sweeps.items():
        name = f"ThresholdSweep.update, {count} thresholds"
        tasks[name] = lambda sweep=sweep: sweep.update(maps, class_ids, target)
    tasks["100 thresholds, one matrix each"] = lambda: one_matrix_each(maps, class_ids, target)
    times = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            times[name].append(1e3 * seconds(task))
    return {name: min(values) for name, values in times.items()}


def one_matrix_each(maps: np.ndarray, class_ids: list[int], target: np.ndarray) -> None:
    for threshold in np.arange(100) / 100:
        confusion = ConfusionMatrix(21)
        winner = np.array(class_ids)[maps.argmax(axis=0)]
        confusion.update(np.where(maps.max(axis=0) > threshold, winner, 0), target)


def show(result: dict, indent: int = 0) -> None:
    for name, value in result.items():
        if isinstance(value, dict):
            click.echo(f"{'  ' * indent}{name}")
            show(value, indent + 1)
        else:
            text = f"{value:,.3g}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
            click.echo(f"{'  ' * indent}{name:<{44 - 2 * indent}}{text:>14}")


@click.command()
@click.option("--threads", default=torch.get_num_threads(), show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Times that each way is timed.")
@click.option(
    "--size", nargs=2, type=int, default=(375, 500), show_default=True, help="H W in pixels."
)
@click.option("--classes", default=3, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the result here too.")
@click.option("--peak-of", type=click.Choice(list(PAMR_WAYS)), hidden=True)
def main(
    threads: int,
    rounds: int,
    size: tuple[int, int],
    classes: int,
    file: Path | None,
    peak_of: str | None,
) -> None:
    """Measure PAMR, dense CRF, label completion and metrics on one image."""
    torch.set_num_threads(threads)
    if peak_of:
        click.echo(peak_mib_of_one_call(peak_of, size, classes))
        return
    result = {
        "setting": {"threads": threads, "H": size[0], "W": size[1], "classes": classes},
        "pamr": benchmark_pamr(size, classes, rounds, threads),
        "dense_crf": benchmark_crf(size, classes, rounds),
        "milliseconds an image": benchmark_labels(size, classes, rounds),
    }
    show(result)
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
