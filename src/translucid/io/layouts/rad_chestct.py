"""RAD-ChestCT as Zenodo hands it out: one .npz a scan, label tables by set, metadata and lung boxes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from translucid.errors import ConfigError, ManifestError, did_you_mean
from translucid.io.cells import LABEL_WORDS
from translucid.io.layouts.settle import Haul, attributes_of
from translucid.io.manifest import Manifest
from translucid.types import Case

_SETS = {"imgtrain": "train", "imgvalid": "val", "imgtest": "test"}
_SCAN, _PATIENT = "NoteAcc_DEID", "MRN_DEID"
_BOX = ("sup_axis0min", "inf_axis0max", "ant_axis1min", "pos_axis1max", "rig_axis2min", "lef_axis2max")


def rad_chestct(root: Path, *, labels: Sequence[str] | None = None, allow_outside: bool = False) -> Manifest:
    """Read RAD-ChestCT: <scan>.npz anywhere below, img{train,valid,test}*.csv, and the metadata where it is there.

    A column "nodule*left_lower" of a label table is the label "nodule" at a place; a label is 1 where any of its
    places is, and 0 elsewhere. Sets become train, val and test. Names of files and columns are our reading of the
    public release: the scan stands in NoteAcc_DEID, else in the first column, and the patient in the metadata's
    MRN_DEID; without that each scan counts as a patient of its own, and a warning says so.

    Args:
        root: the folder that holds the tables.
        labels: findings, or findings at a place ("nodule*left_lower"); None takes all findings.
        allow_outside: follow links that lead out of the folder.

    Raises:
        ManifestError: no label table, or one that cannot be read; a scan in two sets.
        ConfigError: a label asked for is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "trn00001.npz").touch()
        ...     table = "NoteAcc_DEID,nodule*left_lower,nodule*right_lung,mass*heart\\ntrn00001,1,0,0\\n"
        ...     _ = Path(root, "imgtrain_Abnormality_and_Location_Labels.csv").write_text(table)
        ...     case = rad_chestct(Path(root)).cases[0]
        >>> case.labels, case.split
        ({'mass': 0.0, 'nodule': 1.0}, 'train')

    Source: Draelos et al. 2021, doi 10.1016/j.media.2020.101857; the data set, doi 10.5281/zenodo.6406114.

    Fails when: labels are taken as truth; rules mined them from reports (published mean F 0.976).
    """
    root = Path(root)
    tables = _tables(root)
    if not tables:
        wanted = ", ".join(f"{name}*.csv" for name in _SETS)
        raise ManifestError(f"no RAD-ChestCT under {root}: looked for {wanted}")
    columns = _Columns.of(tables, labels)
    patients, files = _patients(root), _scans(root)
    haul = Haul(root, columns.labels)
    strangers = 0
    seen: dict[str, str] = {}
    for where, split, scan, cells in _rows(tables):
        if seen.setdefault(scan, where) != where:
            raise ManifestError(f"{where} names the scan of {seen[scan]}: remove one")
        if scan not in files:
            haul.rejects.append((where, "the file is not there"))
            continue
        known = patients.get(scan, _Person(scan, {}))
        strangers += scan not in patients
        values = columns.read(cells, where)
        haul.add(where, Case(files[scan], known.patient, values, split=split, attributes=known.attributes))
    if strangers:
        haul.warnings.append(
            f"{strangers} scans have no {_PATIENT} in a table of metadata: each counts as a patient of its own"
        )
    return haul.settle(allow_outside)


def scan_locations(root: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Where each scan's findings are said to be: scan → finding → places.

    Raises:
        ManifestError: a label table cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     table = "NoteAcc_DEID,nodule*left_lower,nodule*right_lung,mass*heart\\ntrn00001,1,1,0\\n"
        ...     _ = Path(root, "imgtrain_Abnormality_and_Location_Labels.csv").write_text(table)
        ...     places = scan_locations(Path(root))["trn00001"]
        >>> places, sides_of(places)
        ({'nodule': ('left_lower', 'right_lung')}, {'nodule': ('left', 'right')})

    Fails when: a report names no place; the finding is then there without one.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for _, _, scan, cells in _rows(_tables(Path(root))):
        places = found.setdefault(scan, {})
        for name, cell in cells.items():
            if _is_one(cell):
                label, _, place = name.partition("*")
                places[label] = (*places.get(label, ()), place)
    return found


def sides_of(places: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The lungs that places name, for `allowed_regions`: those with the word left or right (our reading).

    Example:
        >>> sides_of({"nodule": ["left_upper", "lung"], "mass": ["lung"]})
        {'nodule': ('left',)}

    Fails when: the side is of another organ, as in "left_kidney".
    """
    found = {
        name: tuple(side for side in ("left", "right") if any(side in place.lower().split("_") for place in named))
        for name, named in places.items()
    }
    return {name: sides for name, sides in found.items() if sides}


def read_extrema(root: Path) -> dict[str, tuple[tuple[int, int], ...]]:
    """The data set's own lung boxes: scan → first and last slice, row and column, in voxels of the archive.

    Returns:
        Empty where there is no Extrema*.csv; a scan without six whole numbers is left out.

    Raises:
        ManifestError: the table lacks the columns of our reading.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     text = f"NoteAcc_DEID,{','.join(_BOX)}\\ntrn00001,9,300,40,330,50,370\\n"
        ...     _ = Path(root, "Extrema_5747.csv").write_text(text)
        ...     read_extrema(Path(root))
        {'trn00001': ((9, 300), (40, 330), (50, 370))}

    Fails when: whether the last voxel counts is not said; compare boxes to a voxel, not better.
    """
    boxes: dict[str, tuple[tuple[int, int], ...]] = {}
    for path in _named(Path(root), "extrema"):
        for _, row in _records(path):
            if absent := [name for name in (_SCAN, *_BOX) if name not in row]:
                raise ManifestError(f"{path.name} has no column {', '.join(absent)}")
            try:
                z0, z1, y0, y1, x0, x1 = (int(float(row[name])) for name in _BOX)
            except ValueError:
                continue
            boxes[row[_SCAN]] = ((z0, z1), (y0, y1), (x0, x1))
    return boxes


# -- parts --------------------------------------------------------------------------------------------------------


class _Person(NamedTuple):
    patient: str
    attributes: dict[str, str]


@dataclass(frozen=True)
class _Columns:
    """Labels in order, and the columns of which any makes the label 1."""

    labels: tuple[str, ...]
    of_label: Mapping[str, tuple[str, ...]]

    @staticmethod
    def of(tables: Mapping[Path, str], labels: Sequence[str] | None) -> _Columns:
        findings: dict[str, dict[str, None]] = {}
        for path in tables:
            for name in _label_columns(path):
                findings.setdefault(name.partition("*")[0], {})[name] = None
        places = {name: (name,) for columns in findings.values() for name in columns}
        known = places | {finding: tuple(columns) for finding, columns in findings.items()}
        for name in labels or ():
            if name not in known:
                raise ConfigError(f"unknown label {name!r}: {did_you_mean(name, findings)}")
        chosen = tuple(labels) if labels is not None else tuple(sorted(findings))
        return _Columns(chosen, {name: known[name] for name in chosen})

    def read(self, cells: Mapping[str, str], where: str) -> dict[str, float | None]:
        """1 where any column is, 0 where at least one is known, else None."""
        values: dict[str, float | None] = {}
        for label, names in self.of_label.items():
            found = [cells[name] for name in names if name in cells]
            if any(cell not in LABEL_WORDS for cell in found):
                raise ManifestError(f"{where}: the label {label!r} has a cell that is not 0 or 1")
            known = [value for cell in found if (value := LABEL_WORDS[cell]) is not None]
            values[label] = max(known) if known else None
        return values


def _is_one(cell: str) -> bool:
    return LABEL_WORDS.get(cell) == 1.0


def _named(root: Path, start: str) -> list[Path]:
    """CSV files of the folder and those just below it whose names begin so, whatever the case of letters."""
    near = [*root.glob("*.csv"), *root.glob("*/*.csv")]
    return sorted(path for path in near if path.name.lower().startswith(start))


def _tables(root: Path) -> dict[Path, str]:
    return {path: split for start, split in _SETS.items() for path in _named(root, start)}


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Row numbers and rows, one at a time: a label table has thousands of columns."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            for number, cells in enumerate(lines, 2):
                if len(cells) != len(header):
                    raise ManifestError(f"{path.name} row {number} has {len(cells)} cells, the header {len(header)}")
                yield number, dict(zip(header, map(str.strip, cells), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path.name} is not a readable CSV in UTF-8 ({type(error).__name__})") from None


def _label_columns(path: Path) -> list[str]:
    first = next(_records(path), None)
    if first is None:
        raise ManifestError(f"{path.name} has no rows")
    names = list(first[1])
    scan = _SCAN if _SCAN in names else names[0]
    return [name for name in names if name and name != scan]


def _rows(tables: Mapping[Path, str]) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """(where, split, scan, label cells) of all tables."""
    for path, split in tables.items():
        for number, row in _records(path):
            scan = row.pop(_SCAN if _SCAN in row else next(iter(row)))
            yield f"{path.name} row {number}", split, scan.removesuffix(".npz"), row


def _patients(root: Path) -> dict[str, _Person]:
    people = {}
    for path in _named(root, "ct_scan_metadata"):
        for _, row in _records(path):
            if row.get(_SCAN) and row.get(_PATIENT):
                facts = {name.lower(): cell for name, cell in row.items()}
                sex, age = (facts.get(n) or facts.get(f"patient{n}", "") for n in ("sex", "age"))
                people[row[_SCAN]] = _Person(row[_PATIENT], attributes_of(sex, age))
    return people


def _scans(root: Path) -> dict[str, str]:
    """Name of a scan → its archive's path below the root."""
    scans: dict[str, str] = {}
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(".npz") and not name.startswith("."):
                scans.setdefault(name[:-4], Path(folder, name).relative_to(root).as_posix())
    return scans
