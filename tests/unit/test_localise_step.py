"""Localisation of a run: maps brought to the cells of the places, scored against what is known there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_stores import Codes
from tiny_nets import images
from translucid.explain import EXPLAINERS
from translucid.explain.codes import explain_codes
from translucid.io.index import IndexRow
from translucid.io.places import whole_numbers
from translucid.pipeline import localise_step
from translucid.pipeline.explain_step import SLICES, telling_slices
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.localise_step import Split, covered, localise, maps_of, placed_on
from translucid.pipeline.places import Places
from translucid.pipeline.variants import Work
from translucid.study import EvaluateSettings, ExplainSettings, PlacesSettings, Study, Variant
from translucid.tensors import Explanation, Placement, Prediction

GRID = (6, 8)
LABELS = ("mass", "big")


def told(values: Tensor, placement: Placement) -> Explanation:
    labels = tuple(range(values.shape[1]))
    zero = torch.zeros(values.shape[:2])
    return Explanation(values, labels, "made", False, zero, zero, placement)


def plane(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A linear function of the place in the image."""
    return 3.0 + 0.5 * rows[:, None] - 0.25 * columns[None, :]


def centres(space: int, cells: int) -> np.ndarray:
    return (np.arange(cells) + 0.5) * space / cells - 0.5


@pytest.mark.parametrize(
    ("placement", "grid"),
    [
        (Placement((-2.0, 1.0), (8.0, 6.0)), (6, 8)),  # coarser than the cells, and not tiling
        (Placement.tiling((24, 40), (6, 8)), (6, 8)),
        (Placement((0.0, 0.0), (1.0, 1.0)), (24, 40)),  # one value a pixel
        (Placement((-8.0, -1.5), (8.0, 2.0)), (6, 24)),  # coarser along one axis, finer along the other
    ],
)
def test_a_map_that_is_linear_in_place_stays_the_same_plane(placement: Placement, grid: tuple[int, int]) -> None:
    at = [s + d * np.arange(n) for s, d, n in zip(placement.start, placement.step, grid, strict=True)]
    values = torch.from_numpy(plane(*at))[None, None].float()
    got = placed_on(told(values, placement), (24, 40), GRID)[0, 0]
    cells = [centres(n, g).clip(a[0], a[-1]) for n, g, a in zip((24, 40), GRID, at, strict=True)]
    np.testing.assert_allclose(got, plane(*cells), atol=1e-5)


def test_a_map_finer_than_the_cells_is_averaged_so_that_its_sum_stays() -> None:
    values = images(2, 3, 24, 40).float()
    got = placed_on(told(values, Placement((0.0, 0.0), (1.0, 1.0))), (24, 40), GRID)
    slow = values.reshape(2, 3, 6, 4, 8, 5).mean((3, 5))
    np.testing.assert_allclose(got, slow.numpy(), atol=1e-6)


def test_cells_of_a_finding_by_hand() -> None:
    shares = np.array([[[[0.5, 0.49], [0.0, 1.0]], [[0.3, 0.3], [0.2, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    expected = [[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]]
    assert covered(shares)[0].astype(int).tolist() == expected
    assert covered(shares).dtype == bool


def test_the_telling_slices_are_those_with_the_most_positive_evidence() -> None:
    values = torch.zeros(1, 2, 24, 2, 2)
    values[0, 0, 3], values[0, 0, 5] = 1.0, 0.9
    values[0, 1, 20], values[0, 1, 12] = 100.0, -1e6  # its own scale; evidence against tells nothing here
    chosen = telling_slices(told(values, Placement.tiling((24, 8, 8), (24, 2, 2))), 24, 24)
    assert len(chosen) == SLICES and {3, 5, 20} <= set(chosen.tolist()) and sorted(chosen) == chosen.tolist()
    coarse = torch.zeros(1, 1, 6, 2, 2)
    coarse[0, 0, 4] = 1.0  # slices 16 to 19 of 24: fed as 12, the framed volume has 24
    best = telling_slices(told(coarse, Placement.tiling((12, 8, 8), (6, 2, 2))), 12, 24)
    assert {16, 17, 18, 19} <= set(best.tolist()) and np.abs(best - 17.5).max() <= 5.5


SETTINGS = PlacesSettings(truth={"mass": "mass"}, regions={"mass": "lungs", "big": "heart"}, grid=GRID)


def cohort(cases: int = 40) -> tuple[np.ndarray, np.ndarray, list[IndexRow]]:
    """Masses on a grid, hearts and lungs beside them; every second case is for validation, some masses undrawn."""
    rng = np.random.default_rng(0)
    shares = np.zeros((cases, 4, *GRID), np.float32)
    y = np.zeros((cases, 2))
    shares[:, 1, :, :3], shares[:, 2, :, 5:], shares[:, 3, 2:5, 3:5] = 1, 1, 1
    for k in range(cases):
        y[k] = [k % 4 != 3, k % 3 != 0]
        row, column = rng.integers(0, 4), rng.choice([0, 5, 6])
        if y[k, 0]:
            shares[k, 0, row : row + 2, column : column + 2] = 1
    shares[4, 0], shares[5, 3] = -1, -1  # a mass that nobody drew, a heart that nobody drew
    index = [
        IndexRow(
            f"c{k:02d}", f"p{k // 2}", ("test", "val")[k % 2], labels=dict(zip(LABELS, y[k].tolist(), strict=True))
        )
        for k in range(cases)
    ]
    return shares, y, index


def a_work(**changes: Any) -> tuple[Work, np.ndarray]:
    """Images whose first channel holds the mass and whose second the heart, each cell as 4 × 4 pixels."""
    shares, y, index = cohort()
    seen = np.maximum(shares[:, [0, 3]], 0).repeat(4, 2).repeat(4, 3)
    variant = Variant(methods=("seeing", "blind"))
    study = Study(variants={"v": variant}, places=SETTINGS, evaluate=EvaluateSettings(resamples=100), **changes)
    work = Work(RunFolder(Path()), study, "v", variant, index)
    work.__dict__["store"] = Codes(seen)
    work.__dict__["places"] = Places(Codes(whole_numbers(shares)), SETTINGS, LABELS, (24, 32))
    return work, y


def test_a_split_knows_what_was_drawn_and_which_organs_are() -> None:
    work, y = a_work()
    assert work.places is not None
    test = Split.of(work, work.places, "test")
    assert test.rows.tolist() == list(range(0, 40, 2)) and np.array_equal(test.y, y[::2])
    drawn = y[::2].copy() == 1
    drawn[:, 1] = False  # the recipe names no truth for it
    drawn[2, 0] = False  # case 4
    assert np.array_equal(test.drawn, drawn)
    assert np.array_equal(test.known, y[::2] == 1), "lungs and heart are known in all test cases"
    val = Split.of(work, work.places, "val")
    assert not val.known[2, 1] and y[5, 1] == 1, "nobody drew the heart of case 5"
    shares = cohort()[0]
    assert np.array_equal(test.truth[0, 0], shares[0, 0] >= 0.5)
    assert np.array_equal(test.organs[0, 0], (shares[0, 1] + shares[0, 2]) > 0)


def explainer(found: Any) -> Any:
    """An explainer that shows a function of the image, one value a pixel."""
    return lambda: lambda model, x, labels: told(found(x), Placement((0.0, 0.0), (1.0, 1.0)))


class Silent(nn.Module):
    def forward(self, x: Tensor) -> Prediction:
        return Prediction(x.flatten(2).mean(2))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    work, _ = a_work()
    monkeypatch.setitem(EXPLAINERS, "seeing", explainer(lambda x: x))
    monkeypatch.setitem(EXPLAINERS, "blind", explainer(lambda x: 1 - x))
    monkeypatch.setattr(localise_step, "load_model", lambda folder: (Silent(), None))
    rows, said = localise([work])
    assert said == [], "everything could be scored"
    return rows


def value(rows: list[dict[str, Any]], explainer: str, target: str, measure: str, label: str = "mass") -> float:
    (row,) = [
        r for r in rows
        if (r["explainer"], r["target"], r["measure"], r["label"], r["subset"])
        == (explainer, target, measure, label, "") and "versus" not in r
    ]  # fmt: skip
    assert row["low"] <= row["value"] <= row["high"] and row["split"] == "test"
    return float(row["value"])


def test_a_perfect_map_scores_one_and_its_negative_nothing(judged: list[dict[str, Any]]) -> None:
    for measure in ("map_average_precision", "pointing_game", "energy_share", "iou", "iou_otsu"):
        assert value(judged, "seeing", "finding", measure) == pytest.approx(1.0), measure
        assert value(judged, "blind", "finding", measure) < 0.2, measure
    assert value(judged, "seeing", "organ", "energy_share", "big") == pytest.approx(1.0)
    assert value(judged, "seeing", "organ", "organ_iou", "big") == pytest.approx(1.0)
    assert value(judged, "seeing", "organ", "energy_share") == pytest.approx(1.0)  # masses lie in the lungs


def test_rows_count_the_drawn_cases_and_stand_beside_trivial_maps(judged: list[dict[str, Any]]) -> None:
    keys = [tuple(r[k] for k in ("variant", "explainer", "target", "measure", "label", "subset")) for r in judged]
    assert len(set(keys)) == len(keys), "every row has a key of its own"
    assert {(r["variant"], r["explainer"]) for r in judged} >= {("", "random"), ("", "centre"), ("v", "seeing")}
    (row,) = [
        r for r in judged
        if r["measure"] == "pointing_game" and r["explainer"] == "seeing" and r["label"] == "mass"
        and r["target"] == "finding" and r["subset"] == ""
    ]  # fmt: skip
    positives = [k for k in range(0, 40, 2) if k % 4 != 3 and k != 4]
    assert row["n"] in (len(positives), len({k // 2 for k in positives}))
    assert not [r for r in judged if r["target"] == "finding" and r["label"] == "big"], "nobody drew any"
    assert all(r["n"] > 0 and r["value"] is not None for r in judged)


def test_methods_are_compared_on_the_same_cases(judged: list[dict[str, Any]]) -> None:
    (row,) = [
        r for r in judged
        if r.get("versus") == "v/seeing" and r["explainer"] == "blind" and r["label"] == "mass"
        and r["target"] == "finding"
    ]  # fmt: skip
    gap = value(judged, "blind", "finding", "map_average_precision") - value(
        judged, "seeing", "finding", "map_average_precision"
    )
    assert abs(row["value"]) == pytest.approx(abs(gap)) and row["low"] <= row["value"] <= row["high"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_label_without_a_threshold_loses_its_own_rows_only(
    lost: int, judged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, _ = a_work()
    shares = cohort()[0]
    shares[1::2, [1, 2] if lost == 0 else [3]] = -1  # the validation cases' lungs, or hearts
    work.__dict__["places"] = Places(Codes(whole_numbers(shares)), SETTINGS, LABELS, (24, 32))
    rows, said = localise([work])
    kept = LABELS[1 - lost]

    def of(rows: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
        head = {"target": "organ", "label": label, "measure": "organ_iou"}
        return [r for r in rows if head.items() <= r.items()]

    assert of(rows, kept) and of(rows, kept) == of(judged, kept), "as if nothing were lost"
    assert of(judged, LABELS[lost]) and not of(rows, LABELS[lost])
    assert [r["n"] for r in of(rows, "pooled")] == [r["n"] for r in of(rows, kept)]
    assert {r["measure"] for r in rows if r["label"] == LABELS[lost] and r["target"] == "organ"} >= {"energy_share"}
    why = "for no validation case has a known organ to fit the threshold on"
    assert said == [f"{LABELS[lost]}: no organ_iou, organ_iou_released, {why}"]


def test_maps_without_contrast_are_said_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    work, y = a_work()
    monkeypatch.setitem(EXPLAINERS, "seeing", explainer(lambda x: x))
    monkeypatch.setitem(EXPLAINERS, "blind", explainer(torch.ones_like))
    monkeypatch.setattr(localise_step, "load_model", lambda folder: (Silent(), None))
    rows, said = localise([work])
    drawn = int((y[::2, 0] == 1).sum()) - 1
    why = "the map has no contrast, or the finding fills the grid"
    lost = "pointing_game, energy_share, signed_share, iou_otsu"
    assert f"mass: no {lost} of v/blind, undefined in all {drawn} test cases: {why}" in said
    seen = int((y[1::2, 0] == 1).sum())
    assert f"mass: no iou of v/blind, for none of {seen} validation cases defines a threshold" in said
    assert not [line for line in said if "seeing" in line]
    assert all(r["n"] > 0 for r in rows)
    assert [r for r in rows if r["explainer"] == "blind" and r["measure"] == "map_average_precision"]


def test_without_places_there_is_nothing_to_score() -> None:
    work, _ = a_work()
    work.__dict__["places"] = None
    assert localise([work]) == ([], [])


class Squares(nn.Module):
    """A network on codes that is not linear, so that the way of integration shows."""

    def forward(self, codes: Tensor) -> Prediction:
        return Prediction((codes**2).flatten(2).sum(2))


def test_maps_of_codes_are_those_that_the_pictures_show() -> None:
    work, _ = a_work(explain=ExplainSettings(steps=8))
    work = Work(work.folder, work.study, "v", Variant(model={"kind": "heartspot_mlp"}), work.index)
    _, _, index = cohort()
    store = Codes(images(len(index), 2, *GRID).float().numpy())
    work.__dict__["store"] = store
    for k in range(0, 40, 4):  # the average patient is that of the training split
        work.index[k] = IndexRow(index[k].case, index[k].patient, "train", labels=index[k].labels)  # type: ignore[index]
    rows = np.array([3, 9])
    got = maps_of(work, Squares(), "gradient_times_code", rows, GRID)
    mean = torch.from_numpy(store.read(work.rows("train")).astype(np.float64).mean(0)).float()
    z = torch.from_numpy(store.read(rows))
    expected = (z**2 - mean**2).unflatten(2, GRID)  # the path integral of 2z from the mean, in closed form
    shown = explain_codes(Squares(), z, [0, 1], work.compressor, GRID, steps=8, baseline=mean)
    np.testing.assert_allclose(got, shown.maps.numpy(), atol=1e-6)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
    assert maps_of(work, Squares(), "gradient_times_code", rows[:0], GRID).shape == (0, 2, *GRID)
