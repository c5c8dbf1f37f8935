"""The review page in a browser: what it shows, on a desktop, on a phone, of many photos."""

from __future__ import annotations

import numpy as np

from getam.view.review_page import photo_uri, render
from tests.running.commands.review_browser import ODD_ID, Page, page_data


def test_filters_choose_by_state_class_reason_and_split(review_page):
    kinds = review_page.page.locator("#reason option").all_inner_texts()
    assert kinds == [
        "all",
        "The network is not sure which pixels are ….",
        "… has no pixel in the mask, or hardly one.",
    ]
    review_page.press("a")
    for name, label, expected in (
        ("show", "accepted", ["photo0"]),
        ("show", "rejected", []),
        ("show", "all", ["photo0", "photo1", "photo2", ODD_ID]),
        ("class", "dog", ["photo1"]),
        ("class", "all", ["photo0", "photo1", "photo2", ODD_ID]),
        ("reason", kinds[2], ["photo2", ODD_ID]),
        ("split", "val", [ODD_ID]),
    ):
        review_page.page.select_option(f"#{name}", label=label)
        assert review_page.listed() == expected
    assert review_page.text("id") == ODD_ID
    assert review_page.page.evaluate("window.broken") is None


def test_a_page_whose_photos_are_all_decided_opens_with_all_of_them(browser, tmp_path):
    ids = ("photo0", "photo1", "photo2", ODD_ID)
    review = {image_id: {"verdict": "accepted", "classes": None} for image_id in ids}
    path = tmp_path / "done.html"
    path.write_text(render("done", page_data(review=review)), encoding="utf-8")
    done = Page(browser, path)
    assert done.listed() == list(ids)
    done.context.close()


def test_an_empty_list_says_what_to_do_and_keys_do_no_harm(review_page):
    review_page.page.select_option("#show", label="rejected")
    assert "No photo matches" in review_page.text("none")
    review_page.page.locator("#show").blur()
    review_page.press("a", "1", "m", "Enter", "ArrowRight")
    assert review_page.text("count") == "0 of 4 decided"


def test_overlay_changes_with_layer_opacity_and_contour(review_page):
    mask = review_page.pixels()
    assert any(mask)
    review_page.press("c")
    plain = review_page.pixels()
    assert plain != mask
    review_page.page.locator("#opacity").fill("0")
    assert not any(review_page.pixels())
    review_page.page.locator("#opacity").fill("1")
    assert review_page.pixels() != plain
    review_page.press("m")
    assert review_page.page.locator("#overlay").get_attribute("data-drawn") == "photo0 map of dog"
    box = review_page.page.locator("#photo-box").bounding_box()
    review_page.page.mouse.move(box["x"] + 20, box["y"] + 20)
    review_page.page.mouse.down()
    assert review_page.page.evaluate("getComputedStyle(byId('overlay')).visibility") == "hidden"
    review_page.page.mouse.up()
    assert review_page.page.evaluate("getComputedStyle(byId('overlay')).visibility") == "visible"


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


def test_touch_on_a_phone_decides_and_swipes(browser, review_file):
    phone = Page(
        browser, review_file, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
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


def test_every_control_has_a_name_and_no_script_but_its_own_runs(review_page):
    unnamed = review_page.page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter((e) => !e.labels?.length"
        " && !e.textContent.trim() && !e.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    review_page.page.evaluate(
        "document.body.append(element('script', { textContent: 'window.injected = 1' }))"
    )
    assert review_page.page.evaluate("window.injected") is None
    assert any("Content Security Policy" in problem for problem in review_page.problems)
    review_page.problems.clear()


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
