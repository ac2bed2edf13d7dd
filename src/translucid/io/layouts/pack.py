"""Packed samples of public data: a manifest.csv with a class, truth masks in columns, and boxes beside it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from translucid.errors import ConfigError, ManifestError, did_you_mean
from translucid.io.cells import SPLIT_WORDS, read_names
from translucid.io.fence import Fence
from translucid.io.layouts.boxes import pack_boxes
from translucid.io.layouts.settle import Haul, attributes_of, classes_to_labels, has_image_suffix, hot
from translucid.io.manifest import Manifest
from translucid.io.table import Table, read_table
from translucid.types import Box, Case

_NO_CLASS = ("", "none")
_MASKS = ("mask", "outline")
_USED = ("file", "patient_id", "view", "split", "sex", "age", "manufacturer", "followup", "sha256")


def pack(root: Path, *, column: str = "label", negative: str = "", allow_outside: bool = False) -> Manifest:
    """Read a folder with manifest.csv (file, patient_id, label, split, …) and its columns of masks.

    The class in `column` becomes one label per class. A column named mask, outline, mask_heart or disc_mask that
    holds paths becomes a mask of the name mask, outline, heart or disc; boxes.csv or lung_boxes.csv become boxes.

    Args:
        root: the folder.
        column: "label" (coarse classes) or "labels" (finer ones, where there are).
        negative: the class that means "none of the others"; it gets no label of its own.
        allow_outside: follow links that lead out of the folder.

    Raises:
        ManifestError: there is no such table, or no image of it is there.
        ConfigError: the column is not there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("a.png", "heart.png"):
        ...         Path(root, name).touch()
        ...     text = "file,patient_id,label,mask_heart\\na.png,7,cyst,heart.png\\n"
        ...     _ = Path(root, "manifest.csv").write_text(text)
        ...     pack(Path(root)).cases[0].masks
        {'heart': 'heart.png'}

    Fails when: patients are not named; each file then counts as a patient of its own, and a warning says so.
    """
    root = Path(root)
    table = _table(root, column)
    masks = mask_columns(table)
    labels = classes_to_labels((name for row in table.rows for name in _classes(row[column])), negative)
    used = {*_USED, column, *masks.values()}
    haul = Haul(root, labels, [name for name in table.header if name not in used], warnings=_warnings(table))
    boxes = pack_boxes(root / "boxes.csv") | pack_boxes(root / "lung_boxes.csv")
    shared = {file for file, count in Counter(row["file"] for row in table.rows).items() if count > 1}
    for number, row in enumerate(table.rows, 2):
        where, file = f"{table.name} row {number}", row["file"]
        problem = _unfit(root, row, file in shared, allow_outside)
        if problem:
            haul.rejects.append((where, problem))
            continue
        labelled = hot(_classes(row[column]), labels)
        if file in shared:  # nobody can tell whose masks and boxes are stored under the name
            haul.add(where, _case(row, labelled, {}, ()))
        else:
            haul.add(where, _case(row, labelled, masks, boxes.get(file, ())))
    return haul.settle(allow_outside)


def _table(root: Path, column: str) -> Table:
    if not (root / "manifest.csv").is_file():
        raise ManifestError(f"no pack under {root}: looked for manifest.csv")
    table = read_table(root / "manifest.csv")
    absent = {"file", "patient_id"} - set(table.header)
    if absent:
        raise ManifestError(f"{table.name} is not a pack's: it has no column {', '.join(sorted(absent))}")
    if column not in table.header:
        raise ConfigError(f"{table.name} has no column {column!r}: {did_you_mean(column, table.header)}")
    return table


def _classes(cell: str) -> tuple[str, ...]:
    return () if cell in _NO_CLASS else read_names(cell)


def mask_columns(table: Table) -> dict[str, str]:
    """Name of a mask → its column; columns of numbers about masks are none.

    Example:
        >>> rows = ({"file": "a.png", "disc_mask": "m.png", "mask_area": "0.3"},)
        >>> mask_columns(Table("t.csv", ("file", "disc_mask", "mask_area"), rows))
        {'disc': 'disc_mask'}
    """
    columns = {}
    for header in table.header:
        name = header.removeprefix("mask_").removesuffix("_mask")
        named = header in _MASKS or name != header
        if named and all(not row[header] or has_image_suffix(row[header]) for row in table.rows):
            columns[name] = header
    return columns


def _unfit(root: Path, row: Mapping[str, str], shared: bool, allow_outside: bool) -> str:
    if not has_image_suffix(row["file"]):
        return "the file is not an image"
    if not shared:
        return ""
    fence = Fence(root, allow_outside)
    if fence.problem(row["file"]) or not (root / row["file"]).is_file():
        return ""  # the reason is given with those of all other files
    with (root / row["file"]).open("rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest() == row.get("sha256")
    return "" if right else "another row has the same file, and its checksum"


def _warnings(table: Table) -> list[str]:
    warnings = []
    nameless = sum(not row["patient_id"] for row in table.rows)
    if nameless:
        warnings.append(f"{nameless} rows name no patient: each of their files counts as a patient of its own")
    other = {row.get("split", "").lower() for row in table.rows} - {"", *SPLIT_WORDS}
    if other:
        warnings.append(f"splits named {', '.join(sorted(other))} are none of train, val, test: not yet assigned")
    return warnings


def _case(
    row: Mapping[str, str], labels: Mapping[str, float | None], masks: Mapping[str, str], boxes: tuple[Box, ...]
) -> Case:
    return Case(
        file=row["file"],
        patient=row["patient_id"] or row["file"],
        labels=labels,
        view=row.get("view", ""),
        split=SPLIT_WORDS.get(row.get("split", "").lower(), ""),
        boxes=boxes,
        masks={name: row[column] for name, column in masks.items() if row[column]},
        attributes=attributes_of(*(row.get(name, "") for name in ("sex", "age", "manufacturer", "followup"))),
    )
