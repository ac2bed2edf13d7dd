"""The soft parts of a chest in millimetres: body, lungs, domes, heart with great vessels, fluid, consolidation.

z = 0 is the level of the right dome at middle inspiration and z = `height` the apex of the lungs; x = 0 the midline.
All proportions are our own reading of frontal chest films of adults; nothing is taken from a patient.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from translucid.phantom import shapes
from translucid.phantom.shapes import Array, Interval

Parameters = dict[str, Array]

_LOW, _HIGH, _STEPS = -1.6, 2.0, 4608


def _profile(knots: list[tuple[float, float]]) -> Array:
    """A smooth curve through knots, tabulated over the whole height in units of the lungs' height."""
    from scipy.interpolate import PchipInterpolator

    t, value = np.array(knots).T
    at = np.linspace(_LOW, _HIGH, _STEPS)
    return PchipInterpolator(t, value)(np.clip(at, t[0], t[-1])).astype(np.float32)


OUTER = _profile(
    [
        (-0.8, 0.9),
        (-0.4, 0.965),
        (-0.2, 0.99),
        (0, 1.0),
        (0.15, 0.995),
        (0.3, 0.97),
        (0.45, 0.925),
        (0.6, 0.86),
        (0.7, 0.80),
        (0.8, 0.715),
        (0.88, 0.62),
        (0.94, 0.52),
        (0.975, 0.445),
        (0.994, 0.385),
        (1.0, 0.33),
    ]
)
INNER = _profile(
    [
        (-0.8, 0.0),
        (0, 0.0),
        (0.6, 0.0),
        (0.75, 0.03),
        (0.85, 0.09),
        (0.93, 0.155),
        (0.975, 0.215),
        (0.994, 0.275),
        (1.0, 0.33),
    ]
)
DEPTH = _profile(
    [
        (-0.5, 0.0),
        (-0.42, 0.25),
        (-0.3, 0.7),
        (-0.12, 0.95),
        (0.05, 1.0),
        (0.35, 0.98),
        (0.6, 0.88),
        (0.8, 0.68),
        (0.93, 0.46),
        (1.0, 0.3),
        (1.1, 0.0),
    ]
)
BACK = _profile([(-0.5, 0.12), (0, 0.08), (0.4, 0.06), (0.8, 0.14), (1.0, 0.22)])
BODY = _profile(
    [
        (-1.6, 0.97),
        (-0.8, 0.97),
        (-0.3, 0.99),
        (0.0, 1.0),
        (0.25, 1.0),
        (0.36, 1.03),
        (0.46, 1.09),
        (0.56, 1.18),
        (0.66, 1.32),
        (0.76, 1.5),
        (0.86, 1.6),
        (0.95, 1.52),
        (1.02, 1.3),
        (1.08, 1.0),
        (1.14, 0.7),
        (1.2, 0.5),
        (1.28, 0.4),
        (1.45, 0.36),
        (1.6, 0.4),
        (2.0, 0.42),
    ]
)
THICK = _profile(
    [(-1.6, 1.12), (-0.5, 1.08), (0, 1.0), (0.4, 0.97), (0.6, 0.9), (0.8, 0.78), (1.0, 0.66), (1.15, 0.57), (2.0, 0.52)]
)


def look_up(table: Array, t: Array) -> Array:
    """The tabulated curve at heights t."""
    at = (t - _LOW) * ((_STEPS - 1) / (_HIGH - _LOW))
    return table.take(np.clip(at, 0, _STEPS - 1).astype(np.int32))


def physique(sex: Array, age: Array, t: Mapping[str, Array], v: Mapping[str, Array]) -> Parameters:
    """Millimetres of a patient on a visit from standard normal draws.

    Args:
        sex: (n,) True for female.
        age: (n,) years.
        t: (n,) draws that stay with the patient.
        v: (n,) draws of the visit.
    """
    old = (age - 55) / 15
    width = np.where(sex, 125.0, 140.0) + np.where(sex, 6.5, 7.5) * t["size"] + 3 * t["slim"]
    height = np.where(sex, 212.0, 238.0) + 13 * t["height"] + 3 * t["size"] - 2 * old
    fat = np.clip(np.where(sex, 15.0, 11.0) + 6 * t["slim"], 4, 40)
    p = {
        "width": width,
        "height": height,
        "depth": np.where(sex, 82.0, 92.0) + 6 * t["depth"] + 2 * old + 1.5 * t["slim"],
        "wall": 15 + 2.0 * np.where(sex, 0.0, 1.0) + fat,
        "fat": fat,
        "air": np.clip(0.24 + 0.025 * t["air"] - 0.012 * old - 0.012 * v["breath"], 0.14, 0.36),
        "bow": 0.09 * t["bow"] + 0.03 * v["breath"],
        "dome_right": -6.0 * v["breath"] + 4 * t["dome_right"],
        "dome_left": -6.0 * v["breath"] - 11 + 6 * t["dome_left"],
        "dome_drop": np.clip(74 + 9 * t["dome_shape"], 50, 110),
        "neck": 1 + 0.07 * t["neck"],
        "shoulder": 1 + 0.04 * t["shoulder"],
        "heart_turn": np.clip(np.deg2rad(-32 + 7 * t["heart_turn"] - 3 * old), -1.05, -0.25),
        "heart_high": 0.025 * t["heart_high"],
        "heart_shift": 0.03 * t["heart_shift"],
        "knob": np.clip(16.5 + 2.2 * t["knob"] + 2.2 * old, 11, 27),
        "knob_high": 0.68 + 0.02 * t["knob_high"],
        "trunk": 1 + 0.12 * t["trunk"],
        "pedicle": 1 + 0.09 * t["pedicle"] + 0.05 * old,
        "breast": np.where(sex, np.exp(0.3 * t["breast"] + 0.15 * t["slim"]), 0.0),
        "breast_low": 6 * t["breast_low"] - 8 * np.clip(old, 0, 2),
        "stomach": np.where(t["stomach"] > -0.7, 10 + 3 * np.abs(t["stomach"]), 0.0),
        "stomach_wide": 26 + 5 * v["stomach"],
    }
    return {k: np.asarray(x, dtype=np.float32) for k, x in p.items()}


def pose(p: Parameters, v: Mapping[str, Array], sway: float) -> Parameters:
    """How the patient stands before the film on one visit; `sway` scales all of it but the size of the film."""
    body = 0.55 + 0.45 * p["width"] / 138
    film = 400 * body * (1 + 0.018 * sway * v["zoom"])
    film = np.maximum(film, 2 * p["width"] * 1.22)
    out = {
        "film": film,
        "turn": np.deg2rad(1.1) * sway * v["turn"],
        "yaw": 0.035 * sway * v["yaw"],
        "pitch": 0.05 + 0.03 * sway * v["pitch"],
        "shift_x": 5 * sway * v["shift_x"],
        "shift_z": film / 2 - p["height"] - 32 + 8 * sway * v["shift_z"],
        "exposure": 0.22 * sway * v["exposure"],
        "gamma": 1 + 0.08 * sway * v["gamma"],
        "grain": np.exp(0.25 * v["grain"]),
    }
    return {k: np.asarray(x, dtype=np.float32) for k, x in out.items()}


def spread(p: Parameters, axes: int) -> Parameters:
    """Columns (n,) with room for `axes` more axes."""
    return {k: v.reshape(v.shape + (1,) * axes) for k, v in p.items()}


def height_of(p: Parameters, z: Array) -> Array:
    """Height in units of the lungs, bent so that barrel- and pear-shaped chests both occur."""
    t = z / p["height"]
    inside = np.clip(t, 0, 1)
    return t - p["bow"] * inside * (1 - inside)


def lungs(p: Parameters, x: Array, z: Array) -> Interval:
    """Both pleural cavities, as if domes and heart were not there; rays with x < 0 meet the right one."""
    t = height_of(p, z)
    outer, inner = look_up(OUTER, t) * p["width"], look_up(INNER, t) * p["width"]
    half = np.where(t < 1, (outer - inner) / 2, 0)
    depth = look_up(DEPTH, t) * p["depth"]
    offset = (np.abs(x) - (outer + inner) / 2) / np.maximum(half, 1e-3)
    square = offset * offset
    inside = 1 - np.where(offset > 0, square * square, square)
    return shapes.bulge(inside, look_up(BACK, t) * p["depth"], depth)


def torso(p: Parameters, x: Array, z: Array) -> Interval:
    """Trunk, shoulders and neck in one cross-section, and the upper arms."""
    t = height_of(p, z)
    wide = look_up(BODY, t)
    wide = wide * (1 + (p["shoulder"] - 1) * np.clip(t / 0.6, 0, 1) + (p["neck"] - 1) * np.clip(6 * t - 6, 0, 1))
    half = wide * (p["width"] + p["wall"])
    depth = look_up(THICK, t) * (p["depth"] + 0.75 * p["wall"])
    trunk = shapes.slab(x, half, 0.06 * p["depth"], depth)
    reach = p["width"] + p["wall"]
    arm = shapes.ellipsoid(np.abs(x), z, (1.5 * reach, 8.0, 0.22 * p["height"]), (44 + 0.6 * p["fat"], 46, 185), 0.12)
    return shapes.hull([trunk, arm])


def breasts(p: Parameters, x: Array, z: Array) -> Array:
    """How far two cushions stand out from the front of the trunk, thickest low down; zero in men."""
    s = np.maximum(p["breast"], 1e-3)
    wide = 62 * s**0.3
    u = (np.abs(x) - 0.56 * p["width"]) / wide
    v = (z + 0.02 * p["height"] - p["breast_low"]) / wide
    v = np.where(v > 0, 0.55 * v, v)
    return 30 * s * np.maximum(1 - u * u - v * v, 0) ** 0.8


def domes(p: Parameters, x: Array, z: Array) -> Interval:
    """What lies under the diaphragm."""
    top = np.where(x < 0, p["dome_right"], p["dome_left"]) + p["pitch"] * -12
    at = (0.48 * p["width"], -12.0, top - p["dome_drop"])
    return shapes.dome(np.abs(x), z, at, (0.66 * p["width"], 1.12 * p["depth"], p["dome_drop"]))


def heart_parts(p: Parameters) -> list[tuple[tuple[Array, ...], tuple[Array, ...], Array]]:
    """Left ventricle with the body of the heart, and the right atrium: (centre, half axes, angle) each.

    Widths are fractions of `heart` (mm), so the silhouette's width grows with it in proportion.
    """
    w, y = p["heart"], -0.18 * p["depth"]
    base = p["dome_left"] + 3
    x0 = p["yaw"] * y + p["heart_shift"] * w
    left = ((x0 + 0.13 * w, y, base + (0.25 + p["heart_high"]) * w), (0.50 * w, 0.45 * w, 0.35 * w), p["heart_turn"])
    atrium = (
        (x0 - 0.15 * w, y, base + (0.33 + p["heart_high"]) * w),
        (0.25 * w, 0.4 * w, 0.38 * w),
        0 * p["heart_turn"],
    )
    return [left, atrium]


def heart_width(p: Parameters) -> Array:
    """Width of the heart's silhouette on the film, in closed form.

    An ellipse with half axes a, b turned by φ reaches √(a² cos²φ + b² sin²φ) to either side.
    """
    right, left = [], []
    for (x, _, z), (a, _, b), angle in heart_parts(p):
        phi = angle - p["turn"]
        reach = np.sqrt((a * np.cos(phi)) ** 2 + (b * np.sin(phi)) ** 2)
        at = x * np.cos(p["turn"]) + z * np.sin(p["turn"])
        right.append(at - reach)
        left.append(at + reach)
    return np.maximum(*left) - np.minimum(*right)


def chest_width(p: Parameters) -> Array:
    """Greatest inner width of the chest on the film (the walls are near enough to parallel when it is turned)."""
    return 2 * p["width"] * float(OUTER.max()) / np.cos(p["turn"])


def heart(p: Parameters, x: Array, z: Array) -> Interval:
    """The heart without its great vessels."""
    return shapes.hull_of(x, z, heart_parts(p))


def vessels_of_the_base(p: Parameters, x: Array, z: Array) -> Interval:
    """Mediastinum above the heart: aortic knob, pulmonary trunk, auricle, ascending aorta with superior vena cava,
    root of the neck."""
    h, d, w = p["height"], p["depth"], p["heart"]
    knob, k = p["knob"], p["pedicle"]
    base = p["dome_left"] + 3
    parts = [
        ((8 + 0.9 * knob, 0.1 * d, p["knob_high"] * h), (knob, 0.5 * d, 1.15 * knob), 0.0),
        ((11 + 8 * p["trunk"], -0.1 * d, 0.56 * h), (20 * p["trunk"], 0.4 * d, 0.13 * h), 0.2),
        ((0.16 * w, -0.2 * d, base + 0.52 * w), (0.2 * w, 0.35 * d, 0.32 * w), 0.42),
        ((-9 * k, -0.15 * d, 0.56 * h), (25 * k, 0.42 * d, 0.3 * h), 0.0),
        ((-2 * k, 0.05 * d, 0.98 * h), (27 * k, 0.5 * d, 0.4 * h), 0.0),
    ]
    return shapes.hull_of(x, z, [((at[0] + p["yaw"] * at[1], *at[1:]), radii, turn) for at, radii, turn in parts])


def backbone(p: Parameters, x: Array, z: Array) -> Interval:
    """Spine and oesophagus with the soft parts beside them, and the descending aorta on the left."""
    h, d = p["height"], p["depth"]
    t = z / h
    bend = p["spine_shift"] + p["spine_bend"] * np.sin(2.4 * t + p["spine_phase"]) + p["yaw"] * 0.7 * d
    u = (x - bend) / (20 + 5 * np.clip(0.6 - t, 0, 1))
    column = shapes.bulge(1 - u * u, 0.66 * d, 0.4 * d)
    aorta = shapes.ellipsoid(x, z, (13 + 0.5 * p["knob"], 0.5 * d, 0.2 * h), (0.75 * p["knob"], 14, 0.56 * h), 0.03)
    return shapes.hull([column, aorta])


def stomach(p: Parameters, x: Array, z: Array) -> Interval:
    """The air under the left dome."""
    top = p["dome_left"] - 9
    high = np.maximum(p["stomach"], 1e-3)
    bubble = shapes.ellipsoid(x, z, (0.42 * p["width"], -20.0, top - 2 * high), (p["stomach_wide"], 26, 2 * high))
    above = z > top - 2 * high
    return np.where(above, bubble[0], np.inf), np.where(above, bubble[1], -np.inf)


def fluid(p: Parameters, x: Array, z: Array) -> Interval:
    """Pleural fluid: a surface that climbs towards the side wall and towards the back.

    Fluid lies where y > y₀ + (z − z_s(x))/k, with z_s = level + rise·((|x|/width − 0.35)/0.65)².
    """
    side = np.clip((np.abs(x) / p["width"] - 0.3) / 0.7, 0, 1)
    level = np.where(x < 0, p["fluid_right"], p["fluid_left"])
    surface = level + 42 * side * side
    low = -0.5 * p["depth"] + (z - surface) / 0.42
    return np.where(level > -500, low, np.inf), np.where(level > -500, 1e4, -np.inf) + 0 * low


def consolidation(p: Parameters, x: Array, z: Array) -> Interval:
    """The ellipsoid that a pneumonia fills, ragged at its rim."""
    dx, dz = x - p["opacity_x"], z - p["opacity_z"]
    wave = np.sin(0.11 * dx + 0.07 * dz + p["opacity_phase"]) + np.sin(0.05 * dx - 0.13 * dz + 2.3 * p["opacity_phase"])
    r = p["opacity_r"] * (1 + 0.13 * wave)
    return shapes.bulge(1 - (dx / r) ** 2 - (dz / (1.1 * r)) ** 2, p["opacity_y"], 1.2 * r)


def patchiness(p: Parameters, x: Array, z: Array) -> Array:
    """How dense a consolidation is from place to place, about 1 on average; a few waves of its own phase."""
    f = p["opacity_phase"]
    a = np.sin(0.12 * x + 0.07 * z + 3 * f) * np.sin(0.06 * x - 0.13 * z + 5 * f)
    b = np.sin(0.23 * x - 0.08 * z + 7 * f) * np.sin(0.05 * x + 0.27 * z + 9 * f)
    return 1 + 0.4 * a + 0.25 * b
