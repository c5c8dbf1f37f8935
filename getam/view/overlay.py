"""Overlays: maps and labels drawn over their image, and sheets of several panels.

Images are (H, W, 3) uint8 RGB. Maps are (h, w) in [0, 1], on any grid. Labels are (H, W) uint8 and
drawn in the colours of the VOC palette.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from getam.data.palette import voc_palette
from getam.view.fonts import written

GAP, LINE = 12, 20  # pixels between panels, and of a line of text
TEXT, TITLE = 13, 16  # sizes of letters
SMALLEST, LARGEST = 240, 640  # long side of a panel

Panel = tuple[str, np.ndarray]  # caption, image
Colour = tuple[int, int, int]


def enlarge(image_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge a map (h, w) to (H, W) float32, bilinearly as everywhere in the project."""
    return cv2.resize(image_map.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def heat(image: np.ndarray, image_map: np.ndarray, opacity: float = 0.65) -> np.ndarray:
    """Draw the map over the image in colours from dark violet (0) to yellow (1)."""
    values = enlarge(image_map, image.shape[:2]).clip(0, 1)
    colours = cv2.applyColorMap((values * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    return _blend(image, colours[..., ::-1], np.full(values.shape, opacity, np.float32))


def contour(panel: np.ndarray, image_map: np.ndarray, threshold: float) -> np.ndarray:
    """Draw a white line with black edges around the area where the map is above a threshold."""
    above = (enlarge(image_map, panel.shape[:2]) > threshold).astype(np.uint8)
    lines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(panel)
    width = max(1, round(max(panel.shape[:2]) / 250))
    cv2.drawContours(drawn, lines, -1, (0, 0, 0), 3 * width)
    cv2.drawContours(drawn, lines, -1, (255, 255, 255), width)
    return drawn


def paint(image: np.ndarray, labels: np.ndarray, opacity: float = 0.65) -> np.ndarray:
    """Draw labels (h, w) in their colours over the image. Background (0) is not coloured."""
    labels = cv2.resize(labels, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    palette = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    return _blend(image, palette[labels], (labels > 0) * np.float32(opacity))


def fit(image: np.ndarray, smallest: int = SMALLEST, largest: int = LARGEST) -> np.ndarray:
    """Resize an image so that its long side is between two bounds. Enlarged pixels stay sharp."""
    long = max(image.shape[:2])
    side = min(max(long, smallest), largest)
    if side == long:
        return image
    height, width = (max(1, round(n * side / long)) for n in image.shape[:2])
    method = cv2.INTER_NEAREST if side > long else cv2.INTER_AREA
    return cv2.resize(image, (width, height), interpolation=method)


def sheet(
    title: str, panels: Sequence[Panel], legend: Sequence[tuple[str, Colour]] = ()
) -> Image.Image:
    """Put panels of one height side by side, with captions, and a legend of colours below them."""
    widths = [_panel_width(caption, image) for caption, image in panels]
    height = max(image.shape[0] for _, image in panels)
    entries = [_text_width(name, TEXT) + 34 for name, _ in legend]
    inner = max(sum(widths) + GAP * (len(panels) - 1), _text_width(title, TITLE), sum(entries))
    rows = 2 * LINE + height + (LINE + GAP if legend else 0)
    canvas = Image.new("RGB", (inner + 2 * GAP, rows + 3 * GAP), "white")
    draw = ImageDraw.Draw(canvas)
    _write(draw, (GAP, GAP // 2), title, TITLE, "black")
    left, top = GAP, GAP + LINE
    for (caption, image), width in zip(panels, widths):
        canvas.paste(Image.fromarray(image), (left, top))
        _write(draw, (left, top + height + 3), caption, TEXT)
        left += width + GAP
    left, top = GAP, top + height + LINE + GAP
    for (name, colour), width in zip(legend, entries):
        draw.rectangle((left, top + 2, left + 14, top + 16), fill=colour, outline="#666666")
        _write(draw, (left + 20, top), name, TEXT)
        left += width
    return canvas


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str = "#333333"
) -> None:
    shown, font = written(text, size)
    draw.text(at, shown, fill=colour, font=font)


def _blend(image: np.ndarray, colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    mixed = image + (colours.astype(np.float32) - image) * opacity[..., None]
    return mixed.round().astype(np.uint8)


def _panel_width(caption: str, image: np.ndarray) -> int:
    return max(image.shape[1], _text_width(caption, TEXT))


def _text_width(text: str, size: int) -> int:
    shown, font = written(text, size)
    return int(np.ceil(font.getlength(shown)))
