"""What the documentation says can be done as it says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline import main
from tests.conftest import ROOT, TINY, Result, make_folder

PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
EXAMPLE = ("data.shapes.train=4", "data.shapes.val=2", "data.shapes.size=48")
SMALL = (*TINY, "classifier.epochs=1", "deeplab.epochs=1", "compare.images=2")
WITHOUT_CONFIG = ("verify", "gc", "--help")


def commands_in(page: Path) -> list[str]:
    """The commands of the page's ``bash`` blocks, a line each, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = list(dict.fromkeys(c for page in PAGES for c in commands_in(page)))
OURS = [c for c in COMMANDS if c.startswith(("python pipeline.py", "getam "))]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where a user stands: in a clone, with photos beside it."""
    place = tmp_path_factory.mktemp("clone")
    make_folder(place / "photos")
    (place / "configs").symlink_to(ROOT / "configs")
    done = run("run", place, EXAMPLE)
    assert done.code == 0, done
    return place


def run(arguments: str, place: Path, more: tuple[str, ...] = ()) -> Result:
    """A command with settings that make it quick, in this process."""
    words = shlex.split(arguments)
    for setting in () if words[0] in WITHOUT_CONFIG else (*SMALL, *more):
        words += ["--set", setting]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = CliRunner().invoke(main, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(done.exit_code, done.output, done.output)


@pytest.mark.parametrize("command", OURS)
def test_command_of_the_documentation_runs(command, place):
    arguments = command.removeprefix("python pipeline.py").removeprefix("getam").strip()
    on_example = "--config" not in arguments
    done = run(arguments, place, EXAMPLE if on_example else ())
    assert done.code == 0, f"{command}\n{done}"


def test_other_commands_are_those_that_ci_runs():
    known = r"pip install -e |pytest|ruff |mkdocs |torchrun "
    others = [c for c in COMMANDS if c not in OURS]
    assert [c for c in others if not re.match(known, c)] == []


def test_links_between_pages_lead_somewhere():
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
        if not target.startswith("http")
    ]
    assert links
    assert [link for link in links if not (link[0].parent / link[1]).exists()] == []


def test_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocs_click")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "commands" / "index.html").read_text()
    assert "--until" in page  # options of the command line itself, not of a page about it
