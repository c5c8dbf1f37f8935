"""What the documentation says can be done as it says."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
from click.testing import CliRunner

from getam.config.loading import load_config
from pipeline import main
from stages.chain import chain
from tests.conftest import ROOT, TINY, Result, make_folder
from tests.data.test_corrections import correct

PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
EXAMPLE = ("data.shapes.train=5", "data.shapes.val=2", "data.shapes.size=48")
SMALL = (*TINY, "classifier.epochs=1", "deeplab.epochs=1", "compare.images=2")
WITHOUT_CONFIG = ("verify", "gc", "runs", "--help")
MINE = "run --config folder --set data.root=photos --name mine"


def commands_in(page: Path) -> list[str]:
    """The commands of the page's ``bash`` blocks, without comments; ``&&`` stands between two."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [shlex.join(words) for words in found if words]


def load_tool(name: str):
    """A script of tools/, which is no package, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = load_tool("make_reference")
COMMANDS = list(dict.fromkeys(c for page in PAGES for c in commands_in(page)))
OURS = [c for c in COMMANDS if c.startswith(("python pipeline.py", "getam "))]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where a user stands: in a clone, with photos beside it, and both have run."""
    place = tmp_path_factory.mktemp("clone")
    correct(make_folder(place / "photos"), {"photo00": 1, "photo08": 1}, ["photo08"])
    (place / "configs").symlink_to(ROOT / "configs")
    (place / "my.yaml").write_text("pseudolabels: {quantile: 0.95}\n")
    for arguments, settings in (("run", EXAMPLE), (MINE, ())):
        done = run(arguments, place, settings)
        assert done.code == 0, done
    return place


def run(arguments: str, place: Path, more: tuple[str, ...] = ()) -> Result:
    """A command with settings that make it quick, in this process."""
    words = shlex.split(arguments)
    for setting in () if words[0] in WITHOUT_CONFIG else (*SMALL, *more):
        words += ["--set", setting]
    if "folder" in words:  # the preset's settings for a CPU need a network of twelve blocks
        words += ["--set", "machine=gpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = CliRunner().invoke(main, words)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(done.exit_code, done.output, done.output)


@pytest.mark.parametrize("command", OURS)
def test_command_of_the_documentation_runs(command, place):
    arguments = command.removeprefix("python pipeline.py").removeprefix("getam").strip()
    on_example = "--config" not in arguments and "--name" not in arguments
    done = run(arguments, place, EXAMPLE if on_example else ())
    assert done.code == 0, f"{command}\n{done}"


def test_other_commands_are_those_that_ci_runs():
    known = r"pip install -e |pytest|ruff |mkdocs |torchrun "
    others = [c for c in COMMANDS if c not in OURS]
    assert [c for c in others if not re.match(known, c)] == []


def links() -> list[tuple[Path, str, str]]:
    """(page, file or nothing, heading or nothing) of each link between pages."""
    found = [
        (page, *target.partition("#")[::2])
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not target.startswith("http")
    ]
    assert found
    return found


def headings(page: Path) -> set[str]:
    """What a link names the headings of a page by: lower case, no punctuation, - for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere():
    assert [link for link in links() if not (link[0].parent / link[1]).exists()] == []


def test_links_to_a_heading_find_it():
    to_heading = [
        (page, page.parent / file if file else page, heading)
        for page, file, heading in links()
        if heading
    ]
    assert to_heading
    assert [link for link in to_heading if link[2] not in headings(link[1])] == []


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the last table below a heading, without its two first lines."""
    text = (ROOT / "docs" / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = text.split("\n\n|")[-1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table]


def test_sizes_for_a_gpu_and_a_cpu_are_those_of_the_preset():
    gpu, cpu = (load_config(["folder"], machine=name) for name in ("gpu", "cpu"))
    table = rows("own-data.md", "Without a GPU")
    assert len(table) == 7
    for names, on_gpu, on_cpu, _ in table:
        for config, told in ((gpu, on_gpu), (cpu, on_cpu)):
            values = [attrgetter(name)(config) for name in re.findall(r"`([\w.]+)`", names)]
            shown = ", ".join(str(value) for value in values).strip("()").lower()
            assert shown.replace(".0", "").rstrip(",") == told.replace(".0", ""), names


def test_stages_that_run_again_are_those_of_the_chain():
    sections = []
    for change, told, *_ in rows("own-data.md", "Change a setting"):
        section = re.search(r"a setting of `(\w+)`", change)
        if section is None or "all stages" in told:
            continue
        stages = chain(load_config(["folder"]))
        again = {s.name for s in stages if any(r.startswith(section[1]) for r in s.reads)}
        for stage in stages:
            again |= {stage.name} if again & set(stage.needs) else set()
        names = [stage.name for stage in stages if stage.name in again]
        assert told.partition(";")[0] == ", ".join(names)
        sections.append(section[1])
    assert sections == ["pseudolabels", "deeplab", "predictions"]


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_reference_page_says_what_the_code_says(name):
    told = (ROOT / "docs" / name).read_text()
    assert told == reference.pages()[name], "Run python tools/make_reference.py, and commit docs/."


def test_every_setting_and_every_command_is_on_its_reference_page():
    settings, commands = reference.settings_page(), reference.commands_page()
    assert "| `pseudolabels.quantile` | `0.9` | `0.98` |" in settings
    row = next(line for line in settings.splitlines() if "`pseudolabels.crf_confidence`" in line)
    assert row.endswith("| pseudolabels |")  # the stage that reads it, and no other
    assert all(f"## {name}\n" in commands for name in main.commands)
    assert "`--until STAGE`" in commands


def test_first_screen_of_the_readme_shows_a_picture_of_the_chain():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 150
    assert any("pictures/chain.png" in line for line in lines[:20])
    assert (ROOT / "docs" / "pictures" / "chain.png").stat().st_size < 200_000


def test_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "settings" / "index.html").is_file()
