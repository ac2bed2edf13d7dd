"""The plots of the report, as inline SVG in the colours of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from translucid.report.numbers import Figure, fixed, percent
from translucid.report.svg import LETTER, Axis, Boxed, Point, el, padded, path, picture, place_labels

COLOURS = 8
DASHES = ("", "d1", "d2", "d3")
Line = Sequence[tuple[float | None, float | None]]


@dataclass(frozen=True)
class Style:
    """How a variant is drawn everywhere: colour by `n`, dash and marker where colours run out."""

    name: str
    n: int

    @property
    def colour(self) -> str:
        """CSS class of its colour."""
        return f"s{self.n}" if self.n < COLOURS else f"s{1 + (self.n - 1) % (COLOURS - 1)}"

    @property
    def classes(self) -> str:
        """CSS classes of its line."""
        turn = 0 if self.n == 0 else (self.n - 1) // (COLOURS - 1)
        return f"line {self.colour} {DASHES[turn % len(DASHES)]}".strip()


def styles(variants: Sequence[str], baseline: str) -> dict[str, Style]:
    """The baseline in the colour of the text, the others in a fixed order of colours.

    >>> [s.colour for s in styles(["a", "b", "c"], "b").values()]
    ['s1', 's0', 's2']
    """
    others = [v for v in variants if v != baseline]
    return {v: Style(v, 0 if v == baseline else 1 + others.index(v)) for v in variants}


# -- the dot-and-whisker column ------------------------------------------------------------------------------------

STRIP = 150.0


def auc_range(figures: Sequence[Figure]) -> tuple[float, float]:
    """The common axis of all strips, in tenths, within 0 and 1, chance included where somebody is near it."""
    values = [v for f in figures for v in (f.value, f.low, f.high) if v is not None]
    if not values:
        return 0.5, 1.0
    low, high = padded(values, 0.03, 0.01)
    return max(0.0, int(low * 10) / 10), min(1.0, -int(-high * 10 - 0.999) / 10)


def strip(figure: Figure, axis: tuple[float, float], base: float | None, style: Style) -> Markup:
    """Value and interval on the common axis; the baseline's value is the vertical line."""
    scale = Axis(axis[0], axis[1], 5, STRIP - 5)
    parts = [el("line", x1=0, x2=STRIP, y1=11, y2=11, class_="grid")]
    if base is not None:
        parts.append(el("line", x1=scale.at(base), x2=scale.at(base), y1=0, y2=22, class_="baseline"))
    if figure.bounds:
        low, high = figure.bounds
        parts.append(path([(scale.at(low), 11.0), (scale.at(high), 11.0)], class_=f"whisker {style.colour}"))
    if figure.value is not None:
        parts.append(el("circle", cx=scale.at(figure.value), cy=11, r=4.2, class_=f"dot {style.colour}"))
    text = f"{style.name}: {fixed(figure.value)}" + (
        f", interval {fixed(figure.low)} to {fixed(figure.high)}" if figure.bounds else ""
    )
    return picture(STRIP, 22, text, *parts, class_="strip")


def strip_axis(axis: tuple[float, float]) -> Markup:
    """Ticks of the common axis, for the head of the column."""
    scale = Axis(axis[0], axis[1], 5, STRIP - 5)
    marks = scale.ticks(4)
    inner = [
        el("text", f"{v:.1f}", x=min(max(scale.at(v), 9), STRIP - 9), y=10, text_anchor="middle", class_="tick")
        for v in marks
    ]
    lines = [el("line", x1=scale.at(v), x2=scale.at(v), y1=13, y2=17, class_="axis") for v in marks]
    return picture(STRIP, 18, "common axis of the column", *inner, *lines, class_="strip")


# -- scatter -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """One variant in a scatter plot."""

    style: Style
    x: Figure
    y: Figure


def scatter(marks: Sequence[Mark], x_title: str, y_title: str, shares: bool) -> Markup | None:
    """AUC against a cost on a logarithmic axis, with whiskers and labels that do not overlap."""
    marks = [m for m in marks if m.x.value and m.x.value > 0 and m.y.value is not None]
    if not marks:
        return None
    width, height, left, top, bottom = 460.0, 330.0, 50.0, 14.0, 48.0
    xs = [v for m in marks for v in (m.x.value, m.x.low, m.x.high) if v]
    ys = [v for m in marks for v in (m.y.value, m.y.low, m.y.high) if v is not None]
    x = Axis(min(xs) / (1.9 if shares else 1.6), max(xs) * (1.25 if shares else 1.5), left, width - 12, log=True)
    y = Axis(*padded(ys), height - bottom, top)
    parts = frame(x, y, x_title, y_title, percent if shares else None)
    taken = []
    for m in marks:
        px, py = x.at(m.x.value or 1), y.at(m.y.value or 0)
        if m.y.bounds:
            ends = [y.at(v) for v in m.y.bounds]
            parts.append(path([(px, ends[0]), (px, ends[1])], class_=f"whisker {m.style.colour}"))
            taken.append(Boxed(px - 3, min(ends), px + 3, max(ends)))
        if m.x.bounds and not shares and m.x.bounds[0] > 0:
            ends = [x.at(v) for v in m.x.bounds]
            parts.append(path([(ends[0], py), (ends[1], py)], class_=f"whisker {m.style.colour}"))
            taken.append(Boxed(min(ends), py - 3, max(ends), py + 3))
        parts.append(el("circle", cx=px, cy=py, r=5.0, class_=f"dot {m.style.colour}"))
        taken.append(Boxed(px - 6, py - 6, px + 6, py + 6))
    at = [(x.at(m.x.value or 1), y.at(m.y.value or 0)) for m in marks]
    many = len(marks) > 12  # too many to read: their numbers in the table
    texts = [str(m.style.n) if many else m.style.name[:26] for m in marks]
    room = Boxed(left + 2, 2, width - 2, height - bottom - 2)
    parts += names_beside(at, texts, [m.style for m in marks], taken, room)
    return picture(width, height, f"{y_title} against {x_title}: {len(marks)} variants", *parts)


def names_beside(
    at: Sequence[Point], texts: Sequence[str], styles: Sequence[Style], taken: Sequence[Boxed], frame: Boxed
) -> list[Markup]:
    """Names beside the points, joined to them by a line where they stand apart."""
    parts = []
    for (px, py), box, text, style in zip(at, place_labels(at, texts, taken, frame), texts, styles, strict=True):
        near = min(max(px, box.x0), box.x1), min(max(py, box.y0), box.y1)
        if abs(near[0] - px) + abs(near[1] - py) > 14:
            parts.append(path([(px, py), near], class_="leader"))
        middle, wide = (box.x0 + box.x1) / 2, len(text) * LETTER > frame.x1 - frame.x0
        parts.append(
            el(
                "text",
                text,
                x=middle,
                y=box.y1 - 4,
                text_anchor="middle",
                class_=f"name {style.colour}",
                textLength=frame.x1 - frame.x0 if wide else None,
            )
        )
    return parts


def frame(x: Axis, y: Axis, x_title: str, y_title: str, show: object = None) -> list[Markup]:
    """Grid, ticks and titles of the axes."""
    parts = []
    for v in y.ticks(5):
        parts.append(el("line", x1=x.start, x2=x.end, y1=y.at(v), y2=y.at(v), class_="grid"))
        parts.append(
            el("text", f"{v:g}".replace("-", "−"), x=x.start - 7, y=y.at(v) + 4, text_anchor="end", class_="tick")
        )
    last = -1e9
    for v in x.ticks(5):
        text = show(v).replace("\u00a0", "\u202f") if callable(show) else f"{v:,g}".replace(",", "\u202f")
        if x.at(v) - last < len(text) * LETTER + 8:
            continue
        last = x.at(v)
        parts.append(el("line", x1=last, x2=last, y1=y.start, y2=y.start + 4, class_="axis"))
        parts.append(el("text", text, x=last, y=y.start + 17, text_anchor="middle", class_="tick"))
    parts.append(el("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="axis"))
    middle = (x.start + x.end) / 2, (y.start + y.end) / 2
    parts.append(el("text", x_title, x=middle[0], y=y.start + 37, text_anchor="middle", class_="title"))
    turn = f"rotate(-90 13 {middle[1]:.1f})"
    parts.append(el("text", y_title, x=13, y=middle[1], text_anchor="middle", transform=turn, class_="title"))
    return parts


# -- curves --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A small plot of several lines.

    Attributes:
        title: above it.
        lines: style and points of each variant.
        x_title, y_title: of the axes.
        guide: a grey reference line.
        dots: whether each point is marked.
        x_range, y_range: of the axes; None fits the lines.
    """

    title: str
    lines: Sequence[tuple[Style, Line]]
    x_title: str
    y_title: str
    guide: Sequence[Point] = ()
    dots: bool = False
    x_range: tuple[float, float] | None = (0.0, 1.0)
    y_range: tuple[float, float] | None = (0.0, 1.0)


def panel(p: Panel) -> Markup | None:
    """Draw one panel; None where no line has a point."""
    lines = [(s, [(a, b) for a, b in points if a is not None and b is not None]) for s, points in p.lines]
    lines = [(s, points) for s, points in lines if points]
    if not lines:
        return None
    width, height = 320.0, 290.0
    everything = [q for _, points in lines for q in points]
    x_low, x_high = p.x_range or (min(q[0] for q in everything), max(max(q[0] for q in everything), 1.0))
    y_low, y_high = p.y_range or padded([q[1] for q in everything])
    x, y = Axis(x_low, x_high, 48, width - 10), Axis(y_low, y_high, height - 46, 30)
    parts = [el("text", p.title, x=48, y=16, class_="head"), *frame(x, y, p.x_title, p.y_title)]
    if p.guide:
        parts.append(path([(x.at(a), y.at(b)) for a, b in p.guide], class_="guide"))
    for style, points in sorted(lines, key=lambda s: -s[0].n):
        at = [(x.at(a), y.at(b)) for a, b in points]
        if len(at) > 1:
            parts.append(path(at, class_=style.classes))
        if p.dots or len(at) == 1:
            parts += [el("circle", cx=a, cy=b, r=2.6, class_=f"dot {style.colour}") for a, b in at]
    names = ", ".join(s.name for s, _ in lines)
    return picture(width, height, f"{p.title}: {p.y_title} against {p.x_title} of {names}", *parts)


def swatch(style: Style) -> Markup:
    """The sample of a line for a legend."""
    line = path([(1.0, 6.0), (27.0, 6.0)], class_=style.classes)
    return el("svg", line, class_="swatch", viewbox="0 0 28 12", aria_hidden="true")


# -- bars ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One signed bar: its name, the group it stands in, and the number of its colour."""

    name: str
    group: str
    kind: int
    value: float


def bars(title: str, items: Sequence[Bar], largest: float, note: str = "") -> Markup:
    """Signed bars side by side, groups apart, zero as the line in the middle."""
    groups: Mapping[str, list[Bar]] = {
        g: [b for b in items if b.group == g] for g in dict.fromkeys(b.group for b in items)
    }
    wide = max(4.0, min(18.0, 250.0 / max(len(items), 1)))
    left, height, gap = 58.0, 190.0, 14.0
    digits = 2 if largest >= 0.1 else 4
    width = max(300.0, left + len(items) * wide + (len(groups) + 1) * gap)
    y = Axis(-largest or -1.0, largest or 1.0, height - 40, 30)
    parts = [el("text", title, x=left, y=15, class_="head")]
    for v in (-largest, 0.0, largest):
        parts.append(
            el("text", fixed(v, digits, signed=True), x=left - 7, y=y.at(v) + 4, text_anchor="end", class_="tick")
        )
        parts.append(el("line", x1=left, x2=width, y1=y.at(v), y2=y.at(v), class_="axis" if v == 0 else "grid"))
    if note:
        parts.append(el("text", note, x=left, y=height - 3, class_="tick"))
    x = left + gap
    for group, members in groups.items():
        for b in members:
            top, zero = min(y.at(b.value), y.at(0)), y.at(0)
            hint = el("title", f"{b.name}: {fixed(b.value, 3, signed=True)}")
            parts.append(
                el(
                    "rect",
                    hint,
                    x=x + 0.5,
                    y=top,
                    width=wide - 1,
                    height=max(abs(y.at(b.value) - zero), 0.6),
                    class_=f"bar s{1 + b.kind % 7}",
                )
            )
            x += wide
        parts.append(
            el("text", group, x=x - len(members) * wide / 2, y=height - 20, text_anchor="middle", class_="tick")
        )
        x += gap
    return picture(width, height, f"{title}: contribution of {len(items)} bands, in logits", *parts)
