"""Tests the project with the oldest packages that setup.cfg allows.

    python tools/lower_bounds.py [TESTS...] [--place FOLDER] [--only-list]

The script reads the lower bounds (``>=``) of ``install_requires`` and of the extra ``test``. It
makes a new virtual environment of the Python that runs the script, and installs exactly these
versions. It runs tests there: those named, or the fast ones of every part of the project. The
environment takes about 6 GB. It is deleted at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
EXTRA = "test"
TESTS = (
    "getam",  # the examples in docstrings
    "tests/cache/test_files.py",
    "tests/cache/test_runner.py",
    "tests/cache/test_stage.py",
    "tests/config",
    "tests/data/test_coco.py",
    "tests/data/test_folder.py",
    "tests/data/test_heic.py",
    "tests/data/test_label_table.py",
    "tests/data/test_voc.py",
    "tests/labels",
    "tests/maps/test_attention.py",
    "tests/maps/test_file.py",
    "tests/maps/test_maps.py",
    "tests/metrics",
    "tests/networks/test_inference.py",
    "tests/networks/test_networks.py",
    "tests/networks/test_weights.py",
    "tests/project/test_house.py",
    "tests/running/commands/test_export.py",
    "tests/running/test_dask.py",
    "tests/stages/test_pipeline.py",  # the whole chain in both modes, on tiny networks
    "tests/training/test_checkpoint.py",
    "tests/training/test_losses.py",
)


def asked(setup: ConfigParser, extra: str) -> Iterator[Requirement]:
    """What an installation with this extra asks for on this Python.

    An extra that names other extras of the project, such as ``getam[export]``, is followed.
    """
    own = setup["metadata"]["name"]
    for line in setup["options.extras_require"][extra].strip().splitlines():
        requirement = Requirement(line)
        if requirement.name == own:
            yield from chain.from_iterable(asked(setup, name) for name in requirement.extras)
        else:
            yield requirement
    yield from map(Requirement, setup["options"]["install_requires"].strip().splitlines())


def lower_bound(requirement: Requirement) -> Version:
    """The version after ``>=``.

    Raises:
        ValueError: there is none, or more than one.
    """
    bounds = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"setup.cfg asks for '{requirement}', expected one lower bound (>=).")
    return bounds[0]


def pins(requirements: Iterable[Requirement]) -> list[str]:
    """Each package with its lower bound as the exact version, as ``pip install`` takes it.

    Requirements whose environment marker excludes this Python are left out. If a package is asked
    for several times, the highest of its lower bounds counts, as it does for pip.
    """
    versions: dict[str, Version] = {}
    extras: dict[str, set[str]] = {}
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate():
            name = canonicalize_name(requirement.name)
            bound = lower_bound(requirement)
            versions[name] = max(bound, versions.get(name, bound))
            extras.setdefault(name, set()).update(requirement.extras)
    return [f"{name}{bracketed(extras[name])}=={versions[name]}" for name in sorted(versions)]


def bracketed(extras: set[str]) -> str:
    return f"[{','.join(sorted(extras))}]" if extras else ""


def read(path: Path) -> ConfigParser:
    setup = ConfigParser()
    setup.read_string(path.read_text(encoding="utf-8"))
    return setup


def call(*command: str | Path) -> int:
    print("$", *command, flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.run([*map(str, command)], cwd=ROOT, env=environment).returncode


def try_out(versions: list[str], tests: tuple[str, ...], place: Path) -> int:
    """The exit code of pip, or if that is 0, of pytest."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    failed = call(python, "-m", "pip", "install", "--quiet", *versions)
    return failed or call(python, "-m", "pytest", "-p", "no:cacheprovider", *tests)


@click.command(help=__doc__)
@click.argument("tests", nargs=-1)
@click.option(
    "--place",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder in which the environment is made. Default: that of temporary files.",
)
@click.option("--only-list", is_flag=True, help="Print the versions and stop.")
def main(tests: tuple[str, ...], place: Path | None, only_list: bool) -> None:
    versions = pins(asked(read(ROOT / "setup.cfg"), EXTRA))
    if only_list:
        print(*versions, sep="\n")
        return
    with TemporaryDirectory(prefix="lower-bounds-", dir=place) as folder:
        sys.exit(try_out(versions, tests or TESTS, Path(folder) / "venv"))


if __name__ == "__main__":
    main()
