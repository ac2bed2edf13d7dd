"""Where each finding lies: drawn once, kept inside the lungs, recorded in the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from translucid.phantom import anatomy, shapes
from translucid.phantom.anatomy import Parameters
from translucid.phantom.shapes import Array

_TRIES = 64
NOWHERE = -1000.0


def occluders(p: Parameters, x: Array, z: Array, heart: shapes.Interval | None = None) -> list[shapes.Interval]:
    """What takes the place of air in the pleural cavities: heart with its vessels, domes, spine; fluid where it is."""
    middle = shapes.hull([heart or anatomy.heart(p, x, z), anatomy.vessels_of_the_base(p, x, z)])
    found = [middle, anatomy.domes(p, x, z), anatomy.backbone(p, x, z)]
    if wet(p):
        found.append(anatomy.fluid(p, x, z))
    return found


def wet(p: Parameters) -> bool:
    """Whether any of the images shows pleural fluid."""
    return max(float(p["fluid_right"].max()), float(p["fluid_left"].max())) > NOWHERE / 2


def in_lung(p: Parameters, at: Array, room: Array | float = 0.0) -> Array:
    """Whether points (n, k, 3) lie in air-filled lung, at least `room` mm off its front and back."""
    q = anatomy.spread(p, 1)
    x, y, z = at[..., 0], at[..., 1], at[..., 2]
    low, high = anatomy.lungs(q, x, z)
    inside = (y > low + room) & (y < high - room)
    for low, high in occluders(q, x, z):
        inside &= (y < low - room) | (y > high + room)
    return inside


def in_field(p: Parameters, x: Array, z: Array) -> Array:
    """Whether rays (n, k) cross lung that neither heart, mediastinum nor diaphragm hides."""
    q = anatomy.spread(p, 1)
    seen = shapes.length(anatomy.lungs(q, x, z)) > 0
    for hole in occluders(q, x, z)[:3]:
        seen &= shapes.length(hole) == 0
    return seen


def _candidates(p: Parameters, u: Array) -> Array:
    """Points (n, k, 3) spread over the chest from draws (n, k, 3)."""
    q = anatomy.spread(p, 1)
    x = (2 * u[..., 0] - 1) * 0.92 * q["width"]
    z = (-0.1 + 1.0 * u[..., 1]) * q["height"]
    y = (1.5 * u[..., 2] - 0.65) * q["depth"]
    return np.stack([x, y, z], axis=2)


def _first_fit(p: Parameters, at: Array, radius: Array) -> tuple[Array, Array]:
    """The first candidate (n, 3) whose ball stays in the visible lung, and whether there is one."""
    r = radius[:, None]
    fits = in_lung(p, at, 0.9 * r)
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False).tolist():
        x, z = at[..., 0] + 1.1 * r * np.cos(angle), at[..., 2] + 1.1 * r * np.sin(angle)
        fits &= in_field(p, x, z) & in_lung(p, np.stack([x, at[..., 1], z], axis=2))
    pick = fits.argmax(axis=1)
    return at[np.arange(len(at)), pick], np.any(fits, axis=1)


def _sites(c: Any, p: Parameters, salt: int, patient: Array, radius: Array) -> Array:
    """A place (n, 3) for a ball of each radius: the patient's own list of candidates, the first that fits."""
    lists = {int(k): np.random.default_rng([c.seed, salt, int(k)]).random((_TRIES, 3)) for k in np.unique(patient)}
    u = np.array([lists[int(k)] for k in patient])
    at, found = _first_fit(p, _candidates(p, u), radius)
    fallback = np.stack([-0.55 * p["width"], 0.1 * p["depth"], 0.55 * p["height"]], axis=1)
    return np.where(found[:, None], at, fallback)


def _effusion(p: Parameters, there: Array, own: Array, now: Array) -> Parameters:
    """Fluid levels at the inner edge of each side; a third of the patients have it on both."""
    amount = np.clip(0.65 * own[:, 11] + 0.35 * now[:, 11], 0, 1)
    out = {}
    for side, low, high in (("right", 0.0, 0.67), ("left", 0.4, 1.0)):
        here = there & (own[:, 10] >= low) & (own[:, 10] <= high)
        uneven = 1 if side == "right" else 0.75
        out[f"fluid_{side}"] = np.where(here, p[f"dome_{side}"] - 30 + 62 * amount**1.3 * uneven, NOWHERE)
    return out


def place(
    c: Any, p: Parameters, truth: Array, own: Array, now: Array, t: Mapping[str, Array], patient: Array, age: Array
) -> Parameters:
    """Places, sizes and densities of all findings and of what imitates them.

    Args:
        c: the `ChestCohort`.
        p: parameters so far.
        truth: (n, 4) labels by rule.
        own, now: (n, m) uniform draws of the patient and of the visit.
        t: standard normal draws of the patient.
        patient: (n,) numbers.
        age: (n,) years.
    """
    solid = c.lesion_contrast * (1 - p["air"])
    out = _effusion(p, truth[:, 1], own, now)
    q = p | {k: v.astype(np.float32) for k, v in out.items()}
    small, large = c.nodule_radius
    radius = np.minimum(small + (large - small) * own[:, 12] + 1.0 * now[:, 12], large)
    spot = _sites(c, q, 5, patient, radius)
    wide = 24 + 20 * own[:, 13] + 8 * now[:, 13]
    patch = _sites(c, q, 6, patient, 0.3 * wide)
    out |= {f"nodule_{a}": spot[:, k] for k, a in enumerate("xyz")} | {"nodule_r": radius}
    out |= {f"opacity_{a}": patch[:, k] for k, a in enumerate("xyz")} | {"opacity_r": wide}
    out["nodule_density"] = np.where(truth[:, 2], 1.9 * solid, 0)
    out["opacity_density"] = np.where(truth[:, 3], solid * (0.45 + 0.3 * now[:, 14]), 0)
    out["opacity_phase"] = 6 * own[:, 14]
    out["calcium"] = c.mimics * np.clip(0.15 + (age - 45) / 60, 0, 1) * (0.5 + own[:, 15])
    shown = own[:, 16] < c.mimics * 0.7
    out["nipple"] = np.where(shown, np.clip(0.5 + 0.15 * t["nipple"], 0.2, 1), 0)
    return {k: np.asarray(v, dtype=np.float32) for k, v in out.items()}
