"""CheXpert as Stanford hands it out: train.csv and valid.csv beside the folders of images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from translucid.errors import ConfigError, ManifestError, did_you_mean
from translucid.io.cells import UNCERTAIN, Uncertain, read_label
from translucid.io.layouts.settle import Haul, attributes_of
from translucid.io.manifest import Manifest
from translucid.io.table import Table, read_table
from translucid.types import Case

Blank = Literal["negative", "unknown"]

CHEXPERT_LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
VIEWS = ("frontal", "lateral")
_TABLES = {"train.csv": "", "valid.csv": "test"}
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_PATH = re.compile(r"(?:^|/)((?:train|valid)/(patient\d+)/study(\d+)/[^/]+)$")


def chexpert(
    root: Path,
    *,
    labels: Sequence[str] = CHEXPERT_LABELS,
    uncertain: Uncertain = "ignore",
    blank: Blank = "negative",
    views: Sequence[str] = VIEWS,
    allow_outside: bool = False,
) -> Manifest:
    """Read CheXpert, small or full; the official valid set becomes "test", the train set awaits its split.

    Args:
        root: the folder with train.csv and valid.csv, or the one above it.
        labels: which of the 14 labels to take.
        uncertain: what -1 becomes: unknown ("ignore"), 1 ("ones") or 0 ("zeros").
        blank: what an empty cell becomes: 0 ("negative", the finding was not mentioned, as papers do) or unknown.
        views: "frontal", "lateral" or both.
        allow_outside: follow links that lead out of the folder.

    Raises:
        ManifestError: a table or a column is absent, or a path has another form.
        ConfigError: an option is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     file = Path(root, "valid/patient64541/study1/view1_frontal.jpg")
        ...     file.parent.mkdir(parents=True)
        ...     file.touch()
        ...     header = ",".join((*_COLUMNS, *CHEXPERT_LABELS))
        ...     row = "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP" + ",1.0" * 14
        ...     _ = Path(root, "valid.csv").write_text(f"{header}\\n{row}\\n")
        ...     case = chexpert(Path(root)).cases[0]
        >>> case.split, case.view, case.attributes["age"], case.labels["Edema"]
        ('test', 'AP', '73', 1.0)

    Source: Irvin et al. 2019, CheXpert, arXiv 1901.07031.

    Fails when: an unmentioned finding was there all the same; reports do not mention all that can be seen.
    """
    _check_options(labels, uncertain, blank, views)
    home = _home(Path(root))
    haul = Haul(home, tuple(labels))
    haul.warnings.append(
        "the official valid set is 'test': split the rest by patient with fractions for train and val only"
    )
    empty = 0.0 if blank == "negative" else None
    for name, split in _TABLES.items():
        if (home / name).is_file():
            table = read_table(home / name)
            _check_columns(table, labels)
            _collect(haul, table, split, (UNCERTAIN[uncertain], empty), views)
    return haul.settle(allow_outside)


def _check_options(labels: Sequence[str], uncertain: str, blank: str, views: Sequence[str]) -> None:
    wanted = [(name, CHEXPERT_LABELS, "label") for name in labels] + [(view, VIEWS, "view") for view in views]
    wanted += [(uncertain, get_args(Uncertain), "uncertain"), (blank, get_args(Blank), "blank")]
    for value, known, what in wanted:
        if value not in known:
            raise ConfigError(f"unknown {what} {value!r}: {did_you_mean(value, known)}")
    if not views:
        raise ConfigError("views is empty: take 'frontal', 'lateral' or both")


def _home(root: Path) -> Path:
    for folder in (root, *sorted(root.glob("CheXpert*"))):
        if any((folder / name).is_file() for name in _TABLES):
            return folder
    raise ManifestError(f"no CheXpert under {root}: looked for train.csv and valid.csv, there and in CheXpert*/")


def _check_columns(table: Table, labels: Sequence[str]) -> None:
    absent = [name for name in (*_COLUMNS, *labels) if name not in table.header]
    if absent:
        raise ManifestError(f"{table.name} is not CheXpert's: it has no column {', '.join(absent)}")


def _collect(
    haul: Haul, table: Table, split: str, meaning: tuple[float | None, float | None], views: Sequence[str]
) -> None:
    for number, row in enumerate(table.rows, 2):
        where = f"{table.name} row {number}"
        if row["Frontal/Lateral"].lower() not in views:
            continue
        try:
            haul.add(where, _case(row, haul.labels, split, meaning))
        except ManifestError as error:
            raise ManifestError(f"{where}: {error}") from None


def _case(
    row: Mapping[str, str], labels: Sequence[str], split: str, meaning: tuple[float | None, float | None]
) -> Case:
    match = _PATH.search(row["Path"])
    if not match:
        raise ManifestError("the path is not of the form …/train/patient00001/study1/view1_frontal.jpg")
    unsure, empty = meaning
    side, projection = row["Frontal/Lateral"].lower(), row["AP/PA"].upper()
    return Case(
        file=match[1],
        patient=match[2],
        labels={name: read_label(row[name], unsure) if row[name] else empty for name in labels},
        view=projection if side == "frontal" and projection in ("AP", "PA") else side,
        split=split,
        attributes=attributes_of(row["Sex"], row["Age"], visit=match[3]),
    )
