"""Times a run that has nothing to do, and ``dvc repro`` that has nothing to do, on the same files.

    pip install dvc
    python benchmarks/noop.py [--images 10582] [--rounds 7] [--json FILE]

Makes a data folder and runs the whole chain on it once (tiny networks, some minutes). Gives DVC the
same stages with the same files. Then runs both programs in turn, with nothing to do, and times
each whole process. Prints the ratio first. Also measures the first fingerprinting of the data.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TINY = "{patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"
SETTINGS = {
    "data.kind": "folder",
    "classifier.weights": "none",
    "classifier.model_args": TINY,
    "classifier.image_size": 16,
    "classifier.epochs": 1,
    "classifier.batch_size": 256,
    "deeplab.weights": "none",
    "deeplab.encoder_args": TINY,
    "deeplab.image_size": 16,
    "deeplab.channels": 8,
    "deeplab.epochs": 1,
    "deeplab.batch_size": 256,
    "pseudolabels.saliency": "none",
    "pseudolabels.pamr.enabled": "false",
    "pseudolabels.opening": 0,
    "maps.flip": "false",
    "predictions.crf.enabled": "false",
}
DVC_STAGES = ("classifier", "maps", "pseudolabels", "deeplab", "predictions", "evaluation")


@click.command()
@click.option("--images", default=10_582, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Write the result here too."
)
def main(images: int, rounds: int, report: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_data(place / "data", images)
        ours = [sys.executable, str(ROOT / "pipeline.py"), "run"]
        for key, value in {**SETTINGS, "data.root": "data"}.items():
            ours += ["--set", f"{key}={value}"]
        timed(ours, place)
        assert "0 stages run" in timed(ours, place)[1]
        dvc = prepare_dvc(place)
        times: dict[str, list[float]] = {"getam": [], "dvc": []}
        for _ in range(rounds):
            times["getam"].append(timed(ours, place)[0])
            times["dvc"].append(timed(dvc, place)[0])
        imports = timed([sys.executable, "-X", "importtime", *ours[1:]], place)[1]
        first = first_fingerprinting(ours, place)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    figures = {
        "images": images,
        "getam / dvc": medians["getam"] / medians["dvc"],
        "median seconds": medians,
        "all seconds": times,
        "imports torch": any(line.split()[-1:] == ["torch"] for line in imports.splitlines()),
        "first fingerprinting": first,
    }
    print(f"getam / dvc, nothing to do, {images} images: {figures['getam / dvc']:.2f}")
    print(json.dumps(figures, indent=1))
    if report:
        report.write_text(json.dumps(figures, indent=1))


def make_data(folder: Path, images: int, side: int = 32) -> None:
    """Photos of ``side`` x ``side``, all different, two classes."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = ["image,classes"]
    for n in range(images):
        pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"photo{n:06}.jpg"), pixels)
        rows.append(f"photo{n:06},{'cat' if n % 2 else 'dog'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def prepare_dvc(place: Path) -> list[str]:
    """Make DVC stages that copy the artifacts of the chain, and run them once."""
    dvc = shutil.which("dvc") or str(Path(sys.executable).with_name("dvc"))
    if not Path(dvc).exists():
        raise click.ClickException("dvc is not installed: pip install dvc")
    timed([dvc, "init", "--no-scm", "-q"], place)
    stages, before = [], "data"
    for stage in DVC_STAGES:
        out = f"dvc_{stage}"
        command = f"mkdir -p {out} && cp -r artifacts/{stage}/*/. {out}"
        stages.append(
            f"  {stage}:\n    cmd: {command}\n    deps: [data, {before}]\n    outs: [{out}]\n"
            if before != "data"
            else f"  {stage}:\n    cmd: {command}\n    deps: [data]\n    outs: [{out}]\n"
        )
        before = out
    (place / "dvc.yaml").write_text("stages:\n" + "".join(stages))
    timed([dvc, "repro", "-q"], place)
    return [dvc, "repro"]


def first_fingerprinting(ours: list[str], place: Path) -> dict[str, float]:
    """Seconds, files and bytes of a dry run without remembered digests."""
    shutil.rmtree(place / "artifacts" / ".cache")
    seconds, _ = timed([*ours, "--dry-run"], place)
    files = [p.stat().st_size for p in (place / "data").rglob("*") if p.is_file()]
    return {"seconds": seconds, "files": len(files), "bytes": sum(files)}


def timed(command: list[str], place: Path) -> tuple[float, str]:
    """Seconds of a whole process, and its output."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise click.ClickException(f"{' '.join(command[:4])} ...: {done.stderr[-2000:]}")
    return seconds, done.stderr + done.stdout


if __name__ == "__main__":
    main()
