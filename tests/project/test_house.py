"""The layout: what lies where, and which folder may import which."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from stages.chain import ORDER
from tests.conftest import ROOT

LIBRARY = ("maps", "labels", "networks", "training", "metrics")
CODE = [*(ROOT / "getam").rglob("*.py"), *(ROOT / "stages").rglob("*.py"), ROOT / "pipeline.py"]
DATA_STAGES = {"data_shapes", "data_coco"}
LONGEST = 300  # lines
USUAL = 8  # lines of a function, in the median


def name_of(file: Path) -> str:
    """The module, such as getam.maps.compute."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """The modules that a file imports anywhere in it, except for type checking."""
    tree, package = ast.parse(file.read_text()), name_of(file)
    if file.name != "__init__.py":
        package = package.rpartition(".")[0]
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in set(ast.walk(tree)) - skipped:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inside = ROOT / base.replace(".", "/")
                is_module = (inside / f"{alias.name}.py").exists() or (inside / alias.name).is_dir()
                found.add(f"{base}.{alias.name}" if is_module else base)
    return found


IMPORTS = {name_of(file): imports(file) for file in CODE}


def test_only_the_package_and_its_errors_lie_loose_in_the_library():
    assert {p.name for p in (ROOT / "getam").glob("*.py")} == {"__init__.py", "errors.py"}


def test_the_folder_of_stages_holds_the_chain_the_checks_the_stages_and_one_shared_file():
    files = {p.stem for p in (ROOT / "stages").rglob("*.py")} - {"__init__"}
    apart = {"chain", "checks", "shared", "compare", "agreement"}
    assert files == {*apart, *DATA_STAGES, *ORDER} - {"data"}


def test_no_two_files_of_code_have_one_name():
    """errors, stages and rooms apart: a name that is two things must be looked up twice."""
    names = Counter(file.stem for file in CODE if file.name != "__init__.py")
    assert {name for name, count in names.items() if count > 1} <= {"errors", "maps", "foreground"}


def test_each_room_says_what_is_in_it():
    """A stranger opens ``__init__.py`` first. What it leaves out is found by chance."""
    for index in [ROOT / "stages" / "__init__.py", *(ROOT / "getam").rglob("__init__.py")]:
        told = ast.get_docstring(ast.parse(index.read_text(encoding="utf-8")))
        words = set(re.findall(r"\w+", told))
        rooms = {p.parent.name for p in index.parent.glob("*/__init__.py")}
        there = {p.stem for p in index.parent.glob("*.py")} - {"__init__"} | rooms
        assert there <= words, index


def test_the_library_never_imports_the_stages():
    for module, used in IMPORTS.items():
        if module.startswith("getam"):
            assert not [name for name in used if name.split(".")[0] in ("stages", "pipeline")]


def test_the_cache_imports_nothing_of_ours():
    for module, used in IMPORTS.items():
        if module.startswith("getam.cache"):
            ours = {name for name in used if name.startswith("getam")}
            assert all(name.startswith("getam.cache") for name in ours), module


@pytest.mark.parametrize("room", LIBRARY)
def test_the_method_knows_no_settings_commands_or_runs(room):
    for module, used in IMPORTS.items():
        if module.startswith(f"getam.{room}"):
            for other in ("getam.config", "getam.running", "getam.view"):
                assert not [name for name in used if name.startswith(other)], module


def test_no_folder_and_no_module_imports_in_a_circle():
    rooms: dict[str, set[str]] = {}
    for module, used in IMPORTS.items():
        room = ".".join(module.split(".")[:2])
        ours = {".".join(name.split(".")[:2]) for name in used if name.startswith("getam")}
        rooms.setdefault(room, set()).update(ours - {room, "getam"})
    assert [*TopologicalSorter(rooms).static_order()]
    modules = {m: {u for u in used if u in IMPORTS and u != m} for m, used in IMPORTS.items()}
    assert [*TopologicalSorter(modules).static_order()]


def test_what_a_label_value_means_is_said_once():
    homes = [
        name_of(file)
        for file in CODE
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "IGNORE"
    ]
    assert homes == ["getam.data.label_values"]


def test_files_and_functions_are_short():
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    files = [ROOT / name for name in tracked] or CODE
    lengths = {file: len(file.read_text().splitlines()) for file in files if file.exists()}
    long = {file.relative_to(ROOT).as_posix(): n for file, n in lengths.items() if n > LONGEST}
    assert not long
    functions = sorted(
        node.end_lineno - node.lineno + 1
        for file in CODE
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    assert functions[len(functions) // 2] <= USUAL
