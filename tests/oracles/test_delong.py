"""DeLong's method written again slowly, in the notation of DeLong et al. (1988) and Obuchowski (1997)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from translucid.evaluate.area import auc, delong
from translucid.evaluate.classify import Sample
from translucid.evaluate.classify import auc as weighted_auc
from translucid.evaluate.interval import bootstrap
from translucid.evaluate.paired import delong_test
from translucid.types import Estimate


def psi(x: float, y: float) -> float:
    return 1.0 if y < x else 0.5 if y == x else 0.0


def components(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """θ̂, V₁₀(Xᵢ) = Σⱼ ψ(Xᵢ, Yⱼ)/n, V₀₁(Yⱼ) = Σᵢ ψ(Xᵢ, Yⱼ)/m."""
    m, n = len(x), len(y)
    theta = sum(psi(a, b) for a in x for b in y) / (m * n)
    return (
        theta,
        np.array([sum(psi(a, b) for b in y) / n for a in x]),
        np.array([sum(psi(a, b) for a in x) / m for b in y]),
    )


def slow_covariance(truth: np.ndarray, scores: np.ndarray) -> tuple[list[float], np.ndarray]:
    """S = S₁₀/m + S₀₁/n, entries s₁₀^{r,s} = Σ [V₁₀^r − θ^r][V₁₀^s − θ^s]/(m − 1)."""
    parts = [components(s[truth == 1], s[truth == 0]) for s in scores]
    m, n = int((truth == 1).sum()), int((truth == 0).sum())
    cov = np.zeros((len(scores), len(scores)))
    for r, (tr, vr, wr) in enumerate(parts):
        for s, (ts, vs, ws) in enumerate(parts):
            s10 = sum((vr[i] - tr) * (vs[i] - ts) for i in range(m)) / (m - 1)
            s01 = sum((wr[j] - tr) * (ws[j] - ts) for j in range(n)) / (n - 1)
            cov[r, s] = s10 / m + s01 / n
    return [p[0] for p in parts], cov


def slow_clustered(truth: np.ndarray, score: np.ndarray, patient: np.ndarray) -> float:
    """Obuchowski: var = S₁₀/m + S₀₁/n + 2 S₁₁/(mn), sums V(Xᵢ.) over the images of patient i."""
    theta, v10, v01 = components(score[truth == 1], score[truth == 0])
    m, n = len(v10), len(v01)
    names = sorted(set(patient))
    x = {k: v10[patient[truth == 1] == k] for k in names}
    y = {k: v01[patient[truth == 0] == k] for k in names}
    i10, i01, i = sum(len(v) > 0 for v in x.values()), sum(len(v) > 0 for v in y.values()), len(names)
    s10 = i10 / ((i10 - 1) * m) * sum((x[k].sum() - len(x[k]) * theta) ** 2 for k in names)
    s01 = i01 / ((i01 - 1) * n) * sum((y[k].sum() - len(y[k]) * theta) ** 2 for k in names)
    s11 = i / (i - 1) * sum((x[k].sum() - len(x[k]) * theta) * (y[k].sum() - len(y[k]) * theta) for k in names)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def drawn(seed: int, n: int = 41, models: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.4).astype(float)
    scores = rng.normal(size=(models, n)) + truth * np.array([[0.5], [1.0], [0.2]])[:models]
    return truth, scores.round(1)  # rounding makes ties


@pytest.mark.parametrize("seed", range(5))
def test_areas_and_covariance_of_three_models(seed: int) -> None:
    truth, scores = drawn(seed, models=3)
    theta, cov = slow_covariance(truth, scores)
    found = delong(truth, scores)
    np.testing.assert_allclose(found.auc, theta, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, cov, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_patients_as_clusters(seed: int) -> None:
    truth, scores = drawn(seed)
    patient = np.random.default_rng(seed).integers(0, 17, len(truth))
    found = delong(truth, scores, patient).covariance
    for k, score in enumerate(scores):
        assert found[k, k] == pytest.approx(slow_clustered(truth, score, patient), abs=1e-12)
    # the covariance of two models is fixed by the variance of their sum of components
    assert found[0, 1] == pytest.approx(found[1, 0], abs=1e-15)
    alone = delong(truth, np.stack([scores[0], -scores[0]]), patient).covariance
    assert alone[0, 1] == pytest.approx(-alone[0, 0], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_paired_difference(seed: int) -> None:
    truth, scores = drawn(seed)
    theta, s = slow_covariance(truth, scores)
    spread = math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    z = (theta[0] - theta[1]) / spread
    difference, p = delong_test(truth, *scores)
    assert difference.value == pytest.approx(theta[0] - theta[1], abs=1e-12)
    assert p == pytest.approx(2 * (1 - stats.norm.cdf(abs(z))), abs=1e-12)
    assert difference.high == pytest.approx(theta[0] - theta[1] + stats.norm.ppf(0.975) * spread, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_by_the_delta_method(seed: int) -> None:
    truth, scores = drawn(seed)
    theta, s = slow_covariance(truth, scores)
    wide = stats.norm.ppf(0.95) * math.sqrt(s[0, 0]) / (theta[0] * (1 - theta[0]))
    logit = math.log(theta[0] / (1 - theta[0]))
    found = auc(truth, scores[0], level=0.9)
    assert found.low == pytest.approx(1 / (1 + math.exp(wide - logit)), abs=1e-12)
    assert found.high == pytest.approx(1 / (1 + math.exp(-wide - logit)), abs=1e-12)
    plain = auc(truth, scores[0], level=0.9, scale="normal")
    assert plain.low == pytest.approx(theta[0] - stats.norm.ppf(0.95) * math.sqrt(s[0, 0]), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scale", ["logit", "normal"])
def test_the_interval_contains_the_area(seed: int, scale: Literal["logit", "normal"]) -> None:
    """From a handful of cases to many, tied or perfect, images or patients."""
    truth, scores = drawn(seed, n=5 + 7 * seed)
    truth[:4] = 0, 1, 0, 1
    patient = np.random.default_rng(seed).integers(0, 3 + seed, len(truth))
    for score in (*scores, truth, -truth, np.round(scores[0]), np.zeros_like(truth)):
        for names in (None, patient):
            found = auc(truth, score, names, scale=scale)
            assert math.isnan(found.low) or found.low <= found.value <= found.high
            assert math.isnan(found.value) or 0 <= found.value <= 1
    ordinary = auc(truth, scores[0], scale=scale)
    assert ordinary.low < ordinary.high


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_bootstrap_of_one_seed_is_always_the_same(method: Literal["percentile", "bca"]) -> None:
    truth, scores = drawn(0)
    patient = np.random.default_rng(0).integers(0, 17, len(truth))
    sample = Sample.of(truth, scores[0])

    def again(seed: int) -> Estimate:
        return bootstrap(
            lambda w: weighted_auc(sample, w[:, sample.rows]), patient, resamples=300, method=method, seed=seed
        )

    first, second, other = again(7), again(7), again(8)
    assert (first.value, first.low, first.high) == (second.value, second.low, second.high)
    assert first.value == other.value and (first.low, first.high) != (other.low, other.high)
    assert first.low <= first.value <= first.high
    assert first.value == pytest.approx(auc(truth, scores[0]).value, abs=1e-12)
