"""The rows of an audit, as a reader who answers for the data meets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from translucid.report.numbers import Figure, amount, finite, fixed
from translucid.report.plots import Style
from translucid.report.read import Table, as_table
from translucid.report.tables import Cell, Line, Sheet, number

PLAIN, NOISE, CONSTANT, BEST = "plain", "noise", "constant", "best"
OPEN = "nothing hidden"
PARTS = {
    "verification": "whether two records are of one person",
    "linkage_same": "finding the record of an image one holds",
    "linkage_other": "finding a person's record by another image of that person",
    "reconstruction": "drawing the image from its record",
    "attributes": "reading sex, age and the like from a record",
    "text": "reading letters that were burnt into the image",
    "unlinkability": "joining records of one image made under two keys",
    "membership": "whether an image was used to train a released model",
    "bounds": "bounds on what any attacker can learn",
}
BEYOND = (
    "attackers with more images, more computing time or better networks than stated here",
    "attackers who know more: reports, dates, other data on the same people",
    "other images than these: another clinic, device or group of patients",
    "what becomes of many releases of the same person over time",
)
COLUMNS = (
    ("verification", "auc", "Same person?", "AUC"),
    ("verification", "tpr_at_fpr_0.001", "Found", "at 0.1 % false alarms"),
    ("verification", "rank1@", "Named first", "rank-1"),
    ("linkage_same", "rank1@", "Linked, same image", "rank-1"),
    ("linkage_other", "rank1@", "Linked, other image", "rank-1"),
    ("unlinkability", "auc", "Joined over keys", "AUC"),
    ("reconstruction", "gain", "Redrawn", "gain over the mean image"),
    ("reconstruction", "reid_auc", "Known from the drawing", "AUC"),
    ("attributes", ".auc", "Attributes", "best read, AUC"),
    ("text", ".letters_read", "Burnt-in letters", "best read, share"),
)
MEMBERS = (
    ("membership", "auc", "In the training set?", "AUC"),
    ("membership", "tpr_at_fpr_0.001", "Found", "at 0.1 % false alarms"),
)
Column = tuple[str, str, str, str]


@dataclass(frozen=True)
class Known:
    """What an audit found.

    Attributes:
        sheet: a line per compressor, plain on top, noise at the bottom; None where no part worked on records.
        members: a line per released model.
        cautions: sentences without which the numbers mislead.
        budgets: what the attackers behind the shown numbers had, (who, what) each.
        controls: every attack and its two controls.
        bounds: on any attacker.
        rungs: every number of every attack, a table for each part.
        untested: parts that were not run, and what no part can tell.
    """

    sheet: Sheet | None
    members: Sheet | None
    cautions: list[str]
    budgets: list[tuple[str, str]]
    controls: Sheet | None
    bounds: Sheet | None
    rungs: list[Sheet]
    untested: list[str]


class Attacks:
    """Rows of audit.json by (part, rung, compressor), and which variants use a compressor's store."""

    def __init__(self, rows: Sequence[Table], users: Mapping[str, Sequence[str]] | None = None) -> None:
        self.rows = [r for r in rows if isinstance(r.get("attack"), str)]
        self._users = users or {}
        self.at: dict[tuple[str, str, str], dict[str, Table]] = {}
        for r in self.rows:
            part, _, rung = str(r["attack"]).partition("/")
            self.at.setdefault((part, rung, str(r.get("compressor") or "")), {})[str(r.get("measure") or "")] = r
        self.parts = list(dict.fromkeys(k[0] for k in self.at))

    def known(self) -> Known:
        """All tables and sentences."""
        return Known(
            self._sheet(COLUMNS, "What the best of the tried attackers learned from each store", "Store"),
            self._sheet(MEMBERS, "What a released model tells of its training images", "Model"),
            self._cautions(),
            self._budgets(),
            self._controls(),
            self._bounds(),
            [s for part in self.parts if part != "bounds" and (s := self._rungs(part))],
            [f"{meaning} ({name})" for name, meaning in PARTS.items() if name not in self.parts] + list(BEYOND),
        )

    def _names(self, parts: Sequence[str]) -> list[str]:
        """Compressors: plain first, noise last; controls are none."""
        found = [k[2] for k in self.at if k[0] in parts and k[2] not in (OPEN, CONSTANT, "")]
        middle = [x for x in dict.fromkeys(found) if x not in (PLAIN, NOISE)]
        return [x for x in (PLAIN, *middle, NOISE) if x in found]

    # -- the main table --------------------------------------------------------------------------------------------

    def _sheet(self, columns: Sequence[Column], caption: str, first: str) -> Sheet | None:
        there = [c for c in columns if c[0] in self.parts]
        names = self._names([c[0] for c in there])
        if not names:
            return None
        told = {PLAIN: "nothing is hidden: how strong the attackers are", NOISE: "tells nothing: the floor"}
        told = {x: ", ".join(self._users.get(x, [])) for x in names} | told
        lines = [
            Line(Style(x, -1), [self._cell(x, c[0], c[1]) for c in there], told.get(x, ""), x == PLAIN) for x in names
        ]
        return Sheet(caption, [(c[2], c[3]) for c in there], lines, first=first)

    def _cell(self, name: str, part: str, measure: str) -> Cell:
        row = self._best(name, part, measure)
        if row is None:
            return self._without(name, part)
        cell, chance = number(Figure.of(row)), finite(row.get("chance"))
        told = [str(row["measure"]).removesuffix(measure)] if measure.startswith(".") else []
        told += [f"of {str(row['measure']).partition('@')[2]}"] if measure.endswith("@") else []
        told += [f"chance {chance:.2g}"] if chance is not None else []
        told += [str(row.get("rung") or str(row["attack"]).partition("/")[2])]
        return Cell(cell.text, cell.small, last=", ".join(told))

    def _best(self, name: str, part: str, measure: str) -> Table | None:
        """The attack that was chosen beforehand, or the only one there is: never the one that came out best."""
        tried = [rows for (p, rung, c), rows in self.at.items() if p == part and c == name and rung != BEST]
        chosen = self.at.get((part, BEST, name)) or (tried[0] if len(tried) == 1 else {})
        row = _pick(chosen, measure)
        return row if row is not None and finite(row.get("value")) is not None else None

    def _without(self, name: str, part: str) -> Cell:
        """Why there is no number."""
        mine = [r for (p, _, c), rows in self.at.items() if p == part and c == name for r in rows.values()]
        reasons = list(dict.fromkeys(str(r["reason"]) for r in mine if r.get("reason")))
        if reasons:
            return Cell("withheld", reasons[0])
        return Cell("n/a", "no attack was chosen" if mine else "not tested")

    # -- what is said of it ----------------------------------------------------------------------------------------

    def _cautions(self) -> list[str]:
        found = []
        for part, measure, chance in (("verification", "auc", 0.5), ("linkage_other", "auc", 0.5)):
            low = Figure.of(as_table(self._best(PLAIN, part, measure))).low
            if low is not None and low <= chance:
                found.append(
                    f"Even from the plain image the attackers do no better than chance at {PARTS[part]}: they are too "
                    "weak, or have too little to learn from, for low numbers to mean anything."
                )
        attacks = list(dict.fromkeys(str(r["attack"]) for r in self.rows if r.get("reason") and r.get("value") is None))
        total = {str(r["attack"]) for r in self.rows if not str(r["attack"]).startswith("bounds/")}
        total = {a for a in total if not a.endswith(f"/{BEST}")}
        if attacks:
            found.append(
                f"Of {len(total)} attacks, {len(attacks)} failed a control or lack one; their numbers are withheld: "
                f"{', '.join(attacks)}."
            )
        return found

    def _budgets(self) -> list[tuple[str, str]]:
        """Of the shown attackers, each part and compressor; the same for all in what they may spend."""
        found = []
        for (part, rung, name), rows in self.at.items():
            budget = as_table(next(iter(rows.values())).get("budget"))
            if rung == BEST and budget and name not in (OPEN, CONSTANT):
                which = str(next(iter(rows.values())).get("rung") or rung)
                found.append((f"{part}, {name}", f"{which}: " + ", ".join(_spent(k, v) for k, v in budget.items())))
        return found

    def _controls(self) -> Sheet | None:
        attacks = list(dict.fromkeys((p, r) for (p, r, c), rows in self.at.items() if "control" in rows))
        lines = []
        for part, rung in attacks:
            cells = [_held(as_table(self.at.get((part, rung, c), {}).get("control"))) for c in (OPEN, CONSTANT)]
            lines.append(Line(Style(f"{part}/{rung}", -1), cells))
        heads = [("Nothing hidden", "must succeed"), ("All codes alike", "must be at chance")]
        return Sheet("Controls of every attack", heads, lines, first="Attack") if lines else None

    def _bounds(self) -> Sheet | None:
        keys = [k for k in self.at if k[0] == "bounds"]
        lines = []
        for key in keys:
            rows = self.at[key]
            bits, rate = _pick(rows, "bits"), _pick(rows, "rank1_at_most@")
            text = fixed(finite(as_table(rate).get("value")))
            people = str(as_table(rate).get("measure") or "").partition("@")[2]
            reason = str(as_table(rate).get("reason") or "")
            cells = [
                Cell(amount(finite(as_table(bits).get("value")))),
                Cell(text, f"of {people}" if people else "", last=reason),
            ]
            lines.append(Line(Style(key[2], -1), cells, BOUNDS.get(key[1], key[1])))
        heads = [("Bits", "a record may tell"), ("Named first", "at most")]
        return (
            Sheet("Bounds on any attacker; a vacuous bound rules nothing out", heads, lines, first="Store")
            if lines
            else None
        )

    def _rungs(self, part: str) -> Sheet | None:
        keys = [k for k in self.at if k[0] == part and k[1] != BEST and k[2] not in (OPEN, CONSTANT)]
        measures = list(dict.fromkeys(m for k in keys for m in self.at[k] if m != "control"))
        lines = []
        for key in keys:
            cells = [_any(as_table(self.at[key].get(m))) for m in measures]
            lines.append(Line(Style(key[1], -1), cells, key[2]))
        heads = [(m.replace("_", " "), "") for m in measures]
        return Sheet(f"{part.replace('_', ' ')}: every attack", heads, lines, first="Attack") if lines else None


BOUNDS = {"length": "by the length of the code", "gaussian": "by its Gaussian noise"}


def _pick(rows: dict[str, Table], measure: str) -> Table | None:
    """A measure by name; "rank1@" takes the largest gallery, ".auc" the attribute that is read best."""
    if measure.endswith("@"):
        sizes = [m for m in rows if m.startswith(measure) and m.partition("@")[2].isdigit()]
        return rows[max(sizes, key=lambda m: int(m.partition("@")[2]))] if sizes else None
    if measure.startswith("."):
        read = [m for m in rows if m.endswith(measure)]
        return rows[max(read, key=lambda m: finite(rows[m].get("value")) or 0.0)] if read else None
    return rows.get(measure)


def _spent(name: str, value: object) -> str:
    told = finite(value)
    return f"{amount(told) if told is not None else value} {name.replace('_', ' ')}"


def _held(row: Table) -> Cell:
    if not row:
        return Cell("not run", tone="warn")
    holds = row.get("holds") is True
    return Cell("holds" if holds else "fails", _with_interval(row), tone="good" if holds else "bad")


def _with_interval(row: Table) -> str:
    cell = number(Figure.of(row))
    return f"{cell.text} {cell.small}".strip()


def _any(row: Table) -> Cell:
    if row.get("reason") and finite(row.get("value")) is None:
        return Cell("withheld")
    return number(Figure.of(row))


__all__ = ["Attacks", "Known"]
