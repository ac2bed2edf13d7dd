"""Agreement with scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, roc_auc_score, roc_curve

from translucid.evaluate import curves, fit_thresholds, proportion
from translucid.evaluate.classify import MEASURES, Sample
from translucid.evaluate.interval import bootstrap


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(2, 60))
    y = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))], float)
    logit = draw(st.lists(st.integers(-6, 6), min_size=len(y), max_size=len(y)))
    return y, np.array(logit) / 2


def point(name: str, y: np.ndarray, logit: np.ndarray, threshold: float = 0.0) -> float:
    return float(MEASURES[name](Sample.of(y, logit, threshold), np.ones((1, len(y))))[0])


@given(samples())
def test_ranking_and_probability_measures(sample: tuple[np.ndarray, np.ndarray]) -> None:
    y, logit = sample
    assert point("auc", y, logit) == pytest.approx(roc_auc_score(y, logit), abs=1e-12)
    assert point("average_precision", y, logit) == pytest.approx(average_precision_score(y, logit), abs=1e-12)
    assert point("balanced_accuracy", y, logit, 0.5) == pytest.approx(
        balanced_accuracy_score(y, logit >= 0.5), abs=1e-12
    )
    assert point("brier", y, logit) == pytest.approx(brier_score_loss(y, expit(logit)), abs=1e-12)


@given(samples())
def test_area_is_mann_whitney(sample: tuple[np.ndarray, np.ndarray]) -> None:
    y, logit = sample
    u = stats.mannwhitneyu(logit[y == 1], logit[y == 0]).statistic
    assert point("auc", y, logit) == pytest.approx(u / ((y == 1).sum() * (y == 0).sum()), abs=1e-12)


@given(samples())
def test_youden_reaches_the_best_point_of_the_roc(sample: tuple[np.ndarray, np.ndarray]) -> None:
    y, logit = sample
    fpr, tpr, _ = roc_curve(y, logit, drop_intermediate=False)
    (cut,) = fit_thresholds(y, logit)
    gained = point("sensitivity", y, logit, cut) + point("specificity", y, logit, cut) - 1
    assert gained == pytest.approx((tpr - fpr).max(), abs=1e-12)
    (cut,) = fit_thresholds(y, logit, "specificity", 0.8)
    assert point("specificity", y, logit, cut) >= 0.8 - 1e-12
    best = tpr[fpr <= 0.2 + 1e-12].max()
    assert point("sensitivity", y, logit, cut) == pytest.approx(best, abs=1e-12)


@given(samples())
def test_roc_points(sample: tuple[np.ndarray, np.ndarray]) -> None:
    y, logit = sample
    fpr, tpr, _ = roc_curve(y, logit, drop_intermediate=False)
    found = curves(y, logit, ["x"])["x"]["roc"]
    np.testing.assert_allclose(found["fpr"], fpr, atol=1e-12)
    np.testing.assert_allclose(found["tpr"], tpr, atol=1e-12)


def test_reliability_bins_and_error() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=500)
    y = (rng.random(500) < expit(2 * logit)).astype(float)
    found = curves(y, logit, ["x"])["x"]["reliability"]
    observed, predicted = calibration_curve(y, expit(logit), n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found["observed"], observed, atol=1e-9)
    np.testing.assert_allclose(found["predicted"], predicted, atol=1e-9)
    gaps = np.abs(observed - predicted) * np.array(found["n"])
    assert point("ece", y, logit) == pytest.approx(gaps.sum() / 500, abs=1e-9)


def test_slope_is_logistic_regression_without_penalty() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(size=300)
    y = (rng.random(300) < expit(0.5 * logit - 0.3)).astype(float)
    fitted = LogisticRegression(C=1e14, tol=1e-12, max_iter=1000).fit(logit[:, None], y)
    assert point("calibration_slope", y, logit) == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
    shift = point("calibration_intercept", y, logit)
    assert expit(logit + shift).mean() == pytest.approx(y.mean(), abs=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 10), (10, 10), (57, 200)])
def test_proportions(hits: int, n: int) -> None:
    for method, name in (("clopper-pearson", "exact"), ("wilson", "wilson")):
        peer = stats.binomtest(hits, n).proportion_ci(0.9, method=name)
        found = proportion(hits, n, 0.9, method)  # type: ignore[arg-type]
        assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_bootstrap_of_a_mean_is_scipys() -> None:
    x = np.random.default_rng(2).exponential(size=40)
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        peer = stats.bootstrap((x,), np.mean, n_resamples=20000, method=name, rng=0).confidence_interval
        found = bootstrap(lambda w: w @ x / w.sum(1), np.arange(40), resamples=20000, method=method)  # type: ignore[arg-type]
        assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.02)
