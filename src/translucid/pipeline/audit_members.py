"""Membership of released models: who stands where, and the shadow models that an attacker would train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from translucid.audit import Shadows, membership_rows
from translucid.audit.rows import Row
from translucid.config import fingerprint, whole_file
from translucid.errors import ConfigError, did_you_mean
from translucid.io.index import label_matrix
from translucid.jobs import Task
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.train_step import read_predictions
from translucid.pipeline.variants import Work, works
from translucid.study import Study
from translucid.train import fit, predict

FORMAT = 1
"""Of the shadows' files; a new number trains them anew."""


@dataclass(frozen=True)
class Shadow:
    """One shadow model of one variant: a task that writes what it says of all candidates.

    Attributes:
        run: the run folder.
        variant: whose settings it is trained with.
        number: of `count`.
        file: where its confidences go.
    """

    run: Path
    variant: str
    number: int
    count: int
    file: Path

    def task(self) -> Task:
        """Train it."""
        return partial(_train_one, self)


def shadows(folder: RunFolder, study: Study) -> list[Shadow]:
    """All shadow models that the recipe asks for, of variants that are trained."""
    settings = study.audit
    if not settings.shadows or "membership" not in settings.parts:
        return []
    found = []
    for name in settings.shadowed or tuple(study.rows):
        if name not in study.rows:
            raise ConfigError(f"audit.shadowed: no variant {name!r}: {did_you_mean(name, study.rows)}")
        if folder.done("train", name):
            home = folder.path / "audit" / "shadows" / _mark(folder, study, name)
            numbers = range(settings.shadows)
            found += [Shadow(folder.path, name, k, settings.shadows, home / f"{name}-{k:02d}.npy") for k in numbers]
    return found


def _mark(folder: RunFolder, study: Study, name: str) -> str:
    return fingerprint([FORMAT, folder.done("train", name), study.audit.shadows, study.seed])


@dataclass(frozen=True)
class Candidates:
    """Films of which an attacker asks whether a model learned from them: those it did, and those of the test split."""

    rows: np.ndarray
    member: np.ndarray
    patient: np.ndarray

    @staticmethod
    def of(work: Work) -> Candidates:
        """Of one variant."""
        train, test = work.rows("train"), work.rows("test")
        rows = np.concatenate([train, test])
        return Candidates(rows, np.arange(len(rows)) < len(train), np.array([work.index[i].patient for i in rows]))


def _train_one(shadow: Shadow) -> None:
    """Train like the released model, with other patients and another seed, and keep what it says; no model is kept."""
    folder = RunFolder(shadow.run)
    study = folder.study()
    work = next(w for w in works(folder, study) if w.name == shadow.variant)
    asked = Candidates.of(work)
    mine = asked.rows[Shadows(asked.patient, count=shadow.count, seed=study.seed).halves[shadow.number]]
    settings = replace(work.settings, seed=work.settings.seed + 1001 + shadow.number)
    model = work.spec.build(work.shape(), len(work.labels), settings.seed)
    place = shadow.file.with_suffix(".training")
    fit(model, work.training_loader(model, mine), work.loader(work.rows("val")), settings, place, progress=False)
    said = confidence(
        predict(model, work.loader(asked.rows), settings), label_matrix(work.index, work.labels)[asked.rows]
    )
    with whole_file(shadow.file) as temporary, temporary.open("wb") as f:
        np.save(f, said, allow_pickle=False)
    folder.clear(place)


def member_rows(folder: RunFolder, study: Study, trained: Sequence[Shadow]) -> list[Row]:
    """Attacks on every trained model: training films against those of the test split."""
    if "membership" not in study.audit.parts:
        return []
    rows: list[Row] = []
    for work in works(folder, study):
        asked = Candidates.of(work)
        if asked.member.all() or not asked.member.any() or not folder.done("train", work.name):
            continue
        said = confidence(read_predictions(work)[asked.rows], label_matrix(work.index, work.labels)[asked.rows])
        mine = [np.load(s.file, allow_pickle=False) for s in trained if s.variant == work.name]
        found = membership_rows(
            work.name,
            said,
            asked.member,
            asked.patient,
            partial(_said_by, mine) if mine else None,
            shadows=study.audit.shadows or 4,
            resamples=int(study.audit.budget.get("resamples", 1000)),
            seed=study.seed,
        )
        seen = {(r["attack"], r["compressor"]) for r in rows if r["measure"] == "control"}
        rows += [r for r in found if r["measure"] != "control" or (r["attack"], r["compressor"]) not in seen]
    return rows


def _said_by(trained: Sequence[np.ndarray], rows: np.ndarray, number: int) -> np.ndarray:
    """What a shadow says that was trained already; its rows are those of its half."""
    return trained[number]


def confidence(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) log(p/(1 − p)) of the true labels, summed over those that are known.

    >>> confidence(np.array([[2.0, -1.0]]), np.array([[1.0, np.nan]]))
    array([2.])
    """
    return np.asarray(np.where(np.isnan(y), 0.0, logits * (2 * np.nan_to_num(y) - 1)).sum(1))
