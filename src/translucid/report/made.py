"""How the run was made: recipe, versions, cases, rejects, and what every word means."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from translucid.report.numbers import amount, finite
from translucid.report.read import Run, Table, as_list, as_table
from translucid.types import Finding

REASONS = (
    (r"^the file of the (mask|organ mask|gaze)", "a mask or fixations cannot be used"),
    (r"^(the file: )?the box", "a box lies outside the image"),
    (r"no such|not found|not there|missing|does not exist", "the file is not there"),
    (r"truncat|corrupt|damaged|broken|decode|decompress|cannot be read|not readable|unreadable", "cannot be decoded"),
    (r"too (large|big|many)|limit|larger than", "larger than allowed"),
    (r"shape|size|pixels|dimension|frames?", "size, shape or frame cannot be used"),
    (r"photometric|colou?r|channels?|palette", "its colours cannot be used"),
    (r"label", "its labels cannot be used"),
    (r"view", "another view than asked for"),
)
GLOSSARY = (
    ("AUC", "chance that a case with the finding scores higher than one without; 0.5 is guessing, 1 is perfect"),
    ("macro", "plain mean over the labels"),
    ("average precision", "mean precision as more cases are called positive; guessing gives the prevalence"),
    ("sensitivity, specificity", "share of positives and of negatives called right, at a threshold set on validation"),
    ("ECE", "expected calibration error: mean gap between predicted probability and observed share; 0 is best"),
    ("Brier score", "mean squared error of the probability; 0 is best"),
    ("share of values", "numbers kept per image over pixels per image"),
    ("logit", "the network's raw score; 0 is a probability of 0.5, each +1 multiplies the odds by 2.7"),
    ("evidence map", "how much each place adds to or takes from the logit; what is left over is the bias"),
    (
        "Grad-CAM, HiResCAM",
        "maps from a layer's activations, weighted by its gradients; averaged first, or place by place",
    ),
    ("gradient × code", "contribution of every kept number, carried back to where it came from"),
    ("spatial bias, edge bias", "mean contribution of each place, and of each scale and direction"),
    ("interval", "where the true number plausibly lies; 95 % of such intervals hold it"),
)


@dataclass(frozen=True)
class SplitRow:
    """How many cases, patients and positives one split has."""

    name: str
    cases: int
    patients: int
    positives: list[tuple[str, int, int]]


@dataclass(frozen=True)
class Made:
    """The last section."""

    recipe: str
    versions: list[tuple[str, str]]
    seconds: list[tuple[str, str]]
    splits: list[SplitRow]
    labels: list[str]
    rejects: list[tuple[str, int]]
    notes: list[tuple[str, str]]
    glossary: tuple[tuple[str, str], ...] = GLOSSARY


def made(run: Run) -> Made:
    """Gather it."""
    versions = [(str(k), str(v)) for k, v in as_table(run.record.get("versions")).items()]
    notes = [(v, str(note)) for v in run.variants for note in as_list(run.fit(v).get("notes"))]
    labels = [c[6:] for c in (run.index[0] if run.index else {}) if c.startswith("label:")]
    return Made(
        as_toml(run.recipe),
        versions,
        _seconds(as_table(run.record.get("steps"))),
        splits(run.index, labels),
        labels,
        reasons(run.rejects),
        notes,
    )


def splits(index: list[dict[str, str]], labels: list[str]) -> list[SplitRow]:
    """Count the index."""
    found = []
    for name in dict.fromkeys(["train", "val", "test", *(row.get("split", "") for row in index)]):
        rows = [row for row in index if row.get("split", "") == name]
        if rows:
            counts = [(x, *_count(rows, f"label:{x}")) for x in labels]
            found.append(SplitRow(name or "in no split", len(rows), len({row.get("patient") for row in rows}), counts))
    return found


def _count(rows: list[dict[str, str]], column: str) -> tuple[int, int]:
    """Positives and known cases."""
    values = [row.get(column, "") for row in rows]
    return sum(v in ("1", "1.0") for v in values), sum(v != "" for v in values)


def shared_patients(index: list[dict[str, str]]) -> list[Finding]:
    """A patient in two splits makes every test number too good."""
    seen: dict[str, set[str]] = {}
    for row in index:
        if row.get("split"):
            seen.setdefault(row.get("patient", ""), set()).add(row["split"])
    count = sum(len(s) > 1 for s in seen.values())
    if not count:
        return []
    return [
        Finding("bad", "Patients stand in several splits", f"{count} of {len(seen)}: the test numbers are too good.")
    ]


def reasons(rejects: list[dict[str, str]]) -> list[tuple[str, int]]:
    """Count rejects by the kind of their reason; the words themselves may hold file names.

    >>> reasons([{"reason": "/a/b.png: truncated"}, {"reason": "odd"}, {"reason": "c: corrupt"}])
    [('cannot be decoded', 2), ('another reason', 1)]
    """
    kinds = [_kind(row.get("reason", "")) for row in rejects]
    return Counter(kinds).most_common()


def _kind(reason: str) -> str:
    text = reason.lower()
    return next((words for pattern, words in REASONS if re.search(pattern, text)), "another reason")


def _seconds(steps: Table) -> list[tuple[str, str]]:
    """Seconds of every step, variants apart."""
    rows = []
    for step, entry in steps.items():
        table = as_table(entry)
        if (own := finite(table.get("seconds"))) is not None:
            rows.append((str(step), amount(own)))
            continue
        for name, part in table.items():
            if (own := finite(as_table(part).get("seconds"))) is not None:
                rows.append((f"{step} {name}", amount(own)))
    return rows


def as_toml(recipe: Table) -> str:
    """A recipe as TOML, as one would write it.

    >>> print(as_toml({"name": "x", "train": {"epochs": 3}, "data": {}}))
    name = "x"
    <BLANKLINE>
    [train]
    epochs = 3
    """
    lines: list[str] = []
    _table(recipe, (), lines)
    return "\n".join(lines).strip()


def _table(table: Table, path: tuple[str, ...], lines: list[str]) -> None:
    values = {k: v for k, v in table.items() if not isinstance(v, Mapping) or (v and _inline(v) and len(path) > 1)}
    if path and values:
        lines += ["", f"[{'.'.join(path)}]"]
    lines += [f"{k} = {_value(v)}" for k, v in values.items() if v is not None]
    for name, inner in table.items():
        if name not in values:
            _table(as_table(inner), (*path, str(name)), lines)


def _inline(value: Table) -> bool:
    return not any(isinstance(v, Mapping) for v in value.values())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    return json.dumps(value, ensure_ascii=False)
