"""One number per case from a mask and a map: what is refused, what is undefined, and how a batch is walked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from translucid.errors import InputError, ShapeError

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Mask (case, cell) bool and map (case, cell) float64 → (case, width) or (case,)."""

CELLS = 1 << 21
"""Cells handled at once, so that memory stays bounded."""


def aligned(mask: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mask as booleans and its maps on one grid, or an error that says why not.

    Raises:
        ShapeError: the grids differ, or have no cells.
        InputError: the mask holds other values than 0 and 1.

    Example:
        >>> aligned(np.array([[0, 1]]), np.array([[0.5, 2.0]]))[0]
        array([[False,  True]])
    """
    mask, maps = np.asarray(mask), np.asarray(maps)
    if mask.shape != maps.shape or mask.ndim < 2 or not all(mask.shape[1:]):
        raise ShapeError(
            f"mask {mask.shape} and map {maps.shape} need one (case, *grid): bring the mask to the map's grid"
        )
    if mask.dtype != np.bool_:
        if not np.isin(mask, (0, 1)).all():
            raise InputError("a mask holds True and False, or 1 and 0: threshold soft masks first")
        mask = mask.astype(bool)
    return mask, maps


def by_case(
    score: Score,
    mask: np.ndarray,
    maps: np.ndarray,
    *,
    width: int = 1,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    constant: bool = False,
) -> np.ndarray:
    """Score case by case, with nan wherever a score would say nothing.

    A mask that is empty, or fills its grid, leaves no place to be right or wrong about: nan. So does a map without
    any contrast, unless the measure is defined there.

    Args:
        score: of flattened masks and maps, called on defined cases only.
        mask: (case, *grid) bool.
        maps: (case, *grid) float.
        width: numbers per case that `score` gives.
        prepare: applied to the maps before contrast is looked for, such as `published_scale`.
        constant: whether a map without contrast is scored.

    Returns:
        (case, width).

    Raises:
        ShapeError: see `aligned`.
        InputError: see `aligned`, or a map is not finite.

    Example:
        >>> mask, maps = np.array([[0, 1], [0, 0], [1, 0]]), np.array([[1, 3.0], [1, 2.0], [4, 4.0]])
        >>> by_case(lambda mask, maps: (mask * maps).sum(1), mask, maps)[:, 0]
        array([ 3., nan, nan])

    Fails when: an explainer often gives maps without contrast; look at how many cases were left out.
    """
    mask, maps = aligned(mask, maps)
    cells = int(np.prod(mask.shape[1:]))
    out = np.full((len(mask), width), np.nan)
    step = max(1, CELLS // cells)
    for start in range(0, len(mask), step):
        part = slice(start, start + step)
        inside = mask[part].reshape(-1, cells)
        values = np.asarray(maps[part], np.float64).reshape(-1, cells)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(1).sum())
            raise InputError(f"{bad} maps are not finite: look at the explainer's output")
        values = values if prepare is None else prepare(values)
        defined = inside.any(1) & ~inside.all(1)
        if not constant:
            defined &= values.max(1) > values.min(1)
        if defined.any():
            rows = start + np.flatnonzero(defined)
            out[rows] = score(inside[defined], values[defined]).reshape(len(rows), width)
    return out


def published_scale(maps: np.ndarray) -> np.ndarray:
    """Positive evidence as a share of each map's own maximum, M = max(A, 0) / max max(A, 0); all zero where A ≤ 0.

    This is how the maps of AxialNet were normalised before thresholding. Signs and magnitudes are lost, so it belongs
    to the measures that need a threshold, and to nothing else.

    Args:
        maps: (case, *grid) in any unit.

    Example:
        >>> published_scale(np.array([[-1.0, 1.0, 4.0], [-3.0, -2.0, 0.0]]))
        array([[0.  , 0.25, 1.  ],
               [0.  , 0.  , 0.  ]])

    Source: Draelos and Carin, arXiv:2011.08891 (released code).

    Fails when: maps of different cases are compared afterwards; a faint map then looks like a strong one.
    """
    positive = np.maximum(np.asarray(maps, np.float64), 0.0)
    top = positive.max(tuple(range(1, positive.ndim)), keepdims=True)
    return np.divide(positive, top, out=np.zeros_like(positive), where=top > 0)
