"""Times ``run --dry-run`` with the checks of the stages and without them, on many photos.

    python benchmarks/preflight.py [--images 20000] [--side 64] [--rounds 5] [--json FILE]

Makes a data folder with labels and masks. Three states are timed: an empty artifacts folder, where
every file is read; one where a run has begun, which remembers the content of the files and that
the checks found nothing; and the same folder with a changed setting of the classifier. Both
programs take turns, each in a process of its own. Prints the ratios of the medians first, of CPU
seconds (other work on the machine hardly changes them) and of the time that passes.
"""

from __future__ import annotations

import json
import os
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
sys.path.insert(0, str(ROOT))

from benchmarks.noop import SETTINGS, make_data  # noqa: E402

WITH = "from pipeline import main; main()"
WITHOUT = f"from getam.cache import Runner; Runner.check = lambda self, plan: None; {WITH}"
# A run that is killed as its first stage begins.
BEGIN = f"import os; from getam.cache import Runner; Runner._bring = lambda *_: os._exit(0); {WITH}"
Seconds = dict[str, float]
CHANGED = "classifier.lr_head=0.00123"


@click.command()
@click.option("--images", default=20_000, show_default=True)
@click.option("--side", default=64, show_default=True, help="Side of a photo, in pixels.")
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--json", "report", type=click.Path(path_type=Path), help="Write the result here too."
)
def main(images: int, side: int, rounds: int, report: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_data(place / "data", images, side)
        make_masks(place / "data", images, side)
        taken = {"empty": compare(place, rounds, [])}
        program(place, BEGIN, [])
        taken["begun"] = compare(place, rounds, [])
        taken["setting changed"] = compare(place, rounds, ["--set", CHANGED])
    figures = {state: summary(rows) for state, rows in taken.items()}
    for state, figure in figures.items():
        ratios = "{CPU:.2f} CPU, {time:.2f} time".format(**figure["with / without"])
        print(f"with checks / without, artifacts {state}: {ratios}")
    print(json.dumps(figures | {"images": images, "side": side}, indent=1))
    if report:
        report.write_text(json.dumps(figures | {"seconds": taken}, indent=1))


def make_masks(folder: Path, images: int, side: int) -> None:
    """A mask for each photo; a tenth of the photos is val."""
    (folder / "masks").mkdir()
    (folder / "splits").mkdir()
    names = [f"photo{n:06}" for n in range(images)]
    for n, name in enumerate(names):
        mask = np.zeros((side, side), np.uint8)
        mask[8:, 8:] = 1 if n % 2 else 2
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    val = images // 10
    (folder / "splits/train.txt").write_text("\n".join(names[val:]) + "\n")
    (folder / "splits/val.txt").write_text("\n".join(names[:val]) + "\n")


def compare(place: Path, rounds: int, options: list[str]) -> list[dict[str, Seconds]]:
    """Seconds of a dry run with the checks and without, per round."""
    taken = []
    for number in range(rounds):
        both = [("with", WITH), ("without", WITHOUT)][:: -1 if number % 2 else 1]
        taken.append({n: program(place, code, ["--dry-run", *options]) for n, code in both})
    return taken


def summary(taken: list[dict[str, Seconds]]) -> dict[str, Seconds]:
    medians = {
        name: {what: statistics.median(row[name][what] for row in taken) for what in taken[0][name]}
        for name in taken[0]
    }
    ratio = {what: medians["with"][what] / medians["without"][what] for what in medians["with"]}
    return {"with / without": ratio, **medians}


def program(place: Path, code: str, options: list[str]) -> Seconds:
    """Seconds of the command ``run`` in a process of its own."""
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}", "run"]
    for key, value in {**SETTINGS, "data.root": "data"}.items():
        words += ["--set", f"{key}={value}"]
    began = time.perf_counter()
    process = subprocess.Popen([*words, *options], cwd=place, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise click.ClickException(f"run {' '.join(options)} failed")
    return {"CPU": usage.ru_utime + usage.ru_stime, "time": seconds}


if __name__ == "__main__":
    main()
