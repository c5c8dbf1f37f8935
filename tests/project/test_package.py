"""What pip installs works without the clone, and the sdist is a clone without history."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import PathDistribution
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from getam.config.loading import presets
from tests.conftest import EXAMPLE, ROOT, Result, make_folder, pipeline

pytestmark = pytest.mark.skipif(find_spec("pip") is None, reason="no pip to install with")

PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation")
LEFTOVERS = (".git", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", "build", "dist")
SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2}
ON_PHOTOS = (  # the model of the preset, as small as it can be
    "data.root=photos",
    f"classifier.model_args={SMALL}".replace("'", ""),
    "classifier.image_size=42",
    "classifier.batch_size=4",
    "classifier.epochs=1",
)


def call(*words: object, cwd: Path, env: dict[str, str] | None = None) -> Result:
    """A program, with nothing of this process's import path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", **(env or {})}
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    return Result(done.returncode, done.stdout, done.stderr)


def checked(*words: object, cwd: Path) -> Result:
    done = call(*words, cwd=cwd)
    assert done.code == 0, done
    return done


def tracked() -> list[str]:
    """The files that git knows; none outside a clone."""
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name]


def wheel_of(sources: Path, place: Path) -> Path:
    checked(sys.executable, *PIP, "wheel", *OFFLINE, "-w", place, ".", cwd=sources)
    return next(place.glob("*.whl"))


class Built:
    """A copy of the clone, its sdist unpacked, the wheel of each, and that of ``pip -e``."""

    def __init__(self, place: Path) -> None:
        self.clone = place / "clone"
        tops = {name.split("/")[0] for name in tracked()} or set(os.listdir(ROOT))
        for name in tops - {"artifacts"}:
            self._copy(ROOT / name)
        (self.clone / "artifacts").mkdir()
        shutil.copy(ROOT / "artifacts" / "README.md", self.clone / "artifacts")
        with tarfile.open(self._make("sdist", place / "sdist")) as archive:
            # Python 3.11.3 and older have no filters.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(place / "unpacked")
        self.sdist = next((place / "unpacked").iterdir())
        self.wheel = wheel_of(self.clone, place / "of_clone")
        self.wheel_of_sdist = wheel_of(self.sdist, place / "of_sdist")
        self.editable = self._make("editable", place / "editable")

    def _copy(self, path: Path) -> None:
        if path.is_dir():
            ignore = shutil.ignore_patterns(*LEFTOVERS)
            shutil.copytree(path, self.clone / path.name, symlinks=True, ignore=ignore)
        elif path.exists():
            self.clone.mkdir(exist_ok=True)
            shutil.copy(path, self.clone)

    def _make(self, kind: str, place: Path) -> Path:
        """What pip asks the build backend for."""
        place.mkdir()
        code = f"from setuptools import build_meta; build_meta.build_{kind}({str(place)!r})"
        checked(sys.executable, "-c", code, cwd=self.clone)
        return next(place.iterdir())


class Installed:
    """A virtual environment with one installation of the package.

    The other packages are those of the environment that runs the tests: their folder is on the
    import path, without what an editable installation there would add.
    """

    def __init__(self, place: Path, wheel: Path) -> None:
        self.place, self.bin = place, place / "bin"
        checked(sys.executable, "-m", "venv", "--without-pip", place, cwd=place.parent)
        onto = ("--python", self.bin / "python")
        checked(sys.executable, *PIP, *onto, "install", *OFFLINE, wheel, cwd=place.parent)
        self.site = next(place.glob("lib/python*/site-packages"))
        others = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
        (self.site / "others.pth").write_text("\n".join(others) + "\n")

    def __call__(self, *words: str, cwd: Path, settings: Sequence[str] = ()) -> Result:
        """Run ``getam``."""
        sets = [word for setting in settings for word in ("--set", setting)]
        return call(self.bin / "getam", *words, *sets, cwd=cwd)

    def where(self, module: str) -> Path:
        code = f"import {module}; print({module}.__file__)"
        return Path(checked(self.bin / "python", "-c", code, cwd=self.place).out.strip())


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    return Built(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def wheel(built, tmp_path_factory) -> Installed:
    installed = Installed(tmp_path_factory.mktemp("wheel") / "venv", built.wheel)
    for module in ("getam", "stages", "pipeline"):
        assert installed.where(module).is_relative_to(installed.site), "not the wheel's code runs"
    return installed


@pytest.fixture(scope="module")
def example(wheel, tmp_path_factory) -> Path:
    """The folder in which ``getam run`` made the example; there was nothing in it."""
    place = tmp_path_factory.mktemp("empty")
    done = wheel("run", "--workers", "1", cwd=place, settings=EXAMPLE)
    assert done.code == 0, done
    assert "network + CRF" in done.out
    assert [p.name for p in place.iterdir()] == ["artifacts"]
    return place


def contents(archive: Path) -> dict[str, str]:
    """Digest of each file of a wheel, without its record."""
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if not name.endswith("/RECORD")]
        return {name: hashlib.sha256(opened.read(name)).hexdigest() for name in names}


def test_the_sdist_holds_every_file_of_the_clone(built):
    files = tracked()
    if not files:
        pytest.skip("not a clone")
    assert [name for name in files if not (built.sdist / name).exists()] == []


def test_the_wheel_holds_the_packages_whole_and_nothing_else(built):
    made = contents(built.wheel)
    assert made == contents(built.wheel_of_sdist)
    expected = {"pipeline.py"}
    for package in ("getam", "stages"):
        files = (p for p in (built.sdist / package).rglob("*") if p.is_file())
        expected |= {p.relative_to(built.sdist).as_posix() for p in files}
    assert {name for name in made if ".dist-info/" not in name} == expected


def test_the_metadata_tell_platforms_pythons_and_licence(wheel):
    told = PathDistribution(next(wheel.site.glob("getam-*.dist-info"))).metadata
    pythons = [f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)]
    platforms = ["Operating System :: MacOS", "Operating System :: POSIX :: Linux"]
    assert {*pythons, *platforms} <= set(told.get_all("Classifier"))
    assert set(told["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    assert (told["License"], told["License-File"]) == ("Apache-2.0", "LICENSE")
    assert told["Description"].startswith("# GETAM")


def test_the_installed_command_tells_its_version(wheel, tmp_path):
    version = PathDistribution(next(wheel.site.glob("getam-*.dist-info"))).version
    assert wheel("--version", cwd=tmp_path).out == f"getam, version {version}\n"


def test_a_clone_finds_what_the_installed_code_made(example):
    """The keys do not depend on where the code lies."""
    again = pipeline("run", cwd=example, settings=EXAMPLE)
    assert again.code == 0, again
    assert again.stages_run() == []


def test_changed_code_of_an_installation_reruns_what_it_must(wheel, example):
    file = wheel.site / "stages" / "evaluation.py"
    before = file.read_text()
    file.write_text(f"{before}\nCHANGED = True\n")
    try:
        told = wheel("run", "--dry-run", cwd=example, settings=EXAMPLE).out
    finally:
        file.write_text(before)
    runs = [line for line in told.splitlines() if "would run" in line]
    assert [line.split()[0] for line in runs] == ["evaluation"], told
    assert "the code of stages.evaluation changed" in runs[0]


def test_the_preset_for_folders_makes_maps_of_photos(wheel, tmp_path):
    model = timm.create_model("vit_small_patch14_dinov2", img_size=42, num_classes=0, **SMALL)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    shutil.rmtree(make_folder(tmp_path / "photos") / "saliency")
    (tmp_path / "folder").mkdir()
    settings = (*ON_PHOTOS, "machine=gpu", "classifier.weights=weights.safetensors")
    done = wheel("run", "--config", "folder", "--until", "maps", cwd=tmp_path, settings=settings)
    assert done.code == 0, done
    assert done.stages_run() == ["classifier", "maps"]
    look = wheel("inspect", "maps", "--config", "folder", cwd=tmp_path, settings=settings)
    assert look.code == 0, look
    assert "cat" in look.out


@pytest.mark.parametrize("way", ["wheel_of_sdist", "editable"])
def test_presets_come_with_every_way_of_installing(built, tmp_path, way):
    installed = Installed(tmp_path / "venv", getattr(built, way))
    home = built.clone if way == "editable" else installed.site
    assert installed.where("getam").is_relative_to(home)
    make_folder(tmp_path / "photos")
    for name in presets():
        done = installed(
            "data", "--config", name, cwd=tmp_path, settings=("data.kind=folder", *ON_PHOTOS[:1])
        )
        assert "--config" not in done.err, done
    done = installed("data", "--config", "folder", cwd=tmp_path, settings=ON_PHOTOS[:1])
    assert done.code == 0, done


def test_an_installation_names_getam_in_its_messages(wheel, tmp_path):
    report = (wheel.bin / "getam", "report")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    for words in (report, (wheel.bin / "python", *torchrun, *report)):
        done = call(*words, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""})
        assert done.code == 1, done
        assert "Make it with 'getam run --until evaluation'" in done.err, done
        assert "pipeline.py run" not in done.err, done


def test_ci_installs_as_the_readme_says():
    steps = re.findall(r'^step "(.*)"$', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert steps[:2] == [
        "pip install -e . && python pipeline.py run",
        "pip install -e '.[test]' && pytest",
    ]
    lines = (ROOT / "README.md").read_text().splitlines()
    told = [line.split("#")[0].strip() for line in lines if line.startswith("pip install -e")]
    assert told
    assert [line for line in told if not any(line in step for step in steps)] == []
