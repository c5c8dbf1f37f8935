"""Names in pictures: every letter is drawn, whatever the script."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from getam.view import fonts
from getam.view.overlay import sheet

PHOTO = np.full((40, 60, 3), 200, np.uint8)


def caption(name: str) -> np.ndarray:
    """The pixels of a sheet, whose legend and caption are this name."""
    return np.asarray(sheet(name, [(name, PHOTO)], [(name, (128, 0, 0))]))


@pytest.mark.parametrize(
    "words",
    [
        ("Bärlauch", "Börlauch", "Bûrlauch"),
        ("ψάρι", "ψώρι"),
        ("рыба", "рёба"),
        ("ąęłß", "ćęłß"),
        ("\ue0fe猫", "\ue0fe犬"),
        ("ねこ", "いぬ"),
        ("고양이", "강아지강"),
    ],
)
def test_two_names_that_differ_in_one_letter_look_different(words):
    drawn = [caption(word) for word in words]
    for first, second in pairwise(drawn):
        assert first.shape != second.shape or (first != second).any(), words


def test_a_letter_that_no_font_has_becomes_its_number(monkeypatch):
    monkeypatch.setattr(fonts, "_others", lambda: ())
    assert fonts.written("猫 (peak 0.5)", 14)[0] == "<U+732B> (peak 0.5)"
    assert fonts.written("Löwenzahn ψάρι рыба", 14)[0] == "Löwenzahn ψάρι рыба"


def test_a_sheet_is_as_wide_as_its_title():
    narrow, wide = (Image.fromarray(caption(name)) for name in ("Ä", "Ä" * 40))
    assert wide.width > narrow.width + 200
