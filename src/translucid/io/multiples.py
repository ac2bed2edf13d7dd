"""Codes as whole multiples of few steps: one step for each place of the code, found from the numbers themselves.

Sums of 8-bit pixels over cells of unequal size, divided by that size, are whole numbers of as many steps as there are
sizes. A step counts only if it gives back every bit of every number; a place without one keeps its bits, ordered.

Import this module late: it compiles on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import no_type_check

import numpy as np

from translucid.io.integers import ordered, unordered
from translucid.io.loops import compiled

BASES = (255, 65535, 1)
"""Steps of pixels of 8 and 16 bits, and of whole numbers."""
MOST_STEPS = 4096
MOST_CLASSES = 32
MOST_TRIALS = 8
ULPS = 4
MOST_FAILURES = 4
FEW = 8
MOST = 1 << 20
"""A step is looked for only where its multiples stay below; larger ones are whole by chance."""
LARGEST = np.float32(1 << 24)
"""Beyond, single precision has no exact whole numbers."""
LEAST = np.int32(-(1 << 31))
"""The bits of −0."""
BITS, DIVIDED, MULTIPLIED = 0, 1, 2
"""code = the float32 whose order is k; code = float32(k/s); code = (float32(k)·a)·b in single precision."""

Step = tuple[int, float, float, float]
"""Way, s, a, b."""


@compiled()
@no_type_check
def _multiply(codes, bits, scales, a, b, out, wrong):
    """Write codes as multiples, (float32(k)·a)·b, and mark the places where one does not come back bit for bit."""
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):  # no way out before the end, so that several places are tried at once
            near = np.rint(codes[i, j] * scales[j])  # may miss where it is large: the place then keeps its bits
            missed = np.int32((near * a[j]) * b[j] != codes[i, j]) | np.int32(abs(near) >= LARGEST)
            wrong[j] |= missed | np.int32(bits[i, j] == LEAST)
            out[i, j] = np.int32(near)


@compiled()
@no_type_check
def _divide(codes, bits, ways, scales, out, wrong):
    """The same for the places that are divided, float32(k/s)."""
    for j in range(codes.shape[1]):
        if ways[j] == DIVIDED:
            wrong[j] = 0
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            near = np.rint(codes[i, j] * scales[j])
            if ways[j] == DIVIDED:
                missed = np.float32(near / scales[j]) != codes[i, j] or abs(near) >= LARGEST
                wrong[j] |= missed or bits[i, j] == LEAST
                out[i, j] = np.int32(near)


def _try(codes: np.ndarray, kinds: np.ndarray, steps: Sequence[Step], out: np.ndarray) -> np.ndarray:
    """Write codes as multiples of each place's step; (place,) whether any does not come back bit for bit."""
    ways, scales, a, b = _table(kinds, steps)
    wrong, bits = np.zeros(codes.shape[1], np.int32), codes.view(np.int32)
    _multiply(codes, bits, scales.astype(np.float32), a, b, out, wrong)
    if (ways == DIVIDED).any():
        _divide(codes, bits, ways, scales, out, wrong)
    return wrong > 0


@compiled()
@no_type_check
def _whole(column, scale):
    """Whether all numbers times a scale are whole, but for the rounding of single precision."""
    for i in range(column.size):
        x = np.float64(column[i]) * scale
        if not (abs(x) < MOST and abs(x - np.rint(x)) <= 1e-6 + 4e-7 * abs(x)):
            return False
    return True


@compiled()
@no_type_check
def _scale(column, base, start):
    """The least t from `start` on for which all numbers times base·t are whole; 0 where there is none."""
    for t in range(start, MOST_STEPS + 1):
        if _whole(column, np.float64(base * t)):
            return t
    return 0


def _fits(codes: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """(place,) whether one step for all, or each place's own, gives back all of a place's codes."""
    kinds = np.arange(codes.shape[1]) if len(steps) > 1 else np.zeros(codes.shape[1], np.uint8)
    return ~_try(codes, kinds, steps, np.empty(codes.shape, np.int32))


def _find(column: np.ndarray) -> Step | None:
    """The largest step that gives back a column of codes, (n, 1)."""
    for base in BASES:
        t = 0
        for _ in range(MOST_TRIALS):
            t = _scale(column[:, 0], base, t + 1)
            if not t:
                break
            ways = list(_ways(base, t))
            fits = _fits(np.repeat(column, len(ways), axis=1), ways)
            if fits.any():
                return ways[int(fits.argmax())]
    return None


def _ways(base: int, t: int) -> Iterator[Step]:
    """How a multiple of 1/(base·t) may have been computed: a division, one factor, or two.

    A factor may itself be a rounded product. A mean over a·b samples is a sum times 1/(base·2^e·a), times 1/b; powers
    of two round nothing and count as one.
    """
    yield DIVIDED, float(base * t), 1.0, 1.0
    exact = np.float32(1 / (base * t))
    for away in sorted(range(-ULPS, ULPS + 1), key=abs):
        factor = (exact.view(np.int32) + np.int32(away)).view(np.float32)
        yield MULTIPLIED, float(base * t), float(factor), 1.0
    odd = t // (t & -t)
    for divisor in (d for d in range(3, odd) if odd % d == 0):
        a, b = np.float32(1 / (base * (t // odd))) * np.float32(1 / divisor), np.float32(1 / (odd // divisor))
        yield MULTIPLIED, float(base * t), float(a), float(b)


def _settle(codes: np.ndarray, places: np.ndarray, kinds: np.ndarray, steps: list[Step]) -> None:
    """Find steps for some places, judged by these codes; places without one are left."""
    failures = 0
    for step in list(steps[1:]):
        fits = _fits(np.ascontiguousarray(codes[:, places]), [step])
        kinds[places[fits]], places = steps.index(step), places[~fits]
    while places.size and len(steps) <= MOST_CLASSES and failures < MOST_FAILURES:
        found = _find(np.ascontiguousarray(codes[:, places[:1]]))
        if found is None:
            failures, places = failures + 1, places[1:]
            continue
        steps.append(found)
        fits = _fits(np.ascontiguousarray(codes[:, places]), [found])
        kinds[places[fits]], places = len(steps) - 1, places[~fits]


def _table(kinds: np.ndarray, steps: Sequence[Step]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Way, s, a and b of each place."""
    table = np.asarray(steps, np.float64)[kinds]
    a, b = np.ascontiguousarray(table[:, 2:].T, np.float32)
    return table[:, 0].astype(np.uint8), table[:, 1].copy(), a, b


def as_multiples(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Step]]:
    """Write codes as whole numbers, each place in its own step.

    Steps are looked for in a few cases first; places that turn out to have another one are settled with all cases.

    Args:
        codes: (n, code) float32.

    Returns:
        The numbers, (n, code) int32; each place's step, (code,) uint8; the steps, of which the first means "bits".

    Example:
        >>> codes = np.float32([[3 / 255, 0.1], [7 / 255, 0.3]])
        >>> numbers, kinds, steps = as_multiples(codes)
        >>> numbers[:, 0].tolist(), bool((from_multiples(numbers, kinds, steps) == codes).all())
        ([3, 7], True)

    Fails when: there are few cases; a step that fits by chance is then found, which costs room but no exactness.
    """
    codes = np.ascontiguousarray(codes, np.float32)
    out, kinds, steps = np.empty(codes.shape, np.int32), np.zeros(codes.shape[1], np.uint8), [(BITS, 1.0, 1.0, 1.0)]
    few = codes[:: max(1, len(codes) // FEW)][:FEW]
    _settle(few, np.arange(codes.shape[1]), kinds, steps)
    strange = np.flatnonzero(_try(codes, kinds, steps, out) & (kinds > 0))
    if strange.size:
        kinds[strange] = 0
        _settle(codes, strange, kinds, steps)
        kinds[_try(codes, kinds, steps, out)] = 0
    kept = kinds == 0
    out[:, kept] = ordered(codes[:, kept])
    return out, kinds, steps


def from_multiples(numbers: np.ndarray, kinds: np.ndarray, steps: Sequence[Step]) -> np.ndarray:
    """The inverse of `as_multiples`.

    Args:
        numbers: (n, code) int32.
        kinds: (code,) uint8.
        steps: what they point to.

    Raises:
        IndexError: a place points to no step.

    Example:
        >>> from_multiples(np.int32([[51]]), np.uint8([1]), [(0, 1, 1, 1), (1, 255.0, 1, 1)])
        array([[0.2]], dtype=float32)

    Fails when: the processor does not divide float64 as IEEE 754 says.
    """
    ways, scales, a, b = _table(kinds, steps)
    out: np.ndarray = (numbers.astype(np.float32) * a) * b
    divided, kept = ways == DIVIDED, ways == BITS
    if divided.any():
        out[:, divided] = numbers[:, divided] / scales[divided]
    if kept.any():
        out[:, kept] = unordered(numbers[:, kept].astype(np.int64))
    return out
