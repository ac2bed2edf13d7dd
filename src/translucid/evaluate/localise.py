"""Does a map point at the finding? One number per case without any threshold; nan where undefined."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

from translucid.errors import ConfigError
from translucid.evaluate.cases import aligned, by_case, published_scale
from translucid.evaluate.overlap import iou


def _ranked(mask: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells from high to low, and the precision after each cell's run of equal values and before it.

    A run is called as a whole, because no threshold parts equal values; before the first run precision is 1.
    """
    order = np.argsort(-maps, axis=1)  # need not be stable: runs of equal values are taken whole
    hit, value = np.take_along_axis(mask, order, 1), np.take_along_axis(maps, order, 1)
    cases, cells = hit.shape
    at = np.broadcast_to(np.arange(cells), (cases, cells))
    fresh = np.concatenate([np.ones((cases, 1), bool), value[:, 1:] != value[:, :-1]], 1)
    last = np.concatenate([fresh[:, 1:], np.ones((cases, 1), bool)], 1)
    start = np.maximum.accumulate(np.where(fresh, at, 0), axis=1)
    end = np.minimum.accumulate(np.where(last, at, cells)[:, ::-1], axis=1)[:, ::-1]
    precision = np.cumsum(hit, 1) / (at + 1)
    after = np.take_along_axis(precision, end, 1)
    before = np.where(start > 0, np.take_along_axis(precision, np.maximum(start - 1, 0), 1), 1.0)
    return hit, after, before


def average_precision_map(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Average precision of the cells of each case, AP = Σₖ (Rₖ − Rₖ₋₁) Pₖ over the distinct values of the map.

    Defined on a constant map too, where it is the mask's share of the grid m = p/n. A random order of the cells does a
    little better, (H + (p − 1)(n − H)/(n − 1))/n with H = Σₖ 1/k up to n.

    Args:
        mask: (case, *grid) bool, the finding.
        maps: (case, *grid), larger means more evidence; only its order counts.

    Returns:
        (case,); nan where the mask is empty or fills the grid.

    Raises:
        ShapeError: the grids differ.
        InputError: a map is not finite, or a mask is not binary.

    Example:
        >>> mask = np.array([[1, 0, 1, 0]] * 2, bool)
        >>> average_precision_map(mask, np.array([[0.9, 0.8, 0.3, 0.1], [2.0, 2.0, 2.0, 2.0]]))
        array([0.83333333, 0.5       ])

    Source: Arun et al., Radiology: Artificial Intelligence 2021, doi:10.1148/ryai.2021200267 (as area under the
    precision–recall curve of the pixels); the step-wise sum is scikit-learn's.

    Fails when: findings of very different size are averaged; chance is the mask's share, so large findings score high.
    """

    def score(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
        hit, after, _ = _ranked(mask, maps)
        return (hit * after).sum(1) / hit.sum(1)

    return by_case(score, mask, maps, constant=True)[:, 0]


def auprc_trapezoid(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Area under the precision–recall curve by trapezoids, only for comparison with published ranges.

    Σₖ (Rₖ − Rₖ₋₁)(Pₖ + Pₖ₋₁)/2 with R₀ = 0, P₀ = 1. It rewards ties: a constant map has (1 + prevalence)/2, so maps
    with many equal values, such as the zeros of a clipped Grad-CAM, look good. Use `average_precision_map`.

    Args:
        mask: (case, *grid) bool.
        maps: (case, *grid), only its order counts.

    Returns:
        (case,); nan where the mask is empty or fills the grid.

    Raises:
        ShapeError, InputError: see `average_precision_map`.

    Example:
        >>> mask = np.array([[1, 0, 1, 0]] * 2, bool)
        >>> auprc_trapezoid(mask, np.array([[0.9, 0.8, 0.3, 0.1], [2.0, 2.0, 2.0, 2.0]]))
        array([0.79166667, 0.75      ])

    Source: Arun et al., Radiology: Artificial Intelligence 2021, doi:10.1148/ryai.2021200267; on the fault: Davis and
    Goadrich, ICML 2006, doi:10.1145/1143844.1143874.

    Fails when: maps have ties; a map of one value beats an honest one.
    """

    def score(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
        hit, after, before = _ranked(mask, maps)
        return (hit * (after + before)).sum(1) / (2 * hit.sum(1))

    return by_case(score, mask, maps, constant=True)[:, 0]


def pointing_game(mask: np.ndarray, maps: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Whether the highest cell lies in the mask; with ties, the share of the highest cells that do.

    Args:
        mask: (case, *grid) bool.
        maps: (case, *grid).
        tolerance: in cells, Euclidean: a highest cell this near to the mask still hits (the original takes 15 pixels).

    Returns:
        (case,) 1 hit, 0 miss, between for ties; nan where the mask (grown by the tolerance) is empty or fills the
        grid, or the map is constant. An empty mask is never a hit.

    Raises:
        ShapeError, InputError: see `average_precision_map`.
        ConfigError: a negative tolerance.

    Example:
        >>> mask = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]], bool)
        >>> maps = np.array([[3.0, 1, 1], [3, 3, 1], [1, 3, 1], [1, 3, 1]])
        >>> pointing_game(mask, maps), pointing_game(mask, maps, tolerance=1)
        (array([1. , 0.5, 0. , nan]), array([ 1.,  1.,  1., nan]))

    Source: Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018, doi:10.1007/s11263-017-1059-x.

    Fails when: the mask is large; pointing at the middle of the image then hits as often as any explanation.
    """
    if not tolerance >= 0 or math.isinf(tolerance):
        raise ConfigError(f"tolerance = {tolerance}: needs a number of cells, 0 or more")
    mask, maps = aligned(mask, maps)

    def score(near: np.ndarray, maps: np.ndarray) -> np.ndarray:
        top = maps == maps.max(1, keepdims=True)
        return (top & near).sum(1) / top.sum(1)

    return by_case(score, _grown(mask, tolerance), maps)[:, 0]


def _grown(mask: np.ndarray, cells: float) -> np.ndarray:
    """All cells no farther than `cells` from the mask of their own case; other cases are set farther away than that."""
    if cells == 0 or not mask.any():
        return mask
    apart = (cells + 1.0, *(1.0 for _ in mask.shape[1:]))
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=apart)) <= cells + 1e-9


def energy_share(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Positive evidence inside the mask as a share of all positive evidence, Σ_Ω max(A, 0) / Σ max(A, 0).

    Args:
        mask: (case, *grid) bool, Ω.
        maps: (case, *grid), A, signed.

    Returns:
        (case,) in [0, 1]; nan where the mask is empty or fills the grid, or the positive part has no contrast.

    Raises:
        ShapeError, InputError: see `average_precision_map`.

    Example:
        >>> energy_share(np.array([[1, 1, 0, 0]], bool), np.array([[3.0, -5.0, 1.0, -5.0]]))
        array([0.75])

    Source: Wang et al., Score-CAM (energy-based pointing game), CVPR Workshops 2020, arXiv:1910.01279.

    Fails when: a faint floor covers the whole image; it outweighs a sharp peak, though nobody would see it.
    """
    return by_case(lambda m, a: (a * m).sum(1) / a.sum(1), mask, maps, prepare=published_scale)[:, 0]


def signed_share(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Net evidence inside the mask as a share of all magnitudes, Σ_Ω A / Σ |A|.

    1 when all evidence lies inside and speaks for the label, −1 when all lies inside and speaks against it; evidence
    of either sign outside pulls towards 0. Our own measure, for maps in logit units.

    Args:
        mask: (case, *grid) bool, Ω.
        maps: (case, *grid), A, signed.

    Returns:
        (case,) in [−1, 1]; nan where the mask is empty or fills the grid, or the map is constant.

    Raises:
        ShapeError, InputError: see `average_precision_map`.

    Example:
        >>> signed_share(np.array([[1, 1, 0, 0]], bool), np.array([[4.0, -1.0, 1.0, -2.0]]))
        array([0.375])

    Fails when: a large mask holds equal evidence for and against; the sum is 0, as for a map that looks elsewhere.
    """

    def score(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
        scaled = maps / np.abs(maps).max(1, keepdims=True)
        return (scaled * mask).sum(1) / np.abs(scaled).sum(1)

    return by_case(score, mask, maps)[:, 0]


def iou_otsu(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Intersection over union with the positive evidence above Otsu's threshold of each map; see `iou`.

    Example:
        >>> iou_otsu(np.array([[1, 1, 0, 0]], bool), np.array([[9.0, 1.0, 0.0, -7.0]]))
        array([0.5])

    Fails when: the map has no two levels; Otsu cuts a ramp in the middle.
    """
    return iou(mask, maps, "otsu")


LOCALISATION: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "map_average_precision": average_precision_map,
    "map_auprc_trapezoid": auprc_trapezoid,
    "pointing_game": pointing_game,
    "energy_share": energy_share,
    "signed_share": signed_share,
    "iou_otsu": iou_otsu,
}
"""Name → (mask, maps) → one number per case; those that need a threshold stand in `LOCALISATION_AT`."""
