"""Whether a manifest can be: names of labels, and cases that do not contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

from translucid.errors import ManifestError, did_you_mean
from translucid.io.cells import SPLITS
from translucid.io.columns import reserved_name
from translucid.types import Case


def check_names(labels: Sequence[str]) -> None:
    """Raise `ManifestError` where a label cannot have its name.

    >>> check_names(["mass", "masks"])
    Traceback (most recent call last):
    ...
    translucid.errors.ManifestError: a label cannot be named 'masks': a manifest has a column of that name, so it is ...
    """
    for name in labels:
        if why := _unfit(name):
            raise ManifestError(f"a label cannot be named {name!r}: {why}")
        if labels.count(name) > 1:
            raise ManifestError(f"the label {name!r} stands twice")


def _unfit(name: str) -> str:
    if not name:
        return "the name is empty"
    if name != name.strip():
        return "it has blanks around it"
    return "a manifest has a column of that name, so it is taken" if reserved_name(name) else ""


def check_cases(cases: Sequence[Case], labels: frozenset[str]) -> None:
    """Raise at the first case that cannot be; what all have in common is asked once for all."""
    values = {value for case in cases for value in case.labels.values()}
    plain = (
        len({(case.file, case.frame) for case in cases}) == len(cases)
        and all(case.patient for case in cases)
        and {case.split for case in cases} <= {"", *SPLITS}
        and all(labels >= case.labels.keys() for case in cases)
        and values <= {None, 0, 1}
    )
    if not plain:
        _blame(cases, labels)


def _blame(cases: Sequence[Case], labels: frozenset[str]) -> None:
    seen: dict[tuple[str, int | None], int] = {}
    for row, case in enumerate(cases, 2):
        first = seen.setdefault((case.file, case.frame), row)
        if first != row:
            raise ManifestError(f"rows {first} and {row} name the same file and frame: remove one")
        if not case.patient:
            raise ManifestError(f"row {row} has no patient")
        if case.split and case.split not in SPLITS:
            raise ManifestError(f"row {row}: unknown split {case.split!r}: {did_you_mean(case.split, SPLITS)}")
        if not labels.issuperset(case.labels):
            raise ManifestError(f"row {row} has labels that the manifest does not list: {set(case.labels) - labels}")
        if any(value is not None and value not in (0, 1) for value in case.labels.values()):
            raise ManifestError(f"row {row}: a label must be 0, 1 or None (unknown)")
