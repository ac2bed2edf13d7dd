"""The membership part of an audit: a released model under the threshold and the likelihood-ratio attack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from translucid.audit.judging import SUCCEEDS
from translucid.audit.membership import ModelRelease, Shadows, TrainShadow, membership_measures
from translucid.audit.plan import CONSTANT
from translucid.audit.rows import Row, control, row, validation
from translucid.audit.table import ATTACKS, LADDERS
from translucid.errors import InputError

PART = "membership"


def membership_rows(
    model: str,
    confidence: np.ndarray,
    member: np.ndarray,
    patient: np.ndarray,
    train: TrainShadow | None = None,
    *,
    shadows: int = 8,
    resamples: int = 1000,
    seed: int = 0,
    attacks: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Rows of audit.json for one released model, with both controls; give them to `gather` with the others.

    Args:
        model: its name, in the column of compressors.
        confidence: (n,) the model's log(p/(1 − p)) in the true label of each candidate.
        member: (n,) whether it was in the training set. No attack sees it.
        patient: (n,) whose the candidates are.
        train: (rows, number) → (n,) the same of a shadow model trained on these rows, which are
            `Shadows(patient, count=shadows, seed=seed).halves[number]`; None leaves the likelihood ratio out.
        shadows: how many are trained.
        resamples: of patients.
        seed: of everything drawn.
        attacks: name → attack, in place of those of the table.

    Raises:
        InputError: all candidates are members, or none is.
        ConfigError: an odd number of shadows, or fewer than four.

    Example:
        >>> confidence, member = np.array([3.0, 2.0, -1.0, 0.0] * 10), np.array([True, True, False, False] * 10)
        >>> found = membership_rows("net", confidence, member, np.arange(40), resamples=50)
        >>> next(r["value"] for r in found if r["measure"] == "auc" and r["compressor"] == "net")
        1.0

    Fails when: members and others differ otherwise, as when the others come from a later year.
    """
    member, patient = np.asarray(member, bool), np.asarray(patient)
    if member.all() or not member.any():
        raise InputError(f"{model}: membership needs films inside and outside the training set")
    rows: list[Row] = []
    own = Shadows(patient, train, shadows, seed)
    for name, attack in (attacks or {k: ATTACKS[k] for k in LADDERS[PART]}).items():
        if name == "lira" and train is None:
            continue
        fitted = attack.fit(ModelRelease(confidence), own, seed)
        found = membership_measures(fitted.guess(ModelRelease(confidence)), member, patient, resamples, seed)
        spent = {"images": len(member)} | dict(fitted.spent)
        rows += [row(PART, name, k, model, v, chance, spent) for k, (v, chance) in found.items()]
        if not math.isnan(fitted.validation):
            rows.append(validation(PART, name, model, fitted.validation, spent))
        rows += _controls(name, attack, member, own, resamples)
    return rows


def _controls(name: str, attack: Any, member: np.ndarray, own: Shadows, resamples: int) -> list[Row]:
    """A model that gives its members away, and one that says the same of all."""

    def betray(rows: np.ndarray, number: int) -> np.ndarray:
        return 10.0 * np.isin(np.arange(len(member)), rows)

    def silent(rows: np.ndarray, number: int) -> np.ndarray:
        return np.zeros(len(member))

    found = []
    for train in (betray, silent):
        said = ModelRelease(train(np.flatnonzero(member), 0))
        guess = attack.fit(said, replace(own, train=train), own.seed).guess(said)
        found.append(membership_measures(guess, member, own.patient, resamples, own.seed)["auc"][0])
    shown, hidden = found
    good = not math.isnan(shown.value) and shown.value >= SUCCEEDS[PART]
    return [
        control(PART, name, "nothing hidden", shown, good),
        control(PART, name, CONSTANT, hidden, bool(hidden.low <= 0.5 <= hidden.high)),
    ]
