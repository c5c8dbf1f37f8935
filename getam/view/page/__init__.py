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
    script = "\n".join(packed(__name__, name) for name in SCRIPTS)
    parts = {"title": html.escape(title), "style": packed(__name__, "page.css"), "script": script}
    return fill(packed(__name__, "page.html"), {**parts, "data": json_block(data)})


def fill(frame: str, parts: Mapping[str, str]) -> str:
    """A page: its frame with ``{{name}}`` replaced by the part of this name.

    >>> fill("<b>{{name}}</b>", {"name": "{{other}}"})
    '<b>{{other}}</b>'
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], frame)


def json_block(data: Mapping[str, Any]) -> str:
    """Data as the text of a JSON script element: a "<" could end the element, or begin a comment.

    >>> json_block({"name": "</script>"})
    '{"name": "\\\\u003c/script>"}'
    """
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def packed(package: str, name: str) -> str:
    """A file of a package, as text."""
    return (files(package) / name).read_text(encoding="utf-8")


def photo_uri(image: np.ndarray) -> str:
    """A photo (H, W, 3) uint8 as a JPEG data URI, at most ``LONG_SIDE`` wide and high."""
    reduced = reduce(image, cv2.INTER_AREA)
    return data_uri(Image.fromarray(reduced), "JPEG", quality=QUALITY, optimize=True)


def label_uri(labels: np.ndarray, side: int = LONG_SIDE) -> str:
    """Labels (H, W) uint8 as a palette PNG data URI, at most ``side`` wide and high.

    Background is transparent.
    """
    image = Image.fromarray(reduce(labels, cv2.INTER_NEAREST_EXACT, side))
    image.putpalette(voc_palette())
    return data_uri(image, "PNG", transparency=0, optimize=True)


def map_uri(image_map: np.ndarray) -> str:
    """A map (h, w) in [0, 1] as a grey PNG data URI, not enlarged."""
    grey = (image_map.clip(0, 1) * 255).round().astype(np.uint8)
    return data_uri(Image.fromarray(reduce(grey, cv2.INTER_AREA)), "PNG", optimize=True)


def reduce(image: np.ndarray, method: int, side: int = LONG_SIDE) -> np.ndarray:
    """An image that is at most ``side`` pixels wide and high. A smaller one stays as it is."""
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=method)


def data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """An image as a data URI, saved in a format such as PNG with Pillow's options for it."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode()}"
