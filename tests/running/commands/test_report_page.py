"""The page of a report in a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from getam.view.page import label_uri, photo_uri, render
from tests.running.commands.conftest import block


@pytest.fixture(scope="module")
def report(micro, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    made = micro("report", "-o", path)
    assert made.code == 0, made
    return path


# On a copy: a canvas that is read from too often makes the browser complain.
PIXELS = """(canvas) => {
  const copy = canvasOf(canvas.width, canvas.height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
}"""
DRAWN = f"[...document.querySelectorAll('canvas')].slice(0, 3).every((c) => ({PIXELS})(c)[3])"


class Page:
    """A report in the browser, with everything that it complained of or asked for."""

    def __init__(self, browser, path: Path, **options) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url[:40]))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("canvas")
        self.page.evaluate("byId('gallery').scrollIntoView()")
        self.settle()

    def settle(self) -> None:
        """Wait until what is in view is drawn."""
        for _ in range(100):
            self.page.evaluate(
                "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            if self.page.evaluate(DRAWN):
                return
        raise AssertionError("the first canvases stay empty")

    def pixels(self, layer: str) -> list[int]:
        """The first canvas of a layer."""
        self.settle()
        canvas = f"document.querySelector('[data-layer={layer}] canvas')"
        return self.page.evaluate(f"({PIXELS})({canvas})")

    def slide(self, name: str, value: float) -> None:
        self.page.locator(f"#{name}").fill(str(value))

    def headings(self) -> list[str]:
        return self.page.locator(".entry h3").all_inner_texts()


@pytest.fixture
def page(browser, report):
    opened = Page(browser, report)
    yield opened
    assert opened.problems == []
    opened.page.close()


def test_nothing_is_loaded_from_elsewhere(page):
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in page.requests) == 1


def test_threshold_changes_the_map_and_nothing_else(page):
    page.slide("threshold", 0)
    low = {layer: page.pixels(layer) for layer in ("image", "map", "label")}
    page.slide("threshold", 0.9)
    high = {layer: page.pixels(layer) for layer in ("image", "map", "label")}
    assert low["map"] != high["map"]
    assert low["image"] == high["image"]
    assert low["label"] == high["label"]
    page.slide("threshold", 1)
    assert page.pixels("map") == page.pixels("image")  # nothing is above 1
    assert page.page.locator("#threshold-value").inner_text() == "1.00"


def test_opacity_changes_overlays(page):
    page.slide("opacity", 0)
    assert page.pixels("truth") == page.pixels("image")
    page.slide("opacity", 1)
    assert page.pixels("truth") != page.pixels("image")


def test_class_filter_and_its_map(page):
    page.page.select_option("#class", label="dog")
    data = page.page.evaluate("DATA.gallery.entries.filter((e) => e.split === 'train')")
    expected = {entry["id"] for entry in data if 2 in entry["classes"]}
    assert set(page.headings()) == expected
    assert len(expected) < len(data)
    captions = page.page.locator("[data-layer=map] figcaption").all_inner_texts()
    assert set(captions) == {"map of dog"}
    assert (
        page.page.locator("#shown").inner_text()
        == f"{len(expected)} of {len(expected)} images shown"
    )


def test_sorting(page):
    scores = page.page.evaluate(
        "Object.fromEntries(DATA.gallery.entries.map((e) => [e.id, e.score]))"
    )
    for order, direction in (("worst", 1), ("best", -1)):
        page.page.select_option("#sort", order)
        shown = [direction * scores[image_id] for image_id in page.headings()]
        assert shown == sorted(shown)
        assert len(shown) == 8
    page.page.select_option("#sort", "random")
    shuffled = page.headings()
    page.page.select_option("#sort", "id")
    assert page.headings() == sorted(shuffled) != shuffled


def test_split_and_layer_switches(page):
    page.page.get_by_label("val", exact=True).check()
    assert page.headings()[0] in {f"photo{n:02}" for n in range(8, 12)}
    assert page.page.locator("[data-layer=prediction]").count() == 8  # with and without CRF
    assert page.page.get_by_label("map", exact=True).is_disabled()
    page.page.get_by_label("prediction", exact=True).uncheck()
    assert page.page.locator("[data-layer=prediction]").count() == 0
    assert page.page.locator("[data-layer=truth]").count() == 4


def test_keyboard_alone_works(page):
    page.slide("threshold", 0.1)
    before = page.pixels("map")
    page.page.locator("#sort").focus()
    page.page.keyboard.press("Tab")
    assert page.page.evaluate("document.activeElement.id") == "threshold"
    for _ in range(5):
        page.page.keyboard.press("PageUp")
    assert page.pixels("map") != before
    page.page.get_by_label("train", exact=True).focus()
    page.page.keyboard.press("ArrowRight")
    assert page.page.locator("[data-layer=prediction]").count() > 0


def test_every_control_and_picture_has_a_name(page):
    unnamed = page.page.evaluate(
        "[...document.querySelectorAll('input, select')].filter((e) => !e.labels.length).length"
        " + [...document.querySelectorAll('canvas, svg')]"
        ".filter((e) => e.getAttribute('role') !== 'img' || !e.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    assert page.page.evaluate("document.querySelectorAll('canvas').length") > 8


def test_phone_and_dark(browser, report):
    phone = Page(browser, report, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    background = "getComputedStyle(document.body).backgroundColor"
    dark = phone.page.evaluate(background)
    phone.page.emulate_media(color_scheme="light")
    assert phone.page.evaluate(background) != dark
    assert phone.problems == []
    phone.page.close()


def test_names_cannot_break_the_page(browser, report, tmp_path):
    data = block(report)
    name = "</script><script>window.broken = 1</script><!--<b>&amp;{{data}}"
    data["classes"][1]["name"] = name
    data["gallery"]["entries"][0]["id"] = name
    (tmp_path / "odd.html").write_text(render(name, data), encoding="utf-8")
    odd = Page(browser, tmp_path / "odd.html")
    odd.page.select_option("#sort", "id")
    assert odd.page.title() == name
    assert odd.page.locator("#class option").all_inner_texts()[2] == name
    assert name in odd.headings()
    assert odd.page.evaluate("window.broken") is None
    assert odd.problems == []
    odd.page.close()


def test_without_masks_the_most_doubtful_photos_are_first(browser, report, tmp_path):
    data = block(report)
    entries = [e for e in data["gallery"]["entries"] if e["split"] == "train"]
    for number, entry in enumerate(entries):
        entry |= {"score": None, "doubt": (3 * number % 8) / 8}
    data["gallery"]["entries"] = entries
    (tmp_path / "r.html").write_text(render("r", data), encoding="utf-8")
    opened = Page(browser, tmp_path / "r.html")
    ordered = [e["id"] for e in sorted(entries, key=lambda e: -e["doubt"])]
    assert opened.headings() == ordered
    offered = opened.page.locator("#sort option").all_inner_texts()
    assert offered == ["most doubtful first", "random", "name"]
    opened.page.close()


def test_report_of_250_photos_stays_small_and_opens(browser, report, tmp_path):
    """Photos of noise are the largest there are; benchmarks/report.py says how quickly it opens."""
    rng = np.random.default_rng(0)
    data = block(report)
    entry = data["gallery"]["entries"][0]
    photos = [photo_uri(rng.integers(0, 256, (192, 256, 3), dtype=np.uint8)) for _ in range(5)]
    label = label_uri(rng.integers(0, 7, (48, 64), dtype=np.uint8).repeat(4, 0).repeat(4, 1))
    layers = [{**one, "uri": label} for one in entry["layers"]]
    data["gallery"]["entries"] = [
        {**entry, "id": f"p{n}", "image": photos[n % 5], "size": [256, 192], "layers": layers}
        for n in range(250)
    ]
    path = tmp_path / "large.html"
    path.write_text(render("large", data), encoding="utf-8")
    assert path.stat().st_size < 60e6
    large = Page(browser, path)
    assert large.problems == []
    large.page.close()
