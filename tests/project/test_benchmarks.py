"""Benchmarks start, and those of single functions run on small cases. No time is asserted."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from getam.config.loading import load_config
from stages.chain import ORDER, chain

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SHARED = {
    "rounds",
    "map_rivals",
    "process_tree",
    "memory_of_gpu",
    "products",
}  # code that several use
NAMES = sorted({file.stem for file in FOLDER.glob("*.py")} - SHARED)
SMALL = {  # and what the table tells among others
    "endtoend": ("--rounds=1 --batch=2 --channels=8 --threads=1", "joint / supervised"),
    "labels": ("--rounds=1 --size 40 50 --threads=1", "ThresholdSweep.update"),
    "label_stage": (
        "--photos=24 --core-photos=2 --scale=0.15 --workers=1 --device=cpu",
        "share of equal pixels",
    ),
    "precision": ("--rounds=1 --batch=2 --size=28 --threads=1", "maps: fp32 / bf16"),
    "maps": ("--rounds=1 --batch=2 --size=64 --threads=1 --only=released", "getam / forward"),
}


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    here = str(FOLDER.parent)  # not an installed version of the project
    environment = {**os.environ, "PYTHONPATH": here}
    done = subprocess.run(
        command, cwd=FOLDER.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_is_described_in_the_readme(name):
    text = (FOLDER / "README.md").read_text()
    _, heading, section = text.partition(f"\n## {name}.py\n")
    assert heading
    assert f"\n    python benchmarks/{name}.py" in section.partition("\n## ")[0]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SMALL])
def test_a_benchmark_of_whole_runs_starts(name):
    assert "Usage:" in run(name, "--help")


@pytest.mark.parametrize("stage", ORDER)
def test_the_run_that_scale_measures_a_stage_in_has_this_stage(stage, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    scale = importlib.import_module("scale")
    config = load_config((), scale.settings_of(stage, 20))
    assert stage in [one.name for one in chain(config)]


@pytest.mark.parametrize("name", ["quality.yaml", "results.yaml"])
def test_the_lines_of_quality_are_settings(name):
    lines = yaml.safe_load((FOLDER / name).read_text())
    common = ("data.root=photos", "pseudolabels.saliency_model=model.onnx")
    for settings in lines.values():
        assert load_config(("voc6",), (*common, *settings, "seed=1")).seed == 1


def test_quality_tells_the_share_of_another_line(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    quality = importlib.import_module("quality")
    masks = [{"network mIoU": 0.5, "seconds": 1}, {"network mIoU": 0.8, "seconds": 3}]
    labels = [{"network mIoU": 0.45, "seconds": 5}, {"network mIoU": 0.56, "seconds": 5}]
    told = quality.table({"masks": masks, "labels": labels}, "masks").splitlines()
    assert told[0].split() == ["line", "network", "mIoU", "share", "of", "masks", "seconds"]
    assert told[2].split() == ["labels", "50.5", "+-", "5.5", "80.0", "5"]


def test_scale_makes_the_folder_for_its_data(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    scale = importlib.import_module("scale")
    places = []

    def measure(place, *_):
        places.append(place)
        return {"rows": [], "bytes per class map": {}, "efficiency of two": 1.0}

    monkeypatch.setattr(scale, "measure", measure)
    words = ["--images", "20", "--place", str(tmp_path / "new" / "folder")]
    done = CliRunner().invoke(scale.main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [place.parent for place in places] == [tmp_path / "new" / "folder"]


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_of_functions_runs_on_a_small_case(name):
    options, told = SMALL[name]
    assert told in run(name, *options.split())


def test_all_parts_of_the_gpu_benchmark_run_on_small_cases(tmp_path):
    command = ["bash", str(FOLDER / "gpu.sh"), str(tmp_path), "--quick"]
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stderr + log
    told = json.loads((tmp_path / "gpu.json").read_text())
    parts = ("tests", "maps float32", "maps bfloat16", "joint bfloat16", "labels", "chain")
    assert {part: told[part]["state"] for part in parts} == dict.fromkeys(parts, "done")
    assert told["labels"]["ratios"]["share of equal pixels"] >= 0.999
    assert set(told["chain"]["seconds per stage"]) >= {"classifier", "maps", "pseudolabels"}
    table = (tmp_path / "table.md").read_text()
    for figure in ("getam / forward", "joint / supervised", "device / core", "pseudolabels"):
        assert figure in table


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu")
    sys.modules.pop("gpu")


def test_the_parts_of_the_gpu_benchmark_end_within_eight_minutes(gpu):
    assert sum(part.limit for part in gpu.full_parts()) <= 480
    assert next(gpu.full_parts()).name == "tests"
    names = {Path(name).name for name in gpu.gpu_tests()}
    assert names == {"test_gpu.py", "test_maps.py"}


def test_a_part_that_takes_too_long_is_stopped_and_the_others_are_told(gpu, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("")
    slow = gpu.Part("sleeper", 1, "pytest", ("-p", "sleeps"))
    (tmp_path / "sleeps.py").write_text("import time; time.sleep(60)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        found = {slow.name: gpu.run_part(slow, tmp_path, log)}
    assert found["sleeper"]["state"] == "stopped after its limit of 1 s"
    assert found["sleeper"]["took s"] < 30
    gpu.tell(tmp_path, {"card": "none"}, {"maps float32": {"images/s": {"getam": 2.5}}, **found})
    table = (tmp_path / "table.md").read_text()
    assert "| maps float32 | getam, images/s | 2.5 |" in table
    assert "| sleeper | state | stopped after its limit of 1 s |" in table
