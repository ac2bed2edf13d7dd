"""The index of a store: which case stands in which row, and what may be known of it.

Columns are case and patient (both pseudonyms), split, view, one `label:<name>` each (1, 0 or empty for unknown) and one
`attr:<name>` each. Nothing else is ever written, so no file name, date or identifier can slip through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from translucid.errors import ManifestError
from translucid.io.table import read_table, write_table

FIXED = ("case", "patient", "split", "view")
_CELLS: Mapping[float | None, str] = {None: "", 0.0: "0", 1.0: "1"}
_VALUES = {"": None, "0": 0.0, "1": 1.0}


@dataclass(frozen=True)
class IndexRow:
    """One row of a store.

    Attributes:
        case, patient: pseudonyms.
        split: "train", "val", "test" or "".
        labels: name → 1.0, 0.0 or None (unknown).
        attributes: sex, age, device, visit, … for audits.

    Example:
        >>> IndexRow.from_json({"case": "c1", "patient": "p1", "labels": {"Effusion": 1.0}}).labels
        {'Effusion': 1.0}
    """

    case: str
    patient: str
    split: str = ""
    view: str = ""
    labels: Mapping[str, float | None] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> IndexRow:
        """Take the six fields out of a mapping; whatever else it holds is left behind."""
        return IndexRow(
            str(values["case"]),
            str(values["patient"]),
            str(values.get("split", "")),
            str(values.get("view", "")),
            dict(values.get("labels") or {}),
            {k: str(v) for k, v in (values.get("attributes") or {}).items()},
        )


def write_index(path: Path, rows: Iterable[IndexRow], labels: Sequence[str] | None = None) -> None:
    """Write `index.csv` whole or not at all.

    Args:
        path: where to.
        rows: in the order of the store.
        labels: which labels, in which order; None takes all that occur.

    Raises:
        ManifestError: a label is neither 1, 0 nor unknown, or a case stands there twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_index(Path(folder, "index.csv"), [IndexRow("c1", "p1", "val", "PA", {"Effusion": None})])
        ...     read_index(Path(folder, "index.csv"))[0].labels
        {'Effusion': None}

    Fails when: an attribute's value identifies somebody by itself; the index cannot know.
    """
    rows = list(rows)
    names = list(labels) if labels is not None else list(dict.fromkeys(n for r in rows for n in r.labels))
    attributes = list(dict.fromkeys(n for r in rows for n in r.attributes))
    if len({r.case for r in rows}) != len(rows):
        raise ManifestError("two rows of the index have the same case; a case stands in one row only")
    header = [*FIXED, *(f"label:{n}" for n in names), *(f"attr:{n}" for n in attributes)]
    write_table(path, header, [_cells(r, names, attributes) for r in rows])


def _cells(row: IndexRow, labels: Sequence[str], attributes: Sequence[str]) -> list[str]:
    values = [row.labels.get(n) for n in labels]
    if wrong := [v for v in values if v not in _CELLS]:
        raise ManifestError(f"case {row.case}: a label must be 1, 0 or None for unknown, not {wrong[0]!r}")
    known = [_CELLS[v] for v in values]
    return [row.case, row.patient, row.split, row.view, *known, *(row.attributes.get(n, "") for n in attributes)]


def read_index(path: Path) -> list[IndexRow]:
    """Read `index.csv`; an empty attribute is left out.

    Args:
        path: a file that `write_index` made.

    Raises:
        ManifestError: the file is absent, lacks a column, has one that is not known, or holds another label value.

    Fails when: rows were sorted by hand; the store's rows would belong to other cases.
    """
    table = read_table(path)
    if missing := [n for n in FIXED if n not in table.header]:
        raise ManifestError(f"{table.name} has no column {', '.join(missing)}; run compress again")
    strange = [h for h in table.header if h not in FIXED and not h.startswith(("label:", "attr:"))]
    if strange:
        raise ManifestError(f"{table.name} has unknown columns {', '.join(strange)}: call them label:… or attr:…")
    return [_index_row(table.name, number, cells) for number, cells in enumerate(table.rows, 2)]


def _index_row(name: str, number: int, cells: Mapping[str, str]) -> IndexRow:
    labels: dict[str, float | None] = {}
    for key in (k for k in cells if k.startswith("label:")):
        if cells[key] not in _VALUES:
            raise ManifestError(f"{name} row {number}, {key}: must be 1, 0 or empty, not {cells[key]!r}")
        labels[key.removeprefix("label:")] = _VALUES[cells[key]]
    attributes = {k.removeprefix("attr:"): v for k, v in cells.items() if k.startswith("attr:") and v}
    return IndexRow(cells["case"], cells["patient"], cells["split"], cells["view"], labels, attributes)


def label_matrix(rows: Sequence[IndexRow], labels: Sequence[str]) -> np.ndarray:
    """Labels as (row, label) float32 with nan for unknown.

    Example:
        >>> label_matrix([IndexRow("c", "p", labels={"a": 1.0})], ["a", "b"])
        array([[ 1., nan]], dtype=float32)

    Fails when: a name is misspelt; its whole column is then unknown.
    """
    table = [[row.labels.get(name) for name in labels] for row in rows]
    return np.array(table, dtype=np.float32).reshape(len(rows), len(labels))  # None becomes nan


def write_rejects(path: Path, rejects: Iterable[Mapping[str, Any]]) -> None:
    """Write `rejects.csv`: the manifest's row and the reason for each file that could not be used.

    Args:
        path: where to.
        rejects: mappings with "row" and "reason".

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_rejects(Path(folder, "rejects.csv"), [{"row": 3, "reason": "=no pixels"}])
        ...     read_rejects(Path(folder, "rejects.csv"))
        [{'row': 3, 'reason': '=no pixels'}]

    Fails when: a reason quotes a file name; it is written as it comes.
    """
    lines = [[str(int(r["row"])), " ".join(str(r["reason"]).split())] for r in rejects]
    write_table(path, ["row", "reason"], lines)


def read_rejects(path: Path) -> list[dict[str, Any]]:
    """The inverse of `write_rejects`.

    Args:
        path: a file that `write_rejects` made.

    Raises:
        ManifestError: the file is absent or has other columns.

    Fails when: the manifest was edited since; row numbers then point elsewhere.
    """
    table = read_table(path)
    if set(table.header) != {"row", "reason"}:
        raise ManifestError(f"{table.name} needs the columns row and reason, has {', '.join(table.header)}")
    try:
        return [{"row": int(r["row"]), "reason": r["reason"]} for r in table.rows]
    except ValueError as e:
        raise ManifestError(f"{table.name}: a row number is not a number ({e})") from None
