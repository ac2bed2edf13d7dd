"""Chords against ray marching, the volume's sum against the film's line integral, ratios against closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.phantom import ChestCohort, ChestPlan, anatomy, kernels, project, radiographs, scene, shapes
from translucid.phantom.voxels import Box3, densities

number = st.floats(-9, 9, width=32)


def still(seed: int, **options: float) -> ChestPlan:
    """Patients who stand exactly straight, so that rows of pixels are rows of voxels."""
    return ChestCohort(patients=4, visits=(1, 1), seed=seed, sway=0, **options).draw()


def test_chord_of_an_ellipsoid_by_marching() -> None:
    rng = np.random.default_rng(0)
    at, radii, angle = (1.0, -2.0, 0.5), (3.0, 4.0, 5.0), 0.6
    x, z = rng.uniform(-6, 6, (2, 1, 200)).astype(np.float32)
    y = np.linspace(-8, 8, 16001)[:, None]
    u = (x[0] - at[0]) * np.cos(angle) + (z[0] - at[2]) * np.sin(angle)
    v = (z[0] - at[2]) * np.cos(angle) - (x[0] - at[0]) * np.sin(angle)
    inside = (u / radii[0]) ** 2 + ((y - at[1]) / radii[1]) ** 2 + (v / radii[2]) ** 2 < 1
    marched = inside.sum(axis=0) * 0.001
    assert (marched > 0).sum() > 40
    np.testing.assert_allclose(shapes.length(shapes.ellipsoid(x, z, at, radii, angle))[0], marched, atol=3e-3)


@given(st.lists(st.tuples(number, number), min_size=1, max_size=5), number, number)
def test_what_holes_leave_by_inclusion_and_exclusion(ends: list[tuple[float, float]], a: float, b: float) -> None:
    def one(p: float, q: float) -> shapes.Interval:
        return np.array([p], np.float32), np.array([q], np.float32)

    base, holes = one(a, b), [one(p, q) for p, q in ends]
    expected = float(shapes.length(base)[0])
    for k in range(1, len(holes) + 1):
        for some in combinations(holes, k):
            expected += (-1) ** k * float(shapes.length(shapes.meet(base, *some))[0])
    assert float(shapes.remaining(base, holes)[0]) == pytest.approx(expected, abs=1e-4)


def test_bead_has_the_chord_and_the_mass_of_an_ellipsoid() -> None:
    bead = np.array([[[20.3, 0.0, -19.6, 6.0, 4.0, 9.0, 0.5, 0.0]]], np.float32)
    out = np.zeros((1, 200, 200), np.float32)
    kernels.splat(out, bead, np.zeros(1, np.float32), np.zeros(1, np.float32), np.full(1, 0.2, np.float32))
    mass = 0.5 * 4 / 3 * np.pi * 6 * 4 * 9
    assert out.max() == pytest.approx(0.5 * 2 * 4, rel=5e-3)
    assert out.sum() * 0.2**2 == pytest.approx(mass, rel=5e-3)


def test_thin_bead_keeps_its_mass() -> None:
    bead = np.array([[[20.3, 0.0, -19.6, 0.4, 0.4, 0.4, 1.0, 0.0]]], np.float32)
    masses = []
    for shift in np.linspace(0, 3, 13):
        out = np.zeros((1, 16, 16), np.float32)
        moved = bead + np.array([shift, *[0] * 7], np.float32)
        kernels.splat(out, moved, np.zeros(1, np.float32), np.zeros(1, np.float32), np.full(1, 3.0, np.float32))
        masses.append(out.sum() * 9)
    assert np.mean(masses) == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.2)


@pytest.mark.parametrize("bare", [True, False], ids=["organs", "with-bones-and-vessels"])
def test_volume_adds_up_to_the_radiograph(bare: bool) -> None:
    plan = still(3, prevalence={"effusion": 1.0, "pneumonia": 1.0, "nodule": 1.0})
    s = scene.build(plan, np.array([1]))
    if bare:
        s = replace(s, beads=s.beads * 0)
    size = 48
    x, z, step = project.grid(s.p, size)
    film = project.line_integrals(s, scene.trace(s.p, x, z), size)
    dx = float(step[0])
    box = Box3(np.array([[z[0, 0, 0], -240.0, x[0, 0, 0]]]), (dx, 4.0, dx), (size, 121, size))
    volume = densities(s, scene.trace(s.p, *box.rays()), box)
    summed = volume.sum(axis=2) * 4.0
    assert film.max() > 150
    np.testing.assert_allclose(np.maximum(summed, 0), film, atol=0.06 + 1e-4 * film.max())


def test_heart_width_in_closed_form() -> None:
    plan = ChestCohort(patients=6, visits=(1, 1), seed=4).draw()
    p = plan.parameters
    x, z, step = project.grid(p, 512)
    silhouette = shapes.length(anatomy.heart(anatomy.spread(p, 2), x, z)) > 0
    columns = silhouette.any(axis=1)
    drawn = 512 - columns[:, ::-1].argmax(axis=1) - columns.argmax(axis=1)
    assert np.abs(drawn - anatomy.heart_width(p) / step).max() <= 1.0


def test_measured_ratio_is_the_planned_one() -> None:
    plan = ChestCohort(patients=30, visits=(1, 1), seed=5, prevalence={"cardiomegaly": 0.5}).draw()
    films = radiographs(plan, size=192)
    chest = anatomy.chest_width(plan.parameters) / films.spacing
    heart = plan.ctr * chest
    pixel = (heart + 1) / (chest - 1) - plan.ctr
    assert (np.abs(films.ctr - plan.ctr) <= pixel).all()
    assert np.corrcoef(films.ctr, plan.ctr)[0, 1] > 0.98


def test_a_finding_adds_matter_where_its_mask_is() -> None:
    sick = still(6, prevalence={"nodule": 1.0, "pneumonia": 1.0}, noise=0, mimics=0)
    gone = dict.fromkeys(("nodule_density", "opacity_density"), np.zeros(len(sick), np.float32))
    well = replace(sick, parameters=sick.parameters | gone)
    a, b = radiographs(sick, size=128), radiographs(well, size=128)
    more = (a.images - b.images)[:, 0]
    touched = a.masks["nodule"] | a.masks["pneumonia"]
    for name in ("nodule", "pneumonia"):
        inside = np.array([d[m].mean() for d, m in zip(more, a.masks[name], strict=True)])
        assert (inside > 0.04).all(), name
    outside = np.array([d[~m].mean() for d, m in zip(more, touched, strict=True)])
    assert (np.abs(outside) < 0.012).all()
