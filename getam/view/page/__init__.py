"""The HTML report: one file with its style, scripts, numbers and images. It loads no other file.

``page.html`` is the frame, ``page.css`` the style, the ``.js`` files are the behaviour. One JSON
block in the page holds all numbers and images.
"""

from __future__ import annotations

import html
import io
import json
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from PIL import Image

from getam.data.palette import voc_palette

LONG_SIDE = 256  # pixels; larger images are reduced
QUALITY = 82  # of the photos' JPEG
SCRIPTS = ("dom.js", "charts.js", "tiles.js", "gallery.js", "main.js")


def render(title: str, data: Mapping[str, Any]) -> str:
    """The whole page. ``main.js`` reads ``data``, whose strings may have any characters.

    >>> "</script><b>" in render("a run", {"classes": ["</script><b>"]})
    False
    """
    parts = {
        "title": html.escape(title),
        "style": _read("page.css"),
        "script": "\n".join(_read(name) for name in SCRIPTS),
        # In a script element a "<" could end the element or begin a comment.
        "data": json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def photo_uri(image: np.ndarray) -> str:
    """A photo (H, W, 3) uint8 as a JPEG data URI, at most ``LONG_SIDE`` wide and high."""
    reduced = _reduce(image, cv2.INTER_AREA)
    return _uri(Image.fromarray(reduced), "JPEG", quality=QUALITY, optimize=True)


def label_uri(labels: np.ndarray) -> str:
    """Labels (H, W) uint8 as a palette PNG data URI. Background is transparent."""
    image = Image.fromarray(_reduce(labels, cv2.INTER_NEAREST))
    image.putpalette(voc_palette())
    return _uri(image, "PNG", transparency=0, optimize=True)


def map_uri(image_map: np.ndarray) -> str:
    """A map (h, w) in [0, 1] as a grey PNG data URI, not enlarged."""
    grey = (image_map.clip(0, 1) * 255).round().astype(np.uint8)
    return _uri(Image.fromarray(_reduce(grey, cv2.INTER_AREA)), "PNG", optimize=True)


def _reduce(image: np.ndarray, method: int) -> np.ndarray:
    scale = LONG_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=method)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode()}"


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")
