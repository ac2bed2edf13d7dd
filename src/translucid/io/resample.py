"""Separable resampling of volumes: each axis is a weighted sum of a few neighbours; no kernel overshoots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
    """For each target position: the numbers of its source values, and their weights; both (tap, position)."""

    near: np.ndarray
    weight: np.ndarray


def linear_taps(at: np.ndarray, size: int) -> Taps:
    """The two neighbours of each position; beyond the first and last centre the end value holds.

    Args:
        at: positions in source voxels, the first centre at 0.
        size: number of source voxels.

    Example:
        >>> linear_taps(np.array([0.25, 9.0]), 3).weight.T.tolist()
        [[0.75, 0.25], [0.0, 1.0]]
    """
    at = np.clip(at, 0, size - 1)
    left = np.minimum(at.astype(np.int64), max(size - 2, 0))
    weight = at - left
    return Taps(np.stack([left, np.minimum(left + 1, size - 1)]), np.stack([1 - weight, weight]).astype(np.float32))


def triangle_taps(at: np.ndarray, size: int, step: float) -> Taps:
    """A triangle as wide as two target voxels, so that what is finer than the target's grid is averaged away.

    Args:
        at: positions in source voxels.
        size: number of source voxels.
        step: source voxels per target voxel; up to 1 this is `linear_taps`.

    Example:
        >>> triangle_taps(np.array([2.0]), 5, 2.0).weight.ravel().tolist()
        [0.0, 0.25, 0.5, 0.25, 0.0]
    """
    if step <= 1:
        return linear_taps(at, size)
    first = np.ceil(at - step).astype(np.int64)
    index = first + np.arange(int(np.floor(2 * step)) + 1)[:, None]
    weight = np.maximum(1 - np.abs(index - at) / step, 0) * ((index >= 0) & (index < size))
    return Taps(np.clip(index, 0, size - 1), (weight / weight.sum(0)).astype(np.float32))


def area_taps(at: np.ndarray, size: int, step: float) -> Taps:
    """The part of each target voxel that each source voxel covers; outside of the source there is nothing.

    Example:
        >>> area_taps(np.array([1.5]), 4, 4.0).weight.ravel().tolist()
        [0.25, 0.25, 0.25, 0.25, 0.0]
    """
    low, high = at - step / 2, at + step / 2
    index = np.floor(low + 0.5).astype(np.int64) + np.arange(int(np.ceil(step)) + 1)[:, None]
    # a position that lies on an edge but for rounding must not reach one voxel further left
    covered = np.minimum(high, index + 0.5) - np.maximum(low, index - 0.5)
    weight = np.clip(covered, 0, None) * ((index >= 0) & (index < size)) / step
    return Taps(np.clip(index, 0, size - 1), weight.astype(np.float32))


def apply_taps(values: np.ndarray, axis: int, taps: Taps) -> np.ndarray:
    """Weighted sum of neighbours along one axis; float32, exact copies where the weights are 0 and 1.

    Goes plane by plane, because a volume of a few hundred megabytes is slowed down most by arrays between of its size.

    Args:
        values: of two axes or more.
        axis: along which.
        taps: neighbours and weights.

    Example:
        >>> apply_taps(np.array([[0.0, 4.0]]), 1, linear_taps(np.array([0.25]), 2))
        array([[1.]], dtype=float32)
    """
    used = [n for n, weight in enumerate(taps.weight) if n == 0 or weight.any()]
    index, weight = taps.near[used], taps.weight[used]
    shape = list(values.shape)
    shape[axis] = index.shape[1]
    out = np.empty(shape, np.float32)
    if axis == 0:
        for plane, near, part in zip(out, index.T, weight.T, strict=True):
            _sum(plane, (values[n] for n in near), part)
        return out
    column = [1] * (values.ndim - 1)
    column[axis - 1] = -1
    parts = [row.reshape(column) for row in weight]
    for plane, source in zip(out, values, strict=True):
        _sum(plane, (source.take(row, axis - 1) for row in index), parts)
    return out


def _sum(out: np.ndarray, values: Iterable[np.ndarray], weights: Iterable[np.ndarray]) -> None:
    """Write Σ weight · value into `out`; a value of weight 0 adds nothing, also where it is not finite."""
    for n, (value, weight) in enumerate(zip(values, weights, strict=True)):
        if n == 0:
            np.multiply(value, weight, out=out)
        elif weight.any():
            out += value * weight


def apply_all(values: np.ndarray, taps: list[Taps]) -> np.ndarray:
    """Each of the last axes in turn: those that shrink first, then the growing ones from the last to the first.

    So the arrays between stay small, and the axis whose neighbours lie next to each other, the slowest to gather from,
    is done while the array is at its smallest.

    Example:
        >>> halves = [linear_taps(np.array([0.5]), 2)] * 2
        >>> apply_all(np.arange(4.0).reshape(2, 2), halves)
        array([[1.5]], dtype=float32)
    """
    lead = values.ndim - len(taps)
    growth = [t.near.shape[1] / values.shape[lead + axis] for axis, t in enumerate(taps)]
    for axis in sorted(range(len(taps)), key=lambda a: (min(growth[a], 1.0), -a)):
        values = apply_taps(values, lead + axis, taps[axis])
    return values
