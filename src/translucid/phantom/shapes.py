"""Chords: how long a ray along y stays inside a solid, and the same solids cut into voxels.

Every organ is convex along y, so on the ray at (x, z) it is one interval [low, high]. A radiograph adds up the
lengths of intervals, a volume adds up their overlaps with each voxel; both see exactly the same body.
Coordinates are millimetres: x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from translucid.phantom import kernels

Array = np.ndarray
Interval = tuple[Array, Array]

BEAD = ("x", "y", "z", "rx", "ry", "rz", "density", "core")
"""Columns of a bead: an ellipsoid with an excess density, and a core of 0.8 of its size with `core` times less."""


def ellipsoid(x: Array, z: Array, at: Sequence[Any], radii: Sequence[Any], angle: Any = 0.0) -> Interval:
    """Where a ray along y enters and leaves an ellipsoid that is turned by `angle` in the frontal plane.

    low, high = y₀ ∓ r_y √(1 − u²/r_u² − v²/r_v²), with (u, v) the offsets (x, z) turned by −angle; outside, the
    interval is empty (+∞, −∞).

    Args:
        x, z: places of the rays in mm.
        at: centre (x₀, y₀, z₀) in mm.
        radii: half axes (r_u, r_y, r_v) in mm.
        angle: radians, from x towards z.

    Example:
        >>> low, high = ellipsoid(np.zeros(1), np.zeros(1), (0.0, 5.0, 0.0), (2.0, 3.0, 2.0))
        >>> float(low[0]), float(high[0])
        (2.0, 8.0)

    Source: elementary; the same closed form stands in Kak and Slaney (1988), "Principles of Computerized Tomographic
    Imaging", section 3.1.

    Fails when: a half axis is zero.
    """
    return hull_of(x, z, [(at, radii, angle)])


def hull_of(x: Array, z: Array, solids: Sequence[tuple[Sequence[Any], Sequence[Any], Any]]) -> Interval:
    """The shortest interval on every ray that holds all of some ellipsoids (centre, half axes, angle)."""
    shape = np.broadcast_shapes(x.shape, z.shape)
    n = shape[0]
    flat = [np.ascontiguousarray(np.broadcast_to(v, shape), dtype=np.float32).reshape(n, -1) for v in (x, z)]
    low, high = np.full_like(flat[0], np.inf), np.full_like(flat[0], -np.inf)
    for at, radii, angle in solids:
        columns = (*at, *radii, np.cos(angle), np.sin(angle))
        solid = np.stack([np.broadcast_to(np.reshape(c, -1), n) for c in columns], axis=1).astype(np.float32)
        kernels.widen_hull(low, high, flat[0], flat[1], solid)
    return low.reshape(shape), high.reshape(shape)


def bulge(inside: Array, centre: Array, radius: Array) -> Interval:
    """centre ∓ radius·√inside where inside > 0, else empty."""
    half = radius * np.sqrt(np.maximum(inside, 0))
    within = inside > 0
    return np.where(within, centre - half, np.inf), np.where(within, centre + half, -np.inf)


def dome(x: Array, z: Array, at: Sequence[Any], radii: Sequence[Any]) -> Interval:
    """The upper half of an ellipsoid on a column that goes on for ever downwards."""
    u, v = (x - at[0]) / radii[0], np.maximum(z - at[2], 0) / radii[2]
    return bulge(1 - u * u - v * v, at[1], radii[1])


def slab(offset: Array, half_width: Array, centre: Array, half_depth: Array) -> Interval:
    """A flattened cross-section (o/w)⁴ + ((y − c)/d)² < 1: broad front and back, rounded sides."""
    u = offset / np.maximum(half_width, 1e-3)
    u = u * u
    return bulge(1 - u * u, centre, half_depth)


def hull(parts: Sequence[Interval]) -> Interval:
    """The shortest interval that holds all parts."""
    low, high = parts[0]
    for other in parts[1:]:
        low, high = np.minimum(low, other[0]), np.maximum(high, other[1])
    return low, high


def length(interval: Interval) -> Array:
    """high − low, and 0 where the interval is empty."""
    return np.maximum(interval[1] - interval[0], 0)


def meet(*intervals: Interval) -> Interval:
    """What lies in all intervals."""
    low, high = intervals[0]
    for other in intervals[1:]:
        low, high = np.maximum(low, other[0]), np.minimum(high, other[1])
    return low, high


def remaining(base: Interval, holes: Sequence[Interval]) -> Array:
    """Length of an interval less the union of others, |B \\ ⋃ Hᵢ|.

    Example:
        >>> b, h, k = ((np.array([p]), np.array([q])) for p, q in ((0.0, 10.0), (2.0, 5.0), (4.0, 12.0)))
        >>> float(remaining(b, [h, k])[0])
        2.0

    Source: elementary.

    Fails when: an end is nan.
    """
    shape = base[0].shape
    low, high = (np.ascontiguousarray(v, dtype=np.float32).reshape(-1) for v in base)
    if not holes:
        return length(base)
    covered = np.stack([np.stack([np.broadcast_to(v, shape).reshape(-1) for v in hole]) for hole in holes])
    out = np.empty_like(low)
    kernels.uncovered(low, high, covered.astype(np.float32, copy=False), out)
    return out.reshape(shape)


def tube(
    path: Array, radii: tuple[Array | float, Array | float, Array | float], density: Array | float, core: float = 0.0
) -> Array:
    """Beads along a path, so light that the tube they make has the mass of a solid one of the asked density.

    A bead of half axis r along the path stands for a piece of length s: density · s · πab = bead · 4/3 · πabr.

    Args:
        path: (n, points, 3) in mm.
        radii: (r_x, r_y, r_z), numbers or (n, points).
        density: excess over what surrounds the tube, in units of water.
        core: how much less dense the inside is (1.1 gives bone with a bright rim).

    Returns:
        (n, points, 8) float32, columns as `BEAD`.
    """
    gap = np.diff(path, axis=1)
    gap = np.concatenate([gap[:, :1], (gap[:, 1:] + gap[:, :-1]) / 2, gap[:, -1:]], axis=1)
    shape = path.shape[:2]
    rx, ry, rz = (np.broadcast_to(np.asarray(r, dtype=np.float32), shape) for r in radii)
    along = np.sqrt(((gap / np.stack([rx, ry, rz], axis=2)) ** 2).sum(axis=2))
    light = np.asarray(density) * 0.75 * along
    columns = [*np.moveaxis(path, 2, 0), rx, ry, rz, np.broadcast_to(light, shape), np.full(shape, core)]
    return np.stack(columns, axis=2).astype(np.float32)


def beads(at: Array, radii: tuple[Array | float, ...], density: Array | float, core: float = 0.0) -> Array:
    """Single ellipsoids (n, k, 8) at (n, k, 3)."""
    shape = at.shape[:2]
    rest = [np.broadcast_to(np.asarray(v, dtype=np.float32), shape) for v in (*radii, density, core)]
    return np.concatenate([at, np.stack(rest, axis=2)], axis=2).astype(np.float32)
