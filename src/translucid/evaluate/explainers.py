"""Which explainer points better: paired over the same cases, corrected for how many were tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from translucid.config import to_plain
from translucid.errors import ConfigError, ShapeError, did_you_mean
from translucid.evaluate.interval import check_aligned, from_draws
from translucid.evaluate.localise_table import POOLED, mean_draws, mean_estimate
from translucid.evaluate.paired import bootstrap_p, holm
from translucid.types import Estimate


@dataclass(frozen=True)
class ExplainerComparison:
    """One explainer against another, for one label.

    Attributes:
        label: its name, or "pooled".
        measure: what was compared.
        explainer, against: the two names.
        first, second: their means over the cases where both are defined.
        difference: first − second, with the interval of the paired bootstrap over patients.
        n_unpaired: cases where only one of the two is defined.
        p: two-sided, of no difference; nan where undefined.
        p_holm: the same, corrected for all pairs and labels compared in one call.
    """

    label: str
    measure: str
    explainer: str
    against: str
    first: Estimate
    second: Estimate
    difference: Estimate
    n_unpaired: int
    p: float
    p_holm: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; nan is None."""
        return {name: to_plain(getattr(self, name)) for name in self.__dataclass_fields__}


def compare_explainers(
    scores: Mapping[str, np.ndarray],
    patients: Sequence[str] | np.ndarray,
    labels: Sequence[str],
    measure: str = "",
    *,
    against: str | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[ExplainerComparison]:
    """Compare explainers, or trivial maps, on one measure over the same cases.

    Only pairs of case and label count where both are defined, so that no explainer gains by having nothing to say.
    Every comparison sees the same resamples of patients. Labels are corrected together with all pairs by Holm; the
    pooled comparisons are corrected among themselves.

    Args:
        scores: explainer → (case, label) from `case_scores`.
        patients: (case,) any names.
        labels: (label,) names.
        measure: named in the results.
        against: compare all others with this one; None compares every pair.
        resamples: of the bootstrap; p is never below 2/(resamples + 1).
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        Pair by pair: a comparison for each label, then for all labels pooled where there are several.

    Raises:
        ShapeError: shapes do not agree.
        ConfigError: fewer than two explainers, or `against` is not among them.

    Example:
        >>> scores = {"hirescam": np.array([[0.9], [0.8], [0.7]]), "centre": np.array([[0.5], [0.5], [np.nan]])}
        >>> (found,) = compare_explainers(scores, list("abc"), ["mass"], resamples=200)
        >>> found.explainer, round(found.difference.value, 2), found.difference.n, found.n_unpaired
        ('hirescam', 0.35, 2, 1)

    Source: Holm, Scandinavian Journal of Statistics 1979, https://www.jstor.org/stable/4615733.

    Fails when: few patients have the finding; the bootstrap's p is then too small.
    """
    tables = {name: np.asarray(table, np.float64) for name, table in scores.items()}
    patient = np.asarray(patients)
    for name, table in tables.items():
        if table.ndim != 2 or table.shape[1] != len(labels):
            raise ShapeError(f"scores of {name} are {table.shape}, but there are {len(labels)} labels")
    check_aligned(patients=patient, **tables)
    found: list[ExplainerComparison] = []
    for first, second in _pairs(list(tables), against):
        pair = (tables[first], tables[second])
        for label, number in _pair(pair, patient, labels, (resamples, level, seed)):
            found.append(ExplainerComparison(label, measure, first, second, *number))
    return _corrected(found)


def _pairs(names: list[str], against: str | None) -> list[tuple[str, str]]:
    if len(names) < 2:
        raise ConfigError(f"a comparison needs two explainers or more, got {', '.join(names) or 'none'}")
    if against is None:
        return list(itertools.combinations(names, 2))
    if against not in names:
        raise ConfigError(f"against = {against!r}: {did_you_mean(against, names)}")
    return [(name, against) for name in names if name != against]


def _pair(
    pair: tuple[np.ndarray, np.ndarray],
    patient: np.ndarray,
    labels: Sequence[str],
    options: tuple[int, float, int],
) -> list[tuple[str, tuple[Estimate, Estimate, Estimate, int, float, float]]]:
    """Estimates of both, the difference, unpaired cases, p twice; for each label and all together."""
    resamples, level, seed = options
    known = [~np.isnan(table) for table in pair]
    both, one = known[0] & known[1], known[0] ^ known[1]
    select = np.eye(len(labels), dtype=bool)
    names = list(labels)
    if len(labels) > 1:
        select, names = np.concatenate([select, np.ones((1, len(labels)), bool)]), [*names, POOLED]
    chosen = both[:, :, None] & select.T[None]
    tables = [*pair, np.where(both, pair[0] - pair[1], np.nan)]
    draws = [mean_draws(table, chosen, patient, resamples, seed) for table in tables]
    found = []
    for k, name in enumerate(names):
        numbers = [
            mean_estimate(t, chosen[..., k], patient, d[k], level) for t, d in zip(tables[:2], draws[:2], strict=True)
        ]
        gap = _difference(tables[2], chosen[..., k], patient, draws[2][k], level)
        p = bootstrap_p(gap.value, draws[2][k]) if not math.isnan(gap.low) else math.nan
        found.append((name, (numbers[0], numbers[1], gap, int(one[:, select[k]].sum()), p, p)))
    return found


def _difference(
    table: np.ndarray, chosen: np.ndarray, patient: np.ndarray, draws: np.ndarray, level: float
) -> Estimate:
    """As `mean_estimate`, but a difference of 0 or 1 is no proportion."""
    number = mean_estimate(table, chosen, patient, draws, level)
    if math.isnan(number.low):
        return number
    return from_draws(number.value, draws, number.n, level)


def _corrected(found: list[ExplainerComparison]) -> list[ExplainerComparison]:
    """Holm over single labels and, apart from them, over what was pooled."""
    p = np.array([c.p for c in found])
    pooled = np.array([c.label == POOLED for c in found])
    for family in (pooled, ~pooled):
        p[family] = holm(p[family])
    return [replace(c, p_holm=float(v)) for c, v in zip(found, p, strict=True)]
