"""Laws that hold for every localisation measure."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np
import pytest

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.evaluate.localise import LOCALISATION, pointing_game
from translucid.evaluate.overlap import LOCALISATION_AT, iou, organ_iou

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]

TAU = 0.3
SCORES: dict[str, Score] = {
    **LOCALISATION,
    **{name: (lambda mask, maps, f=f: f(mask, maps, TAU)) for name, f in LOCALISATION_AT.items()},
}
BEST = dict.fromkeys(SCORES, 1.0) | {"organ_iou_released": 0.0}
RANKED = ("map_average_precision", "map_auprc_trapezoid", "pointing_game")
ON_CONSTANT = {  # defined there by their sources; all others are nan
    "map_average_precision": lambda share, value: share,
    "map_auprc_trapezoid": lambda share, value: (1 + share) / 2,
    "organ_iou": lambda share, value: share if value > 0 else 0.0,
    "organ_iou_released": lambda share, value: share if value > 0 else 0.0,
}
CHANCE_IS_SHARE = ("map_average_precision", "pointing_game", "energy_share", "signed_share", "organ_iou")


def cohort(seed: int = 0, grid: tuple[int, ...] = (6, 7), cases: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random((cases, *grid)) < 0.3
    mask[:, (0,) * len(grid)] = True
    mask.reshape(cases, -1)[:, -1] = False
    return mask, rng.normal(size=mask.shape)


every = pytest.mark.parametrize("name", list(SCORES))


@every
@pytest.mark.parametrize("grid", [(30,), (6, 7), (4, 5, 3)])
def test_perfect_is_best_and_its_opposite_worst(name: str, grid: tuple[int, ...]) -> None:
    mask, _ = cohort(grid=grid)
    np.testing.assert_array_equal(SCORES[name](mask, mask * 2.5), BEST[name])
    assert (SCORES[name](mask, ~mask * 2.5) < 0.75).all()


@every
def test_no_map_beats_the_mask(name: str) -> None:
    mask, maps = cohort(1, cases=50)
    found = SCORES[name](mask, maps)
    assert (found >= (-1.0 if name == "signed_share" else 0.0)).all()
    assert (found <= 1.0).all()
    assert found.mean() < 0.7


@every
def test_unit_of_the_map_does_not_matter(name: str) -> None:
    mask, maps = cohort(2)
    for unit in (0.1, 4.0, 1e-280, 1e280):
        np.testing.assert_allclose(SCORES[name](mask, maps * unit), SCORES[name](mask, maps), rtol=1e-12)


@pytest.mark.parametrize("name", RANKED)
def test_ranked_measures_see_order_only(name: str) -> None:
    mask, maps = cohort(3)
    for change in (np.tanh, lambda a: a**3, lambda a: 2 * a - 5):
        np.testing.assert_array_equal(SCORES[name](mask, change(maps)), SCORES[name](mask, maps))


@every
def test_turning_and_mirroring_both_changes_nothing(name: str) -> None:
    mask, maps = cohort(4, (5, 6, 4))
    expected = SCORES[name](mask, maps)
    for turn in (lambda a: a[:, ::-1], lambda a: np.rot90(a, axes=(2, 3)), lambda a: a.swapaxes(1, 3)):
        np.testing.assert_allclose(SCORES[name](turn(mask), turn(maps)), expected, rtol=1e-12)


@every
def test_one_by_one_is_the_batch_and_inputs_stay(name: str) -> None:
    mask, maps = cohort(5)
    before = mask.copy(), maps.copy()
    one_by_one = [SCORES[name](mask[k : k + 1], maps[k : k + 1])[0] for k in range(len(mask))]
    np.testing.assert_array_equal(SCORES[name](mask, maps), one_by_one)
    np.testing.assert_array_equal(mask, before[0])
    np.testing.assert_array_equal(maps, before[1])
    np.testing.assert_array_equal(SCORES[name](mask.astype(np.uint8), maps), one_by_one)
    assert SCORES[name](mask[:0], maps[:0]).shape == (0,)


@every
def test_an_empty_or_full_mask_is_never_a_hit(name: str) -> None:
    mask, maps = cohort(6, cases=3)
    mask[0], mask[1] = False, True
    np.testing.assert_array_equal(np.isnan(SCORES[name](mask, maps)), [True, True, False])


@every
@pytest.mark.parametrize("value", [-2.0, 0.0, 3.0])
def test_a_constant_map_is_no_score_or_exactly_chance(name: str, value: float) -> None:
    mask, maps = cohort(7)
    found = SCORES[name](mask, np.full(maps.shape, value))
    if name in ON_CONSTANT:
        share = mask.reshape(len(mask), -1).mean(1)
        np.testing.assert_allclose(found, ON_CONSTANT[name](share, value), atol=1e-12)
    else:
        assert np.isnan(found).all()


@pytest.mark.parametrize("name", CHANCE_IS_SHARE)
def test_noise_scores_the_masks_share(name: str) -> None:
    rng = np.random.default_rng(8)
    mask = np.zeros((1500, 16, 16), bool)
    mask[:, 3:9, 5:13] = True
    found = SCORES[name](mask, rng.random(mask.shape))
    chance = 48 / 256
    if name == "map_average_precision":  # a random order does a little better: (H + (p − 1)(n − H)/(n − 1))/n
        harmonic = sum(1 / k for k in range(1, 257))
        chance = (harmonic + 47 * (256 - harmonic) / 255) / 256
    assert np.mean(found) == pytest.approx(chance, abs=4 * np.std(found) / np.sqrt(len(found)))


@pytest.mark.parametrize("name", ["iou", "iou_otsu"])
def test_noise_overlaps_as_two_independent_sets(name: str) -> None:
    rng = np.random.default_rng(9)
    mask = np.zeros((400, 20, 20), bool)
    mask[:, :10, :5] = True
    p, q = 50 / 400, 0.5 if name == "iou_otsu" else 1 - TAU
    expected = p * q / (p + q - p * q)
    assert np.mean(SCORES[name](mask, rng.random(mask.shape))) == pytest.approx(expected, abs=0.01)


@every
def test_errors_name_what_came(name: str) -> None:
    mask, maps = cohort(10, (3, 4))
    with pytest.raises(ShapeError, match=r"\(9, 3, 4\) and map \(9, 2, 4\)"):
        SCORES[name](mask, maps[:, :2])
    with pytest.raises(InputError, match="threshold soft masks"):
        SCORES[name](mask * 0.5, maps)
    maps[2, 0, 0] = np.inf
    with pytest.raises(InputError, match="1 maps are not finite"):
        SCORES[name](mask, maps)


def test_options_out_of_range() -> None:
    mask, maps = cohort(11)
    for bad in (-0.1, 1.0, np.array([0.5, 2.0])):
        with pytest.raises(ConfigError, match="0 or more and below 1"):
            organ_iou(mask, maps, bad)
    with pytest.raises(ConfigError, match="corrected, released"):
        organ_iou(mask, maps, 0.5, "fixed")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'otsu' and numbers"):
        iou(mask, maps, "li")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tolerance = -1"):
        pointing_game(mask, maps, -1)


@pytest.mark.parametrize("table", [LOCALISATION, LOCALISATION_AT], ids=["plain", "thresholded"])
def test_every_measure_shows_an_example_and_says_when_it_misleads(table: dict[str, Score]) -> None:
    for name, score in table.items():
        text = inspect.getdoc(score) or ""
        assert "Example:" in text and "Fails when:" in text, name
