"""The computed tomogram of a plan: the same chest cut into voxels, in Hounsfield units, with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from translucid.errors import ConfigError
from translucid.phantom import kernels, scene, shapes
from translucid.phantom.anatomy import Parameters
from translucid.phantom.cohort import ChestPlan
from translucid.phantom.scene import Rays, Scene
from translucid.phantom.shapes import Array, Interval

VOLUME_MASKS = ("body", "left_lung", "right_lung", "heart", "mediastinum", "effusion", "nodule", "pneumonia")
ORGAN_OF = {"cardiomegaly": "heart", "effusion": "pleura", "nodule": "lung", "pneumonia": "lung"}
"""In which organ each label's evidence lies."""


@dataclass(frozen=True)
class ChestVolumes:
    """Volumes and all that is known of them.

    Attributes:
        images: (n, 1, d, h, w) float32 Hounsfield units; axes run head to feet, front to back, right to left, so a
            slice [d] looks as on a viewer and a mean over h as a radiograph.
        masks: name → (n, d, h, w) bool. Lungs hold air and consolidation, not fluid; effusion, nodule, pneumonia are
            the findings.
        labels, truth: (n, 4) bool as recorded and by rule, order of `LABELS`.
        sides: finding → (n,) "left", "right", "both" or "".
        marked: (n,) bool, whether a dense marker lies on the skin.
        spacing: (dz, dy, dx) in mm.
        affine: (n, 4, 4) voxel (d, h, w) → patient millimetres (right to left, front to back, feet to head: LPS).
        rows: (n,) rows of the plan.
    """

    images: Array
    masks: dict[str, Array]
    labels: Array
    truth: Array
    sides: dict[str, Array]
    marked: Array
    spacing: tuple[float, float, float]
    affine: Array
    rows: Array


@dataclass(frozen=True)
class Box3:
    """Where the voxels of some volumes lie: first voxel (n, 3) as (z, y, x) in mm, and their size."""

    origin: Array
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]

    def rays(self) -> tuple[Array, Array]:
        """x and z (n, d, w) of the lines of voxels along y."""
        d, _, w = self.shape
        z = self.origin[:, 0, None] - self.spacing[0] * np.arange(d)
        x = self.origin[:, 2, None] + self.spacing[2] * np.arange(w)
        grid = np.broadcast_arrays(x[:, None, :], z[:, :, None])
        return grid[0].astype(np.float32), grid[1].astype(np.float32)

    def slab(self, k: int) -> Interval:
        """Front and back (n, 1, 1) of the k-th layer of voxels along y."""
        middle = (self.origin[:, 1] + k * self.spacing[1]).astype(np.float32)[:, None, None]
        half = np.float32(self.spacing[1] / 2)
        return middle - half, middle + half


def place(p: Parameters, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Box3:
    """Voxels around the middle of each chest."""
    middle = np.stack([0.42 * p["height"], 0.05 * p["depth"], 0 * p["width"]], axis=1)
    reach = (np.array(shape) - 1) / 2 * np.array(spacing) * [1, -1, -1]
    return Box3(middle + reach, spacing, shape)


def volumes(
    plan: ChestPlan,
    rows: Any = None,
    shape: Sequence[int] = (48, 96, 96),
    spacing: Sequence[float] | None = None,
    posed: bool = False,
) -> ChestVolumes:
    """Cut the chests of some rows of a plan into voxels.

    HU = 1000 (ρ − 1), with ρ the density in units of water; along y each voxel holds the exact share of every organ.
    Noise is Gaussian, 18 HU times the cohort's `noise`.

    Args:
        plan: what was drawn.
        rows: row numbers; None means all.
        shape: voxels (d, h, w).
        spacing: mm (dz, dy, dx); None spreads the voxels over 340 × 340 × 400 mm.
        posed: keep the radiograph's yaw and pitch instead of lying straight.

    Raises:
        ConfigError: shape or spacing is not three positive numbers.

    Example:
        >>> from translucid.phantom import ChestCohort
        >>> v = volumes(ChestCohort(patients=1, seed=2).draw(), [0], shape=(16, 24, 24))
        >>> v.images.shape, bool(v.images[:, 0][v.masks["right_lung"]].mean() < -500)
        ((1, 1, 16, 24, 24), True)

    Source: our own; Hounsfield (1973), Br J Radiol 46:1016.

    Fails when: the patient should lie: arms hang, and fluid keeps its upright level.
    """
    d, h, w = _three(shape, "shape")
    size = (int(d), int(h), int(w))
    dz, dy, dx = _three(spacing or (340 / d, 340 / h, 400 / w), "spacing")
    rows = plan.rows(rows)
    parts = [_one(plan, rows[k : k + 1], size, (dz, dy, dx), posed) for k in range(len(rows))]
    masks = {name: np.concatenate([m[name] for _, m, _ in parts]) for name in VOLUME_MASKS}
    x = np.stack([box.rays()[0][0] for _, _, box in parts])
    return ChestVolumes(
        images=np.concatenate([image for image, _, _ in parts])[:, None],
        masks=masks,
        labels=plan.labels[rows],
        truth=plan.truth[rows],
        sides={name: _sides(masks[name], x) for name in ("effusion", "nodule", "pneumonia")},
        marked=plan.marked[rows],
        spacing=(dz, dy, dx),
        affine=np.concatenate([_affine(box) for _, _, box in parts]),
        rows=rows,
    )


def _three(values: Sequence[float], name: str) -> tuple[float, float, float]:
    if len(values) != 3 or min(values) <= 0:
        raise ConfigError(f"{name} = {tuple(values)}: wanted three positive numbers (depth, height, width)")
    return values[0], values[1], values[2]


def _one(
    plan: ChestPlan, rows: Array, shape: tuple[int, int, int], spacing: tuple[float, float, float], posed: bool
) -> tuple[Array, dict[str, Array], Box3]:
    s = scene.build(plan, rows, standing=posed)
    box = place(s.p, shape, spacing)
    rays = scene.trace(s.p, *box.rays())
    density = densities(s, rays, box)
    masks = _masks(s, rays, box)
    if plan.marked[rows[0]]:
        _skin_marker(density, rays, box)
    noise = np.random.default_rng([plan.cohort.seed, 9, int(plan.patient[rows[0]]), int(plan.visit[rows[0]])])
    grain = 18 * plan.cohort.noise * noise.standard_normal(density.shape, dtype=np.float32)
    return np.clip(1000 * (density - 1) + grain, -1024, 3071).astype(np.float32), masks, box


def densities(s: Scene, rays: Rays, box: Box3) -> Array:
    """Mean density (n, d, h, w) of every voxel in units of water; 0 in the air around the patient."""
    n = len(s.beads)
    out = np.zeros((n, *box.shape), np.float32)
    for k in range(box.shape[1]):
        out[:, :, k] = scene.matter(s.p, rays, box.slab(k)) / box.spacing[1]
    kernels.fill(out, s.beads, box.origin.astype(np.float64), np.array(box.spacing))
    return out


def _share(interval: Interval, box: Box3, holes: Sequence[Interval] = ()) -> Array:
    """Share (n, d, h, w) of each voxel that an interval less some holes takes."""
    layers = [shapes.remaining(shapes.meet(interval, box.slab(k)), holes) for k in range(box.shape[1])]
    return np.stack(layers, axis=2) / box.spacing[1]


def _masks(s: Scene, rays: Rays, box: Box3) -> dict[str, Array]:
    x = box.rays()[0][:, :, None]
    air = _share(rays.lungs, box, rays.holes) > 0.5
    heart = _share(rays.heart, box, [rays.holes[1]]) > 0.5
    middle = _share(rays.holes[0], box, [rays.holes[1]]) > 0.5
    ball = np.zeros((len(s.nodule), *box.shape), np.float32)
    whole = s.nodule.copy()
    whole[..., 6] = s.nodule[..., 6] > 0
    kernels.fill(ball, whole, box.origin.astype(np.float64), np.array(box.spacing))
    found = {name: _share(i, box, rays.holes[:3] if name == "effusion" else rays.holes) for name, i in _found(rays)}
    none = np.zeros(air.shape, bool)
    return {
        "body": _share(rays.body, box) > 0.5,
        "left_lung": air & (x >= 0),
        "right_lung": air & (x < 0),
        "heart": heart,
        "mediastinum": middle & ~heart,
        "effusion": found["effusion"] > 0.5 if "effusion" in found else none,
        "nodule": air & (ball > 0.5),
        "pneumonia": (found["pneumonia"] > 0.5) & (rays.patchiness > 0.04)[:, :, None],
    }


def _found(rays: Rays) -> list[tuple[str, Interval]]:
    return list(scene.finding_intervals(rays).items())


def _skin_marker(density: Array, rays: Rays, box: Box3) -> None:
    """A dense ball on the skin of the front: outside the lungs, as a confounder must be."""
    d, _, w = box.shape
    row, column = int(0.4 * d), int(0.32 * w)
    front = float(rays.body[0][0, row, column]) - 6
    at = np.array([[[box.rays()[0][0, row, column], front, box.rays()[1][0, row, column]]]])
    kernels.fill(density, shapes.beads(at, (8.0, 6.0, 8.0), 2.2), box.origin.astype(np.float64), np.array(box.spacing))


def _sides(mask: Array, x: Array) -> Array:
    left = (mask.any(axis=2) & (x >= 0)).any(axis=(1, 2))
    right = (mask.any(axis=2) & (x < 0)).any(axis=(1, 2))
    return np.select([left & right, left, right], ["both", "left", "right"], "")


def _affine(box: Box3) -> Array:
    """Voxel (d, h, w) → (x, y, z) in mm: x to the left, y to the back, z to the head."""
    out = np.zeros((len(box.origin), 4, 4))
    dz, dy, dx = box.spacing
    out[:, 0, 2], out[:, 1, 1], out[:, 2, 0], out[:, 3, 3] = dx, dy, -dz, 1
    out[:, :3, 3] = box.origin[:, ::-1]
    return out
