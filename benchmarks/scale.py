"""Measures time per image and peak memory of every stage, for growing numbers of images.

    python benchmarks/scale.py [--images 2000,6000,20000] [--place DIR] [--json FILE]

Runs the chain on generated images of 96 px, each stage in its own process. The ViT is narrow and
has patches of 4 px, so that maps have the 24 x 24 grid of ViT-B/16 at 384 px. Each network trains
for one epoch. The end-to-end network is the slowest, and learns from a tenth of the images.

The start of a stage takes some seconds (imports, worker processes). So the benchmark compares the
CPU time of each further image, from the first to the second size and from the second to the third.
Other work on the machine hardly changes this time. The ideal is a ratio of 1, and no more memory
with 20,000 images than with 2,000.

Then one process and two processes in turn make the labels of the middle size; the benchmark prints
the median over the rounds. For this the machine must have nothing else to do.

Takes more than an hour at the default sizes. A single size, such as 3000, stops after the labels
and takes some minutes. --until STAGE measures the stages up to this one, and not the labels by one
and two processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import h5py

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from getam.view.table import text_table  # noqa: E402
from stages.chain import ORDER  # noqa: E402

VIT = "{patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}"
UNTIL_LABELS = ("data", "classifier", "maps", "foreground", "pseudolabels")
SETTINGS = (
    "classifier.weights=none",
    "deeplab.weights=none",
    f"classifier.model_args={VIT}",
    f"deeplab.encoder_args={VIT}",
    "classifier.epochs=1",
    "deeplab.epochs=1",
    "deeplab.channels=8",
    "endtoend.weights=none",
    f"endtoend.model_args={VIT}",
    "endtoend.channels=8",
    "endtoend.classification.epochs=1",
    "endtoend.joint.epochs=1",
    "predictions.crf.steps=1",
)


def settings_of(stage: str, images: int) -> list[str]:
    """The settings of the run that has this stage."""
    joint = stage == "endtoend"
    return [
        *SETTINGS,
        f"mode={'end-to-end' if joint else 'multi-stage'}",
        f"pseudolabels.saliency={'folder' if joint else 'features'}",
        f"deeplab.fixed_encoder={str(stage == 'encoder_features').lower()}",
        f"data.shapes={{train: {images}, val: {max(1, images // 10)}}}",
    ]


def run_stage(place: Path, images: int, stage: str, workers: int, *options: str) -> dict[str, Any]:
    """Run a stage: seconds by its manifest, CPU seconds, peak MiB of its largest process."""
    words = [word for setting in settings_of(stage, images) for word in ("--set", setting)]
    click.echo(f"{images} images: {stage}", err=True)
    arguments = ["run", "--only", stage, "--workers", str(workers)]
    arguments += ["--device", "cpu", *options]
    command = [sys.executable, str(ROOT / "pipeline.py"), *arguments, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    manifest = json.loads((artifact(place, stage) / "manifest.json").read_text())
    return {
        "images": images,
        "stage": stage,
        "seconds": manifest["seconds"],
        "CPU seconds": usage.ru_utime + usage.ru_stime,
        "peak MiB": usage.ru_maxrss / 1024,
    }


def run_stages(place: Path, images: int, stages: Iterable[str]) -> list[dict[str, Any]]:
    place.mkdir()
    return [run_stage(place, images, stage, workers=2) for stage in stages]


def artifact(place: Path, stage: str) -> Path:
    return next(p for p in (place / "artifacts" / stage).iterdir() if p.is_dir())


def map_bytes(place: Path) -> float:
    """Bytes on disk per class map."""
    path = artifact(place, "maps") / "maps.h5"
    with h5py.File(path) as file:
        assert file["maps"].shape[1:] == (24, 24)
        return path.stat().st_size / len(file["maps"])


def flatness(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Rows per stage: CPU ms of each further image between two sizes, the last of these divided by
    the first, and memory."""
    body = []
    for stage in ORDER:
        own = [row for row in rows if row["stage"] == stage]
        if not own:
            continue
        pairs = list(pairwise(own))
        further = [1000 * growth(a, b, "CPU seconds") for a, b in pairs]
        ratio = further[-1] / further[0] if further[0] else float("nan")
        more = 1024 * growth(own[0], own[-1], "peak MiB")
        peaks = (f"{row['peak MiB']:.0f}" for row in own)
        body.append(
            [stage, *(f"{ms:.2f}" for ms in further), f"{ratio:.2f}", *peaks, f"{more:.1f}"]
        )
    return body


def growth(one: dict[str, Any], other: dict[str, Any], what: str) -> float:
    """The growth of a value from one size to another, per further image."""
    return (other[what] - one[what]) / (other["images"] - one["images"])


def efficiency(place: Path, images: int, rounds: int) -> dict[str, Any]:
    """Seconds of the labels by one process and by two; efficiency 1 means half the time by two."""
    force = ("--force", "pseudolabels")
    seconds = [
        [run_stage(place, images, "pseudolabels", n, *force)["seconds"] for n in (1, 2)]
        for _ in range(rounds)
    ]
    found = statistics.median(alone / (2 * both) for alone, both in seconds)
    return {"seconds of labels by one and two": seconds, "efficiency of two": found}


def measure(
    place: Path, images: list[int], until: str, rounds: int, keep: Callable[[dict], object]
) -> dict[str, Any]:
    several = len(images) > 1
    wanted = ORDER[: ORDER.index(until) + 1]
    stages = [s for s in (wanted if several else UNTIL_LABELS) if s != "endtoend"]
    found: dict[str, Any] = {"rows": [], "bytes per class map": {}}
    for count in images:
        there = place / str(count)
        found["rows"] += run_stages(there, count, stages)
        if several and "endtoend" in wanted:
            found["rows"].append(
                run_stages(there / "end-to-end", count // 10, ["data", "endtoend"])[-1]
            )
        if "maps" in stages:
            found["bytes per class map"][count] = map_bytes(there)
        keep(found)
    if several and until != ORDER[-1]:
        return found
    middle = images[len(images) // 2]
    found |= efficiency(place / str(middle), middle, rounds)
    keep(found)
    return found


@click.command()
@click.option(
    "--images", default="2000,6000,20000", show_default=True, help="Three or more sizes, or one."
)
@click.option(
    "--until", type=click.Choice(ORDER), default=ORDER[-1], help="The last stage that is measured."
)
@click.option("--rounds", default=3, show_default=True, help="Times that the labels are made.")
@click.option("--place", type=click.Path(path_type=Path), help="Folder for temporary data.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the result here too.")
def main(images: str, until: str, rounds: int, place: Path | None, file: Path | None) -> None:
    counts = sorted({int(count) for count in images.split(",")})
    if len(counts) == 2:
        raise click.UsageError("--images: expected one size, or three such as 2000,6000,20000.")
    if len(counts) == 1 and until != ORDER[-1]:
        raise click.UsageError(
            "--until: expected three sizes. A single one stops after the labels."
        )
    if place:
        place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        keep = (lambda found: file.write_text(json.dumps(found, indent=1))) if file else id
        found = measure(Path(folder), counts, until, rounds, keep)
    further = [f"CPU ms {a} to {b}" for a, b in pairwise(counts)]
    header = ["stage", *further, "ratio", *(f"MiB {n}" for n in counts), "KiB more per image"]
    if len(counts) > 1:
        click.echo(text_table(header, flatness(found["rows"])))
    for count, size in found["bytes per class map"].items():
        click.echo(f"a class map of 24 x 24 with {count} images: {size:.0f} bytes")
    if "efficiency of two" in found:
        click.echo(f"labels by two processes: {found['efficiency of two']:.2f} of twice as fast")


if __name__ == "__main__":
    main()
