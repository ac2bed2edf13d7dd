"""Compiled loops: chords of ellipsoids, unions of intervals, beads drawn into pictures and volumes.

Every picture of a stack is worked on alone, so its values do not depend on its neighbours.
"""

from __future__ import annotations

import numba
import numpy as np

Array = np.ndarray
CORE = 0.8
"""Size of a bead's core relative to the bead."""


@numba.njit(nogil=True)
def widen_hull(low: Array, high: Array, x: Array, z: Array, solid: Array) -> None:
    """Stretch intervals (n, rays) to hold one ellipsoid an image; solid (n, 8): x, y, z, rx, ry, rz, cos, sin."""
    for n in range(x.shape[0]):
        x0, y0, z0, rx, ry, rz, cos, sin = solid[n]
        for k in range(x.shape[1]):
            dx, dz = x[n, k] - x0, z[n, k] - z0
            u, v = (dx * cos + dz * sin) / rx, (dz * cos - dx * sin) / rz
            inside = np.float32(1) - u * u - v * v
            if inside > 0:
                half = ry * np.sqrt(inside)
                low[n, k] = min(low[n, k], y0 - half)
                high[n, k] = max(high[n, k], y0 + half)


@numba.njit(nogil=True)
def uncovered(low: Array, high: Array, holes: Array, out: Array) -> None:
    """Length of each interval (rays,) that no hole (k, 2, rays) covers: walk from hole to hole, nearest first."""
    for r in range(low.shape[0]):
        at, end, free = low[r], high[r], np.float32(0)
        while at < end:
            start, stop = end, end
            for k in range(holes.shape[0]):
                a, b = holes[k, 0, r], holes[k, 1, r]
                if b > at and a < b and a < start:
                    start, stop = a, b
            if start > at:
                free += min(start, end) - at
            at = stop
        out[r] = free


@numba.njit(nogil=True)
def _widen(r: float, step: float) -> float:
    return np.sqrt(r * r + 0.36 * step * step)


@numba.njit(nogil=True)
def splat(out: Array, bead: Array, x0: Array, z0: Array, step: Array) -> None:
    """Add every bead's chord (in mm of water) to a stack of pictures.

    Pixel (row i, column j) of picture n lies at x0[n] + j·step[n], z0[n] − i·step[n]. A bead thinner than a pixel is
    widened and made as much lighter, so that its mass stays.
    """
    h, w = out.shape[1], out.shape[2]
    for n in range(out.shape[0]):
        s = step[n]
        for b in range(bead.shape[1]):
            density = bead[n, b, 6]
            if density == 0:
                continue
            rx, rz = _widen(bead[n, b, 3], s), _widen(bead[n, b, 5], s)
            peak = 2 * density * bead[n, b, 4] * bead[n, b, 3] * bead[n, b, 5] / (rx * rz)
            cj, ci = (bead[n, b, 0] - x0[n]) / s, (z0[n] - bead[n, b, 2]) / s
            core = bead[n, b, 7]
            for i in range(max(0, int(np.ceil(ci - rz / s))), min(h - 1, int(np.floor(ci + rz / s))) + 1):
                v = (i - ci) * s / rz
                for j in range(max(0, int(np.ceil(cj - rx / s))), min(w - 1, int(np.floor(cj + rx / s))) + 1):
                    u = (j - cj) * s / rx
                    q = u * u + v * v
                    if q < 1:
                        chord = np.sqrt(1 - q)
                        if core > 0 and q < CORE * CORE:
                            chord -= core * np.sqrt(CORE * CORE - q)
                        out[n, i, j] += peak * chord


@numba.njit(nogil=True)
def _overlap(line: Array, centre: float, half: float, amount: float, y0: float, dy: float) -> None:
    """Add amount × (share of each voxel that lies in centre ± half) along one line of voxels."""
    first = max(0, int(np.floor((centre - half - y0) / dy + 0.5)))
    last = min(line.shape[0] - 1, int(np.floor((centre + half - y0) / dy + 0.5)))
    for k in range(first, last + 1):
        low, high = y0 + (k - 0.5) * dy, y0 + (k + 0.5) * dy
        share = (min(high, centre + half) - max(low, centre - half)) / dy
        if share > 0:
            line[k] += amount * share


@numba.njit(nogil=True)
def fill(out: Array, bead: Array, origin: Array, spacing: Array) -> None:
    """Add every bead's density to a stack of volumes (n, z downwards, y backwards, x leftwards).

    Voxel (0, 0, 0) of volume n lies at origin[n] = (z, y, x); `spacing` = (dz, dy, dx). Along y the share of each voxel
    is exact, so the sum along y is the chord that `splat` draws when dx = dz.
    """
    d, w = out.shape[1], out.shape[3]
    dz, dy, dx = spacing
    for n in range(out.shape[0]):
        for b in range(bead.shape[1]):
            if bead[n, b, 6] == 0:
                continue
            rx, ry, rz = _widen(bead[n, b, 3], dx), bead[n, b, 4], _widen(bead[n, b, 5], dz)
            density = bead[n, b, 6] * bead[n, b, 3] * bead[n, b, 5] / (rx * rz)
            cj, ci = (bead[n, b, 0] - origin[n, 2]) / dx, (origin[n, 0] - bead[n, b, 2]) / dz
            core, cy = bead[n, b, 7], bead[n, b, 1]
            for i in range(max(0, int(np.ceil(ci - rz / dz))), min(d - 1, int(np.floor(ci + rz / dz))) + 1):
                v = (i - ci) * dz / rz
                for j in range(max(0, int(np.ceil(cj - rx / dx))), min(w - 1, int(np.floor(cj + rx / dx))) + 1):
                    q = v * v + ((j - cj) * dx / rx) ** 2
                    if q < 1:
                        line = out[n, i, :, j]
                        _overlap(line, cy, ry * np.sqrt(1 - q), density, origin[n, 1], dy)
                        if core > 0 and q < CORE * CORE:
                            half = ry * np.sqrt(CORE * CORE - q)
                            _overlap(line, cy, half, -core * density, origin[n, 1], dy)
