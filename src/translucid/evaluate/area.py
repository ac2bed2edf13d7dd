"""The area under the ROC curve with DeLong's covariance, for independent images and for patients with several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from translucid.errors import ConfigError, InputError
from translucid.evaluate.interval import at_edge, check_aligned, groups, missing
from translucid.types import Estimate


@dataclass(frozen=True)
class DeLong:
    """Areas of several models on the same cases.

    Attributes:
        auc: (model,).
        covariance: (model, model), nan where a class has fewer than two patients.
        n: number of cases.
        smaller: number of patients in the class that has fewer.
    """

    auc: np.ndarray
    covariance: np.ndarray
    n: int
    smaller: int


def delong(y: np.ndarray, scores: np.ndarray, patient: np.ndarray | None = None) -> DeLong:
    """Areas under the ROC curves of one or more models, and their covariance.

    θ = Σᵢⱼ ψ(Xᵢ, Yⱼ)/(mn), ψ = 1, ½, 0 for X >, =, < Y. With midranks T the structural components are
    V₁₀ = (T_Z(X) − T_X(X))/n and V₀₁ = 1 − (T_Z(Y) − T_Y(Y))/m. Summed within patients, A = Σ(V₁₀ − θ) and
    B = Σ(V₀₁ − θ), they give

        cov = I₁/(I₁−1) AAᵀ/m² + I₀/(I₀−1) BBᵀ/n² + I/(I−1) (ABᵀ + BAᵀ)/(mn)

    with I₁, I₀, I the patients that have a positive, a negative, any image. With one image each this is DeLong's.

    Args:
        y: (case,) 1 or 0; nan is left out.
        scores: (case,) or (model, case); larger means more likely 1.
        patient: (case,) any names; None takes every case for a patient of its own.

    Raises:
        InputError: y is neither 1, 0 nor nan, or a score is not finite.
        ShapeError: lengths differ.

    Example:
        >>> result = delong(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
        >>> result.auc, round(float(result.covariance[0, 0]), 6)
        (array([0.75]), 0.125)

    Source: DeLong et al., Biometrics 1988, doi:10.2307/2531595; Sun and Xu, IEEE Signal Processing Letters 2014,
    doi:10.1109/LSP.2014.2337313 (midranks); Obuchowski, Biometrics 1997, doi:10.2307/2533958 (patients).

    Fails when: a class has a handful of patients; the normal approximation is then poor.
    """
    y, scores, index = _inputs(y, scores, patient)
    positive, negative = y == 1, y == 0
    m, n = int(positive.sum()), int(negative.sum())
    models = len(scores)
    if not m or not n:
        return DeLong(np.full(models, np.nan), np.full((models, models), np.nan), len(y), 0)
    x, z = scores[:, positive], scores[:, negative]
    both = stats.rankdata(np.concatenate([x, z], 1), axis=1)
    v10 = (both[:, :m] - stats.rankdata(x, axis=1)) / n
    v01 = 1 - (both[:, m:] - stats.rankdata(z, axis=1)) / m
    auc = v10.mean(1)
    a = _sums(v10 - auc[:, None], index[positive], index)
    b = _sums(v01 - auc[:, None], index[negative], index)
    i1, i0, i = (len(np.unique(k)) for k in (index[positive], index[negative], index))
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.divide(i, i - 1) * a @ b.T / (m * n)
        cov = np.divide(i1, i1 - 1) * a @ a.T / m**2 + np.divide(i0, i0 - 1) * b @ b.T / n**2 + cross + cross.T
    if min(i1, i0) < 2:
        cov = np.full_like(cov, np.nan)
    return DeLong(auc, cov, len(y), min(i1, i0))


def _inputs(y: np.ndarray, scores: np.ndarray, patient: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.asarray(y, np.float64).reshape(-1)
    scores = np.atleast_2d(np.asarray(scores, np.float64))
    index = np.arange(len(y)) if patient is None else groups(patient)
    check_aligned(y=y, scores=scores.T, patient=index)
    known = ~np.isnan(y)
    y, scores, index = y[known], scores[:, known], index[known]
    if not np.isin(y, (0, 1)).all():
        raise InputError("labels must be 1, 0 or nan for unknown")
    if not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} scores are not finite: look at the model's training")
    return y, scores, index


def _sums(values: np.ndarray, of: np.ndarray, all_patients: np.ndarray) -> np.ndarray:
    """(model, case) → (model, patient)."""
    size = int(all_patients.max()) + 1
    return np.stack([np.bincount(of, row, size) for row in values])


def auc(
    y: np.ndarray,
    score: np.ndarray,
    patient: np.ndarray | None = None,
    level: float = 0.95,
    scale: Literal["logit", "normal"] = "logit",
) -> Estimate:
    """Area under the ROC curve with DeLong's interval.

    On the logit scale, logit θ ± z·s/(θ(1−θ)), the interval stays inside (0, 1) and covers better for areas near 1;
    "normal" is θ ± z·s, clipped. A perfect area gets the exact bound of a proportion (`interval.at_edge`).

    Args:
        y: (case,) 1, 0 or nan.
        score: (case,).
        patient: (case,) any names, or None.
        level: of the interval.
        scale: "logit" or "normal".

    Raises:
        InputError: see `delong`.
        ConfigError: an unknown scale.

    Example:
        >>> str(auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])))
        '0.750 (0.069–0.992)'

    Source: Pepe, The Statistical Evaluation of Medical Tests, 2003, section 5.2 (logit).

    Fails when: cases come from few patients and `patient` is not given; the interval is then too narrow.
    """
    if scale not in ("logit", "normal"):
        raise ConfigError(f"unknown scale {scale!r}: known are logit, normal")
    found = delong(y, score, patient)
    theta, variance = float(found.auc[0]), float(found.covariance[0, 0])
    if math.isnan(theta):
        return missing(found.n, level)
    if theta in (0.0, 1.0):
        return at_edge(Estimate(theta, theta, theta, found.n, level), found.smaller)
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(max(variance, 0.0)) if variance == variance else math.nan
    if scale == "normal":
        low, high = max(0.0, theta - half), min(1.0, theta + half)
    else:
        middle, wide = math.log(theta / (1 - theta)), half / (theta * (1 - theta))
        low, high = (1 / (1 + math.exp(-min(max(v, -700.0), 700.0))) for v in (middle - wide, middle + wide))
    if math.isnan(half):
        low = high = math.nan
    return Estimate(theta, low, high, found.n, level)
