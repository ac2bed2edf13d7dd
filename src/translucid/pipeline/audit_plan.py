"""From a run folder to an audit's plan: the framed films, whose they are, and every compressor with its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from translucid.audit import PARTS, Audit, Budget, Codec, Cohort, halves
from translucid.audit.lettering import Ink
from translucid.compress import COMPRESSORS, HeartSpot, Noise, RandomProjection
from translucid.config import build, from_kind
from translucid.errors import ConfigError, InputError, LeakError, did_you_mean
from translucid.io.codes import CodeStore
from translucid.io.index import IndexRow, read_index
from translucid.phantom.letters import glyphs
from translucid.pipeline.compress_step import open_store
from translucid.pipeline.folder import RunFolder
from translucid.study import Study
from translucid.tensors import Compressor

PLAIN = "plain"
STANDARD = (*PARTS, "membership")
"""What `translucid audit` looks at where the recipe names no parts."""
KNOWN = (*STANDARD, "explanations")
DIGITS = "0123456789"


def checked(study: Study) -> Study:
    """The study with its parts spelt out.

    Raises:
        ConfigError: an unknown part, or a budget that cannot be.
    """
    parts = study.audit.parts or STANDARD
    for part in parts:
        if part not in KNOWN:
            raise ConfigError(f"audit.parts: unknown part {part!r}: {did_you_mean(part, KNOWN)}")
    for name in study.audit.shadowed:
        if name not in study.rows:
            raise ConfigError(f"audit.shadowed: no variant {name!r}: {did_you_mean(name, study.rows)}")
    build(Budget, study.audit.budget, "audit.budget")
    return replace(study, audit=replace(study.audit, parts=parts))


def audit_plan(folder: RunFolder, study: Study, maps: Sequence[Codec] = ()) -> Audit:
    """The plan of one run folder, the same in every process.

    Args:
        folder: with finished codes.
        study: with its parts spelt out.
        maps: released explanations, as further records.

    Raises:
        InputError: the framed plain images are not there, a store has no header, or too few patients have two films.
        LeakError: a patient stands in two splits.
    """
    settings, index = study.audit, read_index(folder.path / "index.csv")
    refuse_shared(index)
    codecs = {name: codec for name in _stores(folder) if name != PLAIN and (codec := codec_of(folder, name))}
    patient = np.array([row.patient for row in index])
    cohort = Cohort(
        films_of(folder),
        patient,
        halves(patient, study.seed, settings.share),
        attributes_of(index, settings.attributes),
        visits_of(index),
    )
    parts = tuple(p for p in settings.parts if p in PARTS)
    budget = build(Budget, settings.budget, "audit.budget")
    rekeyed = {name: other for name in codecs if (other := codec_of(folder, name, rekeyed=True))}
    codecs |= {codec.name: codec for codec in maps}
    letters = {name: glyphs(name) for name in DIGITS} if holds_letters(cohort, budget) else {}
    return Audit(cohort, codecs, parts, budget, study.seed, rekeyed, letters)


def holds_letters(cohort: Cohort, budget: Budget) -> bool:
    """Whether a line of letters fits into the films."""
    try:
        Ink.of({name: glyphs(name) for name in DIGITS}, tuple(cohort.images.shape[2:]), budget.plain_side)
    except ConfigError:
        return False
    return True


def left_out(plan: Audit) -> list[str]:
    """Parts that were asked for and cannot be measured here."""
    found = []
    if "text" in plan.parts and not plan.letters:
        size = "×".join(str(n) for n in plan.cohort.images.shape[2:])
        found.append(f"text was left out: films of {size} pixels hold no line of letters")
    if "unlinkability" in plan.parts and not plan.rekeyed:
        found.append("unlinkability was left out: no compressor here draws what it keeps, so none has a second key")
    return found


def _stores(folder: RunFolder) -> list[str]:
    return list(folder.record()["steps"]["compress"]["stores"])


def refuse_shared(index: Sequence[IndexRow]) -> None:
    """A `LeakError` where a patient stands in two splits: nothing scored there would say what it claims."""
    found: dict[str, str] = {}
    shared = {r.patient for r in index if r.split and found.setdefault(r.patient, r.split) != r.split}
    if shared:
        raise LeakError(f"{len(shared)} patients stand in two splits: split by patient and run compress again")


def films_of(folder: RunFolder) -> Tensor:
    """(n, channel, height, width) the framed images, from the plain store.

    Raises:
        InputError: the run keeps none, or they are not flat.
    """
    if PLAIN not in _stores(folder):
        raise InputError(
            f"{folder.path} keeps no framed plain images, to which every audit compares: give the recipe an [audit] "
            "with parts and run `translucid study` again"
        )
    store = open_store(folder, PLAIN)
    space = tuple(store.header["space"])
    if len(space) != 2:
        raise InputError(f"{folder.path} holds volumes of {space}; attackers read flat images only")
    return _all(store).unflatten(-1, space)


def _all(store: CodeStore) -> Tensor:
    return torch.from_numpy(store.read(np.arange(len(store))))


def codec_of(folder: RunFolder, name: str, rekeyed: bool = False) -> Codec | None:
    """A store's compressor with its parameters, and its records as they were released.

    Under another key it has no records yet, and is None where it has no key.
    """
    store = open_store(folder, name)
    made: Compressor = from_kind(COMPRESSORS, store.header["compressor"], f"{name} header")
    space, channels = tuple(store.header["space"]), int(store.header["channels"])
    if rekeyed:
        other = under_another_key(made)
        return None if other is None else Codec.of(name, other, space)
    return Codec.of(name, made, space, _all(store), sigma=_sigma(made, space, channels))


def under_another_key(made: Any) -> Compressor | None:
    """The same compressor with what it draws drawn anew, as another project would; None where it draws nothing.

    The seed is the next one. Under a secret that is as good as another secret: draws come from a keyed hash of both,
    so that nothing but the film joins the two.

    >>> under_another_key(HeartSpot("rhline")).seed, under_another_key(HeartSpot("hline"))
    (2, None)
    """
    if isinstance(made, Noise):
        inner = under_another_key(made.compressor)
        return None if inner is None else replace(made, inner=inner)
    draws = isinstance(made, RandomProjection)
    if isinstance(made, HeartSpot):
        draws = bool({"rline", "rhline"} & set(made.prior.split("+")))
    return replace(made, seed=made.seed + 1) if draws else None


def _sigma(made: Any, space: tuple[int, ...], channels: int) -> float:
    """Standard deviation of Gaussian noise in every number; 0 for none, and for noise of another kind."""
    if not isinstance(made, Noise) or made.mechanism != "gaussian":
        return 0.0
    plan = made.plan(space, channels)
    return float(plan.grid * plan.noise)


def attributes_of(index: Sequence[IndexRow], names: Sequence[str]) -> dict[str, np.ndarray]:
    """What attackers guess, beside it every label as the utility: numbers where all are, else words."""
    columns = {name: [row.attributes.get(name, "") for row in index] for name in names}
    for label in dict.fromkeys(k for row in index for k in row.labels):
        said = [row.labels.get(label) for row in index]
        columns[f"diagnosis {label}"] = ["" if v is None else str(int(v)) for v in said]
    return {name: _column(cells) for name, cells in columns.items() if len({*cells} - {""}) > 1}


def _column(cells: Sequence[str]) -> np.ndarray:
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)


def visits_of(index: Sequence[IndexRow]) -> np.ndarray | None:
    """The number of each visit, where all are known."""
    cells = [row.attributes.get("visit", "") for row in index]
    column = _column(cells)
    return column if column.dtype.kind == "f" and not np.isnan(column).any() else None
