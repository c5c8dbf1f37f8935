"""Measures on one GPU, in at most eight minutes: tests, maps, joint step, labels, a whole chain.

    bash benchmarks/gpu.sh OUT [--photos FOLDER] [--quick]

Each part is a process with its own time limit. After each part OUT/gpu.json and OUT/table.md are
written anew, so that a run that is cut off still tells what it found; OUT/log.txt has the output of
all parts. ``--quick`` runs the same parts on small cases, on a CPU if there is no GPU.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from memory_of_gpu import watched

ROOT = Path(__file__).resolve().parents[1]
PYTEST = ("-n0", "-rsf", "-p", "no:cacheprovider", "-k", "gpu")
VIT_B = "--model=vit_base_patch16_384"
NOT_SHOWN = ("seconds", "settings")  # parts of a benchmark's JSON that are not in the table
AIMS = {
    ("maps bfloat16", "getam / forward"): "at most 2",
    ("maps", "getam bfloat16 / released float32"): "at least 75",
    ("joint bfloat16", "joint / supervised"): "at most 1.8",
    ("labels", "device / core"): "at least 100",
    ("labels", "device"): "at least 200",
    ("labels", "device / its slowest part"): "at least 0.6",
    ("labels", "share of equal pixels"): "at least 0.999",
}
TINY = "{patch_size: 8, embed_dim: 16, depth: 2, num_heads: 2}"
QUICK_CHAIN = (
    "data.shapes={train: 8, val: 4, size: 48}",
    f"classifier={{weights: none, model_args: {TINY}, image_size: 32, epochs: 1, batch_size: 4}}",
    f"deeplab={{weights: none, encoder_args: {TINY}, image_size: 32, channels: 8, epochs: 1, "
    "batch_size: 4}",
    "predictions.crf.enabled=false",
)


PATIENCE = 300  # seconds for each small case, because tests run on machines with other work
NEEDED = (
    *(
        "cv2",
        "filelock",
        "h5py",
        "joblib",
        "matplotlib",
        "PIL",
        "pydantic",
        "pytest",
        "safetensors",
    ),
    *("segmentation_models_pytorch", "timm", "torchvision", "tqdm", "xdist", "yaml"),
)


class Part(NamedTuple):
    """A part: its name, its time limit in seconds, its program and the options of it."""

    name: str
    limit: int
    program: str
    options: tuple[str, ...]

    def command(self, work: Path) -> list[str]:
        if self.program == "pytest":
            return [sys.executable, "-m", "pytest", *self.options]
        if self.program == "chain":
            return [sys.executable, str(ROOT / "pipeline.py"), "run", *self.options]
        program = str(ROOT / "benchmarks" / f"{self.program}.py")
        return [sys.executable, program, *self.options, f"--json={self.result(work)}"]

    def result(self, work: Path) -> Path:
        return work / f"{self.name}.json"


def full_parts() -> Iterator[Part]:
    """On a GPU: 470 seconds at most."""
    yield Part("tests", 120, "pytest", (*PYTEST, *gpu_tests()))
    rivals = () if find_spec("pytorch_grad_cam") else ("--only=released",)
    maps = (VIT_B, "--size=384", "--batch=32", "--rival-batch=4", "--rounds=8", *rivals)
    for kind in ("float32", "tf32", "bfloat16"):
        yield Part(f"maps {kind}", 40, "maps", (*maps, "--device=cuda", f"--dtype={kind}"))
    joint = (VIT_B, "--size=256", "--batch=16", "--channels=256", "--classes=20", "--device=cuda")
    for kind in ("float32", "bfloat16"):
        yield Part(f"joint {kind}", 35, "endtoend", (*joint, f"--dtype={kind}"))
    yield Part("labels", 60, "label_stage", ("--device=cuda", "--photos=1200"))
    yield Part("chain", 100, "chain", ())


def quick_parts(device: str) -> Iterator[Part]:
    """The same programs on small cases."""
    yield Part("tests", PATIENCE, "pytest", (*PYTEST, *gpu_tests()))
    small = (f"--device={device}", "--rounds=1", "--threads=1", "--batch=2")
    maps = ("--size=64", "--rival-batch=1", "--only=released")
    for kind in ("float32", "bfloat16"):
        yield Part(f"maps {kind}", PATIENCE, "maps", (*small, *maps, f"--dtype={kind}"))
    yield Part("joint bfloat16", PATIENCE, "endtoend", (*small, "--channels=8", "--dtype=bfloat16"))
    few = ("--photos=24", "--core-photos=4", "--scale=0.15", "--workers=1")
    yield Part("labels", PATIENCE, "label_stage", (f"--device={device}", *few))
    yield Part("chain", PATIENCE, "chain", ())


def gpu_tests() -> list[str]:
    """The files with tests that need a GPU."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file) for file in files if 'reason="needs a GPU"' in file.read_text()]


def chain_options(work: Path, photos: Path | None, quick: bool, settings: tuple[str, ...]) -> list:
    """The photos of a folder with the preset voc6, or else the embedded example."""
    options = ["--artifacts", str(work / "artifacts")]
    if photos:
        options += ["--config", "voc6", "--config", "bf16"]
        folder = (f"data.root={photos.absolute()}", "pseudolabels.saliency=features")
        settings = (*folder, "classifier.weights=none", *settings)
    elif quick:
        settings = (*QUICK_CHAIN, *settings)
    return options + [word for setting in settings for word in ("--set", setting)]


def run_part(part: Part, work: Path, log: Path) -> dict[str, Any]:
    """Run a part; its state, its seconds and what it measured."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(python_path())}
    began = time.monotonic()
    with log.open("a") as output:
        print(f"== {part.name}", file=output, flush=True)
        process = subprocess.Popen(
            part.command(work),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with watched() as gpu:
            try:
                code = process.wait(part.limit)
                state = "done" if code == 0 else f"failed with exit code {code}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                state = f"stopped after its limit of {part.limit} s"
    found = {"state": state, "took s": time.monotonic() - began, **gpu}
    return found | measured(part, work, log)


def python_path() -> list[str]:
    return [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]


def measured(part: Part, work: Path, log: Path) -> dict[str, Any]:
    if part.program == "chain":
        return {"seconds per stage": stage_seconds(part)}
    if part.program == "pytest":
        said = log.read_text().rpartition(f"== {part.name}\n")[2].strip().splitlines()
        return {"pytest": said[-1] if said else "nothing"}
    result = part.result(work)
    return json.loads(result.read_text()) if result.exists() else {}


def stage_seconds(part: Part) -> dict[str, float]:
    """The seconds of the stages that the chain finished."""
    command = [sys.executable, str(ROOT / "pipeline.py"), "status", "--json", *part.options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(python_path())}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        return {}
    return {row["stage"]: row["seconds"] for row in json.loads(done.stdout) if row["seconds"]}


def across(found: dict[str, dict]) -> dict[str, dict]:
    """Figures of two parts together."""
    try:
        ours = found["maps bfloat16"]["images/s"]["getam"]
        released = found["maps float32"]["images/s"]["released of others"]
    except KeyError:
        return {}
    return {"maps": {"getam bfloat16 / released float32": ours / released}}


def rows(part: str, found: dict[str, Any], unit: str = "") -> Iterator[list[str]]:
    """Rows of the table: part, figure, value, aim."""
    for name, value in found.items():
        if isinstance(value, dict):
            if name not in NOT_SHOWN:
                yield from rows(part, value, "" if name in ("ratios", "pamr") else name)
        elif value is not None:
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            figure = f"{name}, {unit}" if unit else name
            if not isinstance(value, list):
                yield [part, figure, text, AIMS.get((part, name), "")]


def tell(out: Path, machine: dict[str, Any], found: dict[str, dict]) -> None:
    """Write the JSON and the table; each is whole at any time."""
    everything = {**found, **across(found)}
    table = ["| part | figure | value | aim |", "|---|---|---|---|"]
    for part, figures in everything.items():
        table += [f"| {' | '.join(row)} |" for row in rows(part, figures)]
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    texts = {
        "gpu.json": json.dumps({"machine": machine, **everything}, indent=1),
        "table.md": "\n".join([about, "", *table]),
    }
    for name, text in texts.items():
        temporary = out / f"{name}.tmp"
        temporary.write_text(text + "\n")
        temporary.replace(out / name)


def machine_of(device: str) -> dict[str, Any]:
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    versions = {"torch": torch.__version__, "Python": platform.python_version()}
    return {"card": card, **versions, "cores": len(os.sched_getaffinity(0))}


@click.command(help=__doc__.partition("\n")[0])
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="A data folder for the chain. Default: the embedded example.")  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, help="A setting of the chain, section.name=value."
)
@click.option("--only", multiple=True, help="Run only the parts whose name starts so.")
@click.option("--quick", is_flag=True, help="Small cases, in about a minute; also on a CPU.")
def main(out, photos, settings, only, quick) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not quick:
        raise click.UsageError("torch finds no GPU. Use --quick to run small cases on the CPU.")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise click.UsageError(
            f"These modules are missing: {', '.join(missing)}. Install them, or collect their "
            f"wheels with benchmarks/gpu_wheels.sh and set WHEELS to the folder."
        )
    out.mkdir(parents=True, exist_ok=True)
    log, found = out / "log.txt", {}
    log.write_text("")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for part in quick_parts(device) if quick else full_parts():
            if only and not part.name.startswith(only):
                continue
            if part.program == "chain":
                part = part._replace(options=tuple(chain_options(work, photos, quick, settings)))
            found[part.name] = run_part(part, work, log)
            click.echo(f"{part.name}: {found[part.name]['state']}")
            tell(out, machine_of(device), found)
    click.echo((out / "table.md").read_text())
    sys.exit(any(part["state"] != "done" for part in found.values()))


if __name__ == "__main__":
    main()
