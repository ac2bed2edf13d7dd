"""How well scores tell two films of one person from films of two people, with intervals that draw patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from translucid.audit.resample import patient_counts, with_interval
from translucid.errors import ShapeError
from translucid.types import Estimate

MOST_PAIRS = 300_000
BLOCK = 1 << 22
STRICT = 1e-3
"""False accepts allowed at the strict point, 0.1 % (ISO/IEC 19795 style)."""


@dataclass(frozen=True)
class TwoSamples:
    """Scores that should be high and scores that should be low, and the patients behind each.

    Attributes:
        high: (m,) scores of mated pairs (or members, or positives).
        high_patient: (m,) numbers from 0.
        low: (k,) scores of the others.
        low_patients: (k, 2) the two patients of each pair; the second is −1 where a case has one patient only.
        patients: how many there are.
    """

    high: np.ndarray
    high_patient: np.ndarray
    low: np.ndarray
    low_patients: np.ndarray
    patients: int

    @staticmethod
    def of_pairs(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray | None = None, seed: int = 0) -> TwoSamples:
        """All pairs of a table of scores: each unordered pair once, or every row with every column.

        Args:
            scores: (n, m) larger means more surely the same person.
            rows: (n,) patient of each row, numbers from 0.
            columns: (m,) patient of each column; None means rows and columns are the same films.
            seed: of the draw of `MOST_PAIRS` pairs, where there are more.

        Raises:
            ShapeError: the table does not have the patients' shape.
        """
        other = rows if columns is None else columns
        if scores.shape != (len(rows), len(other)):
            raise ShapeError(f"scores {scores.shape} for {len(rows)} by {len(other)} films")
        i, j = np.triu_indices(len(rows), 1) if columns is None else _all(*scores.shape)
        a, b, s = rows[i], other[j], settle(scores)[i, j]
        same = a == b
        low, ends = s[~same], np.stack([a[~same], b[~same]], 1)
        if len(low) > MOST_PAIRS:
            kept = np.random.default_rng([seed, 7]).choice(len(low), MOST_PAIRS, replace=False)
            low, ends = low[kept], ends[kept]
        return TwoSamples(s[same], a[same], low, np.sort(ends, 1), int(max(rows.max(), other.max())) + 1)

    @staticmethod
    def of_cases(scores: np.ndarray, positive: np.ndarray, patient: np.ndarray) -> TwoSamples:
        """Single films: positives should score higher than the others."""
        yes = np.asarray(positive, bool)
        ends = np.stack([patient[~yes], np.full((~yes).sum(), -1)], 1)
        return TwoSamples(scores[yes], patient[yes], scores[~yes], ends, int(patient.max()) + 1)


def _all(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    at = np.arange(n * m)
    return at // m, at % m


def settle(scores: np.ndarray) -> np.ndarray:
    """Round to six digits of the largest magnitude: equal codes must score equally, whatever the order of additions.

    Example:
        >>> settle(np.array([2.0, 1.00000001, 1.0])).tolist()
        [2.0, 1.0, 1.0]
    """
    scores = np.asarray(scores, np.float64)
    top = float(np.abs(scores).max(initial=0.0))
    return scores if top == 0 else np.round(scores / top, 6) * top


@dataclass(frozen=True)
class Histograms:
    """Weights of the two samples at and between the distinct high scores, lowest first.

    Attributes:
        high: (resample, t).
        low: (resample, 2t + 1): below, at, between, at, …, above.
    """

    high: np.ndarray
    low: np.ndarray


def histograms(samples: TwoSamples, counts: np.ndarray, cuts: np.ndarray | None = None) -> Histograms:
    """Count both samples in every resample.

    The ROC curve of a resample bends only at scores of its high sample; so these counts hold it exactly. A mated pair
    weighs as often as its patient was drawn, a pair of two patients the product of both (our reading: copies of one
    patient are not mates of each other).

    Args:
        samples: the scores.
        counts: (resample, patient).
        cuts: edges to count between instead of the distinct high scores.
    """
    edges = np.unique(samples.high) if cuts is None else cuts
    index = np.searchsorted(edges, samples.high)
    high = sparse.csr_matrix((np.ones(len(index)), (samples.high_patient, index)), (samples.patients, len(edges)))
    place = np.searchsorted(edges, samples.low) + np.searchsorted(edges, samples.low, side="right")
    units, unit = np.unique(samples.low_patients, axis=0, return_inverse=True)
    low = sparse.csr_matrix((np.ones(len(place)), (unit.reshape(-1), place)), (len(units), 2 * len(edges) + 1))
    block = max(1, BLOCK // max(len(units), 1))
    parts = [(low.T @ _weights(c, units).T).T for c in np.array_split(counts, -(-len(counts) // block))]
    return Histograms((high.T @ counts.T).T, np.concatenate(parts))


def _weights(counts: np.ndarray, units: np.ndarray) -> np.ndarray:
    second = np.where(units[:, 1] < 0, 1.0, counts[:, units[:, 1]])
    return np.asarray(counts[:, units[:, 0]] * second)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b > 0)


def auc(h: Histograms) -> np.ndarray:
    """Mann–Whitney: the chance that a mated pair scores above a non-mated one, ties half."""
    below = np.cumsum(h.low, 1)
    middle = below[:, 1::2] - h.low[:, 1::2] / 2
    return _ratio((h.high * middle).sum(1), h.high.sum(1) * below[:, -1])


def roc(h: Histograms) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the ROC curve, strictest first: false accept and true accept rate (resample, 2t + 2)."""
    passed = np.cumsum(h.low[:, ::-1], 1)
    fpr = _ratio(np.concatenate([np.zeros((len(passed), 1)), passed], 1), passed[:, -1:])
    hits = np.cumsum(h.high[:, ::-1], 1)
    steps = np.repeat(np.concatenate([np.zeros((len(hits), 1)), hits], 1), 2, axis=1)
    return fpr, _ratio(steps, hits[:, -1:])


def equal_error_rate(h: Histograms) -> np.ndarray:
    """Where false accepts equal false rejects, on straight lines between the corners of the ROC curve."""
    fpr, tpr = roc(h)
    gap = fpr + tpr - 1
    at = np.argmax(gap >= 0, 1)[:, None]
    a, b = (np.take_along_axis(gap, k, 1)[:, 0] for k in (np.maximum(at - 1, 0), at))
    share = np.divide(-a, b - a, out=np.zeros(len(a)), where=b > a)
    left, right = (np.take_along_axis(fpr, k, 1)[:, 0] for k in (np.maximum(at - 1, 0), at))
    return np.asarray(left + share * (right - left))


def strict_accepts(h: Histograms, at: float = STRICT) -> np.ndarray:
    """The share of mated pairs found while at most 0.1 % of the others are accepted; 1 less the false rejects there."""
    fpr, tpr = roc(h)
    found = np.where(fpr <= at + 1e-12, tpr, 0.0).max(1)
    return np.where(np.isnan(fpr).any(1) | np.isnan(tpr).any(1), np.nan, found)


def kolmogorov_smirnov(h: Histograms) -> np.ndarray:
    """The largest distance of the two distribution functions."""
    fpr, tpr = roc(h)
    return np.asarray(np.abs(tpr - fpr).max(1))


PAIR_MEASURES: dict[str, tuple[Callable[[Histograms], np.ndarray], float]] = {
    "auc": (auc, 0.5),
    "eer": (equal_error_rate, 0.5),
    "tpr_at_fpr_0.001": (strict_accepts, STRICT),
    "ks": (kolmogorov_smirnov, 0.0),
}
"""Measure → (of histograms, what knows nothing scores)."""


def pair_measures(
    samples: TwoSamples, resamples: int = 1000, seed: int = 0, measures: tuple[str, ...] = tuple(PAIR_MEASURES)
) -> dict[str, Estimate]:
    """AUC, equal error rate, share found at 0.1 % false accepts and KS statistic, each with its interval.

    Args:
        samples: the scores.
        resamples: of patients.
        seed: of the resamples.
        measures: which.

    Example:
        >>> who = np.array([0, 0, 1, 1])
        >>> found = pair_measures(TwoSamples.of_pairs((who[:, None] == who) * 1.0, who), 50)
        >>> found["auc"].value, found["eer"].value
        (1.0, 0.0)

    Source: dyadic resampling of patients as in Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007,
    doi:10.1214/07-AOAS122; the KS statistic is kept to compare with Gaudio et al. 2023, doi:10.1002/widm.1495.

    Fails when: fewer pairs than 1/0.001 are non-mated; the strict point then allows none. KS is biased upwards:
    with few pairs it is not 0 for scores that know nothing.
    """
    if not len(samples.high) or not len(samples.low):
        return {name: Estimate(np.nan, np.nan, np.nan, samples.patients) for name in measures}
    ones = np.ones((1, samples.patients))
    h = histograms(samples, np.concatenate([ones, patient_counts(samples.patients, resamples, seed)]))
    n = len(np.unique(samples.high_patient))
    found = {}
    for name in measures:
        values = PAIR_MEASURES[name][0](h)
        found[name] = with_interval(float(values[0]), values[1:], n, unit=name != "ks")
    return found


def quick_auc(scores: np.ndarray, patient: np.ndarray) -> float:
    """The AUC of all pairs, without an interval; for choosing on validation patients.

    Example:
        >>> who = np.array([0, 0, 1, 1])
        >>> quick_auc((who[:, None] == who) * 1.0, who)
        1.0
    """
    index = np.unique(patient, return_inverse=True)[1].reshape(-1)
    return quick_two(TwoSamples.of_pairs(scores, index))


def quick_two(samples: TwoSamples) -> float:
    """The AUC of two samples, without an interval.

    Example:
        >>> quick_two(TwoSamples.of_cases(np.array([2.0, 1.0]), np.array([True, False]), np.arange(2)))
        1.0
    """
    if not len(samples.high) or not len(samples.low):
        return float("nan")
    return float(auc(histograms(samples, np.ones((1, samples.patients))))[0])
