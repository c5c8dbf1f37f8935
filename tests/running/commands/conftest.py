"""One finished micro run that all tests of these commands look at."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from getam.view.review_page import render
from pipeline import main
from tests.conftest import TINY, Result, make_folder, pipeline
from tests.running.commands.review_browser import Page, page_data


class MicroRun:
    """A folder with ``data/`` and ``artifacts/`` that is not to be changed."""

    def __init__(self, place: Path, *more: str) -> None:
        self.place, self.data, self.artifacts = place, place / "data", place / "artifacts"
        self.settings = ("data.kind=folder", f"data.root={self.data}", *TINY, *more)

    def make(self) -> None:
        make_folder(self.data)
        run = pipeline("run", "--workers", "1", cwd=self.place, settings=self.settings)
        assert run.code == 0, run

    def artifact(self, stage: str) -> Path:
        return next(p for p in (self.artifacts / stage).iterdir() if len(p.name) == 20)

    def words(self, *arguments: object, more: tuple[str, ...] = ()) -> list[str]:
        """A command line about this run."""
        sets = [word for setting in (*self.settings, *more) for word in ("--set", setting)]
        return [*map(str, arguments), "--artifacts", str(self.artifacts), *sets]

    def __call__(self, *arguments: object, more: tuple[str, ...] = ()) -> Result:
        """Run a command in this process; an exception of it comes out."""
        done = CliRunner().invoke(main, self.words(*arguments, more=more))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(done.exit_code, done.output, done.output)


@pytest.fixture(scope="session")
def micro(tmp_path_factory) -> MicroRun:
    """The micro run, made by the first test process that asks for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    run = MicroRun(shared / "micro")
    with FileLock(shared / "micro.lock"):
        if not (shared / "micro.done").exists():
            run.make()
            (shared / "micro.done").touch()
    return run


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; the test is skipped where there is none."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("no chromium here: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def review_file(tmp_path) -> Path:
    """The HTML file of a review page of four photos."""
    path = tmp_path / "review.html"
    path.write_text(render("Review: test", page_data()), encoding="utf-8")
    return path


@pytest.fixture
def review_page(browser, review_file):
    """A review page in the browser; it must not complain, nor load anything."""
    opened = Page(browser, review_file)
    yield opened
    assert opened.problems == []
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "data", "blob"}
    assert sum(url.startswith("file:") for url in opened.requests) == 1
    opened.context.close()


def assert_one_sentence(result: Result, *parts: str) -> None:
    """Exit code 1 and one line of error that says all of ``parts``."""
    assert result.code == 1, result
    message = result.err.splitlines()[-1]
    assert message.startswith("Error: "), result
    for part in parts:
        assert part in message, (part, message)


def block(report: Path) -> dict:
    """The JSON block of a report."""
    found = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', report.read_text()
    )
    return json.loads(found[1])
