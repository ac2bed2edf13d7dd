"""Floats as integers, and integers as small residuals: exact transforms, each with its inverse.

Used by `translucid.io.coding`, which decides among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

MOST_LEVELS = 1 << 15
MOST_BITS = 12.0  # beyond, whole numbers say no more than the bits themselves
LARGEST = 1 << 40
SAMPLE = 1 << 14

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


def as_steps(codes: np.ndarray, scales: Sequence[float]) -> tuple[float, dict[str, np.ndarray]] | None:
    """Codes as whole numbers of 1/scale, and what arithmetic in float32 has added, in units of the last place.

    code = unordered(ordered(float32(k/scale)) + typical[k] + ulp). Of the scales the one is taken that needs the
    fewest bits. Equal numbers reached on different ways, as (a + b)/2 of rounded
    pixels, differ in the last place; the commonest of them is `typical`, so that `ulp` is mostly zero.

    Args:
        codes: (n, code) float32.
        scales: numbers to try.

    Returns:
        The scale, and "typical" (1, 1 + range) with the smallest k first, "k" and "ulp" (n, code), all int64, without
        "ulp" where it is zero throughout; None where no scale comes near.

    Example:
        >>> scale, streams = as_steps(np.float32([[0.0, 1 / 255, 7 / 255]]), (255.0, 100.0))
        >>> scale, streams["k"], "ulp" in streams
        (255.0, array([[0, 1, 7]]), False)

    Fails when: pixels were weighted or normalised before they were summed; no scale makes them whole.
    """
    sample = codes.ravel()[:: max(1, codes.size // SAMPLE)]
    tried = {s: _corrections(sample, s) for s in scales}
    costs = {s: _cost(s, *found) for s, found in tried.items() if found is not None}
    scale = min(costs, key=lambda s: costs[s], default=0.0)
    found = _corrections(codes, scale) if costs.get(scale, math.inf) < math.inf else None
    if found is None:
        return None
    k, ulp = found
    typical = _typical(k, ulp)
    ulp = ulp - typical[0, 1:][k - typical[0, 0]] if typical.shape[1] > 1 else ulp
    return scale, {"typical": typical, "k": k} | ({"ulp": ulp} if ulp.any() else {})


def from_steps(scale: float, streams: Mapping[str, np.ndarray]) -> np.ndarray:
    """The inverse of `as_steps`.

    Args:
        scale: what it returned.
        streams: likewise.

    Example:
        >>> from_steps(*as_steps(np.float32([[0.0, 0.2]]), (255.0,)))
        array([[0. , 0.2]], dtype=float32)

    Fails when: the processor does not divide float64 as IEEE 754 says.
    """
    k, typical = streams["k"], streams["typical"]
    near = ordered((k / scale).astype(np.float32))
    if typical.shape[1] > 1:
        near += typical[0, 1:][k - typical[0, 0]]
    return unordered(near + streams["ulp"] if "ulp" in streams else near)


def _corrections(codes: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray] | None:
    with np.errstate(all="ignore"):
        near = np.rint(codes.astype(np.float64) * scale)
    if not np.isfinite(near).all() or np.abs(near).max(initial=0) >= LARGEST:
        return None
    k = near.astype(np.int64)
    return k, ordered(codes) - ordered((k / scale).astype(np.float32))


def _cost(scale: float, k: np.ndarray, ulp: np.ndarray) -> float:
    """Bits per code: entropy of k, size of the corrections, and a little for a finer scale, which no sample shows."""
    size = float(np.log2(1.0 + np.abs(ulp)).mean())
    share = np.unique(k, return_counts=True)[1] / k.size
    entropy = -float((share * np.log2(share)).sum())
    return entropy + size + 0.1 * math.log2(scale) if size < MOST_BITS else math.inf


def _typical(k: np.ndarray, ulp: np.ndarray) -> np.ndarray:
    """The commonest correction for each k, the smallest k first; only that where none is needed."""
    low = int(k.min())
    width = int(k.max()) - low + 1
    if width > MOST_LEVELS or not ulp.any():
        return np.array([[low]])
    small = np.abs(ulp) < 1 << 20
    pairs, times = np.unique(((k - low)[small] << 21) + ulp[small], return_counts=True)
    commonest = np.zeros(width, np.int64)
    order = np.argsort(times, kind="stable")
    commonest[(pairs[order] + (1 << 20)) >> 21] = (pairs[order] + (1 << 20)) % (1 << 21) - (1 << 20)
    return np.concatenate([[low], commonest])[None]


# -- prediction: exact, and undone by running sums -----------------------------------------------------------------


def _left(values: np.ndarray) -> np.ndarray:
    return np.diff(values, axis=-1, prepend=0)


def _left_back(rest: np.ndarray) -> np.ndarray:
    return np.cumsum(rest, axis=-1)


def _same(grid: np.ndarray) -> np.ndarray:
    return grid


PREDICTORS: dict[str, Pair] = {
    "left": (_left, _left_back),
    "none": (_same, _same),
}
"""Name → (residual, its inverse) of (n, code) int64."""


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
