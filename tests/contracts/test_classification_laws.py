"""Laws that hold for every measure of classification and for every interval."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.evaluate import MEASURES, auc, chance, compare, curves, evaluate_classification, fit_thresholds, holm
from translucid.evaluate.classify import WALD, Sample
from translucid.evaluate.interval import bootstrap, patient_weights

BEST = dict.fromkeys(("auc", "average_precision", "sensitivity", "specificity", "balanced_accuracy"), 1.0)
BEST |= {"brier": 0.0, "ece": 0.0}
RANKING = ("auc", "average_precision")


def point(name: str, y: Any, logit: Any, threshold: float = 0.0) -> float:
    sample = Sample.of(y, logit, threshold)
    return float(MEASURES[name](sample, np.ones((1, len(sample))))[0])


def cohort(seed: int, patients: int = 60, labels: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    trait = rng.normal(size=(patients, labels))[patient]
    y = (trait + 0.3 * rng.normal(size=trait.shape) > 0.4).astype(float)
    logits = trait + rng.normal(size=trait.shape)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y, logits, patient


def rows_of(y: np.ndarray, logits: np.ndarray, patient: np.ndarray, **more: Any) -> dict[tuple[str, str], dict]:
    names = [f"l{k}" for k in range(y.shape[1])]
    rows = evaluate_classification(y, logits, patient, names, resamples=200, **more)
    return {(r["measure"], r["label"]): r for r in rows}


@pytest.mark.parametrize("name", [m for m in MEASURES if m not in WALD])
def test_perfect_is_best_and_reversed_is_worse(name: str) -> None:
    y = np.array([0, 1, 0, 1, 1, 0, 0.0])
    perfect = (2 * y - 1) * 40
    assert point(name, y, perfect) == pytest.approx(BEST[name], abs=1e-12)
    assert abs(point(name, y, -perfect) - BEST[name]) > 0.4


@pytest.mark.parametrize("name", RANKING)
def test_ranking_measures_see_order_only(name: str) -> None:
    y, logits, _ = cohort(0)
    for change in (lambda x: 3 * x - 2, np.tanh, lambda x: x**3):
        assert point(name, y[:, 0], change(logits[:, 0])) == pytest.approx(point(name, y[:, 0], logits[:, 0]), abs=0)


@pytest.mark.parametrize("name", ["auc", "average_precision", "balanced_accuracy"])
def test_a_constant_score_is_chance(name: str) -> None:
    y = np.array([0, 1, 0, 0, 1.0])
    for cut in (-1.0, 1.0):
        assert point(name, y, np.zeros(5), cut) == pytest.approx(chance(name, y.mean()), abs=1e-15)


def test_brier_of_the_prevalence_is_chance() -> None:
    y = np.array([0, 1, 0, 0.0])
    assert point("brier", y, np.full(4, math.log(1 / 3))) == pytest.approx(chance("brier", 0.25), abs=1e-15)


@pytest.mark.parametrize("y", [[], [1.0, 1.0], [0.0], [math.nan, 1.0, 1.0]])
def test_no_score_without_both_classes(y: list[float]) -> None:
    table = np.array(y).reshape(-1, 1)
    rows = evaluate_classification(table, np.zeros_like(table), np.arange(len(y)), ["a"], resamples=100)
    assert [r["measure"] for r in rows] == list(MEASURES)
    assert all(r["value"] is None and r["low"] is None and r["high"] is None for r in rows)
    assert curves(table, np.zeros_like(table), ["a"]) == {"a": None}
    assert math.isnan(fit_thresholds(table, np.zeros_like(table))[0])


def test_without_a_threshold_there_is_no_sensitivity() -> None:
    y, logits, patient = cohort(1, labels=1)
    rows = rows_of(y, logits, patient, thresholds=np.array([np.nan]))
    assert rows["sensitivity", "l0"]["value"] is None
    assert rows["auc", "l0"]["value"] is not None


def test_rows_are_flat_and_hold_their_value() -> None:
    y, logits, patient = cohort(2)
    rows = rows_of(y, logits, patient, split="val", variant="plain")
    assert list(rows["auc", "l1"]) == ["measure", "variant", "label", "split", "value", "low", "high", "n", "level"]
    assert {(r["split"], r["variant"]) for r in rows.values()} == {("val", "plain")}
    for (name, label), r in rows.items():
        assert r["low"] <= r["value"] <= r["high"], (name, label)
        assert r["n"] == (len(y) if label == "macro" else int((~np.isnan(y[:, int(label[1])])).sum()))
    mean = np.mean([rows["auc", f"l{k}"]["value"] for k in range(3)])
    assert rows["auc", "macro"]["value"] == pytest.approx(mean, abs=1e-15)


def test_same_seed_same_numbers_and_another_seed_others() -> None:
    y, logits, patient = cohort(3)
    first, again, other = (rows_of(y, logits, patient, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["brier", "l0"]["low"] != other["brier", "l0"]["low"]


def test_order_of_cases_and_names_of_patients_do_not_matter_for_values() -> None:
    y, logits, patient = cohort(4)
    turn = np.random.default_rng(0).permutation(len(y))
    names = np.array([f"p{k:03d}" for k in patient])
    first, turned = rows_of(y, logits, patient), rows_of(y[turn], logits[turn], names[turn])
    for key, r in first.items():
        for part in ("value", "low", "high"):
            assert turned[key][part] == pytest.approx(r[part], abs=1e-9), key


def test_more_images_of_the_same_patients_do_not_narrow_the_interval() -> None:
    y, logits, patient = cohort(5)
    once, thrice = rows_of(y, logits, patient), rows_of(*(np.repeat(a, 3, axis=0) for a in (y, logits, patient)))
    for key, r in once.items():
        if key[0] not in ("ece", *WALD):  # binning and the sandwich change in the last digits only
            assert thrice[key]["low"] == pytest.approx(r["low"], abs=1e-9), key
            assert thrice[key]["high"] == pytest.approx(r["high"], abs=1e-9), key
    naive = auc(np.repeat(y[:, 0], 3), np.repeat(logits[:, 0], 3))
    told = thrice["auc", "l0"]
    assert naive.high - naive.low < 0.7 * (told["high"] - told["low"])


def test_a_perfect_score_is_not_certain() -> None:
    y = np.repeat([0.0, 1.0], 8)
    rows = rows_of(y[:, None], ((y - 0.5) * 9)[:, None], np.arange(16))
    for name in ("auc", "average_precision", "sensitivity", "specificity", "balanced_accuracy"):
        assert rows[name, "l0"]["value"] == 1.0
        assert rows[name, "l0"]["low"] == pytest.approx(0.025 ** (1 / 8), abs=1e-12)
    assert auc(y, -y).high == pytest.approx(1 - 0.025 ** (1 / 8), abs=1e-12)


def test_resamples_that_lose_a_class_give_no_interval() -> None:
    y = np.zeros((40, 1))
    y[0] = 1
    rows = rows_of(y, np.random.default_rng(0).normal(size=(40, 1)), np.arange(40))
    assert rows["average_precision", "l0"]["value"] is not None
    assert rows["average_precision", "l0"]["low"] is None
    assert rows["auc", "l0"]["low"] is None


def test_intervals_cover_and_patients_matter() -> None:
    """True area Φ(1/√(2 + 2·0.75)) in cohorts whose patients have three alike images each."""
    rng = np.random.default_rng(6)
    hits, naive, runs = 0, 0, 300
    patient = np.repeat(np.arange(50), 3)
    truth = 0.5 * math.erfc(-1 / math.sqrt(2 * 1.75) / math.sqrt(2))
    for _ in range(runs):
        y = (np.arange(50) % 2).astype(float)[patient]
        score = y + np.sqrt(1.5) * rng.normal(size=50)[patient] + 0.5 * rng.normal(size=150)
        inside = [e.low <= truth <= e.high for e in (auc(y, score, patient), auc(y, score))]
        hits, naive = hits + inside[0], naive + inside[1]
    assert 0.91 <= hits / runs <= 0.985
    assert naive / runs < 0.85


def test_bootstrap_covers() -> None:
    rng = np.random.default_rng(7)
    runs, hits = 200, 0
    for k in range(runs):
        y = np.repeat([0.0, 1.0], 40)
        sample = Sample.of(y, y + rng.normal(size=80))
        found = bootstrap(lambda w, s=sample: MEASURES["auc"](s, w[:, s.rows]), np.arange(80), resamples=300, seed=k)
        hits += found.low <= 0.5 * math.erfc(-0.5) <= found.high
    assert 0.9 <= hits / runs <= 0.99


def test_two_thousand_resamples_of_a_thousand_cases_are_quick() -> None:
    rng = np.random.default_rng(8)
    y = (rng.random(1000) < 0.3).astype(float)
    sample = Sample.of(y, rng.normal(size=1000) + y)
    start = time.perf_counter()
    for w in patient_weights(np.arange(1000), 2000):
        MEASURES["auc"](sample, w[:, sample.rows])
    assert time.perf_counter() - start < 5  # about a fifth of a second on an idle core


def test_a_model_does_not_differ_from_itself() -> None:
    y, logits, patient = cohort(9)
    for measure in ("auc", "brier"):
        for c in compare(y, logits, logits, patient, ["a", "b", "c"], measure, resamples=100):
            assert (c.difference.value, c.difference.low, c.difference.high, c.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.filterwarnings("error")
def test_nothing_is_compared_where_a_class_is_missing() -> None:
    y = np.zeros((6, 2))
    found = compare(y, y, y, np.arange(6), ["a", "b"], resamples=50)
    assert [c.label for c in found] == ["a", "b", "macro"]
    assert all(math.isnan(c.difference.value) and math.isnan(c.p) for c in found)


def test_a_better_model_is_found_and_the_sign_turns() -> None:
    y, logits, patient = cohort(10, patients=150)
    better = logits + 2 * np.nan_to_num(y)
    found = compare(y, better, logits, patient, ["a", "b", "c"], resamples=300)
    turned = compare(y, logits, better, patient, ["a", "b", "c"], resamples=300)
    assert [c.label for c in found] == ["a", "b", "c", "macro"]
    for c, t in zip(found, turned, strict=True):
        assert c.difference.low > 0
        assert c.p < 0.01
        assert t.difference.value == pytest.approx(-c.difference.value, abs=1e-15)
        assert t.difference.high == pytest.approx(-c.difference.low, abs=1e-12)
        assert t.p == pytest.approx(c.p, abs=1e-12)
    assert all(c.p_holm >= c.p for c in found)
    assert found[0].to_json()["difference"]["value"] == found[0].difference.value


def test_p_values_of_equal_models_are_uniform() -> None:
    rng = np.random.default_rng(11)
    y = np.repeat([0.0, 1.0], 30)
    pairs = ((y + rng.normal(size=60))[:, None] for _ in range(400))
    p = [compare_p(y, next(pairs), next(pairs)) for _ in range(200)]
    assert 0.015 <= np.mean(np.array(p) < 0.05) <= 0.1
    assert 0.4 <= np.mean(p) <= 0.6


def compare_p(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    return compare(y[:, None], a, b, np.arange(60), ["x"], resamples=2)[0].p


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03, 0.005]), [0.03, np.nan, 0.06, 0.06, 0.02])


def test_curves_are_thinned_and_keep_their_ends() -> None:
    rng = np.random.default_rng(12)
    y = (rng.random(5000) < 0.3).astype(float)
    logit = rng.normal(size=5000) + y
    found = curves(y, logit, ["x"], points=50)["x"]
    assert len(found["roc"]["fpr"]) <= 51
    assert (found["roc"]["fpr"][0], found["roc"]["tpr"][0]) == (0.0, 0.0)
    assert (found["roc"]["fpr"][-1], found["roc"]["tpr"][-1]) == (1.0, 1.0)
    assert found["pr"]["recall"][-1] == 1.0
    area = np.trapezoid(found["roc"]["tpr"], found["roc"]["fpr"])
    assert area == pytest.approx(point("auc", y, logit), abs=0.01)


def test_errors_name_what_came() -> None:
    y = np.array([[0.0], [1.0]])
    with pytest.raises(InputError, match="1 logits are not finite"):
        evaluate_classification(y, np.array([[0.0], [np.inf]]), [1, 2], ["a"])
    with pytest.raises(InputError, match="1, 0 or nan"):
        evaluate_classification(y * 2, y, [1, 2], ["a"])
    with pytest.raises(ShapeError, match="y 2, patient 3"):
        evaluate_classification(y, y, [1, 2, 3], ["a"])
    with pytest.raises(ShapeError, match="1 columns, but 2 labels"):
        evaluate_classification(y, y, [1, 2], ["a", "b"])
    with pytest.raises(ConfigError, match="unknown measures f1"):
        evaluate_classification(y, y, [1, 2], ["a"], measures=["f1"])
    with pytest.raises(ConfigError, match="calibration_slope"):
        compare(y, y, y, [1, 2], ["a"], "calibration_slope")
