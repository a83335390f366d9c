"""Photos for the generated catalogue: shapes and palettes typical of the category, with much noise."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

SIDE = 500
"""Pixels; the real photos are 500×500 too."""

_QUALITY = 40  # about 6 kB a photo, so that the sample stays below 4.5 MB

Box = tuple[int, int, int, int]
Ink = ImageDraw.ImageDraw


@dataclass(frozen=True, slots=True)
class Style:
    """The look of a category: a shape and three colours."""

    shape: str
    palette: tuple[str, ...]


def draw_photo(style: Style, chance: random.Random) -> bytes:
    """Return a 500×500 JPEG of something in this style; all are different."""
    background = chance.choice(["#ffffff", "#ffffff", "#f4f4f2", "#e8eef2", "#efe6da"])
    image = Image.new("RGB", (SIDE, SIDE), background)
    ink = ImageDraw.Draw(image)
    colours = list(style.palette)
    chance.shuffle(colours)
    if chance.random() < 0.3:
        colours[0] = f"#{chance.randrange(1 << 24):06x}"
    width, height = chance.randint(150, 330), chance.randint(150, 330)
    left, top = chance.randint(20, SIDE - width - 20), chance.randint(20, SIDE - height - 20)
    _SHAPES[style.shape](ink, (left, top, left + width, top + height), colours, chance)
    for _ in range(chance.randint(0, 4)):
        _clutter(ink, chance)
    image = image.rotate(chance.uniform(-12, 12), fillcolor=background, resample=Image.Resampling.BILINEAR)
    if chance.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(chance.uniform(0.5, 2)))
    grain = Image.frombytes("L", (16, 16), chance.randbytes(256)).resize((SIDE, SIDE))
    image = Image.blend(image, grain.convert("RGB"), 0.1)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _clutter(ink: Ink, chance: random.Random) -> None:
    x, y, size = chance.randrange(SIDE), chance.randrange(SIDE), chance.randint(8, 40)
    ink.ellipse((x, y, x + size, y + size), fill=f"#{chance.randrange(1 << 24):06x}")


def _part(box: Box, left: float, top: float, right: float, bottom: float) -> Box:
    """Return the part of `box` between these fractions of its width and height."""
    x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
    return (int(x + left * width), int(y + top * height), int(x + right * width), int(y + bottom * height))


def _book(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rectangle(box, fill=colours[0], outline="#333333", width=2)
    ink.rectangle(_part(box, 0, 0, 0.08, 1), fill=colours[1])
    ink.rectangle(_part(box, 0.2, 0.12, 0.85, 0.2), fill=colours[2])
    for line in range(chance.randint(2, 5)):
        ink.rectangle(_part(box, 0.2, 0.3 + 0.08 * line, chance.uniform(0.5, 0.9), 0.33 + 0.08 * line), fill=colours[1])


def _case(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rectangle(box, fill=colours[0], outline="#111111", width=3)
    ink.rectangle(_part(box, 0, 0, 1, 0.14), fill=colours[1])
    ink.polygon([(box[0], box[3]), (box[2], box[3]), (chance.randint(box[0], box[2]), box[1] + 60)], fill=colours[2])


def _gadget(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rounded_rectangle(_part(box, 0, 0.25, 1, 0.75), radius=40, fill=colours[0])
    for i in range(chance.randint(2, 4)):
        ink.ellipse(_part(box, 0.6 + 0.09 * i, 0.4, 0.67 + 0.09 * i, 0.5), fill=colours[1])
    ink.rectangle(_part(box, 0.2, 0.45, 0.4, 0.52), fill=colours[2])
    ink.rectangle(_part(box, 0.27, 0.38, 0.33, 0.6), fill=colours[2])


def _figure(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.ellipse(_part(box, 0.35, 0, 0.65, 0.3), fill=colours[1])
    ink.rectangle(_part(box, 0.32, 0.3, 0.68, 0.68), fill=colours[0])
    ink.rectangle(_part(box, 0.34, 0.68, 0.46, 1), fill=colours[2])
    ink.rectangle(_part(box, 0.54, 0.68, 0.66, 1), fill=colours[2])
    ink.line([(box[0], chance.randint(box[1], box[3])), (box[2], box[1] + 90)], fill=colours[1], width=14)


def _card(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rounded_rectangle(_part(box, 0.2, 0, 0.8, 1), radius=14, fill=colours[0], outline="#222222", width=2)
    ink.rectangle(_part(box, 0.27, 0.12, 0.73, 0.52), fill=colours[1])
    for line in range(chance.randint(2, 5)):
        ink.line([_part(box, 0.27, 0.6 + 0.07 * line, 0.73, 1)[:2], (box[2] - 60, box[3] - 60)], fill=colours[2])


def _round(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    for i, inset in enumerate((0.0, 0.15, 0.3, 0.42)[: chance.randint(2, 4)]):
        ink.ellipse(_part(box, inset, inset, 1 - inset, 1 - inset), fill=colours[i % 3])


def _soft(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rounded_rectangle(box, radius=60, fill=colours[0])
    for _ in range(chance.randint(5, 14)):
        x, y = chance.randint(box[0] + 20, box[2] - 30), chance.randint(box[1] + 20, box[3] - 30)
        ink.ellipse((x, y, x + 16, y + 16), fill=colours[chance.choice([1, 2])])


def _furniture(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rectangle(_part(box, 0, 0.3, 1, 0.45), fill=colours[0])
    for x in (0.04, 0.88):
        ink.rectangle(_part(box, x, 0.45, x + 0.08, 1), fill=colours[2])
    if chance.random() < 0.6:
        ink.rectangle(_part(box, 0.04, 0, 0.14, 0.3), fill=colours[1])


def _bottle(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.rounded_rectangle(_part(box, 0.25, 0.25, 0.75, 1), radius=24, fill=colours[0])
    ink.rectangle(_part(box, 0.4, 0, 0.6, 0.27), fill=colours[2])
    ink.rectangle(_part(box, 0.25, chance.uniform(0.4, 0.5), 0.75, 0.8), fill=colours[1])


def _pool(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.ellipse(_part(box, 0, 0.2, 1, 0.9), fill=colours[0], outline="#ffffff", width=8)
    for i in range(chance.randint(2, 5)):
        ink.arc(_part(box, 0.1, 0.3 + 0.08 * i, 0.9, 0.6 + 0.08 * i), 20, 160, fill=colours[1], width=5)


def _tool(ink: Ink, box: Box, colours: list[str], chance: random.Random) -> None:
    ink.line([box[:2], box[2:]], fill=colours[0], width=chance.randint(18, 34))
    ink.rectangle(_part(box, 0, 0, 0.35, 0.2), fill=colours[1])
    ink.polygon([box[2:], (box[2] - 80, box[3]), (box[2], box[3] - 110)], fill=colours[2])


_SHAPES: dict[str, Callable[[Ink, Box, list[str], random.Random], None]] = {
    "book": _book,
    "case": _case,
    "gadget": _gadget,
    "figure": _figure,
    "card": _card,
    "round": _round,
    "soft": _soft,
    "furniture": _furniture,
    "bottle": _bottle,
    "pool": _pool,
    "tool": _tool,
}
