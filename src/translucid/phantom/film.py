"""From water-equivalent thickness to a film on the light box: exposure, scatter, noise, blur, tone, lettering."""

from __future__ import annotations

import numpy as np

from translucid.phantom import letters
from translucid.phantom.cohort import ChestPlan
from translucid.phantom.shapes import Array

MU = 0.0195
"""Effective attenuation of water in 1/mm near 110 kV."""


def gaussian(n: int, sigma: float) -> Array:
    """An n × n matrix that blurs along one axis; rows sum to 1, so edges do not darken."""
    at = np.arange(n, dtype=np.float32)
    weight = np.exp(-0.5 * ((at[:, None] - at[None]) / max(sigma, 1e-3)) ** 2)
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def coarse_blur(images: Array, sigma: float) -> Array:
    """Blur (n, h, h) by a wide Gaussian: average to at most 64 rows, blur, and interpolate back."""
    n = images.shape[-1]
    m = min(64, n)
    edges = np.linspace(0, n, m + 1)
    at = np.arange(n)
    down = np.clip(np.minimum(at + 1, edges[1:, None]) - np.maximum(at, edges[:-1, None]), 0, 1) * (m / n)
    up = np.maximum(0, 1 - np.abs((at[:, None] + 0.5) * m / n - 0.5 - np.arange(m)[None]))
    up = up / up.sum(axis=1, keepdims=True)
    left = (gaussian(m, sigma * m / n) @ down).astype(np.float32)
    up = up.astype(np.float32)
    return np.stack([up @ (left @ image @ left.T) @ up.T for image in images])


def _soften(images: Array, share: float) -> Array:
    """A three-tap blur along both axes; the edge pixels repeat."""
    for axis in (1, 2):
        first, last = np.take(images, [0], axis), np.take(images, [-1], axis)
        wide = np.concatenate([first, images, last], axis)
        n = images.shape[axis]
        before, after = wide.take(range(n), axis), wide.take(range(2, n + 2), axis)
        images = (1 - 2 * share) * images + share * (before + after)
    return images


def _level(values: Array, where: Array, share: float) -> Array:
    """A quantile (n, 1, 1) over a mask; one that a lesion in a part of the mask hardly moves."""
    found = [np.quantile(v[m], share) if m.any() else v.mean() for v, m in zip(values, where, strict=True)]
    return np.array(found, dtype=np.float32)[:, None, None]


def develop(plan: ChestPlan, rows: Array, thick: Array, masks: dict[str, Array], size: int) -> Array:
    """Films (n, h, w) in [0, 1] from thickness (n, h, w) in mm."""
    p = {k: plan.parameters[k][rows][:, None, None] for k in ("exposure", "gamma", "grain", "film")}
    step = float(np.mean(plan.parameters["film"])) / size
    light = np.exp(-MU * thick)
    light = light + 0.35 * coarse_blur(light, 38 / step) + 0.006
    light = _soften(light, 0.12)
    light = light + _noise(plan, rows, light, p["grain"], step)
    dark = -np.log(np.maximum(light, 2e-3))
    dark = dark + 0.55 * (dark - coarse_blur(dark, 14 / step))
    image = np.clip(_tone(dark, masks, p["exposure"], p["gamma"]), 0, 1).astype(np.float32)
    return letters.label_films(image, plan.patient[rows], plan.cohort.text, plan.marked[rows])


def _noise(plan: ChestPlan, rows: Array, light: Array, grain: Array, step: float) -> Array:
    """Gaussian stand-in for Poisson counts: variance ∝ light; one stream per image."""
    c = plan.cohort
    shape = light.shape[1:]
    pairs = zip(plan.patient[rows].tolist(), plan.visit[rows].tolist(), strict=True)
    raw = np.stack(
        [np.random.default_rng([c.seed, 7, k, j]).standard_normal(shape, dtype=np.float32) for k, j in pairs]
    )
    return c.noise * grain * 0.0042 * np.float32(min(1.0, (1.6 / step) ** 0.5)) * np.sqrt(light) * raw


def _tone(dark: Array, masks: dict[str, Array], exposure: Array, gamma: Array) -> Array:
    """The curve of a display: lungs dark grey, heart light grey, both ends pressed together."""
    lung = _level(dark, masks["left_lung"] | masks["right_lung"], 0.35)
    heart = _level(dark, masks["heart"], 0.5)
    at = (dark - lung) / np.maximum(heart - lung, 0.3)
    return 0.97 / (1 + np.exp(-(-1.05 + 2.55 * gamma * at + exposure)))
