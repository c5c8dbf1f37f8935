"""A review page of four photos, opened in a browser."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from getam.view.page import label_uri, map_uri
from getam.view.review_page import photo_uri

NAMES = ("cat", "dog", "cat dog", "bow, weapon", "<b>&amp;")
ODD_ID = "</script><script>window.broken = 1</script>"
COPIED = """(() => {
  const copy = canvasOf(60, 60).getContext("2d");
  copy.drawImage(byId("overlay"), -150, -150);
  return [...copy.getImageData(0, 0, 60, 60).data];
})()"""


def page_data(**more) -> dict:
    """Four photos, most doubtful first."""
    rng = np.random.default_rng(0)
    photo = photo_uri(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    mask = np.zeros((60, 80), np.uint8)
    mask[20:40, 20:60] = 1
    reasons = (
        "The network is not sure which pixels are cat.",
        "The network is not sure which pixels are dog.",
        "cat has no pixel in the mask, or hardly one.",
        "cat has no pixel in the mask, or hardly one.",
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
    data["known"] = [*NAMES, "zebra", "heron"]
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
        # Not the rendered text: a browser leaves out what is outside the window.
        return self.page.locator("#list .words b").all_text_contents()

    def pixels(self) -> list[int]:
        """Of the overlay about a corner of the mask, once it is drawn."""
        self.page.wait_for_timeout(200)
        return self.page.evaluate(COPIED)
