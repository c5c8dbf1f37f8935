"""Takes the picture of the review page for the documentation, in a headless Chromium.

    python pipeline.py run
    python tools/review_picture.py           # writes docs/pictures/review.png

The page is that of the run in ``artifacts/``, as it opens: with its most doubtful photo. Needs
playwright and Chromium.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import click
from PIL import Image

from getam.config.loading import load_config
from getam.running.commands.current import CurrentRun
from getam.running.commands.options import set_option
from getam.running.commands.review_entries import write_page
from getam.running.commands.review_queue import Queue
from getam.view.progress import track
from stages.chain import chain

SIZE = {"width": 1280, "height": 800}


@click.command(help=__doc__.partition("\n")[0])
@click.option("--artifacts", type=click.Path(path_type=Path), default="artifacts")
@click.option("-o", "output", type=click.Path(path_type=Path), default="docs/pictures/review.png")
@set_option
def main(artifacts: Path, output: Path, assignments: tuple[str, ...]) -> None:
    run = CurrentRun(chain, load_config((), assignments), artifacts)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "review.html"
        write_page(run, Queue(run, limit=40), page, track)
        picture = Image.open(io.BytesIO(screenshot(page))).convert("RGB")
    picture.save(output, optimize=True)
    click.echo(f"{output}  {output.stat().st_size / 1e3:.0f} kB")


def screenshot(page: Path) -> bytes:
    """The page as PNG, once its first mask is drawn and the pictures of its list are there."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport=SIZE)
        opened.goto(page.resolve().as_uri())
        opened.wait_for_selector("#overlay[data-drawn]")
        opened.wait_for_timeout(500)
        taken = opened.screenshot()
        browser.close()
    return taken


if __name__ == "__main__":
    main()
