"""The few SVG pieces all plots are drawn with; colours are CSS classes, so that they follow the theme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]
LETTER = 7.2
"""Mean width of a letter at 12 pixels, for the widest of the usual fonts."""


def el(tag: str, *body: str, **attributes: object) -> Markup:
    """An element; `class_` is class, an underscore a hyphen, text is escaped.

    >>> str(el("text", "a<b", x=1.23456, text_anchor="end"))
    '<text x="1.23" text-anchor="end">a&lt;b</text>'
    """
    pairs = []
    for key, value in attributes.items():
        if value is None:
            continue
        name = key.rstrip("_") if key.startswith(("class", "for")) else key.replace("_", "-")
        name = {"viewbox": "viewBox"}.get(name, name)
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
        pairs.append(f' {name}="{escape(text)}"')
    inner = "".join(escape(part) for part in body)
    return Markup(f"<{tag}{''.join(pairs)}>{inner}</{tag}>")  # noqa: S704 - every part is escaped above


def picture(width: float, height: float, title: str, *body: str, class_: str = "plot") -> Markup:
    """The outer element of a plot, with its text alternative."""
    box = f"0 0 {width:g} {height:g}"
    return el("svg", *body, class_=class_, viewbox=box, role="img", aria_label=title)


def path(points: Iterable[Point], **attributes: object) -> Markup:
    """A line through points."""
    steps = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return el("path", d=steps, **attributes)


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies, held within the axis.

        >>> Axis(0, 2, 0, 100).at(1), Axis(0.01, 1, 0, 100, log=True).at(0.1)
        (50.0, 50.0)
        """
        low, high, v = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, v = math.log(low), math.log(high), math.log(v)
        share = (v - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values along the axis."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values within a range.

    >>> ticks(0.47, 0.93)
    [0.5, 0.6, 0.7, 0.8, 0.9]
    """
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten; powers only where that would be many.

    >>> log_ticks(0.05, 1)
    [0.05, 0.1, 0.2, 0.5, 1]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = math.log10(high / low) > 2.2
    found = [float(f"{m}e{p}") for p in powers for m in ((1,) if wide else (1, 2, 5))]
    return [int(v) if v >= 1 else v for v in found if low * 0.999 <= v <= high * 1.001]


def padded(values: Sequence[float], share: float = 0.06, least: float = 0.02) -> tuple[float, float]:
    """A range with some air around the values.

    >>> padded([1.0, 2.0])
    (0.94, 2.06)
    """
    low, high = min(values), max(values)
    air = max((high - low) * share, least)
    return low - air, high + air


@dataclass(frozen=True)
class Boxed:
    """A rectangle that something already fills."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Boxed) -> float:
        """Shared area."""
        wide = min(self.x1, other.x1) - max(self.x0, other.x0)
        tall = min(self.y1, other.y1) - max(self.y0, other.y0)
        return wide * tall if wide > 0 and tall > 0 else 0.0


_OFFSETS = [(1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)]


def place_labels(at: Sequence[Point], texts: Sequence[str], taken: Sequence[Boxed], frame: Boxed) -> list[Boxed]:
    """Boxes for labels beside their points, that overlap neither each other nor what is taken.

    Each label goes to the free place nearest its point, out of eight directions at growing distance; where none is
    free, to the place that overlaps least.
    """
    filled, placed = list(taken), []
    for (x, y), text in zip(at, texts, strict=True):
        width, height = len(text) * LETTER + 4, 15.0
        options = []
        for reach in (8.0, 15.0, 24.0, 36.0, 50.0, 68.0):
            for dx, dy in _OFFSETS:
                cx, cy = x + dx * (reach + width / 2), y + dy * (reach + height / 2)
                if dx and dy:
                    cx = x + dx * (reach * 0.6 + width / 2)
                box = Boxed(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
                outside = width * height - box.overlap(frame)
                cost = sum(box.overlap(other) for other in filled) + 3 * outside
                options.append((round(cost, 3), reach, box))
        best = min(options, key=lambda o: (o[0], o[1]))[2]
        placed.append(best)
        filled.append(best)
    return placed
