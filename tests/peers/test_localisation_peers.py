"""Maps against masks, compared with scikit-learn: flat, case by case."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, jaccard_score, precision_recall_curve, precision_score

from translucid.evaluate.cases import published_scale
from translucid.evaluate.localise import auprc_trapezoid, average_precision_map
from translucid.evaluate.overlap import iou, organ_iou


def cohort(seed: int, grid: tuple[int, ...], cases: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = rng.random((cases, *grid)) < 0.15
    maps = rng.normal(size=mask.shape) + mask
    maps[::3] = np.maximum(maps[::3], 0)  # the ties of a clipped map
    maps[1::3] = np.round(maps[1::3] * 2)
    return mask, maps


@pytest.mark.parametrize("grid", [(40,), (24, 17), (5, 9, 8)])
def test_precision_and_recall(grid: tuple[int, ...]) -> None:
    mask, maps = cohort(len(grid), grid)
    flat = [(m.ravel(), a.ravel()) for m, a in zip(mask, maps, strict=True)]
    np.testing.assert_allclose(
        average_precision_map(mask, maps), [average_precision_score(*f) for f in flat], atol=1e-12
    )
    peer = []
    for m, a in flat:
        precision, recall, _ = precision_recall_curve(m, a)
        peer.append(auc(recall, precision))
    np.testing.assert_allclose(auprc_trapezoid(mask, maps), peer, atol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.3, 0.7])
def test_overlaps(tau: float) -> None:
    mask, maps = cohort(3, (20, 11))
    above = published_scale(maps) > tau
    pairs = [(m.ravel(), b.ravel()) for m, b in zip(mask, above, strict=True)]
    np.testing.assert_allclose(iou(mask, maps, tau), [jaccard_score(*p) for p in pairs], atol=1e-12)
    np.testing.assert_allclose(organ_iou(mask, maps, tau), [precision_score(*p) for p in pairs], atol=1e-12)


def test_where_we_differ_on_purpose() -> None:
    """A mask that is empty or fills the grid: scikit-learn scores it 0 or 1, we say that nothing was measured."""
    maps = np.array([[0.2, 0.8, 0.5]])
    for value in (True, False):
        assert math.isnan(average_precision_map(np.full((1, 3), value), maps)[0])
    assert average_precision_score([1, 1, 1], maps[0]) == 1.0


def test_blocks_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    mask, maps = cohort(4, (9, 8))
    mask[5] = False
    whole = average_precision_map(mask, maps), iou(mask, maps, np.array([0.2, 0.6]))
    monkeypatch.setattr("translucid.evaluate.cases.CELLS", 72 * 5)
    np.testing.assert_array_equal(average_precision_map(mask, maps.astype(np.float64)), whole[0])
    np.testing.assert_array_equal(iou(mask, maps, np.array([0.2, 0.6])), whole[1])
