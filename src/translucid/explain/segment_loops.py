"""Compiled loops of segmentation and of the ranking of regions; import late: numba takes a moment to start.

Pixels are numbered as they lie in memory. Lists of lists are kept as one array and the places where each list starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter's lock; kept on disk where there is a place for it."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache directory may be written
        return numba.njit(**options)(function)


@compiled
@no_type_check
def _root(parent, p):
    """The pixel that stands for p's component; the way there is halved for the next one who asks."""
    while parent[p] != p:
        parent[p] = parent[parent[p]]
        p = parent[p]
    return p


@compiled
@no_type_check
def _join(parent, size, a, b):
    """Make one of two components; the larger one's root stays, so that ways remain short."""
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = a
    size[a] += size[b]
    return a


@compiled
@no_type_check
def components(first, second, weights, pixels, scale, least):
    """Component of every pixel, numbered by their first pixels, and how many there are.

    Args:
        first, second, weights: the edges, lightest first.
        scale: k of τ(C) = k/|C|.
        least: smaller components are joined to a neighbour afterwards.
    """
    parent, size, inner = np.arange(pixels), np.ones(pixels, np.int64), np.zeros(pixels)
    for e in range(weights.shape[0]):
        a, b = _root(parent, first[e]), _root(parent, second[e])
        if a != b and weights[e] <= min(inner[a] + scale / size[a], inner[b] + scale / size[b]):
            inner[_join(parent, size, a, b)] = weights[e]  # edges come in order: none inside was heavier
    if least > 1:
        for e in range(weights.shape[0]):
            a, b = _root(parent, first[e]), _root(parent, second[e])
            if a != b and min(size[a], size[b]) < least:
                _join(parent, size, a, b)
    labels, number, count = np.empty(pixels, np.int32), np.full(pixels, -1, np.int32), 0
    for p in range(pixels):
        root = _root(parent, p)
        if number[root] < 0:
            number[root] = count
            count += 1
        labels[p] = number[root]
    return labels, count


@compiled
@no_type_check
def transpose(starts, members, count):
    """For lists of numbers below `count`: in which lists each number stands."""
    back = np.zeros(count + 1, np.int64)
    for m in members:
        back[m + 1] += 1
    for i in range(count):
        back[i + 1] += back[i]
    at, owners = back[:-1].copy(), np.empty(members.shape[0], np.int32)
    for s in range(starts.shape[0] - 1):
        for i in range(starts[s], starts[s + 1]):
            owners[at[members[i]]] = s
            at[members[i]] += 1
    return back, owners


@compiled
@no_type_check
def _borders(labels, z, y, x):
    """Whether a pixel shares a face with another segment."""
    own = labels[z, y, x]
    if (z > 0 and labels[z - 1, y, x] != own) or (z + 1 < labels.shape[0] and labels[z + 1, y, x] != own):
        return True
    if (y > 0 and labels[z, y - 1, x] != own) or (y + 1 < labels.shape[1] and labels[z, y + 1, x] != own):
        return True
    return (x > 0 and labels[z, y, x - 1] != own) or (x + 1 < labels.shape[2] and labels[z, y, x + 1] != own)


@compiled
@no_type_check
def _spread(labels, pixel, ball, seen, members, filled):
    """Append what of the ball round a pixel is not in its segment's list yet; returns the list's new end."""
    deep, high, wide = labels.shape
    z, y, x = pixel // (high * wide), pixel // wide % high, pixel % wide
    own = labels[z, y, x]
    if seen[pixel] != own:
        seen[pixel], members[filled] = own, pixel
        filled += 1
    if not _borders(labels, z, y, x):
        return filled
    for i in range(ball.shape[0]):
        c, b, a = z + ball[i, 0], y + ball[i, 1], x + ball[i, 2]
        if 0 <= c < deep and 0 <= b < high and 0 <= a < wide:
            q = (c * high + b) * wide + a
            if seen[q] != own:
                seen[q], members[filled] = own, q
                filled += 1
    return filled


@compiled
@no_type_check
def dilate(labels, count, ball):
    """Segments (z, y, x) grown by a ball, as lists of pixels. Only pixels at a border can reach beyond it."""
    pixels = labels.size
    bounds, order = transpose(np.arange(pixels + 1), labels.reshape(-1), count)  # pixels by segment
    seen, starts, filled = np.full(pixels, -1, np.int32), np.zeros(count + 1, np.int64), 0
    members = np.empty(2 * pixels, np.int32)
    for s in range(count):
        need = filled + min(pixels, (bounds[s + 1] - bounds[s]) * (ball.shape[0] + 1))
        if need > members.shape[0]:
            wider = np.empty(max(need, 2 * members.shape[0]), np.int32)
            wider[:filled] = members[:filled]
            members = wider
        for i in range(bounds[s], bounds[s + 1]):
            filled = _spread(labels, order[i], ball, seen, members, filled)
        starts[s + 1] = filled
    return starts, members[:filled].copy()


@compiled
@no_type_check
def _best(sums, counts, alive, fresh):
    """The region of the largest mean over what it would add; -1 where none adds enough. Of equals, the first."""
    best, top = -1, -np.inf
    for s in range(sums.shape[0]):
        if alive[s] and counts[s] < fresh:
            alive[s] = False  # what it would add only shrinks
        if alive[s] and sums[s] / counts[s] > top:
            best, top = s, sums[s] / counts[s]
    return best


@compiled
@no_type_check
def rank(values, starts, members, back, owners, fresh, out):
    """Add regions, densest gain first; out[p] becomes the mean of the pixels that were added along with p.

    Args:
        values: (pixel,) attributions.
        starts, members: the regions as lists of pixels; back, owners: their transpose.
        fresh: new pixels that a region must bring.

    Returns:
        The regions in the order in which they were added.
    """
    regions = starts.shape[0] - 1
    sums, counts, alive = np.zeros(regions), starts[1:] - starts[:-1], np.ones(regions, np.bool_)
    covered, chosen, n = np.zeros(values.shape[0], np.bool_), np.empty(regions, np.int64), 0
    for s in range(regions):
        for i in range(starts[s], starts[s + 1]):
            sums[s] += values[members[i]]
    best = _best(sums, counts, alive, fresh)
    while best >= 0:
        total, added = 0.0, counts[best]
        for q in members[starts[best] : starts[best + 1]]:
            total += 0.0 if covered[q] else values[q]
        for q in members[starts[best] : starts[best + 1]]:
            if not covered[q]:
                covered[q], out[q] = True, total / added
                for i in range(back[q], back[q + 1]):
                    sums[owners[i]] -= values[q]
                    counts[owners[i]] -= 1
        alive[best], chosen[n] = False, best
        n += 1
        best = _best(sums, counts, alive, fresh)
    if not covered.all():
        out[~covered] = values[~covered].mean()
    return chosen[:n]
