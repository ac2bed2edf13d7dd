"""Intervals: resampling patients with all their images, and exact intervals for proportions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from scipy import stats

from translucid.errors import ConfigError, ShapeError
from translucid.types import Estimate

Weighted = Callable[[np.ndarray], np.ndarray]
"""A statistic of weighted cases: weights (resample, case) → (resample,), nan where undefined."""

Method = Literal["percentile", "bca"]

MOST_LOST = 0.05
"""With a larger share of undefined resamples there is no interval: the rest are no fair sample (our choice)."""

CHUNK = 1 << 21


def groups(patient: np.ndarray) -> np.ndarray:
    """Number the patients 0, 1, … in the order of their names.

    Example:
        >>> groups(np.array(["b", "a", "b"]))
        array([1, 0, 1])
    """
    return np.unique(np.asarray(patient), return_inverse=True)[1].reshape(-1)


def patient_weights(patient: np.ndarray, resamples: int = 2000, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each case stands in each bootstrap resample; patients are drawn, with all their images.

    Of P patients, P are drawn with replacement; the weight of a case is how often its patient was drawn. The
    weights come in blocks, so that memory stays bounded.

    Args:
        patient: (case,) any names.
        resamples: how many.
        seed: of the generator.

    Yields:
        (some resamples, case) float64.

    Example:
        >>> w = next(patient_weights(np.array([7, 7, 8]), 4))
        >>> bool((w[:, 0] == w[:, 1]).all()), (w[:, 0] + w[:, 2]).tolist()
        (True, [2.0, 2.0, 2.0, 2.0])

    Source: Field and Welsh, Bootstrapping clustered data, JRSS B 2007, doi:10.1111/j.1467-9868.2007.00593.x.

    Fails when: there are few patients (below about 20); the resamples are then too much alike.
    """
    index = groups(patient)
    count = int(index.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    block = max(1, CHUNK // max(len(index), 1))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield times[:, index].astype(np.float64)


def bootstrap(
    statistic: Weighted,
    patient: np.ndarray,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    method: Method = "percentile",
    seed: int = 0,
) -> Estimate:
    """A statistic with its patient-bootstrap interval.

    Args:
        statistic: weights (resample, case) → (resample,).
        patient: (case,) any names.
        resamples: how many.
        level: of the interval.
        method: "percentile", or "bca" (bias-corrected and accelerated, with the jackknife over patients).
        seed: of the generator.

    Raises:
        ConfigError: a level outside (0.5, 1) or an unknown method.

    Example:
        >>> x = np.arange(10.0)
        >>> str(bootstrap(lambda w: w @ x / w.sum(1), np.arange(10), seed=1))
        '4.500 (2.700–6.300)'

    Source: Efron, Better bootstrap confidence intervals, JASA 1987, doi:10.1080/01621459.1987.10478410.

    Fails when: the statistic is at the edge of its range, or resamples lose a class often; more than 5 % undefined
    resamples give no interval.
    """
    patient = np.asarray(patient)
    value = float(statistic(np.ones((1, len(patient))))[0]) if len(patient) else math.nan
    if math.isnan(value):
        return missing(len(patient), level)
    draws = np.concatenate([statistic(w) for w in patient_weights(patient, resamples, seed)])
    jackknife = _jackknife(statistic, patient) if method == "bca" else None
    return from_draws(value, draws, len(patient), level, method, jackknife)


def _jackknife(statistic: Weighted, patient: np.ndarray) -> np.ndarray:
    """The statistic without each patient in turn."""
    index = groups(patient)
    count = int(index.max()) + 1
    block = max(1, CHUNK // len(index))
    parts = [np.arange(s, min(s + block, count)) for s in range(0, count, block)]
    return np.concatenate([statistic((index[None] != part[:, None]).astype(np.float64)) for part in parts])


def from_draws(
    value: float,
    draws: np.ndarray,
    n: int,
    level: float = 0.95,
    method: Method = "percentile",
    jackknife: np.ndarray | None = None,
) -> Estimate:
    """Bootstrap draws → an interval, widened where needed to hold the estimate.

    Args:
        value: the estimate from all cases.
        draws: (resample,), nan where a resample lost a class.
        n: number of cases.
        level: of the interval.
        method: "percentile" or "bca".
        jackknife: (patient,) needed for "bca".

    Raises:
        ConfigError: a level outside (0.5, 1), or an unknown method.

    Example:
        >>> str(from_draws(0.5, np.linspace(0, 1, 101), 9, level=0.9))
        '0.500 (0.050–0.950)'

    Fails when: the statistic is biased under resampling (calibration error is); the interval is then one-sided.
    """
    _check_level(level)
    known = draws[~np.isnan(draws)]
    if math.isnan(value) or len(known) < (1 - MOST_LOST) * max(len(draws), 1):
        return Estimate(value, math.nan, math.nan, n, level)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _bca_tails(value, known, jackknife, tails)
    elif method != "percentile":
        raise ConfigError(f"unknown interval method {method!r}: known are percentile, bca")
    low, high = np.quantile(known, tails)
    return Estimate(value, float(min(low, value)), float(max(high, value)), n, level)


def _bca_tails(value: float, draws: np.ndarray, jackknife: np.ndarray | None, tails: np.ndarray) -> np.ndarray:
    """Efron's corrected tails Φ(z₀ + (z₀ + z)/(1 − a(z₀ + z)))."""
    if jackknife is None:
        raise ConfigError("method 'bca' needs the jackknife values")
    below = (np.sum(draws < value) + 0.5 * np.sum(draws == value)) / len(draws)
    bias = stats.norm.ppf(np.clip(below, 1 / (2 * len(draws)), 1 - 1 / (2 * len(draws))))
    gap = np.nanmean(jackknife) - jackknife[~np.isnan(jackknife)]
    spread = np.sum(gap**2) ** 1.5
    acceleration = np.sum(gap**3) / (6 * spread) if spread > 0 else 0.0
    z = bias + stats.norm.ppf(tails)
    return stats.norm.cdf(bias + z / (1 - acceleration * z))


def proportion(
    hits: int, n: int, level: float = 0.95, method: Literal["clopper-pearson", "wilson"] = "clopper-pearson"
) -> Estimate:
    """A proportion with its Clopper–Pearson (never too narrow) or Wilson (right on average) interval.

    Args:
        hits: number of successes.
        n: number of independent trials.
        level: of the interval.
        method: which interval.

    Raises:
        ConfigError: hits outside 0…n, a level outside (0.5, 1), or an unknown method.

    Example:
        >>> str(proportion(9, 10)), str(proportion(9, 10, method="wilson"))
        ('0.900 (0.555–0.997)', '0.900 (0.596–0.982)')

    Source: Clopper and Pearson, Biometrika 1934, doi:10.1093/biomet/26.4.404; Wilson, JASA 1927,
    doi:10.1080/01621459.1927.10502953.

    Fails when: trials are not independent, as several images of one patient.
    """
    _check_level(level)
    if not 0 <= hits <= n:
        raise ConfigError(f"a proportion needs 0 ≤ hits ≤ n, got {hits} of {n}")
    if method not in ("clopper-pearson", "wilson"):
        raise ConfigError(f"unknown interval method {method!r}: known are clopper-pearson, wilson")
    if n == 0:
        return missing(0, level)
    tail, share = (1 - level) / 2, hits / n
    if method == "clopper-pearson":
        low = float(stats.beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
        high = float(stats.beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
        return Estimate(share, low, high, n, level)
    z = float(stats.norm.ppf(1 - tail))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)), n, level)


def at_edge(estimate: Estimate, independent: int) -> Estimate:
    """Give an estimate of exactly 0 or 1, whose own interval has no width, the exact one of a proportion.

    Resampling a perfect score gives perfect scores only, so bootstrap and DeLong claim certainty. The bound used is
    Clopper–Pearson's for as many trials as there are independent patients, (α/2)^(1/k): our reading, and careful.

    Args:
        estimate: of a quantity in [0, 1].
        independent: number of patients in the smaller class.

    Example:
        >>> str(at_edge(Estimate(1.0, 1.0, 1.0, 40), 10))
        '1.000 (0.692–1.000)'

    Fails when: `independent` counts images instead of patients.
    """
    if estimate.value not in (0.0, 1.0) or estimate.low < estimate.high or independent < 1:
        return estimate
    exact = proportion(independent if estimate.value else 0, independent, estimate.level)
    return Estimate(estimate.value, exact.low, exact.high, estimate.n, estimate.level)


def missing(n: int, level: float = 0.95) -> Estimate:
    """An estimate that is not defined, shown as n/a.

    Example:
        >>> str(missing(0))
        'n/a'
    """
    return Estimate(math.nan, math.nan, math.nan, n, level)


def _check_level(level: float) -> None:
    if not 0.5 < level < 1:
        raise ConfigError(f"level = {level}: needs a value between 0.5 and 1, such as 0.95")


def check_aligned(**arrays: np.ndarray) -> None:
    """Raise `ShapeError` unless all arrays have as many rows.

    Example:
        >>> check_aligned(y=np.zeros(3), patient=np.zeros(3))
    """
    if len({len(a) for a in arrays.values()}) > 1:
        sizes = ", ".join(f"{k} {len(a)}" for k, a in arrays.items())
        raise ShapeError(f"rows must belong to the same cases, got {sizes}")
