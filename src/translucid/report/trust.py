"""Whether the maps can be trusted: each method against each criterion, with the number that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from translucid.report.cases import method_name
from translucid.report.numbers import Figure, between, finite, fixed, p_text
from translucid.report.plots import Style
from translucid.report.pointing import BASELINES, POOLED
from translucid.report.read import Run, Table, as_list, as_table
from translucid.report.tables import Cell, Line, Sheet, number

CRITERIA = {
    "utility": ("Finds the finding", "points at what was drawn better than the best map that knows nothing"),
    "gaze": ("Agrees with gaze", "correlates with where readers looked better than the best map that knows nothing"),
    "insertion_deletion": ("Insertion, deletion", "showing first, or hiding first, what it marks moves the prediction"),
    "road": ("ROAD", "replacing what it marks by its surroundings moves the prediction"),
    "infidelity": ("Infidelity", "predicts what happens when squares are removed"),
    "stability": ("Stable", "changes little when a little noise is added to the image"),
    "weight_randomisation": ("Depends on weights", "a model with random weights gives another map"),
    "label_randomisation": ("Depends on labels", "a model trained on shuffled labels gives another map"),
    "repeatability": ("Repeatable", "a model trained with another seed gives the same map"),
    "reproducibility": ("Reproducible", "a model of another architecture gives the same map"),
}
TONES = {"passes": "good", "fails": "bad"}


@dataclass(frozen=True)
class Trust:
    """One variant."""

    style: Style
    sheet: Sheet
    rules: list[tuple[str, str]] = field(default_factory=list)
    folds: list[Sheet] = field(default_factory=list)


def trust(run: Run, styles: dict[str, Style]) -> list[Trust]:
    """One `Trust` for each variant of trust.json that has verdicts."""
    found = []
    for variant, told in run.trust.items():
        verdicts, rows = (_tables(as_table(told).get(name)) for name in ("verdicts", "rows"))
        if verdicts:
            style = styles.get(variant, Style(variant, -1))
            found.append(Trust(style, _sheet(variant, verdicts), _rules(verdicts), _numbers(rows)))
    return found


def _tables(value: object) -> list[Table]:
    return [as_table(row) for row in as_list(value) if as_table(row)]


def _names(rows: Sequence[Table], key: str) -> list[str]:
    return list(dict.fromkeys(str(row.get(key) or "") for row in rows))


def _sheet(variant: str, verdicts: Sequence[Table]) -> Sheet:
    """Method × criterion; criteria of which nothing was measured keep their column, so that nothing hides."""
    at = {(str(v.get("explainer")), str(v.get("criterion"))): v for v in verdicts}
    told = _names(verdicts, "criterion")
    lines = []
    for name in _names(verdicts, "explainer"):
        cells = [_verdict(at.get((name, c), {})) for c in told]
        passed, judged = (sum(c.tone in tones for c in cells) for tones in (("good",), ("good", "bad")))
        lines.append(
            Line(Style(method_name(name), -1), cells, f"{passed} of {judged} passed" if judged else "not judged")
        )
    heads = [(CRITERIA.get(c, (c, ""))[0], "") for c in told]
    return Sheet(f"Verdicts on the maps of {variant}, with the number that decided", heads, lines, first="Method")


def _verdict(row: Table) -> Cell:
    word, figure = str(row.get("verdict") or "n/a"), Figure.of(row)
    if word not in TONES:
        return Cell("n/a", "not measured")
    limit, p = finite(row.get("limit")), p_text(figure.p)
    small = f"{fixed(figure.value)} ({between(figure)})" if figure.known else "no number"
    last = f"{_measured(str(row.get('measure') or ''))}limit {fixed(limit)}" if limit is not None else ""
    return Cell(word, small, last=f"{last}, {p}" if last and p else last or p, tone=TONES[word])


def _measured(measure: str) -> str:
    """Which of two measures decided."""
    return "SSIM, " if measure.startswith("ssim") else "rank, " if measure.startswith("rank_correlation") else ""


def _rules(verdicts: Sequence[Table]) -> list[tuple[str, str]]:
    """What each criterion asks, and the rule of each method in words."""
    found = []
    for name in _names(verdicts, "criterion"):
        title, meaning = CRITERIA.get(name, (name, ""))
        asked = [v for v in verdicts if str(v.get("criterion")) == name]
        mine = [v for v in asked if v.get("verdict") in TONES]
        said: dict[str, list[str]] = {}
        for v in mine:
            said.setdefault(str(v.get("rule") or ""), []).append(method_name(str(v.get("explainer") or "")))
        rules = [rule if len(said) == 1 else f"{', '.join(who)}: {rule}" for rule, who in said.items()]
        why = "; ".join(dict.fromkeys(str(v["rule"]) for v in asked if v.get("rule")))
        rules = rules or ["not measured" + (f": {why}" if why else "")]
        found.append((title, "; ".join([*filter(None, [meaning]), *rules])))
    return found


def _numbers(rows: Sequence[Table]) -> list[Sheet]:
    """Every number: a table for each label, all labels together first; measures down and maps across."""
    explainers, found = _names(rows, "explainer"), []
    for label in sorted(_names(rows, "label"), key=lambda x: x != POOLED):
        mine = [r for r in rows if str(r.get("label") or "") == label and finite(r.get("value")) is not None]
        at = {(str(r.get("measure")), str(r.get("explainer") or "")): r for r in mine}
        lines = [
            Line(Style(m.replace("_", " "), -1), [number(Figure.of(at.get((m, e), {}))) for e in explainers])
            for m in _names(mine, "measure")
        ]
        heads = [(BASELINES.get(e, method_name(e)), "") for e in explainers]
        found.append(Sheet(f"All numbers, {label}", heads, lines, first="Measure"))
    return [sheet for sheet in found if sheet.lines]


__all__ = ["Trust", "trust"]
