"""Two models on the same cases: the difference, its interval, and how surprising it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from translucid.config import to_plain
from translucid.errors import ConfigError, ShapeError
from translucid.evaluate import area
from translucid.evaluate.classify import MACRO, MEASURES, WALD, Sample, draw, estimate, macro, mean_draws
from translucid.evaluate.interval import check_aligned, from_draws
from translucid.types import Estimate


@dataclass(frozen=True)
class Comparison:
    """The first model against the second, for one label.

    Attributes:
        label: its name, or "macro".
        measure: what was compared.
        first, second: each model's estimate.
        difference: first − second, with the interval of the paired bootstrap over patients.
        p: two-sided, of no difference; nan where undefined.
        p_holm: the same, corrected for the number of labels compared.
    """

    label: str
    measure: str
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float
    p_holm: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; nan is None."""
        return {name: to_plain(getattr(self, name)) for name in self.__dataclass_fields__}


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down correction; nan is not counted as a test.

    adjusted p₍ᵢ₎ = max_{j ≤ i} min(1, (k − j + 1) p₍ⱼ₎) for p₍₁₎ ≤ … ≤ p₍ₖ₎.

    Args:
        p: p-values.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])

    Source: Holm, Scandinavian Journal of Statistics 1979, https://www.jstor.org/stable/4615733.

    Fails when: comparisons that were tried and not shown are not handed in.
    """
    p = np.asarray(p, np.float64)
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.minimum(1.0, p[order] * np.arange(len(order), 0, -1))
    out[order] = np.maximum.accumulate(steps)
    return out


def delong_test(
    y: np.ndarray, first: np.ndarray, second: np.ndarray, patient: np.ndarray | None = None, level: float = 0.95
) -> tuple[Estimate, float]:
    """Difference of two areas on the same cases, with DeLong's interval and two-sided p.

    z = (θ₁ − θ₂)/√(v₁₁ + v₂₂ − 2v₁₂), with patients as clusters where given.

    Args:
        y: (case,) 1, 0 or nan.
        first, second: (case,) scores.
        patient: (case,) any names, or None.
        level: of the interval.

    Returns:
        θ₁ − θ₂ and p; nan where a class is missing, and p = 1 for scores that rank alike.

    Raises:
        InputError: see `area.delong`.

    Example:
        >>> y = np.array([0, 0, 0, 1, 1, 1])
        >>> difference, p = delong_test(y, np.array([1, 2, 4, 3, 5, 6]), np.array([1, 5, 4, 3, 2, 6]))
        >>> str(difference), round(p, 3)
        ('0.333 (-0.200–0.867)', 0.221)

    Source: DeLong et al., Biometrics 1988, doi:10.2307/2531595; Obuchowski, Biometrics 1997, doi:10.2307/2533958.

    Fails when: the models are nested and fitted on these very cases (Demler et al., 2012, doi:10.1002/sim.5328).
    """
    first, second = (np.asarray(s, np.float64).reshape(-1) for s in (first, second))
    check_aligned(first=first, second=second)
    found = area.delong(y, np.stack([first, second]), patient)
    value = float(found.auc[0] - found.auc[1])
    cov = found.covariance
    variance = float(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    if math.isnan(value) or math.isnan(variance):
        return Estimate(value, math.nan, math.nan, found.n, level), math.nan
    spread = math.sqrt(max(variance, 0.0))
    half = float(stats.norm.ppf((1 + level) / 2)) * spread
    estimate = Estimate(value, max(-1.0, value - half), min(1.0, value + half), found.n, level)
    if spread < 1e-12:
        return estimate, 1.0 if abs(value) < 1e-12 else math.nan
    return estimate, float(2 * stats.norm.sf(abs(value) / spread))


def bootstrap_p(value: float, draws: np.ndarray) -> float:
    """Two-sided p of zero difference from bootstrap draws of it: 2·min(share ≤ 0, share ≥ 0), never below 2/(B+1).

    Args:
        value: the difference itself; nan gives nan.
        draws: (resample,).

    Example:
        >>> bootstrap_p(0.3, np.linspace(-0.1, 0.7, 81))
        0.292...

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, doi:10.1017/CBO9780511802843.

    Fails when: resamples are few; p cannot be small then.
    """
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or not len(known):
        return math.nan
    share = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (share + 1) / (len(known) + 1))


def compare(
    y: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    patient: Sequence[str] | np.ndarray,
    labels: Sequence[str],
    measure: str = "auc",
    *,
    thresholds: tuple[np.ndarray, np.ndarray] | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """Compare two models on the same cases, label by label and on average.

    Both models see the same resamples of patients. p is DeLong's (patients as clusters) for AUC, the bootstrap's for
    other measures and for the average; labels are corrected together by Holm, the average stands alone.

    Args:
        y: (case, label) 1, 0 or nan.
        first, second: (case, label) logits.
        patient: (case,) any names.
        labels: (label,) names.
        measure: one of `MEASURES` but for the calibration slope and intercept.
        thresholds: (label,) for each model; None means 0.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Raises:
        ShapeError: shapes do not agree.
        ConfigError: the measure cannot be compared.

    Example:
        >>> y = np.array([0, 0, 0, 1, 1, 1])
        >>> a, b = np.array([1, 2, 4, 3, 5, 6.0]), np.array([1, 5, 4, 3, 2, 6.0])
        >>> found = compare(y[:, None], a[:, None], b[:, None], list("abcdef"), ["effusion"], resamples=200)
        >>> found[0].label, round(found[0].difference.value, 3), round(found[0].p, 3)
        ('effusion', 0.333, 0.221)

    Fails when: one model was chosen among many on these cases; no correction here knows of the others.
    """
    if measure not in MEASURES or measure in WALD:
        raise ConfigError(
            f"{measure!r} cannot be compared: known are {', '.join(m for m in MEASURES if m not in WALD)}"
        )
    y, first, second = (a[:, None] if a.ndim == 1 else a for a in map(np.asarray, (y, first, second)))
    patient = np.asarray(patient)
    if not y.shape == first.shape == second.shape or y.shape[1] != len(labels):
        raise ShapeError(f"labels {y.shape}, logits {first.shape} and {second.shape}, {len(labels)} names: must agree")
    check_aligned(y=y, patient=patient)
    both = (first, second)
    cuts = thresholds or (np.zeros(len(labels)), np.zeros(len(labels)))
    sides = [[Sample.of(y[:, k], s[:, k], c[k]) for k in range(len(labels))] for s, c in zip(both, cuts, strict=True)]
    draws = [draw(side, patient, [measure], resamples, seed)[0] for side in sides]
    found = []
    for k, name in enumerate(labels):
        pair, drawn = [side[k] for side in sides], [d[k] for d in draws]
        p = delong_test(y[:, k], first[:, k], second[:, k], patient)[1] if measure == "auc" else None
        numbers = [estimate(measure, s, patient, d, level) for s, d in zip(pair, drawn, strict=True)]
        found.append(_comparison(name, measure, numbers, drawn, p))
    adjusted = holm([c.p for c in found])
    found = [replace(c, p_holm=float(p)) for c, p in zip(found, adjusted, strict=True)]
    if len(labels) > 1:
        n = int((~np.isnan(y)).any(1).sum())
        numbers = [macro(measure, side, d, n, level) for side, d in zip(sides, draws, strict=True)]
        means = [mean_draws(d) for d in draws]
        found.append(_comparison(MACRO, measure, numbers, means, None))
    return found


def _comparison(
    label: str, measure: str, numbers: Sequence[Estimate], draws: Sequence[np.ndarray], p: float | None
) -> Comparison:
    first, second = numbers
    gap = draws[0] - draws[1]
    difference = from_draws(first.value - second.value, gap, first.n, first.level)
    p = bootstrap_p(difference.value, gap) if p is None else p
    return Comparison(label, measure, first, second, difference, p, p)
