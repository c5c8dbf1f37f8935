"""Measures the effect of settings: runs of the whole chain with several settings and seeds.

    python benchmarks/quality.py LINES.yaml [--seeds 0,1,2] --config ... --set ...

LINES.yaml has the name of each line of the table, and the settings of this line alone:

    recommended: []
    no completion: [pseudolabels.completion=false]
    fully supervised: [deeplab.labels=masks]

Lines share the stages whose keys are equal: each such stage runs once. A killed run resumes. The
table has the mean over the seeds, +- half the difference between the highest and the lowest value.
The seconds of a line are the sum over its stages, as their manifests say.
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
)


def pipeline(command: str, words: list[str], **options: Any) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, str(ROOT / "pipeline.py"), command, *words], **options)
    if done.returncode:
        raise SystemExit(f"pipeline.py {command} {' '.join(words)}: ended with {done.returncode}")
    return done


def measure(words: list[str], *options: str) -> dict[str, float]:
    """Run the chain. Returns the values of its evaluation, and the seconds of its stages."""
    pipeline("run", [*words, *options], stdout=subprocess.DEVNULL)
    told = pipeline("status", [*words, "--json"], stdout=subprocess.PIPE, text=True).stdout
    stages = json.loads(told)
    seconds = sum(stage["seconds"] for stage in stages)
    return {**stages[-1]["metrics"], "seconds": seconds}


def spread(values: list[float]) -> str:
    """Percent: the mean; with several values also +- half their range."""
    mean = 100 * sum(values) / len(values)
    half = 50 * (max(values) - min(values))
    return f"{mean:.1f}" + (f" +- {half:.1f}" if len(values) > 1 else "")


def row(name: str, found: list[dict[str, float]]) -> list[str]:
    cells = []
    for figure in FIGURES:
        values = [one[figure] for one in found if figure in one]
        cells.append(spread(values) if values else "-")
    seconds = sum(one["seconds"] for one in found) / len(found)
    return [name, *cells, f"{seconds:.0f}"]


@click.command(help=__doc__.partition("\n")[0])
@click.argument("lines", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--config", "configs", multiple=True, help="Passed on to pipeline.py.")
@click.option("--set", "assignments", multiple=True, help="Passed on to pipeline.py.")
@click.option("--artifacts", default="artifacts", show_default=True)
@click.option("--workers", help="Passed on to pipeline.py.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the result here too.")
def main(lines, seeds, configs, assignments, artifacts, workers, file) -> None:
    common = ["--artifacts", artifacts]
    common += [word for config in configs for word in ("--config", config)]
    options = ["--workers", workers] if workers else []
    found: dict[str, list[dict[str, float]]] = {}
    for name, own in yaml.safe_load(lines.read_text()).items():
        for seed in seeds.split(","):
            settings = (*assignments, *own, f"seed={seed}")
            words = [word for setting in settings for word in ("--set", setting)]
            click.echo(f"{name}, seed {seed}", err=True)
            found.setdefault(name, []).append(measure([*common, *words], *options))
            if file:
                file.write_text(json.dumps(found, indent=1))
    header = ["line", *FIGURES, "seconds"]
    click.echo(text_table(header, [row(name, of_seeds) for name, of_seeds in found.items()]))


if __name__ == "__main__":
    main()
