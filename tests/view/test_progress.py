"""What is shown while something runs."""

from __future__ import annotations

import io
import re

from getam.view.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_tell_count_rate_time_left_and_the_current_figure():
    stream = io.StringIO()
    seen = list(track(range(3), initial=5, unit="step", stream=stream, every=0, figure=lambda: "A"))
    assert seen == [0, 1, 2]
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"  6/8 steps, \S+/s, .+ left, A", lines[0]), lines[0]
    assert "\r" not in stream.getvalue()


def test_bar_on_a_terminal_asks_for_the_current_figure_once_a_second_at_most():
    stream = Terminal()
    figures = iter(range(100))

    def slow():
        for _ in range(3):
            yield 0

    bar = track(slow(), total=3, stream=stream, figure=lambda: f"figure {next(figures)}")
    assert list(bar) == [0, 0, 0]
    assert next(figures) == 1  # asked once, not three times, within a second


def test_portions_count_as_the_photos_in_them():
    """Not "3/3 chunks, 0.0 s left" for minutes, while most photos are still to do."""
    stream = io.StringIO()
    done = track(iter([8, 8, 7]), total=30, initial=7, stream=stream, every=0, size=int)
    assert list(done) == [8, 8, 7]
    told = [line.split(",")[0] for line in stream.getvalue().splitlines()]
    assert told == ["  15/30 photos", "  23/30 photos", "  30/30 photos"]
    terminal = Terminal()
    assert list(track([8, 8], total=16, stream=terminal, size=int)) == [8, 8]
    assert "/16" in terminal.getvalue()


def test_nothing_is_said_about_what_is_quick():
    stream = io.StringIO()
    assert list(track(range(100), stream=stream)) == list(range(100))
    assert stream.getvalue() == ""
