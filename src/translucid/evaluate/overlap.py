"""How a thresholded map overlaps a mask: OrganIoU as meant and as released, and true intersection over union."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from translucid.errors import ConfigError, lookup
from translucid.evaluate.cases import by_case, published_scale

Threshold = float | np.ndarray
"""A share of the map's own maximum, or several of them."""

ORGAN_IOU_THRESHOLDS: tuple[float, ...] = (0.004, 0.008, 0.012, 0.016, *(k / 50 for k in range(1, 50)))
"""The 53 published thresholds: 0.004 to 0.016 in steps of 0.004, then 0.02 to 0.98 in steps of 0.02."""


def _thresholds(threshold: Threshold) -> np.ndarray:
    """(threshold,) within [0, 1), or nan where none could be fitted."""
    cuts = np.atleast_1d(np.asarray(threshold, np.float64))
    if cuts.ndim != 1 or ((cuts < 0) | (cuts >= 1)).any():
        raise ConfigError(f"threshold = {threshold}: needs shares of the map's maximum, 0 or more and below 1")
    return cuts


def counts_above(mask: np.ndarray, maps: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells strictly above each threshold, inside the mask (a) and outside (b), for all thresholds in one pass.

    Args:
        mask: (case, cell) bool.
        maps: (case, cell).
        thresholds: (threshold,) in any order, in the maps' unit.

    Returns:
        a and b, (case, threshold).

    Example:
        >>> counts_above(np.array([[True, True, False]]), np.array([[0.2, 0.9, 0.5]]), np.array([0.2, 0.6]))
        (array([[1, 1]]), array([[1, 0]]))
    """
    order = np.argsort(thresholds, kind="stable")
    cases, levels = len(maps), len(thresholds) + 1
    passed = np.searchsorted(thresholds[order], maps.ravel(), side="left").reshape(maps.shape)
    slot = passed + levels * np.arange(cases)[:, None]
    found = []
    for side in (mask, ~mask):
        counts = np.bincount(slot[side], minlength=cases * levels).reshape(cases, levels)
        above = np.cumsum(counts[:, ::-1], 1)[:, ::-1][:, 1:]
        out = np.empty_like(above)
        out[:, order] = above
        found.append(out)
    return found[0], found[1]


def organ_iou(
    mask: np.ndarray, maps: np.ndarray, threshold: Threshold, variant: Literal["corrected", "released"] = "corrected"
) -> np.ndarray:
    """Share of the cells above a threshold that lie in the allowed region, OrganIoU = a/(a + b).

    The map is taken through `published_scale`; a cell is above when its value is strictly larger than the threshold.
    Despite its name this is a precision: how much of the region is covered does not count. The released code gives
    0 whenever a = 0 or b = 0, so a map that lies wholly in its region scores 0; "corrected" gives it 1.

    Args:
        mask: (case, *grid) bool, the allowed region.
        maps: (case, *grid), signed, in any unit.
        threshold: share of the map's own maximum, in [0, 1); several, (threshold,), are done in one pass.
        variant: "corrected" or "released".

    Returns:
        (case,), or (case, threshold) for several. 0 where no cell is above, as published; nan where the region is
        empty or fills the grid, or the threshold is nan.

    Raises:
        ConfigError: an unknown variant, or a threshold out of range.
        ShapeError: the grids differ.
        InputError: a map is not finite, or a mask is not binary.

    Example:
        >>> region = np.array([[1, 1, 0, 0]] * 2, bool)
        >>> maps = np.array([[5.0, 9.0, 0.0, -3.0], [5.0, 9.0, 9.0, 0.0]])
        >>> organ_iou(region, maps, 0.5), organ_iou(region, maps, 0.5, "released")
        (array([1.        , 0.66666667]), array([0.        , 0.66666667]))

    Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, arXiv:2011.08891.

    Fails when: a map has one bright cell in a large region; it scores 1. Read it next to the intersection over union.
    """
    if variant not in ("corrected", "released"):
        raise ConfigError(f"unknown variant {variant!r}: known are corrected, released")

    def ratio(a: np.ndarray, b: np.ndarray, _: np.ndarray) -> np.ndarray:
        share = a / np.maximum(a + b, 1)
        return np.where((a == 0) | (b == 0), 0.0, share) if variant == "released" else share

    return _overlap(ratio, mask, maps, threshold, constant=True)


def organ_iou_released(mask: np.ndarray, maps: np.ndarray, threshold: Threshold) -> np.ndarray:
    """OrganIoU as the released code has it, 0 for a map wholly inside; see `organ_iou`.

    Example:
        >>> organ_iou_released(np.array([[1, 0]], bool), np.array([[1.0, 0.0]]), 0.5)
        array([0.])

    Fails when: maps are good; the best ones score 0.
    """
    return organ_iou(mask, maps, threshold, "released")


def iou(mask: np.ndarray, maps: np.ndarray, threshold: Threshold | Literal["otsu"] = "otsu") -> np.ndarray:
    """Intersection over union of the mask and the positive evidence above a threshold, a/(a + b + missed).

    Args:
        mask: (case, *grid) bool.
        maps: (case, *grid), signed, in any unit; taken through `published_scale`.
        threshold: share of the map's own maximum, in [0, 1), from `fit_threshold` on validation; several,
            (threshold,), are done in one pass; "otsu" splits each map by itself, and needs no validation.

    Returns:
        (case,), or (case, threshold) for several; nan where the mask is empty or fills the grid, where the positive
        part has no contrast, or where the threshold is nan.

    Raises:
        ConfigError: a threshold out of range.
        ShapeError: the grids differ.
        InputError: a map is not finite, or a mask is not binary.

    Example:
        >>> iou(np.array([[1, 1, 0, 0]], bool), np.array([[9.0, 5.0, 5.0, -3.0]]), np.array([0.2, 0.6]))
        array([[0.66666667, 0.5       ]])

    Source: Saporta et al., Benchmarking saliency methods for chest X-ray interpretation, Nature Machine Intelligence
    2022, doi:10.1038/s42256-022-00536-x (there after min–max; here negative evidence counts as none, our reading).

    Fails when: the map's grid is coarser than the finding; even a perfect map then overlaps little.
    """
    if isinstance(threshold, str):
        if threshold != "otsu":
            raise ConfigError(f"threshold = {threshold!r}: known are 'otsu' and numbers")

        def score(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
            above = maps > _otsu(maps)[:, None]
            return (above & mask).sum(1) / (above | mask).sum(1)

        return by_case(score, mask, maps, prepare=published_scale)[:, 0]
    return _overlap(lambda a, b, size: a / (b + size), mask, maps, threshold, constant=False)


def _overlap(
    ratio: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    mask: np.ndarray,
    maps: np.ndarray,
    threshold: Threshold,
    constant: bool,
) -> np.ndarray:
    """Counts inside (a), outside (b) and the mask's size → one number per case and threshold."""
    cuts = _thresholds(threshold)

    def score(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
        a, b = counts_above(mask, maps, cuts)
        return np.where(np.isnan(cuts), np.nan, ratio(a, b, mask.sum(1)[:, None]))

    found = by_case(score, mask, maps, width=len(cuts), prepare=published_scale, constant=constant)
    return found if np.ndim(threshold) else found[:, 0]


def otsu(maps: np.ndarray) -> np.ndarray:
    """Otsu's threshold of each map, exact on its distinct values: the cut into the two most distant halves.

    Maximises n₀ n₁ (μ₀ − μ₁)² over the cuts between distinct values, of equally good ones the lowest. What lies
    strictly above the result is the upper half.

    Args:
        maps: (case, *grid), finite.

    Returns:
        (case,) the largest value of the lower half; nan for a constant map.

    Example:
        >>> otsu(np.array([[0.0, 1.0, 8.0, 9.0], [2.0, 2.0, 2.0, 2.0]]))
        array([ 1., nan])

    Source: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 1979, doi:10.1109/TSMC.1979.4310076. Without a
    histogram: bins are a choice that the result depends on.

    Fails when: one half is much larger than the other; the cut then moves into the larger.
    """
    flat = np.asarray(maps, np.float64).reshape(len(maps), -1)
    return _otsu(flat) if flat.size else np.full(len(flat), np.nan)


def _otsu(flat: np.ndarray) -> np.ndarray:
    """(case, cell) → (case,)."""
    if flat.shape[1] < 2:
        return np.full(len(flat), np.nan)
    value = np.sort(flat, axis=1)
    # The spread is judged around the middle and as a share of the range, so that offset and unit do not matter.
    low, wide = value[:, :1], value[:, -1:] - value[:, :1]
    unit = np.divide(value - low, wide, out=np.zeros_like(value), where=wide > 0) - 0.5
    count = np.arange(1, value.shape[1])
    below = np.cumsum(unit, 1)
    total, below = below[:, -1:], below[:, :-1]
    other = value.shape[1] - count
    gap = count * other * (below / count - (total - below) / other) ** 2
    gap = np.where(value[:, 1:] > value[:, :-1], gap, -1.0)
    best = gap.max(1, keepdims=True)
    cut = np.argmax(gap >= best * (1 - 1e-12), axis=1)
    return np.where(best[:, 0] > 0, np.take_along_axis(value, cut[:, None], 1)[:, 0], np.nan)


LOCALISATION_AT: Mapping[str, Callable[[np.ndarray, np.ndarray, Threshold], np.ndarray]] = {
    "organ_iou": organ_iou,
    "organ_iou_released": organ_iou_released,
    "iou": iou,
}
"""Name → (mask, maps, threshold) → one number per case; the threshold comes from `fit_threshold`, on other cases."""


def fit_threshold(
    mask: np.ndarray,
    maps: np.ndarray,
    measure: str = "organ_iou",
    thresholds: Sequence[float] | np.ndarray = ORGAN_IOU_THRESHOLDS,
) -> float:
    """The threshold with the highest mean of a measure, for one label, to be fitted on validation and then left alone.

    Undefined cases are left out; of equally good thresholds the lowest is taken (our reading).

    Args:
        mask: (case, *grid) bool, validation cases that have the label.
        maps: (case, *grid).
        measure: one of `LOCALISATION_AT`.
        thresholds: (threshold,) to choose from, shares of each map's maximum.

    Returns:
        The threshold; nan where no case is defined.

    Raises:
        ConfigError: an unknown measure, or a threshold out of range.

    Example:
        >>> mask, maps = np.array([[1, 0, 0, 0]], bool), np.array([[9.0, 3.0, 1.0, 0.0]])
        >>> fit_threshold(mask, maps)
        0.34

    Source: Draelos and Carin, arXiv:2011.08891 (per label, 53 values, maximising the mean on validation).

    Fails when: it is scored on the cases it was fitted on, as in the paper's own validation table.
    """
    cuts = np.sort(_thresholds(np.asarray(thresholds)))
    scores = lookup(LOCALISATION_AT, measure, "localisation measure with a threshold")(mask, maps, cuts)
    scores = scores[~np.isnan(scores).any(1)]
    if not len(scores):
        return math.nan
    return float(cuts[np.argmax(np.round(scores.mean(0), 12))])
