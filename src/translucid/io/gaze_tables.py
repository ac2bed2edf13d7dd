"""Tables of fixations, told apart by their columns.

- Plain CSV: `x`, `y` in pixels, `seconds` (or `duration`, `time`), and, where it holds several images', `image` (or
  `image_id`, `file`, `dicom_id`).
- Plain JSON: a list of {"image_id", "gaze_x", "gaze_y", "time"}, x and y as fractions of width and height; `time` is
  whatever the table means by it.
- EGD-CXR's fixations.csv: `DICOM_ID`, `FPOGX`, `FPOGY`, `FPOGD`, fractions of a screen of 1920 × 1080; how the image
  lay on it stands in master_sheet.csv beside it.
- REFLACX's <id>/fixations.csv: `x_position`, `y_position` in pixels of the image, `timestamp_start_fixation`,
  `timestamp_end_fixation`; and metadata_phase_*.csv with `id`, `dicom_id`, `eye_tracking_data_discarded`, for all the
  readings of one image.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from translucid.errors import ManifestError
from translucid.io.fence import Fence
from translucid.types import Space

SCREEN = (1080, 1920)
"""Rows and columns of the screen on which EGD-CXR was read."""
MASTER_SHEET = "master_sheet.csv"

_IMAGES = ("image", "image_id", "file", "dicom_id")
_SECONDS = ("seconds", "duration", "time")
_SCREENED = ("FPOGX", "FPOGY", "FPOGD")
_POSITIONS = ("x_position", "y_position", "timestamp_start_fixation", "timestamp_end_fixation")
_READINGS = ("id", "dicom_id", "eye_tracking_data_discarded")
_SIDES = ("top", "bottom", "left", "right")
_PADS = tuple(f"image_{side}{end}" for side in _SIDES for end in ("_pad", ""))
_USED = frozenset(("x", "y", "DICOM_ID", *_IMAGES, *_SECONDS, *_SCREENED, *_POSITIONS, *_READINGS, *_PADS))


class Looks(NamedTuple):
    """(n,) each: pixels of the image, the first one's centre at 0, and seconds."""

    x: np.ndarray
    y: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True)
class Columns:
    """The columns of a table that matter here, as text; row `i` of a column is row `i + 2` of the file."""

    name: str
    cells: Mapping[str, tuple[str, ...]]

    def has(self, *names: str) -> bool:
        """Whether all these columns are there."""
        return all(name in self.cells for name in names)

    def first(self, names: Sequence[str]) -> str:
        """The first of these columns that is there, or ""."""
        return next((name for name in names if name in self.cells), "")

    def numbers(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The column as numbers, nan where a cell is empty; `ManifestError` with the row of one that is no number."""
        texts = [self.cells[name][i] or "nan" for i in rows.tolist()]
        try:
            return np.array(texts, np.float64)
        except ValueError:
            bad = next(int(i) for i, text in zip(rows, texts, strict=True) if not _is_number(text))
            raise ManifestError(
                f"{self.name} row {bad + 2}: {name} is {self.cells[name][bad]!r}; wanted a number"
            ) from None

    @cached_property
    def images(self) -> Mapping[str, np.ndarray]:
        """Image → its rows, in the order of the table; the sitting's last image as any other."""
        column = self.cells[self.first((*_IMAGES, "DICOM_ID"))]
        ids, back = np.unique(np.array(column, dtype=object).astype(str), return_inverse=True)
        order = np.argsort(back, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(back, minlength=len(ids)))[:-1])
        return dict(zip(ids.tolist(), parts, strict=True))

    @cached_property
    def by_dicom(self) -> Columns:
        """The same rows, named by `dicom_id` and nothing else."""
        return Columns(self.name, {"dicom_id": self.cells["dicom_id"]})

    @property
    def rows(self) -> np.ndarray:
        """Numbers of all rows."""
        return np.arange(len(next(iter(self.cells.values()), ())))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def columns_of(path: Path) -> Columns:
    """The columns of a CSV that this module knows; parsed once for as long as the file stays the same."""
    try:
        state = path.stat()
    except OSError:
        raise ManifestError(f"there is no table of fixations {path.name}: check the column 'gaze'") from None
    return _columns(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _columns(path: Path, changed: int, size: int) -> Columns:
    """`changed` and `size` are there for the cache to tell another file by."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            keep = [(i, name) for i, name in enumerate(header) if name in _USED]
            rows = [_kept(path.name, number, cells, header, keep) for number, cells in enumerate(lines, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path.name} is not a readable CSV in UTF-8 ({type(error).__name__})") from None
    columns = zip(*rows, strict=True) if rows else [()] * len(keep)
    return Columns(path.name, dict(zip([name for _, name in keep], columns, strict=True)))


def _kept(
    name: str, number: int, cells: Sequence[str], header: Sequence[str], keep: Sequence[tuple[int, str]]
) -> tuple[str, ...]:
    if len(cells) != len(header):
        raise ManifestError(f"{name} row {number} has {len(cells)} cells, the header {len(header)}: mend the table")
    return tuple(cells[i].strip() for i, _ in keep)


# -- one image's looks --------------------------------------------------------------------------------------------


def find_fixations(path: Path, key: str, size: Space, outside: bool = False) -> Looks:
    """The fixations of one image out of a table of any known kind.

    Args:
        path: the table.
        key: the image's name in it; "" where the table is of one image.
        size: (rows, columns) of the image.
        outside: whether links may lead out of the table's folder, for tables that name others.

    Raises:
        ManifestError: no known kind of table, no such image in it, or a cell that is no number; names file and row.
    """
    if path.suffix.lower() == ".json":
        return _of_json(path, key, size)
    table = columns_of(path)
    if table.has(*_SCREENED[:2], "DICOM_ID"):
        return _of_screen(path, table, key, size)
    if table.has(*_READINGS):
        return _of_readings(path, table, key, size, outside)
    if table.has(*_POSITIONS):
        rows = _rows(table, key)
        start, end = (table.numbers(name, rows) for name in _POSITIONS[2:])
        return Looks(table.numbers("x_position", rows), table.numbers("y_position", rows), end - start)
    if table.has("x", "y"):
        rows, seconds = _rows(table, key), table.first(_SECONDS)
        lasted = table.numbers(seconds, rows) if seconds else np.full(len(rows), np.nan)
        return Looks(table.numbers("x", rows), table.numbers("y", rows), lasted)
    raise ManifestError(
        f"{path.name} is no known table of fixations: wanted x, y, seconds; or x_position, y_position; or DICOM_ID, "
        "FPOGX, FPOGY"
    )


def gaze_sources(path: Path, key: str) -> list[Path]:
    """Every file that `find_fixations` reads for one image: the table, and those beside it that it leans on.

    Args:
        path: the table.
        key: the image's name in it, or "".

    Returns:
        The table first; the master sheet where the table counts in screens; the fixations of each reading that was
        kept. Only the table where it cannot be read: reading it will tell why.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Path(folder, "fixations.csv")
        ...     _ = table.write_text("DICOM_ID,FPOGX,FPOGY,FPOGD\\na,0.5,0.5,0.2\\n")
        ...     [file.name for file in gaze_sources(table, "a")]
        ['fixations.csv', 'master_sheet.csv']

    Fails when: links in the folder change what they point at, to a file of the same size and time.
    """
    if path.suffix.lower() == ".json":
        return [path]
    try:
        table = columns_of(path)
        if table.has(*_SCREENED[:2], "DICOM_ID"):
            return [path, path.parent / MASTER_SHEET]
        if not table.has(*_READINGS):
            return [path]
        return [path, *(path.parent / name for name in _kept_readings(table, key))]
    except ManifestError:
        return [path]


def _rows(table: Columns, key: str) -> np.ndarray:
    named = table.first((*_IMAGES, "DICOM_ID"))
    if not key:
        if named and len(table.images) > 1:
            raise ManifestError(
                f"{table.name} holds the fixations of {len(table.images)} images: name one, as in {table.name}#image"
            )
        return table.rows
    if not named:
        raise ManifestError(f"{table.name} has no column of images (image, image_id, file): leave the '#…' out")
    if key not in table.images:
        raise ManifestError(f"{table.name} has no fixations of the image that the manifest names in it")
    return table.images[key]


def _of_screen(path: Path, table: Columns, key: str, size: Space) -> Looks:
    """x = (1920 · FPOGX − left) · width / (1920 − left − right) − ½, and the like for y."""
    rows = _rows(table, key)
    top, bottom, left, right = padding(path.parent / MASTER_SHEET, key)
    high, wide = SCREEN[0] - top - bottom, SCREEN[1] - left - right
    x = (table.numbers("FPOGX", rows) * SCREEN[1] - left) * (size[1] / wide) - 0.5
    y = (table.numbers("FPOGY", rows) * SCREEN[0] - top) * (size[0] / high) - 0.5
    lasted = table.numbers("FPOGD", rows) if table.has("FPOGD") else np.full(len(rows), np.nan)
    return Looks(x, y, lasted)


def padding(sheet: Path, image: str) -> tuple[float, float, float, float]:
    """Screen pixels above, below, left and right of an image, from EGD-CXR's master sheet."""
    table = columns_of(sheet)
    names = [table.first((f"image_{side}_pad", f"image_{side}")) for side in _SIDES]
    if not all(names) or not table.has("dicom_id"):
        raise ManifestError(
            f"{sheet.name} needs dicom_id and image_top_pad, image_bottom_pad, image_left_pad, …right_pad"
        )
    if image not in table.images:
        raise ManifestError(f"{sheet.name} does not name the image whose fixations are asked for")
    rows = table.images[image][:1]
    top, bottom, left, right = (float(table.numbers(name, rows)[0]) for name in names)
    fits = min(top, bottom, left, right) >= 0 and top + bottom < SCREEN[0] and left + right < SCREEN[1]
    if not fits:  # nan fits nowhere
        raise ManifestError(f"{sheet.name} row {rows[0] + 2}: padding {top}, {bottom}, {left}, {right} leaves no image")
    return top, bottom, left, right


def _of_readings(path: Path, table: Columns, key: str, size: Space, outside: bool) -> Looks:
    """The fixations of all readings of an image whose eye tracking was kept, one after the other."""
    fence = Fence(path.parent, outside)
    parts = [find_fixations(fence.path(name), "", size) for name in _kept_readings(table, key)]
    if not parts:
        raise ManifestError(f"{table.name}: the eye tracking of every reading of the image was discarded")
    return Looks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _kept_readings(table: Columns, key: str) -> list[str]:
    """The tables of the readings of an image whose eye tracking was kept, named from the folder of the metadata."""
    discarded, names = table.cells["eye_tracking_data_discarded"], table.cells["id"]
    rows = _rows(table.by_dicom, key).tolist()
    return [f"{names[i]}/fixations.csv" for i in rows if discarded[i].lower() not in ("true", "1")]


def _of_json(path: Path, key: str, size: Space) -> Looks:
    try:
        state = path.stat()
    except OSError:
        raise ManifestError(f"there is no table of fixations {path.name}: check the column 'gaze'") from None
    table = _json(path, state.st_mtime_ns, state.st_size)
    if not key and len(table) == 1:
        key = next(iter(table))
    if key not in table:
        raise ManifestError(f"{path.name} has no fixations of the image that the manifest names in it")
    x, y, time = table[key]
    return Looks(x * size[1] - 0.5, y * size[0] - 0.5, time)


@lru_cache(maxsize=8)
def _json(path: Path, changed: int, size: int) -> Mapping[str, Looks]:
    """`changed` and `size` are there for the cache to tell another file by."""
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path.name} is not readable JSON ({type(error).__name__})") from None
    found = {}
    for number, entry in enumerate(entries if isinstance(entries, list) else [None], 1):
        try:
            looks = Looks(*(np.array(entry[name], np.float64) for name in ("gaze_x", "gaze_y", "time")))
            fits = looks.x.ndim == 1 and looks.x.shape == looks.y.shape == looks.seconds.shape
            found[str(entry["image_id"])] = looks
        except (TypeError, KeyError, ValueError):
            fits = False
        if not fits:
            raise ManifestError(
                f"{path.name} entry {number}: wanted image_id and lists gaze_x, gaze_y, time of one length"
            )
    return found
