"""Floats as integers, and integers as small residuals: exact transforms, each with its inverse.

Used by `translucid.io.coding`, which decides among them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MOST_LEVELS = 1 << 15

Pair = tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]


# -- floats ⇄ integers that keep their order -----------------------------------------------------------------------


def ordered(codes: np.ndarray) -> np.ndarray:
    """Number the float32 values so that a larger value has a larger number; every bit pattern keeps its own.

    Args:
        codes: float32, any shape.

    Example:
        >>> np.diff(ordered(np.float32([-1.0, -0.0, 0.0, 1.0]))) > 0
        array([ True,  True,  True])

    Fails when: values are compared across zero with `==`; -0.0 and 0.0 have different numbers.
    """
    bits = np.ascontiguousarray(codes, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF) - 1)


def unordered(numbers: np.ndarray) -> np.ndarray:
    """The inverse of `ordered`.

    Args:
        numbers: int64, any shape.

    Example:
        >>> unordered(ordered(np.float32([-0.5, 2.0])))
        array([-0.5,  2. ], dtype=float32)

    Fails when: a number lies outside those of float32; it is wrapped.
    """
    bits = np.where(numbers >= 0, numbers, (-(numbers + 1)) | 0x80000000)
    return bits.astype(np.uint32).view(np.float32)


def as_levels(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """A sorted table of the values that occur, and every code's place in it; None where they are too many.

    Args:
        codes: (n, code) float32.

    Returns:
        The table as numbers of `ordered`, (level,) int64, and the places, (n, code) int64.

    Example:
        >>> as_levels(np.float32([[0.0, 0.5] * 20]))[1][0, :4]
        array([0, 1, 0, 1])

    Fails when: the codes are computed values without a grid; then there are as many levels as codes.
    """
    numbers = ordered(codes)
    most = min(MOST_LEVELS, numbers.size // 8 + 1)
    table = np.unique(numbers.ravel()[:: max(1, numbers.size // 65536)])
    while len(table) <= most:
        places = np.searchsorted(table, numbers).clip(max=len(table) - 1)
        strangers = numbers[table[places] != numbers]
        if not strangers.size:
            return table, places.astype(np.int64)
        table = np.union1d(table, strangers[: 1 << 20])
    return None


def as_scaled(codes: np.ndarray, scales: tuple[float, ...]) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Codes as float32(k / scale) and what is then missing, in units of the last place.

    Args:
        codes: (n, code) float32.
        scales: numbers to try; the one with the smallest corrections is taken.

    Returns:
        scale, k and corrections, both (n, code) int64; None where no scale comes near.

    Example:
        >>> as_scaled(np.float32([[0.0, 1 / 255, 7 / 255]]), (255.0, 100.0))[:2]
        (255.0, array([[0, 1, 7]]))

    Fails when: codes are sums of many rounded values; the corrections then cost more than the integers.
    """
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    least = float(1 << 12)  # a mean correction beyond this: the integers say no more than the bits themselves
    for scale in scales:
        with np.errstate(all="ignore"):
            k = np.rint(codes.astype(np.float64) * scale)
        if not np.isfinite(k).all() or np.abs(k).max(initial=0) > 1 << 40:
            continue
        whole = k.astype(np.int64)
        correction = ordered(codes) - ordered((whole / scale).astype(np.float32))
        mean = float(np.abs(correction).mean())
        if mean < least:
            least, best = mean, (scale, whole, correction)
    return best


# -- prediction: exact, and undone by running sums -----------------------------------------------------------------


def _left(grid: np.ndarray) -> np.ndarray:
    """From the left; the first of a row from the first of the row above."""
    out = grid.copy()
    out[..., 1:] -= grid[..., :-1]
    out[..., 1:, 0] -= grid[..., :-1, 0]
    return out


def _left_back(rest: np.ndarray) -> np.ndarray:
    out = rest.copy()
    out[..., 0] = np.cumsum(out[..., 0], axis=-1)
    return np.cumsum(out, axis=-1)


def _plane(grid: np.ndarray) -> np.ndarray:
    """Left + above − above left."""
    return np.diff(np.diff(grid, axis=-1, prepend=0), axis=-2, prepend=0)


def _plane_back(rest: np.ndarray) -> np.ndarray:
    return np.cumsum(np.cumsum(rest, axis=-2), axis=-1)


def _case(grid: np.ndarray) -> np.ndarray:
    """From the same place in the case before."""
    return np.diff(grid, axis=0, prepend=0)


def _case_back(rest: np.ndarray) -> np.ndarray:
    return np.cumsum(rest, axis=0)


def _same(grid: np.ndarray) -> np.ndarray:
    return grid


PREDICTORS: dict[str, Pair] = {
    "left": (_left, _left_back),
    "plane": (_plane, _plane_back),
    "case": (_case, _case_back),
    "none": (_same, _same),
}
"""Name → (residual, its inverse) on a grid (n, row, column) of int64."""


def planes(values: np.ndarray) -> list[np.ndarray]:
    """Balanced digits to base 256, lowest first; small numbers of either sign leave the higher planes zero.

    Args:
        values: int64, any shape.

    Example:
        >>> [p.tolist() for p in planes(np.array([-1, 200]))]
        [[-1, -56], [0, 1]]

    Fails when: values are as large as 2^63; the digit taken off would overflow.
    """
    out: list[np.ndarray] = []
    rest = values
    while not out or rest.any():
        low = rest.astype(np.int8)
        out.append(low)
        rest = (rest - low) >> 8
    return out


def from_planes(parts: list[np.ndarray]) -> np.ndarray:
    """The inverse of `planes`.

    Args:
        parts: int8 arrays of one shape, lowest digit first.

    Example:
        >>> from_planes(planes(np.array([-1, 200])))
        array([ -1, 200])

    Fails when: the planes come in another order.
    """
    total = np.zeros(parts[0].shape, np.int64)
    for i, part in enumerate(parts):
        total += part.astype(np.int64) << (8 * i)
    return total
