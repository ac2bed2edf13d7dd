"""Bones, windpipe and calcium of a chest as beads: ribs, clavicles, shoulder blades, spine, breastbone.

Densities are excesses over the soft tissue around them, in units of water (1 = 1000 HU).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from translucid.phantom import anatomy, shapes
from translucid.phantom.shapes import Array

Parameters = anatomy.Parameters
Point = tuple[Any, Any, Any]

RIBS = 11
_END = np.deg2rad([150, 149, 147, 144, 139, 133, 126, 117, 107, 96, 72])
_BEADS = 96
SPINE_LEVELS = np.arange(-2, 15)  # C6 … L3, T1 = 1
SPOTS = 10


def level(p: Parameters, i: Array | float) -> Array:
    """Height of vertebra T_i in mm; the apex of the lungs stands at T1–T2, the domes at T9–T10."""
    return p["height"] * (1.02 - (i - 1) * (0.098 + 0.0016 * i))


def spine_x(p: Parameters, z: Array) -> Array:
    """Sideways course of the spine in mm."""
    t = z / p["height"]
    return p["spine_shift"] + p["spine_bend"] * np.sin(2.4 * t + p["spine_phase"]) + 0 * t


def rib_paths(p: Parameters) -> Array:
    """Centre lines of all ribs, (n, 2 sides · RIBS, beads, 3).

    A rib runs in a plane tilted about the left–right axis, so that its front end stands lower by the tilt times the
    chest's depth; the side wall hangs a little lower still.
    """
    q = anatomy.spread(p, 2)
    i = np.arange(1, RIBS + 1, dtype=np.float32)[None, :, None]
    phi = np.linspace(0.12, 1, _BEADS, dtype=np.float32)[None, None, :] * _END[None, :, None]
    start = level(q, i) + 4 + q["rib_wave"] * np.sin(1.7 * i + q["rib_phase"])
    drop = q["rib_tilt"] * q["depth"] * np.clip(0.36 + 0.17 * i, 0, 1)
    z = start - drop * (1 - np.cos(phi)) - q["rib_hang"] * np.clip(0.4 + 0.12 * i, 0, 1) * np.sin(phi) ** 2
    side = start - drop - q["rib_hang"]
    t = anatomy.height_of(q, side)
    wide = anatomy.look_up(anatomy.OUTER, np.minimum(t, 0.93)) * q["width"] + 3
    deep = np.maximum(anatomy.look_up(anatomy.DEPTH, np.clip(t, 0, 0.9)), 0.5) * q["depth"] + 3
    back = anatomy.look_up(anatomy.BACK, np.clip(t, 0, 1)) * q["depth"]
    x, y = wide * np.sin(phi) ** 0.86, back + deep * np.cos(phi)
    bend = spine_x(q, z) * np.clip(np.cos(phi), 0, 1)
    right, left = np.stack([-x + bend, y, z], -1), np.stack([x + bend, y, z - q["rib_uneven"]], -1)
    return np.concatenate([right, left], axis=1).astype(np.float32)


def ribs(p: Parameters) -> Array:
    """All ribs as bone with a bright rim; broader and fainter towards the front."""
    path = rib_paths(p)
    n = path.shape[0]
    front = np.tile(np.linspace(0, 1, _BEADS, dtype=np.float32), (n, 1))
    way = np.abs(np.gradient(path, axis=2))
    way /= np.linalg.norm(way, axis=3, keepdims=True)
    parts = []
    for k in range(path.shape[1]):
        big = np.float32(0.8 if k % RIBS in (0, 10) else 1.0)
        rz = big * (5.4 + 1.6 * front) * p["rib_size"][:, None]
        density = p["bone"][:, None] * (2.5 - 0.7 * front)
        radii = (3.4 * big + 3.6 * way[:, k, :, 0], 3.6 * big + 3.6 * way[:, k, :, 1], rz)
        parts.append(shapes.tube(path[:, k], radii, density, 1.12))
    return np.concatenate(parts, axis=1)


def _curve(knots: Array, count: int) -> Array:
    """A smooth path (n, count, 3) through knots (n, k, 3): a Catmull–Rom spline."""
    k = knots.shape[1]
    padded = np.concatenate([2 * knots[:, :1] - knots[:, 1:2], knots, 2 * knots[:, -1:] - knots[:, -2:-1]], axis=1)
    at = np.linspace(0, k - 1, count)
    left = np.minimum(at.astype(int), k - 2)
    s = (at - left)[None, :, None]
    a, b, c, d = (padded[:, left + j] for j in range(4))
    return 0.5 * (2 * b + (c - a) * s + (2 * a - 5 * b + 4 * c - d) * s**2 + (3 * b - a - 3 * c + d) * s**3)


def _knots(p: Parameters, side: int, points: list[Point]) -> Array:
    """Points for one side, (n, k, 3); x is measured outwards."""
    zero = 0 * p["width"]
    return np.stack([np.stack([side * (x + zero), y + zero, z + zero], axis=1) for x, y, z in points], axis=1)


def shoulders(p: Parameters) -> Array:
    """Clavicles, shoulder blades and upper arms of both sides."""
    w, h = p["width"], p["height"]
    parts = []
    for side in (-1, 1):
        up = p["clavicle_up"] + side * 3 * p["shoulder_uneven"]
        inner = 0.80 * h + 0.2 * up
        clavicle: list[Point] = [
            (17, -55, inner),
            (45, -62, inner + 8 + 0.3 * up),
            (0.62 * w, -45, inner + 21 + 0.55 * up),
            (0.98 * w, -15, inner + 34 + up),
            (1.32 * w, 5, inner + 36 + up),
        ]
        thick = np.broadcast_to(np.linspace(6.2, 4.6, 80, dtype=np.float32), (len(w), 80))
        parts.append(
            shapes.tube(_curve(_knots(p, side, clavicle), 80), (7.0, 4.5, thick), 2.5 * p["bone"][:, None], 1.1)
        )
        parts += _blade(p, side, inner + 18 + up)
    return np.concatenate(parts, axis=1)


def _blade(p: Parameters, side: int, top: Array) -> list[Array]:
    w, d, out = p["width"], p["depth"], p["blade_out"]
    bone = p["bone"][:, None]

    def rod(points: list[Point], count: int, r: float, dense: float) -> Array:
        return shapes.tube(_curve(_knots(p, side, points), count), (r, r, r), 1.9 * dense * bone, 0.9)

    joint = (1.34 * w + out, 14, top - 18)
    inner, low = (0.93 * w + out, 0.62 * d, top - 25), (1.04 * w + out, 0.66 * d, top - 135)
    plate = _knots(p, side, [(1.08 * w + out, 0.64 * d, top - 70), (1.15 * w + out, 0.52 * d, top - 45)])
    head = _knots(p, side, [(1.5 * w + out, 12, top - 20)])
    return [
        rod([inner, (0.92 * w + out, 0.7 * d, top - 80), low], 40, 2.4, 0.55),
        rod([low, (1.2 * w + out, 0.5 * d, top - 75), joint], 44, 3.2, 0.6),
        rod([inner, (1.12 * w + out, 0.5 * d, top - 8), (1.4 * w + out, 20, top + 12)], 40, 3.6, 0.5),
        rod([(1.28 * w + out, -10, top - 6), (1.16 * w + out, -22, top - 16)], 12, 4.5, 0.6),
        rod(
            [(1.52 * w + out, 12, top - 40), (1.56 * w + out, 12, top - 110), (1.58 * w + out, 12, top - 190)],
            60,
            10,
            0.5,
        ),
        shapes.beads(plate, (24.0, 2.5, 46.0), 0.6 * bone),
        shapes.beads(head, (23.0, 21.0, 24.0), 0.42 * bone, 0.3),
        shapes.beads(_knots(p, side, [joint]), (6.0, 14.0, 17.0), 0.45 * bone),
    ]


def spine(p: Parameters) -> Array:
    """Vertebral bodies, pedicles, transverse and spinous processes from C6 to L3."""
    q = anatomy.spread(p, 1)
    i = SPINE_LEVELS[None, :].astype(np.float32)
    z = level(q, i)
    x = spine_x(q, z)
    step = level(q, i - 0.5) - level(q, i + 0.5)
    wide = 13.5 + 0.55 * np.clip(i, 0, 15)
    y = 0.1 * q["depth"] + 0.52 * q["depth"] * np.sin(np.clip(0.35 + 0.2 * i, 0.2, 2.6))
    bone = 1.8 * q["bone"]

    def put(dx: Any, dy: float, dz: Any, radii: tuple[Any, ...], d: float, core: float) -> Array:
        at = np.stack(np.broadcast_arrays(x + dx, y + dy, z + dz), axis=2)
        return shapes.beads(at, radii, d * bone, core)

    parts = [put(f * wide, 0, 0, (0.72 * wide, 13.0, 0.43 * step), 0.13, 0.35) for f in (-0.42, 0, 0.42)]
    parts += [put(0, 0, s * 0.38 * step, (0.95 * wide, 12.0, 2.4), 0.17, 0.0) for s in (-1, 1)]
    parts += [put(s * 0.68 * wide, 16, 0.1 * step, (3.2, 7.0, 5.2), 0.55, 0.9) for s in (-1, 1)]
    for f in (1.0, 1.3, 1.6, 1.9):
        parts += [put(s * f * wide, 24, 0.1 * step + 2.5 * f, (5.0, 4.5, 4.2), 0.26, 0.5) for s in (-1, 1)]
    parts += [put(0, 27 + 4 * k, -0.3 * step - 3 * k, (2.6, 8.0, 6.5), 0.3, 0.6) for k in range(3)]
    return np.concatenate(parts, axis=1)


def breastbone(p: Parameters) -> Array:
    """Manubrium and body of the sternum, faint in front of the spine."""
    h, d = p["height"], p["depth"]
    at = [(0, -0.66 * d, 0.86 * h), (0, -0.76 * d, 0.7 * h), (0, -0.84 * d, 0.52 * h), (0, -0.88 * d, 0.36 * h)]
    places = np.stack([np.stack([x + 0 * h, yy + 0 * h, z], axis=1) for x, yy, z in at], axis=1)
    radii = np.broadcast_to(np.array([27.0, 15.0, 16.0, 17.0], dtype=np.float32), places.shape[:2])
    return shapes.beads(places, (radii, 5.5, 0.1 * h[:, None]), 0.45 * p["bone"][:, None], 0.6)


def airway(p: Parameters) -> Array:
    """Windpipe and main bronchi: air in soft tissue, so their excess is negative."""
    h, fork = p["height"], 0.63 * p["height"]
    zero = 0 * h
    lean = p["trachea_lean"]
    knots = [(lean * 0.2, 0.0, 1.45 * h), (lean * 0.6, 8.0, 1.1 * h), (lean, 18.0, 0.8 * h), (lean, 22.0, fork + 4)]
    trunk = np.stack([np.stack([x + zero, y + zero, z + zero], 1) for x, y, z in knots], axis=1)
    right = [(lean, 22.0, fork + 6), (lean - 16, 24.0, fork - 16), (lean - 33, 24.0, fork - 46)]
    left = [(lean, 22.0, fork + 6), (lean + 20, 26.0, fork - 14), (lean + 44, 30.0, fork - 32)]
    parts = [shapes.tube(_curve(trunk, 60), (8.2, 9.0, 8.2), -0.95)]
    for side in (right, left):
        path = np.stack([np.stack([x + zero, y + zero, z + zero], 1) for x, y, z in side], axis=1)
        thin = np.broadcast_to(np.linspace(6.0, 4.0, 24, dtype=np.float32), (len(h), 24))
        parts.append(shapes.tube(_curve(path, 24), (thin, thin, thin), -0.9))
    return np.concatenate(parts, axis=1)


def calcium(p: Parameters, spots: Array, amount: Array) -> Array:
    """Specks of calcium where ribs end in front, and one healed scar: what a nodule is mistaken for.

    Args:
        p: parameters.
        spots: (n, SPOTS, 4) draws in [0, 1] that stay with the patient.
        amount: (n,) 0 … 1, how many of them are there.
    """
    path = rib_paths(p)
    pick = np.array([0, 1, 2, 3, 4, 5]) + 1
    ends = np.concatenate([path[:, pick, -1], path[:, pick + RIBS, -1]], axis=1)[:, :SPOTS]
    at = ends + np.stack([8 * spots[..., 0] - 4, 0 * spots[..., 1], -10 * spots[..., 1]], axis=2)
    there = spots[..., 3] < amount[:, None]
    return shapes.beads(at, (2.5 + 4 * spots[..., 2], 3.0, 2.0 + 3 * spots[..., 0]), there * (0.5 + spots[..., 1]))


def traits(t: dict[str, Array]) -> Parameters:
    """Measures of bones, windpipe and hila from a patient's standard normal draws."""
    p = {
        "bone": np.clip(1.0 + 0.14 * t["bone"], 0.6, 1.5),
        "rib_tilt": np.clip(0.50 + 0.07 * t["rib_tilt"], 0.28, 0.75),
        "rib_hang": np.clip(10 + 5 * t["rib_hang"], -2, 26),
        "rib_size": np.clip(1.0 + 0.09 * t["rib_size"], 0.75, 1.3),
        "rib_wave": 1.6 * t["rib_wave"],
        "rib_phase": 2 * t["rib_phase"],
        "rib_uneven": 2.5 * t["rib_uneven"],
        "spine_shift": 2 * t["spine_shift"],
        "spine_bend": 3.5 * t["spine_bend"],
        "spine_phase": 1.5 * t["spine_phase"],
        "clavicle_up": 5 + 8 * t["clavicle_up"],
        "shoulder_uneven": 1.2 * t["shoulder_uneven"],
        "blade_out": 10 + 7 * t["blade_out"],
        "trachea_lean": -3 + 2.5 * t["trachea_lean"],
        "hilum_high": 0.51 + 0.02 * t["hilum_high"],
        "hilum_out": 1 + 0.1 * t["hilum_out"],
        "vessel_size": np.clip(1 + 0.14 * t["vessel_size"], 0.6, 1.5),
    }
    return {k: np.asarray(x, dtype=np.float32) for k, x in p.items()}
