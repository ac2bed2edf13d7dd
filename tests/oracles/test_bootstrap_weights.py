"""Weighted measures are the measures of a sample in which cases are repeated; BCa in Efron's notation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from translucid.evaluate.classify import MEASURES, WALD, Sample
from translucid.evaluate.interval import bootstrap, from_draws, patient_weights

REPEATABLE = [m for m in MEASURES if m != "ece"]  # its bins stay those of the sample at hand


def drawn(seed: int, n: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.5).astype(float)
    return y, (rng.normal(size=n) + y).round(1)


@pytest.mark.parametrize("name", REPEATABLE)
@pytest.mark.parametrize("seed", range(3))
def test_integer_weights_repeat_cases(name: str, seed: int) -> None:
    y, logit = drawn(seed)
    weights = next(patient_weights(np.arange(len(y)), 20, seed))
    sample = Sample.of(y, logit, 0.3)
    got = MEASURES[name](sample, weights[:, sample.rows])
    for row, value in zip(weights.astype(int), got, strict=True):
        repeated = Sample.of(np.repeat(y, row), np.repeat(logit, row), 0.3)
        want = MEASURES[name](repeated, np.ones((1, len(repeated))))[0]
        assert value == pytest.approx(want, abs=1e-9 if name in WALD else 1e-12, nan_ok=True)


def test_patients_are_drawn_with_all_their_images() -> None:
    patient = np.array(["b", "a", "b", "c", "a", "b"])
    for w in patient_weights(patient, 50, 3):
        assert (w[:, [0, 0, 1]] == w[:, [2, 5, 4]]).all()
        assert (w[:, [0, 1, 3]].sum(1) == 3).all()


def test_weights_come_in_blocks_and_do_not_depend_on_what_is_done_between() -> None:
    patient = np.arange(300)
    one = np.concatenate(list(patient_weights(patient, 9000, 5)))
    assert one.shape == (9000, 300)
    np.testing.assert_array_equal(one, np.concatenate(list(patient_weights(patient, 9000, 5))))
    assert abs(one.mean() - 1) < 1e-12
    assert abs(one.var() - 1) < 0.02  # nearly Poisson


def slow_bca(x: np.ndarray, draws: np.ndarray, alpha: float) -> tuple[float, float]:
    """θ̂*^(α₁), α₁ = Φ(ẑ₀ + (ẑ₀ + z^(α))/(1 − â(ẑ₀ + z^(α))))."""
    theta, phi = x.mean() ** 2, stats.norm
    z0 = phi.ppf((np.sum(draws < theta) + np.sum(draws == theta) / 2) / len(draws))
    jack = np.array([np.delete(x, i).mean() ** 2 for i in range(len(x))])
    d = jack.mean() - jack
    a = (d**3).sum() / (6 * ((d**2).sum()) ** 1.5)
    ends = [phi.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in (phi.ppf(alpha), phi.ppf(1 - alpha))]
    return tuple(np.quantile(draws, ends))


def test_bca() -> None:
    x = np.random.default_rng(0).exponential(size=25)

    def statistic(w: np.ndarray) -> np.ndarray:
        return (w @ x / w.sum(1)) ** 2

    draws = np.concatenate([statistic(w) for w in patient_weights(np.arange(25), 500, 1)])
    found = bootstrap(statistic, np.arange(25), resamples=500, method="bca", seed=1)
    assert (found.low, found.high) == pytest.approx(slow_bca(x, draws, 0.025), abs=1e-12)
    plain = from_draws(float(x.mean() ** 2), draws, 25)
    assert (plain.low, plain.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=1e-12)
