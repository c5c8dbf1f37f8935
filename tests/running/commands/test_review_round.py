"""From a decision in the browser to the next run, and back to the next page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from getam.maps.file import MapFile
from getam.running.commands import review_queue
from tests.conftest import pipeline
from tests.running.commands.conftest import MicroRun
from tests.running.commands.review_browser import Page
from tests.running.commands.test_review import ROWS, write_doubt

FIXED = ("deeplab.fixed_encoder=true",)
READ_LABELS = ["classifier", "maps", "pseudolabels", "deeplab", "predictions", "evaluation"]


@pytest.fixture
def run(tmp_path, monkeypatch) -> MicroRun:
    """A finished run with the encoder fixed, and a table of doubt."""
    run = MicroRun(tmp_path, *FIXED)
    run.make()
    file = write_doubt(tmp_path / "doubt.csv")
    monkeypatch.setattr(review_queue, "doubt_file", lambda run: file)
    return run


def newest(run: MicroRun, stage: str, name: str) -> Path:
    """A file of the last artifact of a stage."""
    folders = [p for p in (run.artifacts / stage).iterdir() if len(p.name) == 20]
    return max(folders, key=lambda p: (p / "manifest.json").stat().st_mtime) / name


def maps_of(run: MicroRun) -> MapFile:
    return MapFile(newest(run, "maps", "maps.h5"))


def opened(browser, run: MicroRun, *more: str) -> Page:
    path = run.place / "review.html"
    made = run("review", "-o", path, more=more)
    assert made.code == 0, made
    return Page(browser, path)


def saved(page: Page, place: Path) -> str:
    """The setting that names the review.csv that the page saves."""
    page.saved()
    shutil.copy(page.file, place / "review.csv")
    assert page.problems == []
    page.context.close()
    return f"data.review={place / 'review.csv'}"


def test_decisions_of_the_browser_reach_the_next_run_and_the_next_page(run, browser):
    def again(*more: str) -> list[str]:
        done = pipeline("run", "--workers", "1", cwd=run.place, settings=(*run.settings, *more))
        assert done.code == 0, done
        return [stage for stage in done.stages_run() if stage != "doubt"]

    page = opened(browser, run)  # photo03 is dog, photo08 of val cat, photo00 cat
    page.press("a")
    assert again(saved(page, run.place)) == []  # an accepted photo changes nothing

    page = opened(browser, run, f"data.review={run.place / 'review.csv'}")
    assert page.text("count") == "1 of 3 decided"
    page.press("r")  # photo08 of val: it stays
    page.chip("cat").click()
    page.chip("dog").click()  # photo00
    review = saved(page, run.place)
    assert again(review) == READ_LABELS  # encoder features do not depend on labels
    assert maps_of(run).read("photo00")[0].tolist() == [2]

    page = opened(browser, run, review)
    assert page.text("count") == "3 of 3 decided"
    page.page.select_option("#show", label="corrected classes")
    assert page.text("change") == "+ dog, − cat"
    page.page.get_by_label("map of dog").check()
    page.page.wait_for_selector("#overlay[data-drawn='photo00 map of dog']")
    page.press("r")
    review = saved(page, run.place)
    assert again(review) == [*READ_LABELS[:3], "encoder_features", *READ_LABELS[3:]]
    assert "photo00" not in maps_of(run).image_ids
    assert newest(run, "predictions", "predictions/photo08.png").exists()

    write_doubt(run.place / "doubt.csv", ROWS[:2])
    page = opened(browser, run, review)
    page.page.select_option("#show", label="rejected")
    assert page.listed() == ["photo08", "photo00"]
    page.page.locator("#list button").last.click()
    assert "Rejected by data.review" in page.text("why")
    page.press("u")
    assert again(saved(page, run.place)) == []  # what was made before is found again
