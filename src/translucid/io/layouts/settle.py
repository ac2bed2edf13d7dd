"""What all layouts share: leave out what is not there, and say sex, age and classes in one way."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from translucid.errors import ManifestError, did_you_mean
from translucid.io.fence import Fence
from translucid.io.manifest import Manifest
from translucid.io.references import split_reference
from translucid.types import Case

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".nii", ".nii.gz")
SEX = {"m": "M", "male": "M", "f": "F", "female": "F"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)", re.IGNORECASE)
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}


@dataclass
class Haul:
    """What a layout has found, before the files are looked for; `add` says where each case comes from."""

    root: Path
    labels: Sequence[str]
    ignored: Sequence[str] = ()
    cases: list[tuple[str, Case]] = field(default_factory=list)
    rejects: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, where: str, case: Case) -> None:
        """Note a case and its place, in words that identify nobody ("train.csv row 7")."""
        self.cases.append((where, case))

    def settle(self, allow_outside: bool, fenced: bool = False) -> Manifest:
        """Make the manifest, without the cases and masks whose files are absent; `fenced`: no path leads outside."""
        fence, here = None if fenced else Fence(self.root, allow_outside), str(self.root)
        rejects, kept, places = list(self.rejects), [], []
        for where, case in self.cases:
            problem = _problem(fence, here, case.file)
            if problem:
                rejects.append((where, problem))
                continue
            places.append(where)
            kept.append(_whole(where, case, lambda path: _problem(fence, here, split_reference(path).file), rejects))
        if not kept:
            raise ManifestError(_nothing(self.root, rejects))
        return Manifest(
            self.root,
            tuple(kept),
            tuple(self.labels),
            tuple(self.ignored),
            tuple(rejects),
            tuple(self.warnings),
            allow_outside,
            _rows(places),
        )


def _rows(places: Sequence[str]) -> tuple[int, ...]:
    """Row numbers of "train.csv row 7" and the like; none where the cases come from several tables, or from none.

    >>> _rows(["a.csv row 2", "a.csv row 4"]), _rows(["a.csv row 2", "b.csv row 2"]), _rows(["a.png"])
    ((2, 4), (), ())
    """
    parts = [place.rpartition(" row ") for place in places]
    one_table = len({table for table, _, _ in parts}) == 1
    if not one_table or not all(sign and number.isdecimal() for _, sign, number in parts):
        return ()
    return tuple(int(number) for _, _, number in parts)


def _whole(where: str, case: Case, problem: Callable[[str], str], rejects: list[tuple[str, str]]) -> Case:
    """The case without the masks and fixations whose files are absent."""
    if not (case.masks or case.gaze):
        return case
    bad = {name: problem(path) for name, path in case.masks.items()}
    rejects += [(f"{where}, mask {name}", _beside(f"mask {name!r}", why)) for name, why in bad.items() if why]
    unseen = problem(case.gaze) if case.gaze else ""
    if unseen:
        rejects.append((f"{where}, gaze", _beside("gaze", unseen)))
    if not unseen and not any(bad.values()):
        return case
    masks = {name: path for name, path in case.masks.items() if not bad[name]}
    return replace(case, masks=masks, gaze="" if unseen else case.gaze)


def _beside(what: str, why: str) -> str:
    """Words that nobody takes for the image's own file."""
    return f"the file of the {what} cannot be used, the image's own can: {why}"


def _problem(fence: Fence | None, root: str, path: str) -> str:
    problem = fence.problem(path) if fence else ""
    if problem:
        return problem
    return "" if os.path.exists(f"{root}{os.sep}{path}") else "the file is not there"


def _nothing(root: Path, rejects: Sequence[tuple[str, str]]) -> str:
    if not rejects:
        return f"no images under {root}: looked for {', '.join(IMAGE_SUFFIXES)}"
    where, why = rejects[0]
    return f"none of the {len(rejects)} images named under {root} can be used; {where}: {why}"


def has_image_suffix(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def sex_of(text: str) -> str:
    """M or F, or "" where the text says neither.

    Example:
        >>> sex_of("Female"), sex_of("M"), sex_of("Unknown")
        ('F', 'M', '')
    """
    return SEX.get(text.strip().lower(), "")


def age_of(text: str) -> str:
    """Age in years from "57", "057Y", "70.0" or "011M"; "" where the text is none of these.

    Example:
        >>> age_of("057Y"), age_of("70.0"), age_of("006M"), age_of("?")
        ('57', '70', '0.5', '')
    """
    match = _AGE.fullmatch(text.strip())
    if not match:
        return ""
    return f"{round(float(match[1]) / _PER_YEAR[match[2].upper()], 1):g}"


def attributes_of(sex: str = "", age: str = "", device: str = "", visit: str = "") -> dict[str, str]:
    """The attributes that are known."""
    values = {"sex": sex_of(sex), "age": age_of(age), "device": device, "visit": visit}
    return {name: value for name, value in values.items() if value}


def classes_to_labels(found: Iterable[str], negative: str) -> tuple[str, ...]:
    """Labels for classes of which each image has one: all classes, but for the one that means "none of these"."""
    names = sorted(set(found))
    if negative and negative not in names:
        raise ManifestError(f"no image is of the class {negative!r}: {did_you_mean(negative, names)}")
    return tuple(name for name in names if name != negative)


def hot(names: Collection[str], labels: Sequence[str]) -> dict[str, float | None]:
    """1 for the names given, 0 for the others; all unknown where none is given.

    Example:
        >>> hot(["b"], ("a", "b")), hot([], ("a",))
        ({'a': 0.0, 'b': 1.0}, {'a': None})
    """
    return {label: float(label in names) if names else None for label in labels}
