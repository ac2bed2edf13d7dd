"""What leaves, and who could learn what from it: the stores, their certificates, and the attacks of an audit."""

from __future__ import annotations

from dataclasses import dataclass, field

from translucid.report.attacks import Attacks, Known
from translucid.report.keeps import in_words
from translucid.report.numbers import amount, finite, fixed, size
from translucid.report.plots import Style
from translucid.report.read import Run, Table, as_list, as_table
from translucid.report.tables import Cell, Line, Sheet


@dataclass(frozen=True)
class Certificate:
    """What the noise of one store guarantees, and what it alone does not."""

    store: str
    statements: list[str]
    open: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Leaving:
    """Everything the section shows.

    Attributes:
        stores: what is stored.
        proven: what the certificates say, a line each.
        open: what none of them covers.
        certificates: each in full.
        tested: None where there was no audit.
    """

    stores: Sheet | None
    proven: Sheet | None
    open: list[str]
    certificates: list[Certificate]
    tested: Known | None


def leaving(run: Run) -> Leaving | None:
    """None for runs without an audit and without certified noise, whose page tells of their stores elsewhere."""
    told = {name: table for name, h in run.headers.items() if (table := as_table(h.get("certificate")))}
    tested = Attacks(run.audit, run.users).known() if run.audit else None
    if tested is None and not told:
        return None
    uncovered = {name: [_open(x) for x in as_list(table.get("not_covered"))] for name, table in told.items()}
    shared = [x for x in next(iter(uncovered.values()), []) if all(x in other for other in uncovered.values())]
    full = [
        Certificate(name, _statements(table), [x for x in uncovered[name] if x not in shared])
        for name, table in told.items()
    ]
    return Leaving(_stores(run), _proven(told, run.users), shared, full, tested)


def _stores(run: Run) -> Sheet | None:
    lines = []
    for name, header in run.headers.items():
        rows = finite(header.get("rows")) or 0.0
        weight = sum(finite(as_table(s).get("bytes")) or 0.0 for s in as_list(header.get("shards")))
        channels, length = (finite(header.get(k)) for k in ("channels", "code_length"))
        compress = as_table(header.get("compressor"))
        cells = [
            Cell(amount(rows)),
            Cell(amount(channels * length) if channels and length else "n/a"),
            Cell(size(weight / rows) if rows and weight else "n/a"),
            Cell("yes" if header.get("certificate") else "no"),
        ]
        users = "".join(f"{v}: " for v in [", ".join(run.users.get(name, []))] if v)
        lines.append(Line(Style(name, -1), cells, users + _kept(compress)))
    heads = [("Images", ""), ("Numbers", "per image"), ("Size", "per image, on disk"), ("Noise", "with a certificate")]
    return Sheet("What is stored, and would leave", heads, lines, first="Store") if lines else None


def _kept(compress: Table) -> str:
    """What a store keeps; places are masks, not pixels."""
    if compress.get("kind") == "places":
        names = ", ".join(str(x) for x in as_list(compress.get("names"))[:8])
        return f"Where things lie, on a coarse grid: {names}. Needed for training and scoring only."
    return in_words(compress)


# -- certificates --------------------------------------------------------------------------------------------------


def _proven(told: dict[str, Table], users: dict[str, list[str]]) -> Sheet | None:
    """A line for each certificate."""
    lines = []
    for name, table in told.items():
        empty = [str(x) for x in as_list(table.get("vacuous"))]
        near = as_table(table.get("neighbourhood"))
        cells = [Cell(str(table.get("guarantee")), str(table.get("mechanism")), last=str(near.get("meaning")))]
        for at, key in ((table, "epsilon"), (as_table(table.get("patient")), "patient")):
            cells.append(_epsilon(at, key in empty))
        cells.append(_epsilon(as_table(table.get("whole_image")), "whole_image" in empty))
        lines.append(Line(Style(name, -1), cells, ", ".join(users.get(name, []))))
    heads = [("Covers", "by which noise"), ("One image", "ε"), ("All of a patient", "ε"), ("Any other image", "ε")]
    return Sheet("Certificates of the stores with noise", heads, lines, first="Store") if lines else None


def _open(told: object) -> str:
    """What is not covered; a field of the certificate is called by its column."""
    return str(told).replace("whole_image", "the column “Any other image”")


def _epsilon(table: Table, vacuous: bool) -> Cell:
    epsilon, delta = (finite(table.get(k)) for k in ("epsilon", "delta"))
    if epsilon is None:
        return Cell("n/a")
    small = f"δ = {delta:g}" if delta else ""
    if vacuous:
        return Cell("vacuous", f"{amount(epsilon)}{', ' if small else ''}{small}", tone="warn")
    return Cell(amount(epsilon), small)


def _statements(told: Table) -> list[str]:
    """A certificate in sentences."""
    near, patient = (as_table(told.get(k)) for k in ("neighbourhood", "patient"))
    empty = [str(x) for x in as_list(told.get("vacuous"))]
    said = [f"Guarantee for {told.get('guarantee')}, by a {told.get('mechanism')}: {near.get('meaning')}."]
    said.append(_spent("One image", told, "epsilon" in empty))
    if patient:
        said.append(
            _spent(f"All {amount(finite(patient.get('images')))} images of a patient", patient, "patient" in empty)
        )
    if whole := as_table(told.get("whole_image")):
        said.append(_spent(f"Whole images ({whole.get('meaning')})", whole, "whole_image" in empty))
    said += _identified(as_table(told.get("identification")), "identification" in empty)
    return said


def _spent(what: str, table: Table, vacuous: bool) -> str:
    """ε and δ in a sentence; a vacuous bound is called so."""
    epsilon, delta = (finite(table.get(k)) for k in ("epsilon", "delta"))
    text = f"{what}: ε = {amount(epsilon)}" + (f", δ = {delta:g}" if delta else "")
    return f"{text}. {VACUOUS}" if vacuous else f"{text}."


VACUOUS = "Vacuous: the number is so large that it promises nothing."


def _identified(table: Table, vacuous: bool) -> list[str]:
    bounds = {k: v for k, x in as_table(table.get("rank1_at_most")).items() if (v := finite(x)) is not None}
    if not bounds:
        return []
    told = ", ".join(f"{fixed(v)} among {k}" for k, v in bounds.items())
    text = f"The right person is named at most this often, {table.get('meaning')}: {told}."
    return [f"{text} {VACUOUS}" if vacuous else text]


__all__ = ["Certificate", "Leaving", "leaving"]
