"""Calibration: do predicted probabilities mean what they say?"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats
from scipy.special import expit

from translucid.evaluate.interval import groups, missing
from translucid.types import Estimate

BINS = 10
STEPS = 50


def equal_mass_bins(score: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Number of each case's bin, so that bins hold about as many cases each; equal scores share a bin.

    Args:
        score: (case,).
        bins: how many at most.

    Example:
        >>> equal_mass_bins(np.array([0.1, 0.9, 0.5, 0.5]), 2)
        array([0, 1, 0, 0])

    Fails when: most scores are equal; most cases then share one bin.
    """
    first = stats.rankdata(score, "min") - 1
    return (first * bins // max(len(score), 1)).astype(np.int64)


def expected_calibration_error(
    y: np.ndarray, probability: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> np.ndarray:
    """ECE = Σ_b (w_b/w) |mean y − mean p| over bins of equal mass; the bins are those of the unweighted cases.

    Args:
        y: (case,) 1 or 0.
        probability: (case,).
        weights: (resample, case).
        bins: how many at most.

    Returns:
        (resample,).

    Example:
        >>> expected_calibration_error(np.array([0, 1]), np.array([0.2, 0.9]), np.ones((1, 2)))
        array([0.15])

    Source: Naeini et al., AAAI 2015, doi:10.1609/aaai.v29i1.9602 (equal mass: Nguyen and O'Connor, EMNLP 2015,
    doi:10.18653/v1/D15-1182).

    Fails when: cases are few; noise alone makes it larger than zero, about √(bins/n)/3.
    """
    place = equal_mass_bins(probability, bins)
    member = (place[:, None] == np.arange(bins)).astype(np.float64) * (y - probability)[:, None]
    total = weights.sum(1)
    gaps = np.abs(weights @ member).sum(1)
    return np.divide(gaps, total, out=np.full(len(weights), np.nan), where=total > 0)


def recalibration(y: np.ndarray, logit: np.ndarray, weights: np.ndarray, slope: bool = True) -> np.ndarray:
    """Weighted logistic regression of the outcome on the model's own logit, by Newton's method.

    With `slope`: logit P(y=1) = a + b·logit, and (a, b) is returned. Without: b is held at 1 and `a`, calibration in
    the large, is the mean shift of the logits that would make the mean prediction right.

    Args:
        y: (case,) 1 or 0.
        logit: (case,).
        weights: (resample, case).
        slope: whether b is fitted too.

    Returns:
        (resample, 2): a and b; nan where there is no finite solution.

    Example:
        >>> y, logit = np.array([0, 1, 0, 1, 1, 0]), np.array([-1.0, 1, 1, -1, 2, -2])
        >>> recalibration(y, logit, np.ones((1, 6))).round(3) + 0.0
        array([[0.   , 0.756]])

    Source: Cox, Biometrika 1958, doi:10.1093/biomet/45.3-4.562; Van Calster et al., BMC Medicine 2019,
    doi:10.1186/s12916-019-1466-7.

    Fails when: the classes are separated; no finite slope exists and nan is returned.
    """
    a, b = np.zeros(len(weights)), np.ones(len(weights))
    good = _solvable(y, logit, weights, slope)
    for _ in range(STEPS):
        p = expit(a[:, None] + b[:, None] * logit)
        rest, spread = weights * (y - p), weights * p * (1 - p)
        g0, g1 = rest.sum(1), rest @ logit
        h00, h01, h11 = spread.sum(1), spread @ logit, spread @ logit**2
        with np.errstate(divide="ignore", invalid="ignore"):
            if slope:
                det = h00 * h11 - h01**2
                da, db = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
            else:
                da, db = g0 / h00, np.zeros_like(g0)
        da, db = (np.where(good, np.nan_to_num(d).clip(-2, 2), 0.0) for d in (da, db))
        a, b = a + da, b + db
        if max(np.abs(da).max(initial=0), np.abs(db).max(initial=0)) < 1e-11:
            break
    else:
        good &= np.abs(da) + np.abs(db) < 1e-6
    return np.where(good[:, None], np.stack([a, b], 1), np.nan)


def _solvable(y: np.ndarray, logit: np.ndarray, weights: np.ndarray, slope: bool) -> np.ndarray:
    """Both classes are there and, for a slope, their logits overlap."""
    positive, negative = (weights > 0) & (y == 1), (weights > 0) & (y == 0)
    both = positive.any(1) & negative.any(1)
    if not slope:
        return both
    low1, high1 = (f(np.where(positive, logit, s * np.inf), axis=1) for f, s in ((np.min, 1), (np.max, -1)))
    low0, high0 = (f(np.where(negative, logit, s * np.inf), axis=1) for f, s in ((np.min, 1), (np.max, -1)))
    return both & (low1 < high0) & (low0 < high1)


def calibration_fit(
    y: np.ndarray, logit: np.ndarray, patient: np.ndarray, slope: bool, level: float = 0.95
) -> Estimate:
    """Calibration slope, or intercept in the large, with a Wald interval that lets images of a patient depend.

    variance = H⁻¹ (Σ_patients g gᵀ) H⁻¹ · P/(P−1), g the summed score of a patient, H the information.

    Args:
        y: (case,) 1 or 0.
        logit: (case,).
        patient: (case,) any names.
        slope: True gives b, False gives a with b = 1.
        level: of the interval.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logit = rng.normal(size=2000)
        >>> y = rng.random(2000) < 1 / (1 + np.exp(-2 * logit))
        >>> str(calibration_fit(y, logit, np.arange(2000), True))
        '2.154 (1.962–2.346)'

    Source: Liang and Zeger, Biometrika 1986, doi:10.1093/biomet/73.1.13.

    Fails when: patients are few; the sandwich is then too small.
    """
    y, logit = np.asarray(y, np.float64), np.asarray(logit, np.float64)
    if not len(y):
        return missing(0, level)
    a, b = recalibration(y, logit, np.ones((1, len(y))), slope)[0]
    if math.isnan(a):
        return missing(len(y), level)
    p = expit(a + b * logit)
    design = np.stack([np.ones_like(logit), logit], 1) if slope else np.ones((len(y), 1))
    index = groups(patient)
    count = int(index.max()) + 1
    score = np.stack([np.bincount(index, (y - p) * column, count) for column in design.T], 1)
    bread = np.linalg.pinv((design * (p * (1 - p))[:, None]).T @ design)
    variance = (bread @ (score.T @ score) @ bread)[-1, -1] * count / max(count - 1, 1)
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(max(variance, 0.0))
    value = float(b if slope else a)
    return Estimate(value, value - half, value + half, len(y), level)
