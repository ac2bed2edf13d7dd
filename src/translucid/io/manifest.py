"""The manifest: one CSV table of cases, with the patient of each, and what is known of it.

Reserved columns are `file`, `patient`, `view`, `split`, `frame`, `boxes`, `masks`, `gaze` and the attributes `sex`,
`age`, `device`, `visit`; labels are columns of 0, 1, -1 (uncertain) and empty (unknown), or one column `labels` of
names separated by `|`. Nothing else is carried.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np

from translucid.errors import ConfigError, ManifestError, did_you_mean
from translucid.io import cells
from translucid.io.cells import SPLITS, UNCERTAIN, Uncertain
from translucid.io.columns import ATTRIBUTES, Columns
from translucid.io.fence import Fence, tidy
from translucid.io.references import map_file, split_reference
from translucid.io.sound import check_cases, check_names
from translucid.io.table import Table, read_table, write_table
from translucid.types import Case, Finding

__all__ = ["Manifest", "check_labels", "read_manifest", "relocate", "require_labels", "write_manifest"]


@dataclass(frozen=True)
class Manifest:
    """Cases under one folder, and the order of their labels.

    Attributes:
        root: the folder that the cases' files are relative to.
        cases: one per image or frame.
        labels: order of the label columns.
        ignored: columns of the source that were not carried.
        rejects: (where, why) of rows that were left out.
        warnings: what was assumed in reading, in words; holds nothing that identifies.
        outside: whether paths may lead out of `root`.
        rows: row of each case in the table it comes from (row 1 is the header); empty where case i is row i + 2.

    Raises:
        ManifestError: a label has a reserved name or stands twice, a case has a label that is not listed or a value
            that is not 0, 1 or None, an unknown split, or the same file and frame as another.

    Example:
        >>> one = Case("a.png", "p1", {"mass": 1.0}, split="train")
        >>> two = Case("b.png", "p2", {"mass": None}, split="test")
        >>> both = Manifest(Path("."), (one, two), ("mass",))
        >>> both.label_array().tolist(), both.patients, len(both.subset("test").cases)
        ([[1.0], [nan]], ('p1', 'p2'), 1)

    Fails when: one person appears under two identifiers; no table can tell.
    """

    root: Path
    cases: tuple[Case, ...]
    labels: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    rejects: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    outside: bool = False
    rows: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.rows and len(self.rows) != len(self.cases):
            raise ManifestError(f"{len(self.rows)} rows for {len(self.cases)} cases: wanted one each, or none")
        check_names(self.labels)
        check_cases(self.cases, frozenset(self.labels))

    @property
    def patients(self) -> tuple[str, ...]:
        """Each patient once, in order of first appearance."""
        return tuple(dict.fromkeys(case.patient for case in self.cases))

    def with_cases(self, cases: Iterable[Case]) -> Manifest:
        """The same manifest with other cases; those that were there before keep their rows."""
        chosen, known = tuple(cases), {(c.file, c.frame): self.row(i) for i, c in enumerate(self.cases)}
        rows = [known.get((c.file, c.frame)) for c in chosen]
        return replace(self, cases=chosen, rows=tuple(r for r in rows if r) if all(rows) else ())

    def row(self, case: int) -> int:
        """The row of a case, by its place in `cases`, in the table it comes from."""
        return self.rows[case] if self.rows else case + 2

    def subset(self, split: str) -> Manifest:
        """The cases of one split; "" gives those not yet assigned."""
        if split and split not in SPLITS:
            raise ConfigError(f"unknown split {split!r}: {did_you_mean(split, SPLITS)}")
        return self.with_cases(case for case in self.cases if case.split == split)

    def label_array(self) -> np.ndarray:
        """Labels as (case, label) float32, with nan for unknown."""
        values = [[_as_float(case.labels.get(name)) for name in self.labels] for case in self.cases]
        return np.array(values, np.float32).reshape(len(self.cases), len(self.labels))

    def path(self, case: Case) -> Path:
        """Where the case's file lies; `ManifestError` where the path leads out of the root."""
        return Fence(self.root, self.outside).path(case.file)

    def mask_path(self, case: Case, name: str) -> Path:
        """Where one of the case's masks lies, or the table that holds it; `ManifestError` where it has no such mask."""
        if name not in case.masks:
            raise ManifestError(f"the case has no mask {name!r}: {did_you_mean(name, case.masks)}")
        return Fence(self.root, self.outside).path(split_reference(case.masks[name]).file)

    def gaze_path(self, case: Case) -> Path:
        """Where the table of the case's fixations lies; `ManifestError` where it has none."""
        if not case.gaze:
            raise ManifestError("the case has no fixations: name a table of them in the column 'gaze'")
        return Fence(self.root, self.outside).path(split_reference(case.gaze).file)


def _as_float(value: float | None) -> float:
    return float("nan") if value is None else float(value)


# -- reading ------------------------------------------------------------------------------------------------------


def read_manifest(
    path: Path,
    labels: Sequence[str] | None = None,
    uncertain: Uncertain = "ignore",
    *,
    patient: str = "",
    allow_outside: bool = False,
) -> Manifest:
    """Read a manifest from one CSV file.

    Columns are found by name: `file` (or `path`, `image`), `patient` (or `patient_id`), in any case of letters.
    Labels are the columns asked for; if none are asked for, every other column of which all filled cells are 0, 1,
    -1 or u (at least one is filled), and the names in the column `labels` (else `label`), in order of the alphabet:
    1 where a row lists the name, 0 where it lists others, unknown where the cell is empty.

    Args:
        path: the CSV file; its paths are relative to its folder.
        labels: which labels to take, in this order.
        uncertain: what -1 and u become: unknown ("ignore"), 1 ("ones") or 0 ("zeros").
        patient: "file" makes each file its own patient where the table does not name one.
        allow_outside: let paths lead out of the folder, by `..` or by links. Absolute paths are never read.

    Raises:
        ManifestError: names the CSV file, and the row where there is one; never a patient.
        ConfigError: an option is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "manifest.csv")
        ...     _ = path.write_text("image,Patient_ID,mass,note\\na.png,7,1,x\\nb.png,8,u,y\\n")
        ...     manifest = read_manifest(path)
        >>> manifest.labels, manifest.ignored, manifest.cases[1].labels
        (('mass',), ('note',), {'mass': None})

    Fails when: a column of zeros and ones is no label (a flag "has_box"); name the labels then.
    """
    if uncertain not in get_args(Uncertain):
        raise ConfigError(f"uncertain = {uncertain!r}: {did_you_mean(uncertain, UNCERTAIN)}")
    if patient not in ("", "file"):
        raise ConfigError(f"patient = {patient!r}: leave it empty, or 'file' to make each file its own patient")
    path = Path(path)
    table = read_table(path)
    if not table.rows:
        raise ManifestError(f"{table.name} has a header but no rows")
    columns = Columns.find(table, labels)
    warnings = _fill_patients(table, columns, patient) + _mixed(columns, labels)
    fence = Fence(path.parent, allow_outside)
    cases = [_case(table.name, row, number, columns, uncertain, fence) for number, row in enumerate(table.rows, 2)]
    try:
        return Manifest(path.parent, tuple(cases), columns.labels, columns.ignored, (), warnings, allow_outside)
    except ManifestError as error:
        raise ManifestError(f"{table.name}: {error}") from None


def _fill_patients(table: Table, columns: Columns, patient: str) -> tuple[str, ...]:
    column = columns.reserved.get("patient")
    if not column and not patient:
        raise ManifestError(
            f"{table.name} has no column 'patient': add one that is equal for all images of a person, "
            "or, if no two are of one person, say patient='file'"
        )
    empty = [number for number, row in enumerate(table.rows, 2) if not column or not row[column]]
    if empty and not patient:
        raise ManifestError(
            f"{table.name} row {empty[0]} has no patient ({len(empty)} rows): fill in, or patient='file'"
        )
    if not empty:
        return ()
    return (f"{len(empty)} rows name no patient: each of their files counts as a patient of its own",)


def _mixed(columns: Columns, asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is not None or not columns.listed or not columns.own:
        return ()
    flags = ", ".join(name for name in columns.labels if name in columns.own)
    return (f"beside the names in {columns.listed!r}, the columns {flags} of 0 and 1 count as labels: name the labels",)


def _case(name: str, row: Mapping[str, str], number: int, columns: Columns, uncertain: Uncertain, fence: Fence) -> Case:
    cell = columns.cells(row)
    get = cell.get
    try:
        file = _path(cell["file"], fence)
        masks = cells.read_masks(cell["masks"]) if "masks" in cell else {}
        return Case(
            file=file,
            patient=get("patient") or file,
            labels=columns.read_labels(row, UNCERTAIN[uncertain]) if columns.labels else {},
            view=get("view", ""),
            split=cells.read_split(cell["split"]) if "split" in cell else "",
            boxes=cells.read_boxes(cell["boxes"]) if "boxes" in cell else (),
            masks={k: _reference(v, fence) for k, v in masks.items()} if masks else {},
            frame=cells.read_frame(cell["frame"]) if "frame" in cell else None,
            attributes={key: cell[key] for key in ATTRIBUTES if key in cell},
            gaze=_reference(cell["gaze"], fence) if "gaze" in cell else "",
        )
    except ManifestError as error:
        raise ManifestError(f"{name} row {number}: {error}") from None


def _path(cell: str, fence: Fence) -> str:
    problem = fence.problem(cell)
    if problem:
        raise ManifestError(problem)
    return tidy(cell)


def _reference(cell: str, fence: Fence) -> str:
    return map_file(cell, lambda path: _path(path, fence))


# -- writing ------------------------------------------------------------------------------------------------------


def relocate(manifest: Manifest, folder: Path) -> Manifest:
    """Say the same files relative to another folder; files that lie outside it get a path with `..`.

    Args:
        manifest: the cases.
        folder: the new root; links in both roots are followed first.

    Example:
        >>> here = Manifest(Path("data/images"), (Case("a.png", "p"),), ())
        >>> relocate(here, Path("data")).cases[0].file, relocate(here, Path("runs")).cases[0].file
        ('images/a.png', '../data/images/a.png')

    Fails when: the folders are moved apart afterwards.
    """
    old, new = os.path.realpath(manifest.root), os.path.realpath(folder)
    if old == new:
        return replace(manifest, root=Path(folder))

    def move(path: str) -> str:
        return Path(os.path.relpath(os.path.join(old, path), new)).as_posix()

    def moved(case: Case) -> Case:
        masks = {name: map_file(path, move) for name, path in case.masks.items()}
        return replace(case, file=move(case.file), masks=masks, gaze=map_file(case.gaze, move) if case.gaze else "")

    cases = tuple(map(moved, manifest.cases))
    paths = (path for case in cases for path in (case.file, *case.masks.values(), case.gaze))
    outside = manifest.outside or any(path.startswith("../") for path in paths)
    return replace(manifest, root=Path(folder), cases=cases, outside=outside)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as one CSV file, whole or not at all; `read_manifest` gives the same cases back.

    Paths are written relative to the CSV's folder. Where files lie outside that folder, reading it back needs
    `allow_outside=True`. Text that a spreadsheet would run gets an apostrophe, which reading takes off again.
    A label that is unknown in all cases is found again only when it is asked for by name.

    Args:
        manifest: the cases.
        path: where to.

    Raises:
        ManifestError: a case has an attribute, a mask or a box whose name the table cannot hold.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "manifest.csv")
        ...     write_manifest(Manifest(Path(folder), (Case("a.png", "-p", {"mass": 1.0}),), ("mass",)), path)
        ...     print(path.read_text().strip())
        file,patient,split,mass
        a.png,'-p,,1

    Fails when: texts have blanks around them; they are not kept.
    """
    path = Path(path)
    moved = relocate(manifest, path.parent)
    rows = [_row(case, number, manifest.labels) for number, case in enumerate(moved.cases, 2)]
    always = ("file", "patient", "split", *manifest.labels)
    names = ("file", "patient", "split", "view", "frame", *ATTRIBUTES, "boxes", "masks", "gaze", *manifest.labels)
    header = [name for name in names if name in always or any(row[name] for row in rows)]
    write_table(path, header, ([row[name] for name in header] for row in rows))


def _row(case: Case, number: int, labels: Sequence[str]) -> dict[str, str]:
    extra = set(case.attributes) - set(ATTRIBUTES)
    if extra:
        raise ManifestError(f"row {number}: a manifest has no place for the attributes {', '.join(sorted(extra))}")
    try:
        boxes, masks = cells.write_boxes(case.boxes), cells.write_masks(case.masks)
    except ManifestError as error:
        raise ManifestError(f"row {number}: {error}") from None
    frame = "" if case.frame is None else str(case.frame)
    row = {"file": case.file, "patient": case.patient, "view": case.view, "split": case.split, "frame": frame}
    row |= {"boxes": boxes, "masks": masks, "gaze": case.gaze}
    row |= {name: case.attributes.get(name, "") for name in ATTRIBUTES}
    return row | {name: cells.write_label(case.labels.get(name)) for name in labels}


# -- checks -------------------------------------------------------------------------------------------------------


def check_labels(manifest: Manifest, split: str | None = None) -> list[Finding]:
    """List the labels that nothing can be learnt from, or measured on: all unknown, or of one class only.

    Args:
        manifest: the cases.
        split: "train", "val" or "test", or None for all cases.

    Example:
        >>> cases = (Case("a.png", "p", {"mass": 1.0, "cyst": None}), Case("b.png", "q", {"mass": 1.0, "cyst": None}))
        >>> [f.title for f in check_labels(Manifest(Path("."), cases, ("mass", "cyst")))]
        ["label 'mass' is 1 in every known case", "label 'cyst' is unknown in every case"]

    Fails when: both classes are there, but one in too few patients to learn from.
    """
    part = manifest if split is None else manifest.subset(split)
    where = "the manifest" if split is None else f"the split {split!r}"
    if not part.cases:
        return [Finding("bad", f"{where} has no cases", "assign splits, or check the column 'split'")]
    return [
        f for name, column in zip(part.labels, part.label_array().T, strict=True) for f in _judge(name, column, where)
    ]


def _judge(name: str, column: np.ndarray, where: str) -> list[Finding]:
    known = column[~np.isnan(column)]
    if not known.size:
        detail = f"none of the {column.size} cases of {where} has a value: leave the label out"
        return [Finding("bad", f"label {name!r} is unknown in every case", detail)]
    if known.min() == known.max():
        detail = (
            f"{known.size} of the {column.size} cases of {where} have a value, all the same: add cases or leave it out"
        )
        return [Finding("bad", f"label {name!r} is {int(known[0])} in every known case", detail)]
    return []


def require_labels(manifest: Manifest, split: str | None = None) -> None:
    """Raise a `ManifestError` with all that `check_labels` finds, or where there is no label at all.

    Example:
        >>> require_labels(Manifest(Path("."), (Case("a.png", "p"),), ()))
        Traceback (most recent call last):
        ...
        translucid.errors.ManifestError: the manifest has no labels: add columns of 0 and 1, or a column 'labels'

    Fails when: see `check_labels`.
    """
    if not manifest.labels:
        raise ManifestError("the manifest has no labels: add columns of 0 and 1, or a column 'labels'")
    found = check_labels(manifest, split)
    if found:
        raise ManifestError("; ".join(f"{f.title} ({f.detail})" for f in found))
