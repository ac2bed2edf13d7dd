"""The frontier: what each store is good for, against what it gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from translucid.report.cases import method_name
from translucid.report.numbers import Figure, finite, percent, size
from translucid.report.plots import Style, frame, names_beside
from translucid.report.read import Run, Table, as_list, as_table
from translucid.report.svg import Axis, Boxed, el, padded, path, picture
from translucid.report.tables import Cell, Line, Sheet, number, signed

FIGURES = (
    ("auc", "AUC", "test cases"),
    ("auc_gained", "Difference", "in AUC, to the plain image"),
    ("verification", "Same person?", "AUC of the best attack"),
    ("rank1", "Named first", "rank-1 of the best attack"),
    ("gain", "Redrawn", "gain over the mean image"),
    ("explanation", "Maps", "best method"),
)


@dataclass(frozen=True)
class Frontier:
    """Table, plot – over the whole width where there are many stores – and advice."""

    sheet: Sheet
    plot: Markup | None
    wide: bool
    advice: str


def frontier(run: Run, styles: dict[str, Style]) -> Frontier | None:
    """None where frontier.json is absent or has no rows."""
    rows = [as_table(r) for r in as_list(run.frontier.get("rows")) if as_table(r)]
    if not rows:
        return None
    return Frontier(_sheet(rows, styles), _plot(rows, styles), len(rows) > FEW, _advice(run.frontier))


def _style(row: Table, styles: dict[str, Style], fallback: int) -> Style:
    found = styles.get(str(row.get("variant") or ""))
    return Style(str(row.get("compressor") or "?"), found.n if found else fallback)


def _figure(row: Table, name: str) -> Figure:
    return Figure.of(as_table(row.get(name)))


def _cell(row: Table, name: str) -> Cell:
    """A number with its interval; of maps, also what was measured and by which method."""
    cell = (signed if name == "auc_gained" else number)(_figure(row, name))
    told = as_table(row.get(name))
    words = [method_name(str(told["explainer"]))] if told.get("explainer") else []
    words += [str(told["measure"]).replace("_", " ")] if told.get("measure") else []
    return replace(cell, last=", ".join(words)) if words else cell


def _sheet(rows: Sequence[Table], styles: dict[str, Style]) -> Sheet:
    there = [f for f in FIGURES if any(_figure(r, f[0]).known for r in rows)]
    lines = []
    for i, r in enumerate(rows):
        cells = [_cell(r, f[0]) for f in there]
        cells += [Cell(size(finite(r.get("bytes_per_image")))), Cell(percent(finite(r.get("share_of_values"))))]
        cells.append(Cell("yes", tone="good") if r.get("front") is True else Cell("no"))
        lines.append(Line(_style(r, styles, i + 1), cells, str(r.get("variant") or "")))
    heads = [(f[1], f[2]) for f in there] + [("Size", "per image"), ("Values kept", "of all"), ("On the front", "")]
    return Sheet("Use against risk, one line for each store", heads, lines, first="Store")


def _advice(told: Table) -> str:
    """The recommendation with its constraint; its absence is said too."""
    chosen, limits = as_table(told.get("recommendation")), as_table(told.get("constraint"))
    bound = ", ".join(f"{str(k).replace('_', ' ')} = {v}" for k, v in limits.items())
    under = f" Asked for: {bound}." if bound else ""
    if not chosen:
        return f"No store is recommended: none meets what was asked for.{under}"
    reason = str(chosen.get("reason") or "").rstrip(".")
    return f"Recommended among these: {chosen.get('compressor')}, since its {reason}.{under}"


# -- the plot ------------------------------------------------------------------------------------------------------

LEFT, BOTTOM = 50.0, 48.0
FEW = 8
"""Stores of which the names find room in a small plot."""


def _plot(rows: Sequence[Table], styles: dict[str, Style]) -> Markup | None:
    """AUC against rank-1: whiskers, the front as a line, and the variants' names."""
    marks = [(r, _style(r, styles, i + 1), _figure(r, "rank1"), _figure(r, "auc")) for i, r in enumerate(rows)]
    marks = [m for m in marks if m[2].known and m[3].known]
    if not marks:
        return None
    width, height = (940.0, 520.0) if len(rows) > FEW else (460.0, 330.0)
    xs, ys = _values([m[2] for m in marks]), _values([m[3] for m in marks])
    x, y = Axis(*padded(xs), LEFT, width - 12), Axis(*padded(ys), height - BOTTOM, 14.0)
    at = [(x.at(m[2].value or 0.0), y.at(m[3].value or 0.0)) for m in marks]
    parts = frame(x, y, "rank-1 of the best attack: less is better", "AUC: more is better")
    front = sorted(p for p, m in zip(at, marks, strict=True) if m[0].get("front") is True)
    if len(front) > 1:
        parts.append(path(front, class_="guide"))
    taken = []
    for (px, py), (_, style, risk, use) in zip(at, marks, strict=True):
        for ends in (_ends(risk, x, (px, py), True), _ends(use, y, (px, py), False)):
            if ends:
                parts.append(path(ends, class_=f"whisker {style.colour}"))
                taken.append(Boxed(ends[0][0] - 3, ends[1][1] - 3, ends[1][0] + 3, ends[0][1] + 3))
        parts.append(el("circle", cx=px, cy=py, r=5.0, class_=f"dot {style.colour}"))
        taken.append(Boxed(px - 6, py - 6, px + 6, py + 6))
    names = [str(m[0].get("variant") or m[1].name)[:26] for m in marks]
    parts += names_beside(at, names, [m[1] for m in marks], taken, Boxed(LEFT + 2, 2, width - 2, height - BOTTOM - 2))
    return picture(width, height, f"AUC against rank-1 of {len(marks)} stores", *parts)


def _values(figures: Sequence[Figure]) -> list[float]:
    """Every value and end of an interval."""
    return [v for f in figures for v in (f.value, f.low, f.high) if v is not None]


def _ends(figure: Figure, axis: Axis, at: tuple[float, float], flat: bool) -> list[tuple[float, float]]:
    """Both ends of a whisker."""
    if figure.bounds is None:
        return []
    low, high = (axis.at(v) for v in figure.bounds)
    return [(low, at[1]), (high, at[1])] if flat else [(at[0], low), (at[0], high)]


__all__ = ["Frontier", "frontier"]
