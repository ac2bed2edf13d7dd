"""Layouts without a data set's own rules: a manifest, and folders named after classes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from translucid.errors import ConfigError, ManifestError
from translucid.io.cells import SPLIT_WORDS, Uncertain
from translucid.io.columns import reserved_name
from translucid.io.layouts.settle import Haul, classes_to_labels, has_image_suffix, hot
from translucid.io.manifest import Manifest, read_manifest
from translucid.types import Case

_MANY_CLASSES = 50


def manifest(
    root: Path,
    *,
    labels: Sequence[str] | None = None,
    uncertain: Uncertain = "ignore",
    patient: str = "",
    allow_outside: bool = False,
) -> Manifest:
    """Read a CSV, or the manifest.csv of a folder, and leave out the rows whose files are absent.

    Args:
        root: a CSV file, or a folder with manifest.csv.
        labels: see `translucid.io.manifest.read_manifest`, as for the other options.
        uncertain: what -1 becomes.
        patient: "file" makes each file its own patient where none is named.
        allow_outside: let paths lead out of the folder.

    Raises:
        ManifestError: there is no such file, it contradicts itself, or no image is there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a.png").touch()
        ...     _ = Path(folder, "manifest.csv").write_text("file,patient\\na.png,7\\nb.png,8\\n")
        ...     manifest(Path(folder)).rejects
        (('manifest.csv row 3', 'the file is not there'),)

    Fails when: an image is there but belongs to another row; only its checksum would tell.
    """
    root = Path(root)
    path = root / "manifest.csv" if root.is_dir() else root
    if root.is_dir() and not path.is_file():
        raise ManifestError(
            f"there is no file {path}: write a manifest, or, where folders are named after classes, run "
            f"`translucid study folder RUN --set data.root={root}`, or `translucid import folders {root}` and take the "
            "CSV that it writes"
        )
    table = read_manifest(path, labels, uncertain, patient=patient, allow_outside=allow_outside)
    haul = Haul(table.root, table.labels, table.ignored, warnings=list(table.warnings))
    for row, case in enumerate(table.cases, 2):
        haul.add(f"{path.name} row {row}", case)
    return haul.settle(allow_outside, fenced=True)


def folders(
    root: Path,
    *,
    patient_pattern: str = "",
    classes: Sequence[str] | None = None,
    negative: str = "",
    allow_outside: bool = False,
) -> Manifest:
    """Read a folder of class folders, with or without a level train / val / test above them.

    Args:
        root: the folder; hidden files are passed over.
        patient_pattern: regular expression with one group, searched in the file's name; the group is the patient.
            Without it each file counts as a patient of its own, and a warning says so.
        classes: names of the folders that are classes; None takes every folder, () none (images without labels).
        negative: the class that means "none of the others"; it gets no label of its own.
        allow_outside: follow links that lead out of the folder.

    Raises:
        ManifestError: there are no images, too many folders to be classes, or names that the pattern does not fit.
        ConfigError: the pattern is not a regular expression with one group.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("normal/7_1.png", "mass/8_1.png"):
        ...         Path(root, name).parent.mkdir()
        ...         Path(root, name).touch()
        ...     found = folders(Path(root), patient_pattern=r"(\\d+)_")
        >>> found.labels, found.patients
        (('mass', 'normal'), ('8', '7'))

    Fails when: folders mean something else than classes (studies, series), or a patient's files have unlike names.
    """
    root = Path(root)
    pattern = _pattern(patient_pattern)
    found = [(path, *_place(path, classes)) for path in sorted(_images(root))]
    names = [name for _, _, name in found]
    _check_classes(root, {*names} - {""}, classes)
    labels = classes_to_labels(filter(None, names), negative)
    haul = Haul(root, labels, warnings=_warnings(len(found), pattern is not None, names))
    unfit = 0
    for number, (path, split, name) in enumerate(found, 1):
        patient = _patient(path, pattern)
        unfit += not patient
        case = Case(path, patient or path, hot([name] if name else [], labels), split=split)
        haul.add(f"image {number} in order of the alphabet", case)
    if unfit:
        raise ManifestError(
            f"patient_pattern {patient_pattern!r} finds no patient in {unfit} of {len(found)} file names"
        )
    return haul.settle(allow_outside)


def _check_classes(root: Path, found: set[str], classes: Sequence[str] | None) -> None:
    if classes is None and len(found) > _MANY_CLASSES:
        raise ManifestError(
            f"{len(found)} folders under {root} hold images: if they are not classes, name in 'classes' those "
            "that are, or say classes=() for images without labels"
        )
    taken = [name for name in sorted(found) if reserved_name(name)]
    if taken and (root / "manifest.csv").is_file():
        raise ManifestError(
            f"the folder {taken[0]!r} cannot be a class, and {root / 'manifest.csv'} is there: use that "
            f"(`translucid import manifest {root}`), or name in 'classes' the folders that are classes"
        )
    absent = set(classes or ()) - found
    if absent:
        raise ManifestError(f"no images of the classes {', '.join(sorted(absent))} under {root}")


def _patient(path: str, pattern: re.Pattern[str] | None) -> str:
    """The group of the pattern in the file's name, "" where it does not fit; the whole path without a pattern."""
    if pattern is None:
        return path
    match = pattern.search(path.rpartition("/")[2])
    return (match[1] or "").strip() if match else ""


def _warnings(count: int, known: bool, names: Sequence[str]) -> list[str]:
    warnings = []
    if not known:
        warnings.append(
            f"no patient_pattern: each of the {count} files counts as a patient of its own, so images of one person "
            "may stand in two splits"
        )
    if any(names) and "" in names:
        warnings.append(f"{names.count('')} images lie in no class folder: their labels are unknown")
    return warnings


def _pattern(text: str) -> re.Pattern[str] | None:
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"patient_pattern {text!r} is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise ConfigError(f"patient_pattern {text!r} needs exactly one group, it has {pattern.groups}: (\\d+)")
    return pattern


def _images(root: Path) -> Iterator[str]:
    """Paths of all images below, relative to the root, with forward slashes."""
    seen = {os.path.realpath(root)}
    # links are followed so that what they hide is told among the rejects; `seen` ends a circle
    for folder, below, files in os.walk(root, followlinks=True):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in sorted(below) if name[0] != "."}
        below[:] = [name for name, place in real.items() if place not in seen]
        seen.update(real.values())
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and (has_image_suffix(name) or _is_bare_dicom(path)):
                yield path.relative_to(root).as_posix()


def _is_bare_dicom(path: Path) -> bool:
    """DICOM files often have no suffix; four letters after 128 bytes tell them."""
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _place(path: str, classes: Sequence[str] | None) -> tuple[str, str]:
    """Split and class that the folders above a file name."""
    above = path.split("/")[:-1]
    split = SPLIT_WORDS.get(above[0].lower(), "") if above else ""
    above = above[1:] if split else above
    if classes is None:
        return split, above[0] if above else ""
    return split, next((name for name in above if name in classes), "")
