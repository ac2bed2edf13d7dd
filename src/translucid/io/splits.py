"""Patients to train, validation and test: whole patients, the same for every order of the rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from translucid.errors import ConfigError, LeakError, did_you_mean
from translucid.io.cells import SPLITS
from translucid.io.manifest import Manifest
from translucid.types import Case

FRACTIONS: Mapping[str, float] = {"train": 0.7, "val": 0.1, "test": 0.2}
_SHOWN = 10


def assign_splits(
    manifest: Manifest,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    stratify: str | None = None,
) -> Manifest:
    """Give every case a split, whole patients at a time.

    Patients stand in the order of SHA-256(seed, patient) and are dealt out by largest remainder, so the result depends
    on nothing but the patients, the fractions and the seed. Cases that have a split keep it; further cases of their
    patients follow them, and the fractions hold among the patients who have none.

    Args:
        manifest: the cases.
        fractions: share of the patients for "train", "val" and "test"; they sum to 1. A split left out gets none.
        seed: another seed, another order.
        stratify: a label; patients with it (in any image), without it, and unknown are dealt out separately, with the
            rounding of one group carried over to the next.

    Raises:
        ConfigError: fractions or label are not usable.
        LeakError: a patient already stands in two splits.

    Example:
        >>> from pathlib import Path
        >>> from translucid.types import Case
        >>> cases = tuple(Case(f"{i}.png", f"p{i}") for i in range(1038))
        >>> done = assign_splits(Manifest(Path("."), cases, ()), {"train": 0.8, "val": 0.1, "test": 0.1})
        >>> [len(done.subset(split).cases) for split in ("train", "val", "test")]
        [830, 104, 104]

    Fails when: patients are very few, where a small fraction rounds to nobody; or a person has two identifiers.
    """
    _check_fractions(fractions)
    if stratify is not None and stratify not in manifest.labels:
        raise ConfigError(f"cannot stratify by {stratify!r}: {did_you_mean(stratify, manifest.labels)}")
    check_splits(manifest)
    chosen = {case.patient: case.split for case in manifest.cases if case.split}
    rest = [patient for patient in manifest.patients if patient not in chosen]
    group = _groups(manifest, stratify)
    ordered = sorted(rest, key=lambda p: (group[p], _order(seed, p)))
    carry = [0.0] * len(SPLITS)
    for _, members in groupby(ordered, group.__getitem__):
        patients = list(members)
        wanted = [fractions.get(s, 0.0) * len(patients) + c for s, c in zip(SPLITS, carry, strict=True)]
        counts = _round(wanted, len(patients))
        carry = [w - n for w, n in zip(wanted, counts, strict=True)]
        chosen |= zip(patients, _deal(counts), strict=True)
    # the same cases in the same order, so rows stay; whoever has a split already has the one that is chosen
    cases = tuple(
        case if case.split else Case(**(vars(case) | {"split": chosen[case.patient]})) for case in manifest.cases
    )
    return replace(manifest, cases=cases)


def _check_fractions(fractions: Mapping[str, float]) -> None:
    for name, share in fractions.items():
        if name not in SPLITS:
            raise ConfigError(f"unknown split {name!r}: {did_you_mean(name, SPLITS)}")
        if not 0 <= share <= 1:
            raise ConfigError(f"the fraction of {name} must lie between 0 and 1, not {share}")
    if not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise ConfigError(f"the fractions must sum to 1, not {sum(fractions.values()):g}")


def _order(seed: int, patient: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{patient}".encode("utf-8", "surrogatepass")).digest()


def _groups(manifest: Manifest, label: str | None) -> dict[str, int]:
    """2 for a patient who has the label in any image, 1 for one who is known not to, 0 for unknown."""
    group = dict.fromkeys(manifest.patients, 0)
    if label is not None:
        for case in manifest.cases:
            value = case.labels.get(label)
            group[case.patient] = max(group[case.patient], 0 if value is None else 1 + int(value))
    return group


def _round(wanted: Sequence[float], total: int) -> list[int]:
    """Whole numbers near those wanted that sum to `total`, by largest remainder."""
    # what was carried over can exceed a small share; nobody is taken away for it
    exact = [max(0.0, w) for w in wanted]
    counts = [math.floor(w) for w in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    assert sum(counts) == total
    return counts


def _deal(counts: Iterable[int]) -> list[str]:
    return [split for split, n in zip(SPLITS, counts, strict=True) for _ in range(n)]


def check_splits(manifest: Manifest) -> None:
    """Make sure that no patient stands in two splits.

    Raises:
        LeakError: says how many do and in which rows; never who.

    Example:
        >>> from pathlib import Path
        >>> from translucid.types import Case
        >>> check_splits(Manifest(Path("."), (Case("a", "p", split="train"), Case("b", "p", split="test")), ()))
        Traceback (most recent call last):
        ...
        translucid.errors.LeakError: 1 patient stands in two splits (rows 2, 3): keep all images of ...

    Fails when: a person has two identifiers.
    """
    found: dict[str, set[str]] = {}
    for case in manifest.cases:
        if case.split:
            found.setdefault(case.patient, set()).add(case.split)
    torn = {patient for patient, splits in found.items() if len(splits) > 1}
    if not torn:
        return
    rows = [str(row) for row, case in enumerate(manifest.cases, 2) if case.split and case.patient in torn]
    shown = ", ".join(rows[:_SHOWN]) + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")
    count = "1 patient stands" if len(torn) == 1 else f"{len(torn)} patients stand"
    raise LeakError(
        f"{count} in two splits (rows {shown}): keep all images of a patient in one split, or empty these cells "
        "and assign splits anew"
    )
