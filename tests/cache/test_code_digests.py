"""Which modules count as the code of a stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from getam.cache import CacheError
from getam.cache.code_digests import CodeDigests

FORMS = {
    "import": "import lib.a",
    "import as": "import lib.a as x",
    "from package": "from lib import a",
    "from module": "from lib.a import f",
    "star": "from lib.a import *",
    "in a function": "def run():\n    from lib.a import f",
    "in a branch": "if x:\n    import lib.a\nelse:\n    pass",
    "in a try": "try:\n    import lib.a\nexcept ImportError:\n    pass",
    "literal import_module": "import_module('lib.a')",
    "through a lazy package": "from lazy import f",
    "star of a lazy package": "from lazy import *",
    "lazy package itself": "import lazy",
    "package on the way": "from loud import unrelated",
    "submodule of a package without init": "from bare.inner import f",
    "relative in a package": "from bare import relative",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lazy = "_EXPORTS = {'f': 'lib.a', 'g': 'lib.b'}\nOTHER = 1\n"
    files = {
        "lib/__init__.py": '"""Nothing."""',
        "lib/a.py": "def f(): pass",
        "lib/b.py": "def g(): pass",
        "lazy/__init__.py": lazy,
        "lazy/sub.py": "x = 1",
        "loud/__init__.py": "from lib.a import f",
        "loud/unrelated.py": "x = 1",
        "bare/inner.py": "from lib.a import f",
        "bare/relative.py": "from .inner import f",
        "steps/one.py": "",
    }
    write(tmp_path, files)
    return tmp_path


def code(root: Path, memory: Path | None = None) -> CodeDigests:
    return CodeDigests(root, ("steps", "lib", "lazy", "loud", "bare"), memory)


@pytest.mark.parametrize("source", FORMS.values(), ids=FORMS)
def test_every_form_of_import_is_followed(root: Path, source: str) -> None:
    write(root, {"steps/one.py": source})
    before = code(root).of("steps.one")
    write(root, {"lib/a.py": "def f(): return 1"})
    after = code(root).of("steps.one")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"lib.a"}


def test_of_a_lazy_package_only_the_imported_names_count(root: Path) -> None:
    write(root, {"steps/one.py": "from lazy import f\nfrom lazy.sub import x"})
    assert set(code(root).of("steps.one")) == {"steps.one", "lazy:f", "lib.a", "lazy.sub"}


def test_name_that_a_lazy_package_defines_itself_counts_it_whole(root: Path) -> None:
    write(root, {"steps/one.py": "from lazy import OTHER"})
    assert set(code(root).of("steps.one")) == {"steps.one", "lazy"}


def test_lazy_name_pointed_at_another_module_changes_the_code(root: Path) -> None:
    write(root, {"steps/one.py": "from lazy import f\nimport lib.a\nimport lib.b"})
    before = code(root).of("steps.one")
    write(root, {"lazy/__init__.py": "_EXPORTS = {'f': 'lib.b', 'g': 'lib.b'}"})
    assert before != code(root).of("steps.one")


def test_imports_for_type_checking_are_not_followed(root: Path) -> None:
    write(root, {"steps/one.py": "if TYPE_CHECKING:\n    from lib.a import f\nx = 1"})
    assert set(code(root).of("steps.one")) == {"steps.one"}


def test_other_projects_are_not_followed(root: Path) -> None:
    write(root, {"steps/one.py": "import json, numpy.linalg\nfrom os.path import join\nimport lib"})
    assert set(code(root).of("steps.one")) == {"steps.one"}


def test_circular_imports_end(root: Path) -> None:
    write(root, {"steps/one.py": "from steps import two", "steps/two.py": "import steps.one"})
    assert set(code(root).of("steps.one")) == {"steps.one", "steps.two"}


def test_moved_project_has_the_same_code(root: Path, tmp_path_factory) -> None:
    write(root, {"steps/one.py": "import lazy, loud.unrelated, bare.relative"})
    moved = tmp_path_factory.mktemp("elsewhere") / "renamed"
    shutil.copytree(root, moved)
    assert code(root).of("steps.one") == code(moved).of("steps.one")


def test_unchanged_modules_are_not_parsed_twice(
    root: Path, monkeypatch: pytest.MonkeyPatch, settled_at_once: None
) -> None:
    write(root, {"steps/one.py": "import lazy, loud.unrelated"})
    first = code(root, root / "memory")
    digests = first.of("steps.one")
    first.save()
    monkeypatch.setattr("getam.cache.code_digests._parse", None)
    assert code(root, root / "memory").of("steps.one") == digests


def test_code_just_edited_is_not_remembered(root: Path) -> None:
    first = code(root, root / "memory")
    first.of("steps.one")
    first.save()
    assert not (root / "memory").exists()


@pytest.mark.parametrize("damage", [b"", b"\x00junk", b"abc\n[]"])
def test_damaged_memory_is_rebuilt(root: Path, damage: bytes, settled_at_once: None) -> None:
    expected = code(root).of("steps.one")
    (root / "memory").write_bytes(damage)
    again = code(root, root / "memory")
    assert again.of("steps.one") == expected
    again.save()
    assert code(root, root / "memory").of("steps.one") == expected


def test_code_that_cannot_be_parsed_is_named_with_its_line(root: Path) -> None:
    write(root, {"steps/one.py": "import lib.a", "lib/a.py": "x = 1\ndef f(:\n"})
    with pytest.raises(CacheError, match=r"lib/a\.py, line 2: invalid syntax; mend the code"):
        code(root).of("steps.one")


def test_stage_module_that_does_not_exist_is_an_error(root: Path) -> None:
    with pytest.raises(CacheError, match=r"'steps\.gone' is not found .* steps/gone\.py"):
        code(root).of("steps.gone")
