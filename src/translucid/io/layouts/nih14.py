"""ChestX-ray14 as the NIH hands it out, and in the packed form with smaller images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image as Picture

from translucid.errors import ConfigError, ManifestError, did_you_mean
from translucid.io.cells import read_names, read_split
from translucid.io.layouts.boxes import Boxes, boxes_by_file, pack_boxes
from translucid.io.layouts.settle import Haul, attributes_of, hot
from translucid.io.manifest import Manifest
from translucid.io.table import Table, read_table
from translucid.types import Box, Case

NIH_LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
    "No Finding",
)
_TABLE = "Data_Entry_2017*.csv"
_SIZE = 1024
"""Side of the NIH's images, in whose pixels its boxes are given."""


def nih14(root: Path, *, labels: Sequence[str] = NIH_LABELS, allow_outside: bool = False) -> Manifest:
    """Read ChestX-ray14: Data_Entry_2017*.csv, images/ or images_001 … 012/images, boxes and official lists.

    Images of the official test list become "test"; the others await their split by patient. Boxes are scaled to the
    size of the files. The packed form (manifest.csv, boxes.csv, rotated.csv) keeps its own split.

    Args:
        root: the folder that holds the tables.
        labels: which of the 14 findings and "No Finding" to take.
        allow_outside: follow links that lead out of the folder.

    Raises:
        ManifestError: a table or a column is absent, or a finding has an unknown name.
        ConfigError: a label asked for is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     Path(root, "images").mkdir()
        ...     Path(root, "images", "00000001_000.png").touch()
        ...     header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position"
        ...     row = "00000001_000.png,Mass|Edema,0,1,57,M,PA"
        ...     _ = Path(root, "Data_Entry_2017_v2020.csv").write_text(f"{header}\\n{row}\\n")
        ...     case = nih14(Path(root), labels=["Mass", "Hernia"]).cases[0]
        >>> case.labels, case.view
        ({'Mass': 1.0, 'Hernia': 0.0}, 'PA')

    Source: Wang et al. 2017, ChestX-ray8, doi 10.1109/CVPR.2017.369.

    Fails when: labels are taken as truth; they were mined from reports and about one in ten is wrong.
    """
    root = Path(root)
    for name in labels:
        if name not in NIH_LABELS:
            raise ConfigError(f"unknown label {name!r}: {did_you_mean(name, NIH_LABELS)}")
    tables = sorted(root.glob(_TABLE))
    if tables:
        haul = _official(root, read_table(tables[0]), labels)
    elif (root / "manifest.csv").is_file():
        haul = _packed(root, read_table(root / "manifest.csv"), labels)
    else:
        raise ManifestError(f"no ChestX-ray14 under {root}: looked for {_TABLE} and manifest.csv")
    return haul.settle(allow_outside)


def _findings(cell: str, where: str, labels: Sequence[str]) -> dict[str, float | None]:
    names = read_names(cell)
    for name in names:
        if name not in NIH_LABELS:
            raise ManifestError(f"{where}: unknown finding {name!r}: {did_you_mean(name, NIH_LABELS)}")
    return hot(names, labels)


def _need(table: Table, columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in table.header]
    if absent:
        raise ManifestError(f"{table.name} is not ChestX-ray14's: it has no column {', '.join(absent)}")


# -- as handed out ------------------------------------------------------------------------------------------------


def _official(root: Path, table: Table, labels: Sequence[str]) -> Haul:
    sex = "Patient Sex" if "Patient Sex" in table.header else "Patient Gender"
    used = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", sex, "View Position"]
    _need(table, used)
    haul = Haul(root, tuple(labels), [name for name in table.header if name not in used])
    places, splits, boxes = _places(root), _lists(root), _official_boxes(root)
    if not splits:
        haul.warnings.append("no test_list.txt: no image is in the official test set")
    for number, row in enumerate(table.rows, 2):
        where, name = f"{table.name} row {number}", row["Image Index"]
        file = places.get(name)
        if file is None:
            haul.rejects.append((where, "the file is not there"))
            continue
        case = Case(
            file=file,
            patient=row["Patient ID"] or file,
            labels=_findings(row["Finding Labels"], where, labels),
            view=row["View Position"],
            split=splits.get(name, ""),
            boxes=_scaled(boxes.get(name, ()), root / file),
            attributes=attributes_of(row[sex], row["Patient Age"], visit=row["Follow-up #"]),
        )
        haul.add(where, case)
    return haul


def _places(root: Path) -> dict[str, str]:
    """Name of an image → its path below the root."""
    places: dict[str, str] = {}
    for folder in (root / "images", *sorted(root.glob("images_0*/images"))):
        if folder.is_dir():
            below = folder.relative_to(root).as_posix()
            places |= {entry.name: f"{below}/{entry.name}" for entry in os.scandir(folder)}
    if not places:
        raise ManifestError(f"no images under {root}: looked in images/ and images_001/images/ to images_012/images/")
    return places


def _lists(root: Path) -> Mapping[str, str]:
    path = root / "test_list.txt"
    return dict.fromkeys(path.read_text("utf-8").split(), "test") if path.is_file() else {}


def _official_boxes(root: Path) -> Boxes:
    path = root / "BBox_List_2017.csv"
    if not path.is_file():
        return {}
    table = read_table(path)
    # the header reads "Bbox [x,y,w,h]", which its own commas cut into four columns
    numbers = ("Bbox [x", "y", "w", "h]")
    _need(table, ("Image Index", "Finding Label", *numbers))
    return boxes_by_file(table, "Image Index", "Finding Label", numbers)


def _scaled(boxes: Sequence[Box], path: Path) -> tuple[Box, ...]:
    if not boxes:
        return ()
    try:
        with Picture.open(path) as picture:
            across, down = picture.width / _SIZE, picture.height / _SIZE
    except (OSError, ValueError, Picture.DecompressionBombError):
        return tuple(boxes)  # whoever reads the image will reject it, box and all
    return tuple(Box(b.label, b.x * across, b.y * down, b.width * across, b.height * down) for b in boxes)


# -- packed -------------------------------------------------------------------------------------------------------


def _packed(root: Path, table: Table, labels: Sequence[str]) -> Haul:
    used = ["file", "patient_id", "labels", "view", "age", "sex", "split", "followup"]
    _need(table, used)
    haul = Haul(root, tuple(labels), [name for name in table.header if name not in used])
    boxes = pack_boxes(root / "boxes.csv")
    turned = (
        {row["file"] for row in read_table(root / "rotated.csv").rows} if (root / "rotated.csv").is_file() else set()
    )
    for number, row in enumerate(table.rows, 2):
        where = f"{table.name} row {number}"
        if row["file"] in turned:
            haul.rejects.append((where, "the image was turned on purpose"))
            continue
        case = Case(
            file=row["file"],
            patient=row["patient_id"] or row["file"],
            labels=_findings(row["labels"], where, labels),
            view=row["view"],
            split=read_split(row["split"]),
            boxes=boxes.get(row["file"], ()),
            attributes=attributes_of(row["sex"], row["age"], visit=row["followup"]),
        )
        haul.add(where, case)
    return haul
