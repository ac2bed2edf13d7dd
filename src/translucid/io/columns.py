"""Which column of a table is what: reserved names and their aliases, labels, and what is left aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from translucid.errors import ManifestError, did_you_mean
from translucid.io.cells import is_label, read_label, read_names
from translucid.io.table import Table

ATTRIBUTES = ("sex", "age", "device", "visit")
ALIASES: Mapping[str, tuple[str, ...]] = {
    "file": ("file", "path", "image"),
    "patient": ("patient", "patient_id"),
} | {name: (name,) for name in ("view", "split", "boxes", "masks", "gaze", "frame", *ATTRIBUTES)}
LISTS = ("labels", "label")
"""Columns that may hold names separated by `|`, the first that is there."""

_MEANING = {alias: name for name, aliases in ALIASES.items() for alias in aliases}


def _plain(header: str) -> str:
    return header.strip().lower().replace(" ", "_")


def reserved_name(header: str) -> str:
    """The reserved column that a header means, or "labels" for a list of names, or "" for neither.

    Example:
        >>> reserved_name("Patient ID"), reserved_name("Mass")
        ('patient', '')
    """
    return _MEANING.get(_plain(header), "labels" if header in LISTS[:1] else "")


@dataclass(frozen=True)
class Columns:
    """Where in a table each thing stands.

    Attributes:
        reserved: reserved name → header.
        labels: names of the labels, in order.
        listed: header of the column of names, or "".
        own: the labels that have a column of their own.
        ignored: headers that mean nothing here.
    """

    reserved: Mapping[str, str]
    labels: tuple[str, ...]
    listed: str
    own: frozenset[str]
    ignored: tuple[str, ...]

    @classmethod
    def find(cls, table: Table, asked: Sequence[str] | None) -> Columns:
        """Sort out a table's header; `asked` names the labels wanted, None takes what looks like labels."""
        reserved = _reserved(table)
        free = [h for h in table.header if h not in reserved.values()]
        flags = [h for h in free if _all_labels(table, h)]
        listed = next((h for h in LISTS if h in free and h not in flags and any(r[h] for r in table.rows)), "")
        names = sorted({name for row in table.rows for name in read_names(row[listed])}) if listed else []
        both = sorted(set(names) & set(flags))
        if both:
            raise ManifestError(f"{table.name} gives {both[0]!r} twice: as a column and in the column {listed!r}")
        if asked is None:
            labels = (*flags, *names)
        else:
            labels = _asked(table, asked, {*flags, *names, *(h for h in free if not any(r[h] for r in table.rows))})
        used = {*reserved.values(), *labels} | ({listed} if set(labels) & set(names) else set())
        own = frozenset(labels) - frozenset(names)
        return cls(reserved, labels, listed, own, tuple(h for h in table.header if h not in used))

    def cells(self, row: Mapping[str, str]) -> dict[str, str]:
        """The reserved cells of a row by their reserved names, the file's and those others that are filled."""
        return {name: row[header] for name, header in self.reserved.items() if row[header] or name == "file"}

    def read_labels(self, row: Mapping[str, str], uncertain: float | None) -> dict[str, float | None]:
        """The labels of a row."""
        names = read_names(row[self.listed]) if self.listed else ()
        values: dict[str, float | None] = {}
        for label in self.labels:
            if label in self.own:
                values[label] = read_label(row[label], uncertain)
            else:
                values[label] = float(label in names) if names else None
        return values


def _reserved(table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, aliases in ALIASES.items():
        hits = [h for alias in aliases for h in table.header if _plain(h) == alias]
        # the exact name wins over its aliases; two aliases alone leave it open which is meant
        if len(hits) > 1 and hits[0] != name:
            raise ManifestError(
                f"{table.name}: {' and '.join(hits)} could both be {name!r}; rename the right one to it"
            )
        if hits:
            found[name] = hits[0]
    if "file" not in found:
        raise ManifestError(f"{table.name} has no column 'file' (or 'path', 'image'); it has {', '.join(table.header)}")
    return found


def _all_labels(table: Table, header: str) -> bool:
    filled = [row[header] for row in table.rows if row[header]]
    return bool(filled) and all(map(is_label, filled))


def _asked(table: Table, asked: Sequence[str], there: set[str]) -> tuple[str, ...]:
    for name in asked:
        if name in table.header and name not in there:
            raise ManifestError(f"{table.name}: the column {name!r} holds more than 0, 1, -1 (or u) and empty cells")
        if name not in there:
            raise ManifestError(f"{table.name} has no label {name!r}: {did_you_mean(name, there)}")
    return tuple(asked)
