"""Measures the effect of settings: runs of the whole chain with several settings and seeds.

    python benchmarks/quality.py LINES.yaml [--seeds 0,1,2] --config ... --set ...

LINES.yaml has the name of each line of the table, and the settings of this line alone:

    recommended: []
    no completion: [pseudolabels.completion=false]
    fully supervised: [deeplab.labels=masks]

Lines share the stages whose keys are equal: each such stage runs once. A killed run resumes. The
stage doubt does not run. The table has the mean over the seeds, +- half the difference between the
highest and the lowest value. With --share-of LINE it also has the mean over the seeds of the
network's mIoU divided by that of this line. The seconds of a line are the sum over its stages, as
their manifests say.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from getam.view.table import text_table  # noqa: E402

FIGURES = (
    "classifier mAP",
    "seeds mIoU",
    "seeds in foreground mIoU",
    "pseudo labels mIoU",
    "network mIoU",
    "network + CRF mIoU",
    "final masks, train mIoU",
    "final masks, val mIoU",
)
NETWORK = "network mIoU"


def pipeline(command: str, words: list[str], **options: Any) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, str(ROOT / "pipeline.py"), command, *words], **options)
    if done.returncode:
        raise SystemExit(f"pipeline.py {command} {' '.join(words)}: ended with {done.returncode}")
    return done


def measure(words: list[str], *options: str) -> dict[str, float]:
    """Run the chain. Returns the values of its evaluation, and the seconds of its stages."""
    pipeline("run", [*words, *options, "--until", "evaluation"], stdout=subprocess.DEVNULL)
    told = pipeline("status", [*words, "--json"], stdout=subprocess.PIPE, text=True).stdout
    stages = [stage for stage in json.loads(told) if stage["stage"] != "doubt"]
    seconds = sum(stage["seconds"] for stage in stages)
    return {**stages[-1]["metrics"], "seconds": seconds}


def spread(values: list[float]) -> str:
    """Percent: the mean; with several values also +- half their range."""
    mean = 100 * sum(values) / len(values)
    half = 50 * (max(values) - min(values))
    return f"{mean:.1f}" + (f" +- {half:.1f}" if len(values) > 1 else "")


Found = dict[str, list[dict[str, float]]]
"""For each line the values of its runs, one run for each seed."""


def table(found: Found, share_of: str | None) -> str:
    """Figures that no line has are left out."""
    figures = [f for f in FIGURES if any(f in one for runs in found.values() for one in runs)]
    header = ["line", *figures, *([f"share of {share_of}"] if share_of else []), "seconds"]
    rows = []
    for name, runs in found.items():
        values = [[one[figure] for one in runs if figure in one] for figure in figures]
        cells = [spread(of_figure) if of_figure else "-" for of_figure in values]
        if share_of:
            cells.append(f"{100 * share(runs, found[share_of]):.1f}")
        seconds = sum(one["seconds"] for one in runs) / len(runs)
        rows.append([name, *cells, f"{seconds:.0f}"])
    return text_table(header, rows)


def share(runs: list[dict[str, float]], whole: list[dict[str, float]]) -> float:
    """The mean over the seeds of the share that the network of a line has of that of another."""
    shares = [one[NETWORK] / other[NETWORK] for one, other in zip(runs, whole)]
    return sum(shares) / len(shares)


@click.command(help=__doc__.partition("\n")[0])
@click.argument("lines", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--config", "configs", multiple=True, help="Passed on to pipeline.py.")
@click.option("--set", "assignments", multiple=True, help="Passed on to pipeline.py.")
@click.option("--artifacts", default="artifacts", show_default=True)
@click.option("--workers", help="Passed on to pipeline.py.")
@click.option("--share-of", metavar="LINE", help="Compare each network with that of this line.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the result here too.")
def main(lines, seeds, configs, assignments, artifacts, workers, share_of, file) -> None:
    settings_of = yaml.safe_load(lines.read_text())
    if share_of is not None and share_of not in settings_of:
        raise SystemExit(f"--share-of: got {share_of}, expected a line of {lines}.")
    common = ["--artifacts", artifacts]
    common += [word for config in configs for word in ("--config", config)]
    options = ["--workers", workers] if workers else []
    found: Found = {}
    for name, own in settings_of.items():
        for seed in seeds.split(","):
            settings = (*assignments, *own, f"seed={seed}")
            words = [word for setting in settings for word in ("--set", setting)]
            click.echo(f"{name}, seed {seed}", err=True)
            found.setdefault(name, []).append(measure([*common, *words], *options))
            if file:
                file.write_text(json.dumps(found, indent=1))
    click.echo(table(found, share_of))


if __name__ == "__main__":
    main()
