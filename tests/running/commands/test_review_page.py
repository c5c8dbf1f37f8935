"""The review page in a browser: what is decided is kept, saved and read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from getam.view.review_page import render
from tests.running.commands.review_browser import NAMES, ODD_ID, Page, page_data

PRIVATE = (
    """Object.defineProperty(window, "localStorage", { get() { throw new Error("private") } })"""
)


def test_keys_decide_correct_and_go_on(review_page):
    review_page.press("a")
    assert review_page.text("id") == "photo1"
    review_page.press("r", "1", "1", "0", "2")
    assert review_page.text("id") == "photo2"
    assert review_page.text("count") == "3 of 4 decided"
    assert review_page.saved() == {
        "photo0": ("accepted", ""),
        "photo1": ("rejected", ""),
        "photo2": ("", "dog"),
    }


def test_mouse_decides_and_corrects(review_page):
    review_page.page.locator("[data-verdict=rejected]").click()
    review_page.chip("cat").click()  # of photo1, which is labelled dog and zebra
    review_page.chip("dog").click()
    assert review_page.text("change") == "+ cat, − dog"
    review_page.page.locator("[data-verdict=accepted]").click()
    assert review_page.saved() == {"photo0": ("rejected", ""), "photo1": ("accepted", "cat;zebra")}


def test_no_class_and_labels_put_back_are_told_apart(review_page):
    review_page.press("0")
    assert review_page.saved() == {"photo0": ("", "-")}
    review_page.chip("cat").click()  # what the label table says: no correction
    assert review_page.saved() == {}
    review_page.press("ArrowRight", "1")
    review_page.page.locator("#restore").click()
    assert review_page.saved() == {}


def test_the_csv_of_awkward_names_is_read_by_the_run(review_page, tmp_path):
    """Names with spaces and signs, alone and together; an id that is markup."""
    from getam.data.index import DataIndex, Record
    from getam.data.review_table import read_review

    chosen = {0: ["cat dog"], 1: ["bow, weapon", "cat"], 2: ["<b>&amp;"], 3: ["bow, weapon"]}
    for names in chosen.values():
        review_page.press("0")
        for name in names:
            review_page.chip(name).click()
        review_page.press("ArrowRight")
    rows = review_page.saved()
    ids = [f"photo{n}" for n in range(3)] + [ODD_ID]
    assert set(rows) == set(ids)
    records = [Record(image_id, Path(image_id), ()) for image_id in ids]
    index = DataIndex(tmp_path, (*NAMES, "zebra"), {"train": records})
    review = read_review(Path(review_page.file), index, "train")
    assert {i: set(names) for i, names in review.classes.items()} == {
        ids[number]: set(names) for number, names in chosen.items()
    }
    before = review_page.saved()
    review_page.page.locator("#file").set_input_files(
        review_page.file
    )  # and the page reads what it wrote
    review_page.wait_until_said("4 photos")
    assert review_page.saved() == before


def test_undo_takes_back_verdicts_and_classes(review_page):
    review_page.press("a", "2", "z", "z")
    assert review_page.text("count") == "0 of 4 decided"
    assert review_page.text("id") == "photo0"
    review_page.press("z")
    assert "nothing to take back" in review_page.text("said")


def test_a_verdict_pressed_again_or_taken_back_is_none(review_page):
    review_page.press("a", "ArrowLeft", "a")
    assert review_page.text("count") == "0 of 4 decided"
    review_page.press("r", "ArrowLeft", "u")
    assert review_page.saved() == {}


def test_decisions_survive_a_reload_and_saving(browser, review_file):
    first = Page(browser, review_file)
    first.press("a", "r")
    first.page.reload()
    assert first.text("count") == "2 of 4 decided"
    assert first.page.locator("#save.unsaved").count() == 1
    assert first.listed() == ["photo2", ODD_ID]
    first.saved()
    first.page.reload()
    assert first.page.locator("#save.unsaved").count() == 0
    assert first.text("count") == "2 of 4 decided"
    first.context.close()


def test_a_browser_that_keeps_nothing_says_so(browser, review_file):
    private = Page(browser, review_file, script=PRIVATE)
    private.press("a")
    assert "does not keep your decisions" in private.text("lost")
    assert private.saved() == {"photo0": ("accepted", "")}
    private.context.close()


def test_a_review_is_read_again_and_lines_of_other_photos_are_kept(review_page, tmp_path):
    text = "image;verdict;classes\r\nphoto1;rejected;\r\nelsewhere;accepted;cat, dog\r\n"
    (tmp_path / "mine.csv").write_text("\ufeff" + text, encoding="utf-8")
    review_page.page.locator("#file").set_input_files(tmp_path / "mine.csv")
    review_page.wait_until_said("other photos")
    assert review_page.text("count") == "1 of 4 decided"
    assert review_page.saved() == {"photo1": ("rejected", ""), "elsewhere": ("accepted", "cat;dog")}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("photo,verdict\n", "expected image,verdict,classes"),
        ("image,verdict,classes\nphoto1,good,\n", "“good” is no verdict"),
        ("image,verdict,classes\nphoto1,,lynx\n", "no class “lynx”"),
        ("image,verdict,classes\nphoto1,,\nphoto1,,\n", "photo1 has a line above"),
        ("image,verdict,classes\nphoto1,accepted\n", "2 columns"),
    ],
)
def test_a_wrong_file_is_refused_whole_in_a_sentence(review_page, tmp_path, text, part):
    review_page.press("a")
    (tmp_path / "wrong.csv").write_text(text, encoding="utf-8")
    review_page.page.locator("#file").set_input_files(tmp_path / "wrong.csv")
    review_page.page.wait_for_selector("#said.problem")
    assert "wrong.csv was not read" in review_page.text("said")
    assert part in review_page.text("said")
    assert review_page.saved() == {"photo0": ("accepted", "")}


def test_a_file_may_name_a_class_that_no_photo_of_the_page_has(review_page, tmp_path):
    (tmp_path / "mine.csv").write_text("image,verdict,classes\nelsewhere,,heron\n")
    review_page.page.locator("#file").set_input_files(tmp_path / "mine.csv")
    review_page.wait_until_said("mine.csv")
    assert review_page.saved() == {"elsewhere": ("", "heron")}


def test_the_review_of_the_run_is_there_from_the_start(browser, tmp_path):
    review = {
        "photo0": {"verdict": "accepted", "classes": None},
        "photo1": {"verdict": "", "classes": ["cat"]},
        "gone": {"verdict": "rejected", "classes": None},
    }
    path = tmp_path / "set.html"
    path.write_text(render("set", page_data(review=review)), encoding="utf-8")
    opened = Page(browser, path)
    assert opened.text("count") == "2 of 4 decided"
    assert opened.listed() == ["photo2", ODD_ID]
    expected = {"photo0": ("accepted", ""), "photo1": ("", "cat"), "gone": ("rejected", "")}
    assert opened.saved() == expected
    opened.context.close()
