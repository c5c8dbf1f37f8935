"""The review page: one HTML file with photos, masks and maps. It loads no other file.

``review.html`` is the frame, ``review.css`` the style, the ``.js`` files are the behaviour. One
JSON block holds the photos and what is known of them. The page may run only its own script: a
Content-Security-Policy names the digest of it, and forbids the network.
"""

from __future__ import annotations

import hashlib
import html
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from PIL import Image

from getam.view import page

LONG_SIDE = 720  # pixels; larger photos are reduced
QUALITY = 75  # of the photos' WebP
SHARED = ("dom.js", "tiles.js")  # of the report
SCRIPTS = ("table.js", "state.js", "queue.js", "viewer.js", "labels.js", "review.js")


def render(title: str, data: Mapping[str, Any]) -> str:
    """The whole page. ``review.js`` reads ``data``, whose strings may have any characters.

    >>> "</script><b>" in render("photos", {"classes": ["</script><b>"]})
    False
    """
    shared = (page.packed(page.__name__, name) for name in SHARED)
    own = (page.packed(__name__, name) for name in SCRIPTS)
    script = "\n".join(['"use strict";', *shared, *own])
    style = page.packed(__name__, "review.css")
    parts = {
        "title": html.escape(title),
        "style": style,
        "style_digest": _digest(style),
        "script": script,
        "script_digest": _digest(script),
        "data": page.json_block(data),
    }
    return page.fill(page.packed(__name__, "review.html"), parts)


def photo_uri(image: np.ndarray) -> str:
    """A photo (H, W, 3) uint8 as a WebP data URI, at most ``LONG_SIDE`` wide and high."""
    reduced = page.reduce(image, cv2.INTER_AREA, LONG_SIDE)
    return page.data_uri(Image.fromarray(reduced), "WEBP", quality=QUALITY)


def _digest(text: str) -> str:
    """The digest by which a Content-Security-Policy allows a script or a style."""
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
