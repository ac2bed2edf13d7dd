"""Tables of boxes beside a data set: one row a box, grouped by file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from translucid.errors import ManifestError
from translucid.io.cells import make_box
from translucid.io.table import Table, read_table
from translucid.types import Box

BOX_NAMES = {"Infiltrate": "Infiltration"}
"""Names of findings that the tables of boxes spell otherwise than the tables of labels."""

Boxes = dict[str, tuple[Box, ...]]


def boxes_by_file(table: Table, file: str, label: str, numbers: Sequence[str]) -> Boxes:
    """The boxes of each file, from the columns named."""
    found: dict[str, list[Box]] = {}
    for number, row in enumerate(table.rows, 2):
        try:
            box = make_box(BOX_NAMES.get(row[label], row[label]), [row[name] for name in numbers])
        except ManifestError as error:
            raise ManifestError(f"{table.name} row {number}: {error}") from None
        found.setdefault(row[file], []).append(box)
    return {name: tuple(boxes) for name, boxes in found.items()}


def pack_boxes(path: Path) -> Boxes:
    """Boxes of a table file, finding or structure, x, y, w, h; x_512 … before x_1024 …, as the files are so small."""
    if not path.is_file():
        return {}
    table = read_table(path)
    label = next((name for name in ("finding", "structure", "label") if name in table.header), "")
    suffix = "_512" if "x_512" in table.header else ""
    numbers = [f"{name}{suffix}" for name in "xywh"]
    absent = {"file", *numbers} - set(table.header)
    if absent or not label:
        raise ManifestError(f"{table.name} needs the columns file, finding or structure, {', '.join(numbers)}")
    return boxes_by_file(table, "file", label, numbers)
