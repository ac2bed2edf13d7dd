"""Localisation written again slowly, cell by cell, in the papers' notation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.evaluate.localise import (
    auprc_trapezoid,
    average_precision_map,
    energy_share,
    pointing_game,
    signed_share,
)
from translucid.evaluate.overlap import (
    LOCALISATION_AT,
    ORGAN_IOU_THRESHOLDS,
    fit_threshold,
    iou,
    organ_iou,
    otsu,
)

GRIDS = ((7,), (4, 5), (3, 2, 4))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Masks and maps with many ties, some empty, full or constant, in one to three dimensions."""
    grid = draw(st.sampled_from(GRIDS))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cases, levels = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    maps = rng.integers(-levels, levels + 1, (cases, *grid)) / 4
    mask = rng.random((cases, *grid)) < draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
    if draw(st.booleans()):
        maps[0] = maps.flat[0]
    return mask, maps


def says_nothing(mask: np.ndarray) -> bool:
    return not mask.any() or bool(mask.all())


def slowly(score, mask: np.ndarray, maps: np.ndarray, *more, constant: bool = False) -> list[float]:
    out = []
    for omega, a in zip(mask, maps, strict=True):
        flat = len({float(v) for v in a.flat}) == 1
        out.append(math.nan if says_nothing(omega) or (flat and not constant) else score(omega, a, *more))
    return out


def curve(omega: np.ndarray, a: np.ndarray) -> list[tuple[float, float]]:
    """(recall, precision) when everything from v upwards is called, for v from high to low."""
    points = [(0.0, 1.0)]
    for v in sorted({float(x) for x in a.flat}, reverse=True):
        called = [bool(o) for o, x in zip(omega.flat, a.flat, strict=True) if x >= v]
        points.append((sum(called) / int(omega.sum()), sum(called) / len(called)))
    return points


def slow_ap(omega: np.ndarray, a: np.ndarray) -> float:
    return sum((r1 - r0) * p1 for (r0, _), (r1, p1) in itertools.pairwise(curve(omega, a)))


def slow_trapezoid(omega: np.ndarray, a: np.ndarray) -> float:
    return sum((r1 - r0) * (p1 + p0) / 2 for (r0, p0), (r1, p1) in itertools.pairwise(curve(omega, a)))


def slow_pointing(omega: np.ndarray, a: np.ndarray, tolerance: float) -> float:
    inside = np.argwhere(omega)
    hits = []
    for p in np.argwhere(a == a.max()):
        hits.append(min(math.dist(p, q) for q in inside) <= tolerance + 1e-9)
    return sum(hits) / len(hits)


def slow_organ_iou(omega: np.ndarray, a: np.ndarray, tau: float, released: bool) -> float:
    m = np.maximum(a, 0)
    if m.max() > 0:
        m = m / m.max()
    inside = sum(1 for p in np.ndindex(a.shape) if m[p] > tau and omega[p])
    outside = sum(1 for p in np.ndindex(a.shape) if m[p] > tau and not omega[p])
    if inside == 0 or (released and outside == 0):
        return 0.0
    return inside / (inside + outside)


def slow_iou(omega: np.ndarray, a: np.ndarray, tau: float) -> float:
    m = np.maximum(a, 0)
    if m.min() == m.max():
        return math.nan
    above = {p for p in np.ndindex(a.shape) if m[p] / m.max() > tau}
    organ = {p for p in np.ndindex(a.shape) if omega[p]}
    return len(above & organ) / len(above | organ)


def slow_energy(omega: np.ndarray, a: np.ndarray) -> float:
    m = [max(float(v), 0.0) for v in a.flat]
    if len(set(m)) == 1:
        return math.nan
    return sum(v for v, o in zip(m, omega.flat, strict=True) if o) / sum(m)


def slow_signed(omega: np.ndarray, a: np.ndarray) -> float:
    return sum(float(a[p]) for p in np.argwhere(omega).tolist() for p in [tuple(p)]) / sum(
        abs(float(v)) for v in a.flat
    )


@given(pairs())
def test_average_precision_and_trapezoid(pair: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(average_precision_map(*pair), slowly(slow_ap, *pair, constant=True), atol=1e-12)
    np.testing.assert_allclose(auprc_trapezoid(*pair), slowly(slow_trapezoid, *pair, constant=True), atol=1e-12)


@given(pairs(), st.sampled_from([0.0, 1.0, 1.5]))
def test_pointing_game(pair: tuple[np.ndarray, np.ndarray], tolerance: float) -> None:
    mask, maps = pair
    expected = slowly(slow_pointing, mask, maps, tolerance)
    for k, omega in enumerate(mask):  # a mask that fills the grid once grown says nothing either
        reach = [omega.any() and min(math.dist(p, q) for q in np.argwhere(omega)) for p in np.ndindex(omega.shape)]
        if max(reach) <= tolerance:
            expected[k] = math.nan
    np.testing.assert_allclose(pointing_game(mask, maps, tolerance), expected, atol=1e-12)


@given(pairs())
def test_shares(pair: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_allclose(energy_share(*pair), slowly(slow_energy, *pair), atol=1e-12)
    np.testing.assert_allclose(signed_share(*pair), slowly(slow_signed, *pair), atol=1e-12)


@given(pairs(), st.sampled_from([0.0, 0.02, 0.25, 0.5, 0.98]))
def test_organ_iou_and_iou(pair: tuple[np.ndarray, np.ndarray], tau: float) -> None:
    mask, maps = pair
    for variant in ("corrected", "released"):
        expected = slowly(slow_organ_iou, mask, maps, tau, variant == "released", constant=True)
        np.testing.assert_array_equal(organ_iou(mask, maps, tau, variant), expected)
    np.testing.assert_array_equal(iou(mask, maps, tau), slowly(slow_iou, mask, maps, tau))


@given(pairs())
def test_many_thresholds_at_once_are_one_by_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    cuts = np.array([0.5, 0.0, np.nan, 0.25, 0.98])
    for score in LOCALISATION_AT.values():
        np.testing.assert_array_equal(score(*pair, cuts), np.stack([score(*pair, float(c)) for c in cuts], -1))


def test_organ_iou_of_the_three_maps_one_can_check_by_head() -> None:
    """T13: perfect 1 (0 as released), the whole volume the organ's fraction, an empty map 0."""
    organ = np.zeros((1, 4, 5, 6), bool)
    organ[0, 1:3, 2:4, 1:4] = True
    stray = organ.astype(float)
    stray[0, 0, 0, 0] = 1.0
    for tau in ORGAN_IOU_THRESHOLDS:
        assert organ_iou(organ, organ * 3.0, tau) == 1.0
        assert organ_iou(organ, organ * 3.0, tau, "released") == 0.0
        assert organ_iou(organ, stray, tau, "released") == 12 / 13
        for variant in ("corrected", "released"):
            assert organ_iou(organ, np.ones(organ.shape), tau, variant) == 12 / 120
            for nothing in (0.0, -2.0):
                assert organ_iou(organ, np.full(organ.shape, nothing), tau, variant) == 0.0


def test_the_threshold_is_strict_and_the_unit_does_not_matter() -> None:
    """T14."""
    organ, a = np.array([[1, 0, 0, 0]], bool), np.array([[4.0, 2.0, 1.0, -9.0]])
    assert organ_iou(organ, a, 0.5) == 1.0
    assert organ_iou(organ, a, np.nextafter(0.5, 0)) == 0.5
    for unit in (0.25, 3.0, 1e-300, 1e300):
        np.testing.assert_array_equal(organ_iou(organ, unit * a, np.array([0.1, 0.3, 0.6])), [[1 / 3, 1 / 2, 1]])


def test_published_thresholds() -> None:
    assert len(ORGAN_IOU_THRESHOLDS) == 53
    assert ORGAN_IOU_THRESHOLDS[:6] == (0.004, 0.008, 0.012, 0.016, 0.02, 0.04)
    assert ORGAN_IOU_THRESHOLDS[-1] == 0.98
    assert all(t == round(t, 3) for t in ORGAN_IOU_THRESHOLDS)


@pytest.mark.parametrize("shape", [(2, 2), (4,), (1, 2, 2)])
def test_average_precision_by_hand(shape: tuple[int, ...]) -> None:
    """T20: perfect 1; constant the prevalence, (1 + prevalence)/2 by trapezoids; four cells 5/6 and 19/24."""
    y = np.array([1, 0, 1, 0], bool).reshape(1, *shape)
    a = np.array([0.9, 0.8, 0.3, 0.1]).reshape(1, *shape)
    assert average_precision_map(y, a) == pytest.approx(5 / 6, abs=1e-12)
    assert auprc_trapezoid(y, a) == pytest.approx(19 / 24, abs=1e-12)
    one = np.array([0, 0, 1, 0], bool).reshape(1, *shape)
    for mask, prevalence in ((y, 0.5), (one, 0.25)):
        assert average_precision_map(mask, mask * 1.0) == auprc_trapezoid(mask, mask * 1.0) == 1.0
        for value in (0.0, -3.0, 7.0):
            assert average_precision_map(mask, np.full(mask.shape, value)) == prevalence
            assert auprc_trapezoid(mask, np.full(mask.shape, value)) == (1 + prevalence) / 2


@given(pairs())
def test_otsu_leaves_the_least_spread_within(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for a, cut in zip(pair[1], otsu(pair[1]), strict=True):
        values = sorted({float(v) for v in a.flat})
        if len(values) == 1:
            assert math.isnan(cut)
            continue

        def within(v: float, a: np.ndarray = a) -> float:
            return sum(part.size * part.var() for part in (a[a <= v], a[a > v]))

        assert cut in values[:-1]
        assert within(cut) == pytest.approx(min(map(within, values[:-1])), abs=1e-12)


@given(pairs(), st.sampled_from(sorted(LOCALISATION_AT)))
def test_the_fitted_threshold_is_the_first_best(pair: tuple[np.ndarray, np.ndarray], measure: str) -> None:
    means = {}
    for tau in ORGAN_IOU_THRESHOLDS:
        scores = LOCALISATION_AT[measure](*pair, tau)
        if not np.isnan(scores).all():
            means[tau] = round(float(np.nanmean(scores)), 12)
    found = fit_threshold(*pair, measure)
    if not means:
        assert math.isnan(found)
    else:
        assert found == min(t for t, v in means.items() if v == max(means.values()))
