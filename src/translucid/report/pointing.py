"""Where the maps point: numbers of explanations against drawn findings and against organs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from translucid.report.cases import method_name
from translucid.report.numbers import MACRO, Figure, between, finite, fixed, p_text, percent
from translucid.report.plots import Style
from translucid.report.read import Run, Table, as_table
from translucid.report.tables import Cell, Line, Sheet, number, signed

POOLED = "pooled"
SIZES = ("small", "medium", "large")
TITLES = {
    "map_average_precision": "Average precision",
    "pointing_game": "Pointing game",
    "iou": "IoU",
    "energy_share": "Energy inside",
    "iou_otsu": "IoU, Otsu",
    "organ_iou": "OrganIoU",
    "organ_iou_released": "OrganIoU, released",
    "gaze_cc": "Correlation with gaze",
    "gaze_sim": "Shared mass",
    "gaze_kl": "Divergence, less is better",
}
MEASURES = {
    "finding": ("map_average_precision", "pointing_game", "iou", "energy_share", "iou_otsu"),
    "organ": ("organ_iou", "organ_iou_released", "energy_share", "pointing_game"),
    "gaze": ("gaze_cc", "gaze_sim", "gaze_kl"),
}
BY_CHANCE = ("map_average_precision", "energy_share", "pointing_game")
"""What a map that knows nothing scores on these is the share of the area that the mask fills."""
HEADS = {"finding": "Maps against drawn findings", "organ": "Maps against organs where the finding may lie"}
HEADS |= {"gaze": "Maps against where readers looked"}
BASELINES = {"random": "Random map", "centre": "Blob in the centre", "edges": "Edges of the image"}
BASELINES |= {"average_mask": "Average mask of the training cases"}
ENOUGH = 30
FEW = "So little could be scored (n = {}) that the intervals are wide, and may still be too narrow."
Key = tuple[str, str]


@dataclass(frozen=True)
class Target:
    """Tables of one kind of mask, and what is to be said of them in sentences."""

    title: str
    sheet: Sheet
    sentences: list[str] = field(default_factory=list)
    folds: list[Sheet] = field(default_factory=list)


def pointing(run: Run, styles: dict[str, Style]) -> list[Target]:
    """One `Target` for findings and one for organs, of those that were measured."""
    found = []
    for name in MEASURES:
        rows = [r for r in run.explained if r.get("target") == name]
        if rows:
            found.append(_Bench(run, styles, name, rows).told())
    return found


class _Bench:
    """The rows of one target, by (measure, variant, explainer, label, subset)."""

    def __init__(self, run: Run, styles: dict[str, Style], target: str, rows: Sequence[Table]) -> None:
        split = next((str(r.get("split")) for r in rows if r.get("split") == "test"), str(rows[0].get("split") or ""))
        rows = [r for r in rows if str(r.get("split") or "") == split]
        self.run, self.styles, self.target, self.split = run, styles, target, split
        names = ("measure", "variant", "explainer", "label", "subset")
        self.table = {tuple(str(r.get(k) or "") for k in names): r for r in rows}
        kinds = [k for k in self.table if not k[0].endswith("_difference")]
        keys = dict.fromkeys((k[1], k[2]) for k in kinds)
        self.keys: list[Key] = sorted(keys, key=lambda k: bool(k[0]))
        told = list(dict.fromkeys(k[3] for k in kinds))
        self.labels = [x for x in told if x not in (POOLED, MACRO)]
        self.whole = POOLED if POOLED in told else self.labels[0] if len(self.labels) == 1 else MACRO

    def row(self, measure: str, key: Key, label: str = "", subset: str = "") -> Table:
        return as_table(self.table.get((measure, *key, label or self.whole, subset)))

    def told(self) -> Target:
        there = [m for m in MEASURES[self.target] if any(self.row(m, k) for k in self.keys)]
        leading = next((m for m in there if any(self.row(f"{m}_difference", k) for k in self.keys)), "")
        reference = str(next((r["versus"] for r in self.table.values() if r.get("versus")), ""))
        heads = [(TITLES[m], "") for m in there]
        if leading:
            heads.append(("Difference", f"in {TITLES[leading]}"))
        trivial = [k for k in self.keys if not k[0]]
        lines = self._chance(there, leading) + [self._line(k, there, leading, reference) for k in self.keys]
        caption = f"{HEADS[self.target]}, {self.split} cases"
        caption += f", all labels {self.whole}" if self.whole in (POOLED, MACRO) else f", {self.whole}"
        scored = max((int(finite(self.row(there[0], k).get("n")) or 0) for k in self.keys), default=0) if there else 0
        if scored:
            caption += f", n {scored}"
        if trivial:
            caption += "; maps that know nothing of the image come first"
        if reference:
            caption += f"; differences are to {_pair(reference)}"
        sheet = Sheet(caption, heads, lines, first="Map")
        few = [FEW.format(scored)] if 0 < scored < ENOUGH else []
        return Target(HEADS[self.target], sheet, few + self._sentences(reference), self._folds(there))

    # -- lines -----------------------------------------------------------------------------------------------------

    def _who(self, key: Key) -> tuple[Style, str]:
        """A map's name and what stands below it."""
        variant, explainer = key
        if not variant:
            return Style(BASELINES.get(explainer, explainer), -1), "knows nothing"
        loss = as_table(as_table(self.run.variant(variant).get("train")).get("loss")).get("kind")
        trained = f", trained with {loss}" if loss else ""
        return self.styles.get(variant, Style(variant, -1)), method_name(explainer) + trained

    def _chance(self, there: Sequence[str], leading: str) -> list[Line]:
        """What knowing nothing scores, where that is known."""
        shares = [f for k in self.keys if (f := Figure.of(self.row("mask_share", k))).known]
        if not shares:
            return []
        cells = [number(shares[0]) if m in BY_CHANCE else Cell("–") for m in there]
        return [Line(Style("Chance", -1), cells + [Cell("–")] * bool(leading), "share of the area in the mask")]

    def _line(self, key: Key, there: Sequence[str], leading: str, reference: str) -> Line:
        style, about = self._who(key)
        cells = [_cell(self.row(m, key)) for m in there]
        base = bool(reference) and "/".join(key) == reference
        if leading:
            cells.append(Cell("reference") if base else signed(Figure.of(self.row(f"{leading}_difference", key))))
        return Line(style, cells, about, base)

    def _folds(self, there: Sequence[str]) -> list[Sheet]:
        folds = []
        for m in [x for x in there if x in (*MEASURES[self.target][:1], "pointing_game")]:
            if len(self.labels) > 1:
                folds.append(self._fold(m, "by label", [(x, x, "") for x in self.labels]))
            sizes = [s for s in SIZES if any(self.row(m, k, self.whole, s) for k in self.keys)]
            if sizes:
                folds.append(self._fold(m, "by size of the finding", [(s, self.whole, s) for s in sizes]))
        return folds

    def _fold(self, measure: str, how: str, columns: Sequence[tuple[str, str, str]]) -> Sheet:
        lines = []
        for key in self.keys:
            style, about = self._who(key)
            cells = [_cell(self.row(measure, key, label, subset), True) for _, label, subset in columns]
            lines.append(Line(style, cells, about))
        heads = [(head, "") for head, _, _ in columns]
        return Sheet(f"{TITLES[measure]}, {how}", heads, lines, first="Map")

    # -- sentences -------------------------------------------------------------------------------------------------

    def _sentences(self, reference: str) -> list[str]:
        """How much more of the best map lies in the organs, than of the reference map, relative to it."""
        if self.target != "organ" or not reference:
            return []
        rows = {k: self.row("organ_iou_difference", k) for k in self.keys if k[0]}
        known = {k: r for k, r in rows.items() if finite(r.get("first")) is not None and finite(r.get("second"))}
        if not known:
            return []
        best = max(known, key=lambda k: finite(known[k].get("first")) or 0.0)
        first, second = (finite(known[best].get(x)) or 0.0 for x in ("first", "second"))
        d = Figure.of(known[best])
        p = p_text(d.p)
        text = f"OrganIoU of {_pair('/'.join(best))} is {fixed(first)}, that of {_pair(reference)} {fixed(second)}: "
        text += f"{_change(first, second)}. The difference is {fixed(d.value, 3, True)} ({between(d, 3, True)})"
        return [f"{text}{', ' + p if p else ''}.", *self._same_method(best, reference)]

    def _same_method(self, best: Key, reference: str) -> list[str]:
        """What is left of it where the reference variant is explained by the same method."""
        variant = reference.partition("/")[0]
        if (variant, best[1]) == best or "/".join((variant, best[1])) == reference:
            return []
        one, other = (Figure.of(self.row("organ_iou", k)).value for k in (best, (variant, best[1])))
        if one is None or not other:
            return []
        how = f"By the same method, {method_name(best[1])}, {variant} has {fixed(other)}"
        return [f"{how}: {_change(one, other)}."]


def _change(first: float, second: float) -> str:
    share = first / second - 1
    return f"{percent(abs(share))} {'more' if share >= 0 else 'less'}"


def _pair(name: str) -> str:
    variant, _, explainer = name.rpartition("/")
    return f"{variant}, {method_name(explainer)}" if variant else BASELINES.get(explainer, explainer)


def _cell(row: Table, count: bool = False) -> Cell:
    """A number with its interval, and how many images and labels it leaves out."""
    cell = number(Figure.of(row))
    said: list[str] = []
    n, out = (finite(row.get(k)) for k in ("n", "n_undefined"))
    if count and n:
        said.append(f"n {n:.0f}")
    if out:
        said.append(f"{out:.0f} undefined")
    return Cell(cell.text, cell.small, last=", ".join(said))


__all__ = ["Target", "pointing"]
