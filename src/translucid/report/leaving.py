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
    """What the noise of one store guarantees, and what it does not."""

    store: str
    statements: list[str]
    open: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Leaving:
    """Everything the section shows; `tested` is None where there was no audit."""

    stores: Sheet | None
    certificates: list[Certificate]
    tested: Known | None


def leaving(run: Run) -> Leaving | None:
    """None for runs without an audit and without certified noise, whose page tells of their stores elsewhere."""
    certificates = [c for name, header in run.headers.items() if (c := _certificate(name, header))]
    tested = Attacks(run.audit).known() if run.audit else None
    if tested is None and not certificates:
        return None
    return Leaving(_stores(run), certificates, tested)


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
        lines.append(Line(Style(name, -1), cells, _kept(compress)))
    heads = [("Images", ""), ("Numbers", "per image"), ("Size", "per image, on disk"), ("Noise", "with a certificate")]
    return Sheet("What is stored, and would leave", heads, lines, first="Store") if lines else None


def _kept(compress: Table) -> str:
    """What a store keeps; places are masks, not pixels."""
    if compress.get("kind") == "places":
        names = ", ".join(str(x) for x in as_list(compress.get("names"))[:8])
        return f"Where things lie, on a coarse grid: {names}. Needed for training and scoring only."
    inner = as_table(compress.get("compressor"))
    return f"{in_words(inner)} Noise is added." if inner else in_words(compress)


# -- certificates --------------------------------------------------------------------------------------------------


def _certificate(store: str, header: Table) -> Certificate | None:
    told = as_table(header.get("certificate"))
    if not told:
        return None
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
    said.append(AGAIN)
    return Certificate(store, said, [str(x) for x in as_list(told.get("not_covered"))])


def _spent(what: str, table: Table, vacuous: bool) -> str:
    """ε and δ in a sentence; a vacuous bound is called so."""
    epsilon, delta = (finite(table.get(k)) for k in ("epsilon", "delta"))
    text = f"{what}: ε = {amount(epsilon)}" + (f", δ = {delta:g}" if delta else "")
    return f"{text}. {VACUOUS}" if vacuous else f"{text}."


AGAIN = "A second release of the same images, with this noise or any other, spends it again: budgets add up."
VACUOUS = "Vacuous: the number is so large that it promises nothing."


def _identified(table: Table, vacuous: bool) -> list[str]:
    bounds = {k: v for k, x in as_table(table.get("rank1_at_most")).items() if (v := finite(x)) is not None}
    if not bounds:
        return []
    told = ", ".join(f"{fixed(v)} among {k}" for k, v in bounds.items())
    text = f"The right person is named at most this often, {table.get('meaning')}: {told}."
    return [f"{text} {VACUOUS}" if vacuous else text]


__all__ = ["Certificate", "Leaving", "leaving"]
