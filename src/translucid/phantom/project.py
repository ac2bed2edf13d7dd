"""The radiograph of a plan: line integrals, then physics and tone; masks, boxes and landmarks with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from translucid.phantom import film, kernels, scene, shapes
from translucid.phantom.anatomy import Parameters
from translucid.phantom.cohort import LABELS, ChestPlan
from translucid.phantom.scene import Rays, Scene
from translucid.phantom.shapes import Array
from translucid.types import Box

_PIXELS_AT_ONCE = 1 << 17
MASKS = ("heart", "left_lung", "right_lung", "effusion", "nodule", "pneumonia")


@dataclass(frozen=True)
class Radiographs:
    """Films and all that is known of them.

    Attributes:
        images: (n, 1, h, w) float32 in [0, 1], bone bright.
        masks: name → (n, h, w) bool; lungs are the fields that heart, mediastinum and domes leave free.
        boxes: per image the boxes of its findings, in pixels.
        labels: (n, 4) bool as recorded, order of `LABELS`.
        truth: (n, 4) bool by rule.
        ctr: (n,) cardiothoracic ratio measured on the masks.
        landmarks: name → (n, 2) x and y in pixels.
        spacing: (n,) mm per pixel.
        rows: (n,) rows of the plan.
    """

    images: Array
    masks: dict[str, Array]
    boxes: list[tuple[Box, ...]]
    labels: Array
    truth: Array
    ctr: Array
    landmarks: dict[str, Array]
    spacing: Array
    rows: Array


def grid(p: Parameters, size: int) -> tuple[Array, Array, Array]:
    """Where the rays of the pixels cross the patient: x and z (n, h, w) in mm, and mm per pixel (n,)."""
    step = p["film"] / size
    at = (np.arange(size, dtype=np.float32) + 0.5 - size / 2)[None] * step[:, None]
    u = (at - p["shift_x"][:, None])[:, None, :]
    v = (-at - p["shift_z"][:, None])[:, :, None]
    cos, sin = np.cos(p["turn"])[:, None, None], np.sin(p["turn"])[:, None, None]
    return cos * u - sin * v, sin * u + cos * v, step


def to_film(p: Parameters, at: Array, size: int) -> Array:
    """Pixel coordinates (n, k, 2), x and y, of points (n, k, ≥3) of the patient's frame (x, y, z)."""
    cos, sin = np.cos(p["turn"])[:, None], np.sin(p["turn"])[:, None]
    u = cos * at[..., 0] + sin * at[..., 2] + p["shift_x"][:, None]
    v = -sin * at[..., 0] + cos * at[..., 2] + p["shift_z"][:, None]
    step = (p["film"] / size)[:, None]
    return np.stack([u / step + size / 2 - 0.5, size / 2 - 0.5 - v / step], axis=2)


def line_integrals(s: Scene, rays: Rays, size: int) -> Array:
    """Water-equivalent thickness (n, h, w) in mm along every ray."""
    total = np.ascontiguousarray(scene.matter(s.p, rays), dtype=np.float32)
    _splat(total, s.p, s.beads, size)
    return np.maximum(total, 0)


def _splat(out: Array, p: Parameters, bead: Array, size: int) -> None:
    placed = np.ascontiguousarray(bead, dtype=np.float32).copy()
    placed[..., [0, 2]] = to_film(p, bead, size) * (p["film"] / size)[:, None, None]
    placed[..., 2] *= -1
    zero = np.zeros(len(out), np.float32)
    kernels.splat(out, placed, zero, zero, (p["film"] / size).astype(np.float32))


def masks_of(s: Scene, rays: Rays, x: Array, size: int) -> dict[str, Array]:
    """Silhouettes as a reader would outline them."""
    field = shapes.length(rays.lungs) > 0
    for hole in rays.holes[:3]:
        field &= shapes.length(hole) == 0
    wet = np.zeros_like(field)
    if len(rays.holes) > 3:
        wet = field & (shapes.remaining(shapes.meet(rays.lungs, rays.holes[3]), rays.holes[:3]) > 12)
    ball = np.zeros(field.shape, np.float32)
    _splat(ball, s.p, s.nodule, size)
    cloud = np.zeros(field.shape, np.float32)
    some = s.p["opacity_density"] > 0
    if some.any():
        lungs, opacity, *holes = (_pick(i, some) for i in (rays.lungs, rays.opacity, *rays.holes))
        cloud[some] = shapes.remaining(shapes.meet(lungs, opacity), holes)
    return {
        "heart": shapes.length(rays.heart) > 0,
        "left_lung": field & (x >= 0),
        "right_lung": field & (x < 0),
        "effusion": wet,
        "nodule": field & (ball > 0),
        "pneumonia": field & (cloud > 15) & (rays.patchiness > 0),
    }


def _pick(interval: shapes.Interval, rows: Array) -> shapes.Interval:
    return interval[0][rows], interval[1][rows]


def cardiothoracic_ratio(heart: Array, lungs: Array) -> Array:
    """Width of the heart's outline over the greatest inner width of the chest, from masks (n, h, w).

    CTR = (heart's utmost right to its utmost left) / (greatest distance between the outer edges of the lungs in a row).

    Example:
        >>> lungs = np.zeros((1, 4, 10), bool); lungs[0, 1, [0, 9]] = True
        >>> heart = np.zeros((1, 4, 10), bool); heart[0, 2, 3:8] = True
        >>> float(cardiothoracic_ratio(heart, lungs)[0])
        0.5

    Source: Danzer (1919), Am J Med Sci 157:513.

    Fails when: the lungs' outer edge is not in the mask, e.g. white-out; nan where a mask is empty.
    """
    columns = np.asarray(heart.any(axis=1))
    wide = _extent(columns).astype(float)
    chest = _extent(lungs).max(axis=-1)
    ratio = np.full(len(wide), np.nan)
    return np.divide(wide, chest, out=ratio, where=(wide > 0) & (chest > 0))


def _extent(mask: Array) -> Array:
    """Last minus first true cell along the last axis, plus one; 0 where there is none."""
    n = mask.shape[-1]
    first, last = mask.argmax(axis=-1), n - 1 - mask[..., ::-1].argmax(axis=-1)
    return np.where(mask.any(axis=-1), last - first + 1, 0)


def landmarks_of(p: Parameters, size: int) -> dict[str, Array]:
    """Places a reader would name, (n, 2) pixels each."""
    w, h, zero = p["width"], p["height"], 0 * p["width"]
    points = {
        "carina": (p["trachea_lean"], 22 + zero, 0.63 * h),
        "aortic_knob": (9 + 0.95 * p["knob"], zero, p["knob_high"] * h),
        "right_dome": (-0.48 * w, zero, p["dome_right"]),
        "left_dome": (0.48 * w, zero, p["dome_left"]),
        "right_apex": (-0.33 * w, zero, h),
        "left_apex": (0.33 * w, zero, h),
        "right_hilum": (-0.25 * w * p["hilum_out"], zero, p["hilum_high"] * h),
        "left_hilum": (0.25 * w * p["hilum_out"], zero, p["hilum_high"] * h + 9),
    }
    at = np.stack([np.stack(v, axis=1) for v in points.values()], axis=1)
    return dict(zip(points, np.moveaxis(to_film(p, at, size), 1, 0), strict=True))


def boxes_of(masks: dict[str, Array], truth: Array) -> list[tuple[Box, ...]]:
    """Boxes around every finding; an effusion on both sides gets two, an enlarged heart the heart's."""
    sources = {"cardiomegaly": ["heart"], "nodule": ["nodule"], "pneumonia": ["pneumonia"]}
    out: list[tuple[Box, ...]] = []
    middle = masks["heart"].shape[-1] // 2
    for k in range(len(truth)):
        found = []
        for label, there in zip(LABELS, truth[k].tolist(), strict=True):
            wet = masks["effusion"][k]
            parts = [masks[m][k] for m in sources.get(label, [])] or [_half(wet, 0, middle), _half(wet, middle, None)]
            found += [_box(label, m) for m in parts if there and m.any()]
        out.append(tuple(found))
    return out


def _half(mask: Array, start: int, stop: int | None) -> Array:
    out = np.zeros_like(mask)
    out[:, start:stop] = mask[:, start:stop]
    return out


def _box(label: str, mask: Array) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(
        label,
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] - columns[0] + 1),
        float(rows[-1] - rows[0] + 1),
    )


def radiographs(plan: ChestPlan, rows: Any = None, size: int | None = None) -> Radiographs:
    """Take the films of some rows of a plan.

    I = I₀ exp(−μ ∫ρ dy) + scatter, quantum noise, detector blur, −log, edge enhancement, film curve. The result of
    a row does not depend on which others are asked for.

    Args:
        plan: what was drawn.
        rows: row numbers; None means all.
        size: pixels along a side; None means the cohort's.

    Example:
        >>> from translucid.phantom import ChestCohort
        >>> r = radiographs(ChestCohort(patients=2, size=64).draw(), [0])
        >>> r.images.shape, bool(r.masks["heart"].any())
        ((1, 1, 64, 64), True)

    Source: our own; scatter and noise follow Barrett and Swindell (1981), "Radiological Imaging".

    Fails when: fine texture matters; parenchyma below the smallest vessels is not drawn.
    """
    rows, size = plan.rows(rows), size or plan.cohort.size
    chunk = max(1, _PIXELS_AT_ONCE // size**2)
    parts = [_some(plan, rows[i : i + chunk], size) for i in range(0, len(rows), chunk)]
    masks = {name: np.concatenate([m[name] for _, m in parts]) for name in MASKS}
    p = {k: v[rows] for k, v in plan.parameters.items()}
    return Radiographs(
        images=np.concatenate([i for i, _ in parts])[:, None],
        masks=masks,
        boxes=boxes_of(masks, plan.truth[rows]),
        labels=plan.labels[rows],
        truth=plan.truth[rows],
        ctr=cardiothoracic_ratio(masks["heart"], masks["left_lung"] | masks["right_lung"]),
        landmarks=landmarks_of(p, size),
        spacing=p["film"] / size,
        rows=rows,
    )


def _some(plan: ChestPlan, rows: Array, size: int) -> tuple[Array, dict[str, Array]]:
    s = scene.build(plan, rows)
    x, z, _ = grid(s.p, size)
    rays = scene.trace(s.p, x, z)
    masks = masks_of(s, rays, x, size)
    thick = line_integrals(s, rays, size)
    return film.develop(plan, rows, thick, masks, size), masks
