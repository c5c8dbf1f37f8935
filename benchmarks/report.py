"""Measures how large a report or a review page is, and how fast it opens in headless Chromium.

    python pipeline.py report -o report.html
    python benchmarks/report.py report.html

A report is open when the page is loaded and the first canvas of the gallery is there, a review page
when the first mask is drawn. Each round opens a new page in a browser that already runs. The best
round counts. Needs playwright and Chromium.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import click


@click.command(help=__doc__.partition("\n")[0])
@click.argument("reports", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
def main(reports: tuple[Path, ...], rounds: int) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for report in reports:
            best = min(opening(browser, report) for _ in range(rounds))
            click.echo(f"{report}: {report.stat().st_size / 1e6:.1f} MB, open in {best:.2f} s")
        browser.close()


def opening(browser, report: Path) -> float:
    """Seconds until the first photo is there."""
    page = browser.new_page()
    start = time.perf_counter()
    page.goto(report.resolve().as_uri())
    page.wait_for_selector(".tiles canvas, #overlay[data-drawn]")
    seconds = time.perf_counter() - start
    page.close()
    return seconds


if __name__ == "__main__":
    main()
