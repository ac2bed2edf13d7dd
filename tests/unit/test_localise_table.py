"""Rows, strata, intervals and comparisons of localisation."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from translucid.errors import ConfigError, ShapeError
from translucid.evaluate.baseline_maps import average_mask, baseline_maps, centre_prior, edges, random_maps
from translucid.evaluate.explainers import compare_explainers
from translucid.evaluate.interval import bootstrap
from translucid.evaluate.localise import LOCALISATION, energy_share
from translucid.evaluate.localise_table import case_scores, localisation_rows, size_cuts
from translucid.evaluate.overlap import fit_threshold

LABELS = ["mass", "effusion", "nodule"]


def cohort(
    seed: int = 0, patients: int = 30, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Masks of several sizes, maps that see them dimly, presence and patients with one to three cases."""
    rng = np.random.default_rng(seed)
    patient = np.repeat([f"p{k}" for k in range(patients)], rng.integers(1, 4, patients))
    masks = np.zeros((len(patient), 3, 8, 8), bool)
    present = rng.random(masks.shape[:2]) < 0.6
    for case, label in np.argwhere(present):
        side = rng.integers(1, 5)
        y, x = rng.integers(0, 8 - side, 2)
        masks[case, label, y : y + side, x : x + side] = True
    masks[0, 0], present[0, 0] = False, True
    maps = masks + noise * rng.normal(size=masks.shape)
    return masks, maps, present, patient


def keyed(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(r["measure"], r["label"], r["subset"]): r for r in rows}


def test_values_are_the_means_one_would_take_by_hand() -> None:
    masks, maps, present, patient = cohort()
    cuts = size_cuts(masks, present)
    rows = localisation_rows(
        masks, maps, patient, present, LABELS, explainer="cam", variant="v", split="val", resamples=100,
        regions={"lung": ["mass", "nodule"]}, by_size=cuts, measures=["energy_share"],
    )  # fmt: skip
    found = keyed(rows)
    table = np.full(present.shape, np.nan)
    share = np.full(present.shape, np.nan)
    for i, k in np.argwhere(present):
        table[i, k] = energy_share(masks[i : i + 1, k], maps[i : i + 1, k])[0]
        share[i, k] = masks[i, k].mean()
    share[0, 0] = np.nan
    for k, name in enumerate(LABELS):
        r = found["energy_share", name, ""]
        assert r["value"] == pytest.approx(np.nanmean(table[:, k]), abs=1e-12)
        assert (r["n"], r["n_undefined"], r["n_empty"]) == ((~np.isnan(table[:, k])).sum(), int(k == 0), int(k == 0))
        small = share[:, k] <= cuts[k, 0]
        assert found["energy_share", name, "small"]["value"] == pytest.approx(table[small, k].mean(), abs=1e-12)
        assert sum(found["energy_share", name, s]["n"] for s in ("small", "medium", "large")) == r["n"]
    macro = np.nanmean(table, 0).mean()
    assert found["energy_share", "macro", ""]["value"] == pytest.approx(macro, abs=1e-12)
    assert found["energy_share", "pooled", ""]["value"] == pytest.approx(np.nanmean(table), abs=1e-12)
    assert found["energy_share", "lung", "region"]["value"] == pytest.approx(np.nanmean(table[:, [0, 2]]), abs=1e-12)
    assert found["mask_share", "mass", ""]["value"] == pytest.approx(np.nanmean(share[:, 0]), abs=1e-12)
    assert {(r["explainer"], r["variant"], r["split"], r["level"]) for r in rows} == {("cam", "v", "val", 0.95)}
    json.dumps(rows, allow_nan=False)


def test_intervals_are_those_of_the_patient_bootstrap() -> None:
    masks, maps, present, patient = cohort(1)
    rows = keyed(localisation_rows(masks, maps, patient, present, LABELS, explainer="cam", resamples=300, seed=5))
    table = case_scores(masks, maps, present, "energy_share")
    known = ~np.isnan(table)
    values = np.nan_to_num(table)

    def mean(w: np.ndarray, k: slice) -> np.ndarray:
        return (w @ values[:, k]).sum(1) / (w @ known[:, k].astype(float)).sum(1)

    for label, k in (("effusion", slice(1, 2)), ("pooled", slice(None))):
        peer = bootstrap(lambda w, k=k: mean(w, k), patient, resamples=300, seed=5)
        r = rows["energy_share", label, ""]
        assert (r["value"], r["low"], r["high"]) == pytest.approx((peer.value, peer.low, peer.high), abs=1e-12)


def test_copies_of_a_patients_cases_do_not_narrow_the_interval() -> None:
    once = cohort(2)
    masks, maps, present, patient = (np.repeat(a, 3, axis=0) for a in once)
    first = keyed(localisation_rows(once[0], once[1], once[3], once[2], LABELS, explainer="cam", resamples=200))
    thrice = keyed(localisation_rows(masks, maps, patient, present, LABELS, explainer="cam", resamples=200))
    for key, r in first.items():
        for end in ("value", "low", "high"):
            assert thrice[key][end] == pytest.approx(r[end], abs=1e-9), key


def test_a_perfect_explainer_is_not_certain_and_one_patient_has_no_interval() -> None:
    masks, _, present, patient = cohort(3, patients=12)
    rows = keyed(localisation_rows(masks, masks * 1.0, patient, present, LABELS, explainer="mask", resamples=100))
    r = rows["pointing_game", "effusion", ""]
    independent = len(np.unique(patient[present[:, 1]]))
    assert (r["value"], r["high"]) == (1.0, 1.0)
    assert r["low"] == pytest.approx(0.025 ** (1 / independent), abs=1e-12)
    assert rows["energy_share", "macro", ""]["low"] < 1.0
    alone = localisation_rows(masks, masks * 1.0, ["p"] * len(masks), present, LABELS, explainer="mask", resamples=20)
    assert all(r["low"] is None and r["high"] is None for r in alone)


def test_what_is_absent_or_empty_never_scores() -> None:
    masks, maps, present, patient = cohort(4)
    present = present.astype(float)
    present[:, 2] = np.nan
    rows = keyed(localisation_rows(masks, maps, patient, present, LABELS, explainer="cam", resamples=20))
    r = rows["pointing_game", "nodule", ""]
    assert (r["value"], r["low"], r["n"], r["n_undefined"]) == (None, None, 0, 0)
    rows = keyed(localisation_rows(masks & False, maps, patient, present, LABELS, explainer="cam", resamples=20))
    for (_measure, label, _), r in rows.items():
        assert r["value"] is None and r["n"] == 0, label
        assert r["n_empty"] == r["n_undefined"]
    assert rows["iou_otsu", "mass", ""]["n_empty"] == np.nansum(present[:, 0])
    flat = keyed(localisation_rows(masks, maps * 0, patient, present, LABELS, explainer="blank", resamples=20))
    assert flat["energy_share", "pooled", ""]["value"] is None
    assert flat["energy_share", "pooled", ""]["n_undefined"] == np.nansum(present)
    share = flat["mask_share", "pooled", ""]["value"]
    assert flat["map_average_precision", "pooled", ""]["value"] == pytest.approx(share, abs=1e-12)


def test_thresholds_come_from_validation() -> None:
    masks, maps, present, patient = cohort(5)
    cuts = np.array([fit_threshold(masks[present[:, k], k], maps[present[:, k], k], "iou") for k in range(3)])
    cuts[2] = np.nan
    rows = keyed(
        localisation_rows(
            masks, maps, patient, present, LABELS, explainer="cam", measures=[], thresholds={"iou": cuts}, resamples=20
        )
    )
    table = case_scores(masks, maps, present, "iou", cuts)
    assert rows["iou", "mass", ""]["value"] == pytest.approx(np.nanmean(table[:, 0]), abs=1e-12)
    assert rows["iou", "nodule", ""]["value"] is None
    assert {m for m, _, _ in rows} == {"mask_share", "iou"}


def test_volumes_pass_as_images_do() -> None:
    masks, maps, present, patient = cohort(6)
    flat = localisation_rows(masks, maps, patient, present, LABELS, explainer="cam", resamples=20)
    shape = (*present.shape, 4, 2, 8)
    deep = localisation_rows(
        masks.reshape(shape), maps.reshape(shape), patient, present, LABELS, explainer="cam", resamples=20
    )
    assert deep == flat


def test_errors_say_what_is_wrong() -> None:
    masks, maps, present, patient = cohort(7)

    def rows(**more: Any) -> Any:
        return localisation_rows(masks, maps, patient, present, LABELS, explainer="cam", resamples=2, **more)

    with pytest.raises(ConfigError, match="did you mean 'pointing_game'"):
        rows(measures=["pointing_gam"])
    with pytest.raises(ConfigError, match="known: iou, organ_iou"):
        rows(thresholds={"energy_share": np.zeros(3)})
    with pytest.raises(ConfigError, match="did you mean 'effusion'"):
        rows(regions={"pleura": ["efusion"]})
    with pytest.raises(ShapeError, match="3 labels, but 2 thresholds"):
        rows(thresholds={"iou": np.zeros(2)})
    with pytest.raises(ConfigError, match="fit it with fit_threshold"):
        case_scores(masks, maps, present, "organ_iou")
    with pytest.raises(ShapeError, match="3 columns, but 1 labels"):
        localisation_rows(masks, maps, patient, present, ["mass"], explainer="cam")
    with pytest.raises(ShapeError, match="present 3"):
        localisation_rows(masks[:3], maps[:3], patient[:2], present[:3], LABELS, explainer="cam")
    with pytest.raises(ShapeError, match="need \\(case, label"):
        case_scores(masks, maps[..., :3], present, "energy_share")


def tables(seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    masks, good, present, patient = cohort(seed, patients=60, noise=0.3)
    poor = masks + 3 * np.random.default_rng(99).normal(size=masks.shape)
    blank = np.array(good)
    blank[::2] = 0
    maps = {"good": good, "poor": poor, "half": blank}
    return {n: case_scores(masks, a, present, "energy_share") for n, a in maps.items()}, patient


def test_the_better_explainer_is_found_over_the_same_cases() -> None:
    scores, patient = tables(8)
    found = {(c.explainer, c.against, c.label): c for c in compare_explainers(scores, patient, LABELS, "energy_share")}
    assert len(found) == 3 * 4
    for label in (*LABELS, "pooled"):
        c = found["good", "poor", label]
        assert c.difference.low > 0 and c.p < 0.01 and c.p_holm >= c.p
        assert c.difference.value == pytest.approx(c.first.value - c.second.value, abs=1e-12)
        same = found["good", "half", label]
        assert (same.difference.value, same.difference.low, same.difference.high, same.p) == (0.0, 0.0, 0.0, 1.0)
        assert same.n_unpaired > 0 and same.first.n == same.second.n == c.first.n - same.n_unpaired
    lone = [c.p_holm for (_, _, label), c in found.items() if label != "pooled"]
    assert min(lone) == pytest.approx(min(c.p for c in found.values()) * 9)
    assert found["good", "poor", "mass"].to_json()["difference"]["low"] > 0


def test_against_one_turns_the_sign() -> None:
    scores, patient = tables(9)
    first = compare_explainers(scores, patient, LABELS, against="poor", resamples=200)
    assert {(c.explainer, c.against) for c in first} == {("good", "poor"), ("half", "poor")}
    turned = compare_explainers(
        {k: scores[k] for k in ("good", "poor")}, patient, LABELS, against="good", resamples=200
    )
    for c, t in zip(first, turned, strict=False):
        assert t.difference.value == pytest.approx(-c.difference.value, abs=1e-12)
        assert (t.difference.low, t.difference.high) == pytest.approx(
            (-c.difference.high, -c.difference.low), abs=1e-12
        )
        assert t.p == pytest.approx(c.p, abs=1e-12)


def test_nothing_to_compare() -> None:
    scores, patient = tables(10)
    none = {"a": scores["good"], "b": np.full(scores["good"].shape, np.nan)}
    for c in compare_explainers(none, patient, LABELS, resamples=20):
        assert math.isnan(c.difference.value) and math.isnan(c.p) and math.isnan(c.p_holm)
        assert c.n_unpaired > 0 and c.to_json()["p"] is None
    with pytest.raises(ConfigError, match="two explainers or more, got a"):
        compare_explainers({"a": scores["good"]}, patient, LABELS)
    with pytest.raises(ConfigError, match="did you mean 'poor'"):
        compare_explainers(scores, patient, LABELS, against="por")
    with pytest.raises(ShapeError, match="there are 2 labels"):
        compare_explainers(scores, patient, LABELS[:2])


def test_equal_explainers_differ_as_often_as_the_level_allows() -> None:
    rng = np.random.default_rng(11)
    patient = np.repeat(np.arange(40), 2)
    p = []
    for _ in range(150):
        scores = {n: (0.5 + rng.normal(size=40)[patient] + 0.3 * rng.normal(size=80))[:, None] for n in "ab"}
        p += [c.p for c in compare_explainers(scores, patient, ["x"], resamples=300)]
    assert np.mean(np.array(p) < 0.05) <= 0.12
    assert 0.4 <= np.mean(p) <= 0.6


# -- baselines -----------------------------------------------------------------------------------------------------


def test_baselines_know_what_they_should_and_no_more() -> None:
    np.testing.assert_array_equal(random_maps(3, (4, 5), 1), random_maps(3, (4, 5), 1))
    assert (random_maps(3, (4, 5), 1) != random_maps(3, (4, 5), 2)).any()
    blob = centre_prior(2, (5, 7, 9))
    assert np.unravel_index(blob[0].argmax(), blob[0].shape) == (2, 3, 4)
    np.testing.assert_array_equal(blob[0], blob[1])
    np.testing.assert_allclose(blob[0], blob[0][::-1, ::-1, ::-1], atol=1e-15)
    ramp = np.add.outer(3.0 * np.arange(5), 4.0 * np.arange(6))[None]
    np.testing.assert_allclose(edges(ramp), 5.0)
    assert (edges(np.full((2, 1, 4), 7.0)) == 0).all()
    assert (average_mask(np.zeros((2, 3), bool), 4) == 0).all()
    with pytest.raises(ShapeError, match="need one grid"):
        baseline_maps(np.zeros((2, 3, 3)), np.ones((1, 4, 4), bool))
    with pytest.raises(ConfigError, match="width = 0"):
        centre_prior(1, (3,), 0)


def test_the_average_mask_beats_noise_where_findings_keep_their_place() -> None:
    rng = np.random.default_rng(12)
    masks = np.zeros((60, 1, 12, 12), bool)
    for k, (y, x) in enumerate(rng.integers(2, 5, (60, 2))):
        masks[k, 0, y : y + 3, x : x + 3] = True
    images = rng.normal(size=(30, 12, 12)) + 5 * masks[30:, 0]
    maps = baseline_maps(images, masks[:30, 0])
    there = np.ones((30, 1))
    means = {n: case_scores(masks[30:], a[:, None], there, "map_average_precision").mean() for n, a in maps.items()}
    assert means["average_mask"] > 2 * means["random"]
    assert means["average_mask"] > means["centre"]
    assert set(LOCALISATION) >= {"map_average_precision"}
