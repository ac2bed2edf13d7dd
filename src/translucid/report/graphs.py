"""Which plots a run has: the trade-offs, the curves of each label, and how training went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from translucid.report.numbers import MACRO
from translucid.report.plots import Line, Mark, Panel, Style, panel, scatter
from translucid.report.read import Run, Table, as_list, as_table

MOST = 8
"""More lines than this in one panel cannot be told apart."""


@dataclass
class Graphs:
    """All plots, and the legend that they share."""

    legend: list[Style] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    trade: list[Markup] = field(default_factory=list)
    roc: list[Markup] = field(default_factory=list)
    pr: list[Markup] = field(default_factory=list)
    reliability: list[Markup] = field(default_factory=list)
    history: list[Markup] = field(default_factory=list)
    numbered: bool = False


def graphs(run: Run, styles: dict[str, Style]) -> Graphs:
    """Draw what there is."""
    shown = _shown(run)
    found = Graphs([styles[v] for v in shown], [v for v in run.variants if v not in shown])
    found.trade = _trade(run, styles)
    found.numbered = len(run.variants) > 12
    for label in run.labels:
        lines = {v: as_table(as_table(run.curves.get(v)).get(label)) for v in shown}
        _add(found.roc, _roc(label, lines, styles))
        _add(found.pr, _pr(label, lines, styles))
        _add(found.reliability, _reliability(label, lines, styles))
    for column, title in (
        ("train_loss", "Training loss"),
        ("val_loss", "Validation loss"),
        ("val_auc", "Validation AUC"),
    ):
        _add(found.history, _history(run, shown, styles, column, title))
    return found


def _add(plots: list[Markup], plot: Markup | None) -> None:
    if plot is not None:
        plots.append(plot)


def _shown(run: Run) -> list[str]:
    """All variants where they can be told apart; else the baseline and those with the best AUC."""
    if len(run.variants) <= MOST:
        return run.variants
    f = run.figures
    others = [v for v in run.variants if v != run.baseline]
    others.sort(key=lambda v: -(f.get("auc", v, f.overall, "test").value or 0.0))
    kept = {run.baseline, *others[: MOST - 1]}
    return [v for v in run.variants if v in kept]


def _trade(run: Run, styles: dict[str, Style]) -> list[Markup]:
    f = run.figures
    title = "macro AUC" if f.overall == MACRO else f"AUC, {f.overall}"
    plots: list[Markup] = []
    for measure, name, shares in (
        ("share_of_values", "share of values kept", True),
        ("seconds_per_15000", "training seconds per 15\u202f000 images", False),
    ):
        marks = [Mark(styles[v], f.get(measure, v), f.get("auc", v, f.overall, "test")) for v in run.variants]
        _add(plots, scatter(marks, name, title, shares))
    return plots


def _points(table: Table, x: str, y: str) -> Line:
    return list(zip(_numbers(table.get(x)), _numbers(table.get(y)), strict=False))


def _numbers(values: Any) -> list[float | None]:
    return [float(v) if isinstance(v, int | float) else None for v in as_list(values)]


def _roc(label: str, lines: dict[str, Table], styles: dict[str, Style]) -> Markup | None:
    drawn = [(styles[v], _points(as_table(t.get("roc")), "fpr", "tpr")) for v, t in lines.items()]
    return panel(Panel(label, drawn, "1 − specificity", "sensitivity", guide=((0, 0), (1, 1))))


def _pr(label: str, lines: dict[str, Table], styles: dict[str, Style]) -> Markup | None:
    tables = {v: as_table(t.get("pr")) for v, t in lines.items()}
    found = [p for t in tables.values() if isinstance(p := t.get("prevalence"), int | float)]
    guide = ((0.0, float(found[0])), (1.0, float(found[0]))) if found else ()
    drawn = [(styles[v], _points(t, "recall", "precision")) for v, t in tables.items()]
    return panel(Panel(label, drawn, "recall", "precision", guide=guide))


def _reliability(label: str, lines: dict[str, Table], styles: dict[str, Style]) -> Markup | None:
    drawn = [(styles[v], _points(as_table(t.get("reliability")), "predicted", "observed")) for v, t in lines.items()]
    return panel(Panel(label, drawn, "predicted probability", "observed share", guide=((0, 0), (1, 1)), dots=True))


def _history(run: Run, shown: Sequence[str], styles: dict[str, Style], column: str, title: str) -> Markup | None:
    drawn = []
    for v in shown:
        columns = run.history(v)
        values = columns.get(column, [])
        epochs = columns.get("epoch") or [float(i + 1) for i in range(len(values))]
        drawn.append((styles[v], list(zip(epochs, values, strict=False))))
    return panel(Panel(title, drawn, "epoch", title.split()[-1], x_range=None, y_range=None))
