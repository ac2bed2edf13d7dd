"""The vessels of the lungs as a tree of beads: they branch, taper to the periphery, and stay with the patient."""

from __future__ import annotations

import numpy as np

from translucid.phantom import anatomy, shapes
from translucid.phantom.shapes import Array

STEMS, GENERATIONS = 9, 6
_BEADS = (16, 11, 8, 6, 5, 4)
SEGMENTS = 2 * STEMS * (2**GENERATIONS - 1)
_STEM_ANGLES = np.deg2rad([72, 48, 22, 0, -20, -38, -54, -70, -86])


def _unit(v: Array) -> Array:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-6)


def stems(p: anatomy.Parameters, draws: Array) -> tuple[Array, Array, Array]:
    """Start, direction and radius of the stems that leave both hila; draws (n, 2·STEMS, 4) in [0, 1]."""
    n = draws.shape[0]
    side = np.repeat([-1.0, 1.0], STEMS)[None, :]
    high = p["hilum_high"][:, None] * p["height"][:, None] + 9 * (side > 0)
    angle = np.tile(_STEM_ANGLES, 2)[None, :] + 0.35 * (draws[..., 0] - 0.5)
    out = p["hilum_out"][:, None] * (0.25 * p["width"][:, None])
    start = np.stack([side * out, 5 + 24 * (draws[..., 1] - 0.5), high + 26 * np.sin(angle)], axis=2)
    deep = 2.0 * (draws[..., 2] - 0.5)
    way = _unit(np.stack([side * np.cos(angle), deep, np.sin(angle)], axis=2) + np.zeros((n, 1, 3)))
    low = np.sin(angle) < 0
    radius = (3.5 + 0.9 * low + 1.2 * (draws[..., 3] - 0.5)) * p["vessel_size"][:, None]
    return start, way, radius


def tree(p: anatomy.Parameters, draws: Array) -> Array:
    """Beads (n, beads, 8) of the whole tree; nothing is clipped yet.

    Each segment forks in two; directions turn outwards and apart, lengths and radii shrink by generation.

    Args:
        p: parameters, columns (n,).
        draws: (n, SEGMENTS, 4) in [0, 1], the patient's own.
    """
    at = 2 * STEMS
    start, way, radius = stems(p, draws[:, :at])
    reach = 0.155 * p["height"][:, None] * (0.75 + 0.5 * draws[:, :at, 1])
    hub, out = start, []
    rest = draws[:, at:]
    for g in range(GENERATIONS):
        end = start + way * reach[..., None]
        out.append(_segments(start, end, way, radius, p, _BEADS[g]))
        if g == GENERATIONS - 1:
            break
        k = 2 * start.shape[1]
        d, rest = rest[:, :k], rest[:, k:]
        twice = [np.repeat(v, 2, axis=1) for v in (end, way, radius, reach, hub)]
        start, way, radius, reach, hub = twice
        fork = np.tile([-1.0, 1.0], k // 2)[None, :, None] * _unit(d[..., :3] - 0.5)
        fork[:, 1::2] = -fork[:, 0::2]
        outwards = _unit(start - hub)
        way = _unit(way + 0.55 * fork + 0.25 * outwards)
        share = 0.70 + 0.22 * d[..., 3]
        radius, reach = radius * (share - 0.05), reach * (0.70 + 0.30 * d[..., 0])
    return np.concatenate(out, axis=1)


def _segments(start: Array, end: Array, way: Array, radius: Array, p: anatomy.Parameters, count: int) -> Array:
    """Beads along gently bent segments (n, k, 3) → (n, k · count, 8)."""
    s = (np.arange(count) + 0.5) / count
    bend = np.stack([0 * way[..., 0], 0 * way[..., 0], -0.06 * np.linalg.norm(end - start, axis=2)], axis=2)
    at = start[:, :, None] * (1 - s)[:, None] + end[:, :, None] * s[:, None]
    at = at + bend[:, :, None] * (4 * s * (1 - s))[:, None]
    step = np.linalg.norm(end - start, axis=2) / count
    way = np.abs(way)
    thin = radius[..., None] * (1 - 0.26 * s)
    long = np.maximum(thin, 0.8 * step[..., None])
    rx = thin + (long - thin) * way[..., :1]
    rz = thin + (long - thin) * way[..., 2:]
    ry = thin + (long - thin) * way[..., 1:2]
    mass = np.pi * thin**2 * step[..., None] / (4 / 3 * np.pi * rx * ry * rz)
    density = 1.4 * mass * (1 - p["air"][:, None, None])
    full = np.stack([at[..., 0], at[..., 1], at[..., 2], rx, ry, rz, density, 0 * rx], axis=3)
    return full.reshape(full.shape[0], -1, 8).astype(np.float32)


def mottle(p: anatomy.Parameters, draws: Array) -> Array:
    """Faint specks all over the lungs, (n, SEGMENTS, 8): small vessels and walls too fine to be traced."""
    at = np.stack(
        [
            (2 * draws[..., 0] - 1) * p["width"][:, None],
            (2 * draws[..., 1] - 0.9) * p["depth"][:, None],
            (1.15 * draws[..., 2] - 0.15) * p["height"][:, None],
        ],
        axis=2,
    )
    r = 1.2 + 3.0 * draws[..., 3]
    turn = np.modf(17 * draws[..., 3])[0]
    return shapes.beads(at, (r * (0.6 + turn), 1.6 * r, r * (1.6 - turn)), 0.2)
