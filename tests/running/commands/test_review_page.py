"""The review page in a browser: decisions by mouse, touch and keyboard, kept, saved, read again."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from getam.view.page import label_uri, map_uri
from getam.view.review_page import photo_uri, render

NAMES = ("cat", "dog", "cat dog", "bow, weapon", "<b>&amp;")
ODD_ID = "</script><script>window.broken = 1</script>"
COPIED = """(() => {
  const copy = canvasOf(60, 60).getContext("2d");
  copy.drawImage(byId("overlay"), -150, -150);
  return [...copy.getImageData(0, 0, 60, 60).data];
})()"""
PRIVATE = (
    """Object.defineProperty(window, "localStorage", { get() { throw new Error("private") } })"""
)


def page_data(**more) -> dict:
    """Four photos, most doubtful first."""
    rng = np.random.default_rng(0)
    photo = photo_uri(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 20:60] = 1
    reasons = (
        "The network is not sure which pixels are cat.",
        "The network is not sure which pixels are dog.",
        "cat has no pixel in the mask.",
        "cat has no pixel in the mask.",
    )
    labels = (["cat"], ["dog", "zebra"], [], None)
    entries = [
        {
            "id": ODD_ID if number == 3 else f"photo{number}",
            "split": "val" if number == 3 else "train",
            "doubt": 0.9 - number / 10,
            "reason": reasons[number],
            "labels": labels[number],
            "size": [80, 60],
            "photo": photo,
            "layers": [{"caption": "final mask", "classes": [1], "uri": label_uri(mask)}],
            "maps": [{"class": 2, "uri": map_uri(np.linspace(0, 1, 16).reshape(4, 4))}],
        }
        for number in range(4)
    ]
    classes = [{"name": name, "colour": [10 * n, 0, 128]} for n, name in enumerate(NAMES)]
    data = {"name": "test", "about": "4 photos", "store": "getam-review-test"}
    return {**data, "classes": classes, "review": {}, "entries": entries, **more}


class Page:
    """A review page in the browser, with everything that it complained of or asked for."""

    def __init__(self, browser, path: Path, context=None, script: str = "", **options) -> None:
        self.context = context or browser.new_context(
            **{"viewport": {"width": 1300, "height": 900}, **options}
        )
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url[:40]))
        if script:
            self.page.add_init_script(script)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#overlay[data-drawn]")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").inner_text()

    def saved(self) -> dict[str, tuple[str, str]]:
        """Save review.csv: image -> verdict and classes."""
        with self.page.expect_download() as download:
            self.page.locator("#save").click()
        assert download.value.suggested_filename == "review.csv"
        self.file = download.value.path()
        rows = list(csv.reader(io.StringIO(Path(self.file).read_text(encoding="utf-8"))))
        assert rows[0] == ["image", "verdict", "classes"]
        assert rows[1:] == sorted(rows[1:])
        return {image: (verdict, classes) for image, verdict, classes in rows[1:]}

    def wait_until_said(self, words: str) -> None:
        self.page.locator("#said").filter(has_text=words).wait_for()

    def chip(self, name: str):
        return self.page.locator(f'.chip[data-name="{name}"]')

    def listed(self) -> list[str]:
        return self.page.locator("#list .words b").all_inner_texts()

    def pixels(self) -> list[int]:
        """Of the overlay about a corner of the mask, once it is drawn."""
        self.page.wait_for_timeout(200)
        return self.page.evaluate(COPIED)


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "review.html"
    path.write_text(render("Review: test", page_data()), encoding="utf-8")
    return path


@pytest.fixture
def page(browser, file):
    opened = Page(browser, file)
    yield opened
    assert opened.problems == []
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "data", "blob"}
    assert sum(url.startswith("file:") for url in opened.requests) == 1
    opened.context.close()


def test_keys_decide_correct_and_go_on(page):
    page.press("a")
    assert page.text("id") == "photo1"
    page.press("r", "1", "1", "0", "2")
    assert page.text("id") == "photo2"
    assert page.text("count") == "3 of 4 decided"
    assert page.saved() == {
        "photo0": ("accepted", ""),
        "photo1": ("rejected", ""),
        "photo2": ("", "dog"),
    }


def test_mouse_decides_and_corrects(page):
    page.page.locator("[data-verdict=rejected]").click()
    page.chip("cat").click()  # of photo1, which is labelled dog and zebra
    page.chip("dog").click()
    assert page.text("change") == "+ cat, − dog"
    page.page.locator("[data-verdict=accepted]").click()
    assert page.saved() == {"photo0": ("rejected", ""), "photo1": ("accepted", "cat;zebra")}


def test_no_class_and_labels_put_back_are_told_apart(page):
    page.press("0")
    assert page.saved() == {"photo0": ("", "-")}
    page.chip("cat").click()  # what the label table says: no correction
    assert page.saved() == {}
    page.press("ArrowRight", "1")
    page.page.locator("#restore").click()
    assert page.saved() == {}


def test_the_csv_of_awkward_names_is_read_by_the_run(page, tmp_path):
    """Names with spaces and signs, alone and together; an id that is markup."""
    from getam.data.index import DataIndex, Record
    from getam.data.review_table import read_review

    chosen = {0: ["cat dog"], 1: ["bow, weapon", "cat"], 2: ["<b>&amp;"], 3: ["bow, weapon"]}
    for names in chosen.values():
        page.press("0")
        for name in names:
            page.chip(name).click()
        page.press("ArrowRight")
    rows = page.saved()
    ids = [f"photo{n}" for n in range(3)] + [ODD_ID]
    assert set(rows) == set(ids)
    records = [Record(image_id, Path(image_id), ()) for image_id in ids]
    index = DataIndex(tmp_path, (*NAMES, "zebra"), {"train": records})
    review = read_review(Path(page.file), index, "train")
    assert {i: set(names) for i, names in review.classes.items()} == {
        ids[number]: set(names) for number, names in chosen.items()
    }
    before = page.saved()
    page.page.locator("#file").set_input_files(page.file)  # and the page reads what it wrote
    page.wait_until_said("4 photos")
    assert page.saved() == before


def test_undo_takes_back_verdicts_and_classes(page):
    page.press("a", "2", "z", "z")
    assert page.text("count") == "0 of 4 decided"
    assert page.text("id") == "photo0"
    page.press("z")
    assert "nothing to take back" in page.text("said")


def test_a_verdict_pressed_again_or_taken_back_is_none(page):
    page.press("a", "ArrowLeft", "a")
    assert page.text("count") == "0 of 4 decided"
    page.press("r", "ArrowLeft", "u")
    assert page.saved() == {}


def test_decisions_survive_a_reload_and_saving(browser, file):
    first = Page(browser, file)
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


def test_a_browser_that_keeps_nothing_says_so(browser, file):
    private = Page(browser, file, script=PRIVATE)
    private.press("a")
    assert "does not keep your decisions" in private.text("lost")
    assert private.saved() == {"photo0": ("accepted", "")}
    private.context.close()


def test_a_review_is_read_again_and_lines_of_other_photos_are_kept(page, tmp_path):
    text = "image;verdict;classes\r\nphoto1;rejected;\r\nelsewhere;accepted;cat, dog\r\n"
    (tmp_path / "mine.csv").write_text("\ufeff" + text, encoding="utf-8")
    page.page.locator("#file").set_input_files(tmp_path / "mine.csv")
    page.wait_until_said("other photos")
    assert page.text("count") == "1 of 4 decided"
    assert page.saved() == {"photo1": ("rejected", ""), "elsewhere": ("accepted", "cat;dog")}


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
def test_a_wrong_file_is_refused_whole_in_a_sentence(page, tmp_path, text, part):
    page.press("a")
    (tmp_path / "wrong.csv").write_text(text, encoding="utf-8")
    page.page.locator("#file").set_input_files(tmp_path / "wrong.csv")
    page.page.wait_for_selector("#said.problem")
    assert "wrong.csv was not read" in page.text("said")
    assert part in page.text("said")
    assert page.saved() == {"photo0": ("accepted", "")}


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


def test_filters_choose_by_state_class_reason_and_split(page):
    kinds = page.page.locator("#reason option").all_inner_texts()
    assert kinds == [
        "all",
        "The network is not sure which pixels are ….",
        "… has no pixel in the mask.",
    ]
    page.press("a")
    for name, label, expected in (
        ("show", "accepted", ["photo0"]),
        ("show", "rejected", []),
        ("show", "all", ["photo0", "photo1", "photo2", ODD_ID]),
        ("class", "dog", ["photo1"]),
        ("class", "all", ["photo0", "photo1", "photo2", ODD_ID]),
        ("reason", kinds[2], ["photo2", ODD_ID]),
        ("split", "val", [ODD_ID]),
    ):
        page.page.select_option(f"#{name}", label=label)
        assert page.listed() == expected
    assert page.text("id") == ODD_ID
    assert page.page.evaluate("window.broken") is None


def test_a_page_whose_photos_are_all_decided_opens_with_all_of_them(browser, tmp_path):
    ids = ("photo0", "photo1", "photo2", ODD_ID)
    review = {image_id: {"verdict": "accepted", "classes": None} for image_id in ids}
    path = tmp_path / "done.html"
    path.write_text(render("done", page_data(review=review)), encoding="utf-8")
    done = Page(browser, path)
    assert done.listed() == list(ids)
    done.context.close()


def test_an_empty_list_says_what_to_do_and_keys_do_no_harm(page):
    page.page.select_option("#show", label="rejected")
    assert "No photo matches" in page.text("none")
    page.page.locator("#show").blur()
    page.press("a", "1", "m", "Enter", "ArrowRight")
    assert page.text("count") == "0 of 4 decided"


def test_overlay_changes_with_layer_opacity_and_contour(page):
    mask = page.pixels()
    assert any(mask)
    page.press("c")
    plain = page.pixels()
    assert plain != mask
    page.page.locator("#opacity").fill("0")
    assert not any(page.pixels())
    page.page.locator("#opacity").fill("1")
    assert page.pixels() != plain
    page.press("m")
    assert page.page.locator("#overlay").get_attribute("data-drawn") == "photo0 map of dog"
    box = page.page.locator("#photo-box").bounding_box()
    page.page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.page.mouse.down()
    assert page.page.evaluate("getComputedStyle(byId('overlay')).visibility") == "hidden"
    page.page.mouse.up()
    assert page.page.evaluate("getComputedStyle(byId('overlay')).visibility") == "visible"


def test_typing_in_a_field_decides_nothing(browser, tmp_path):
    """With many classes there is a field to search them."""
    classes = [{"name": f"class {n}", "colour": [n, n, n]} for n in range(80)]
    path = tmp_path / "many.html"
    path.write_text(render("many", page_data(classes=classes)), encoding="utf-8")
    many = Page(browser, path)
    many.press("t")
    many.page.keyboard.type("class 77 ar")
    assert many.text("count") == "0 of 4 decided"
    many.page.locator("#search").fill("77")
    many.chip("class 77").click()
    assert many.saved() == {"photo0": ("", "class 77;cat")}
    many.context.close()


def test_touch_on_a_phone_decides_and_swipes(browser, file):
    phone = Page(
        browser, file, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
    phone.page.locator("[data-verdict=accepted]").tap()
    assert phone.text("id") == "photo1"
    phone.chip("cat").tap()
    swipe = """([from, to]) => {
      const box = byId("photo-box");
      const at = (x) => [new Touch({ identifier: 1, target: box, clientX: x, clientY: 300 })];
      const send = (name, touches, changedTouches) =>
        box.dispatchEvent(new TouchEvent(name, { touches, changedTouches }));
      send("touchstart", at(from), at(from));
      send("touchend", [], at(to));
    }"""
    phone.page.evaluate(swipe, [300, 100])
    assert phone.text("id") == "photo2"
    phone.page.evaluate(swipe, [100, 300])
    assert phone.text("id") == "photo1"
    assert phone.saved() == {"photo0": ("accepted", ""), "photo1": ("", "cat;dog;zebra")}
    small = phone.page.evaluate(
        "[...document.querySelectorAll('button, select')].filter((e) => e.checkVisibility()"
        " && e.getBoundingClientRect().height < 30 && !e.matches('.link')).length"
    )
    assert small == 0
    assert phone.problems == []
    phone.context.close()


def test_every_control_has_a_name_and_no_script_but_its_own_runs(page):
    unnamed = page.page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter((e) => !e.labels?.length"
        " && !e.textContent.trim() && !e.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    page.page.evaluate(
        "document.body.append(element('script', { textContent: 'window.injected = 1' }))"
    )
    assert page.page.evaluate("window.injected") is None
    assert any("Content Security Policy" in problem for problem in page.problems)
    page.problems.clear()


def test_500_photos_open_and_decode_only_what_is_in_view(browser, tmp_path):
    data = page_data()
    entry = data["entries"][0]
    rng = np.random.default_rng(1)
    photos = [photo_uri(rng.integers(0, 256, (540, 720, 3), dtype=np.uint8)) for _ in range(4)]
    data["entries"] = [{**entry, "id": f"p{n:03}", "photo": photos[n % 4]} for n in range(500)]
    path = tmp_path / "large.html"
    path.write_text(render("large", data), encoding="utf-8")
    large = Page(browser, path)
    assert large.page.locator("#list li").count() == 500
    assert 0 < large.page.locator("#list img[src]").count() < 60
    large.page.evaluate("queue.go('p499')")
    large.page.wait_for_selector('#list li[data-id="p499"] img[src]')
    assert large.page.locator("#list img[src]").count() < 60
    assert large.problems == []
    large.context.close()
