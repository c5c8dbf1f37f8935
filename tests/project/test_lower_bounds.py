"""The script that installs the oldest packages allowed reads setup.cfg rightly."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import defaultdict
from configparser import ConfigParser
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

SETUP = """
[metadata]
name = toy
[options]
install_requires =
    torch>=2.1
    Some_Package[fast]>=1.4, <2
    old>=1; python_version < "3"
[options.extras_require]
photos =
    pillow>=10.1
test =
    toy[photos]
    torch>=2.10
    pytest>=8
unused =
    never>=1
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = ROOT / "tools" / "lower_bounds.py"
    spec = importlib.util.spec_from_file_location("lower_bounds_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(text: str) -> ConfigParser:
    setup = ConfigParser()
    setup.read_string(text)
    return setup


def test_each_package_is_pinned_to_its_highest_lower_bound(script):
    assert script.pins(script.asked(read(SETUP), "test")) == [
        "pillow==10.1",
        "pytest==8",
        "some-package[fast]==1.4",
        "torch==2.10",
    ]


@pytest.mark.parametrize("line", ["torch", "torch<3", "torch==2.1"])
def test_a_package_without_lower_bound_is_refused(script, line):
    with pytest.raises(ValueError, match=r"torch.*expected one lower bound"):
        script.pins([Requirement(line)])


def test_every_package_of_the_project_and_its_tests_is_pinned(script):
    setup = script.read(ROOT / "setup.cfg")
    pinned = script.pins(script.asked(setup, "test"))
    text = (ROOT / "setup.cfg").read_text()
    for pin in pinned:
        name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?==(.+)", pin).groups()
        assert re.search(rf"^    {name}(\[\w+\])?>={re.escape(version)}(;|$)", text, re.MULTILINE)
    names = {pin.split("==")[0].split("[")[0] for pin in pinned}
    assert {"torch", "numpy", "dask", "onnx", "accelerate", "pillow-heif", "pytest"} <= names
    assert ("pydensecrf2" in names) == (sys.version_info < (3, 13))


def test_a_package_has_the_same_lower_bound_wherever_it_is_asked_for(script):
    """Else the lower of two bounds is never tried."""
    setup = script.read(ROOT / "setup.cfg")
    bounds = defaultdict(set)
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    for line in "\n".join(lists).splitlines():
        if line.strip() and not line.startswith("getam["):
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            bounds[name].add(script.lower_bound(requirement))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def test_the_tests_that_the_script_runs_exist(script):
    assert [name for name in script.TESTS if not (ROOT / name).exists()] == []
