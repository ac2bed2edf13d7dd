"""Options, label rules, sameness of seeds, independence of the batch, identity of patients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from translucid.config import from_kind, with_kind
from translucid.errors import ConfigError
from translucid.phantom import COHORTS, LABELS, ChestCohort, ChestPlan, cardiothoracic_ratio, radiographs, volumes
from translucid.phantom.letters import glyphs


@pytest.fixture(scope="module")
def plan() -> ChestPlan:
    return ChestCohort(patients=40, visits=(1, 2), seed=1).draw()


@pytest.mark.parametrize("wrong", [{"size": 3}, {"seed": -1}, {"ctr_margin": 0.3}, {"mimics": 2.0}])
def test_only_the_wrong_option_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"^{next(iter(wrong))} = ") as caught:
        ChestCohort(**wrong)  # type: ignore[arg-type]
    assert str(caught.value).count(" = ") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"patients": 0},
        {"visits": (2, 1)},
        {"size": 8},
        {"seed": -1},
        {"prevalence": {"nodul": 0.2}},
        {"prevalence": {"nodule": 1.2}},
        {"label_noise": 2.0},
        {"nodule_radius": (9.0, 3.0)},
        {"confounder": "fracture"},
        {"noise": -1.0},
        {"ctr_margin": 0.3},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ChestCohort(**wrong)  # type: ignore[arg-type]


def test_options_survive_json() -> None:
    cohort = ChestCohort(patients=7, nodule_radius=(4.0, 9.0), prevalence={"nodule": 0.5})
    assert from_kind(COHORTS, with_kind(COHORTS, cohort), "cohort") == cohort


def test_same_seed_same_bytes_other_seed_other_patients(plan: ChestPlan) -> None:
    again = ChestCohort(patients=40, visits=(1, 2), seed=1).draw()
    assert radiographs(plan, [3]).images.tobytes() == radiographs(again, [3]).images.tobytes()
    other = ChestCohort(patients=40, visits=(1, 2), seed=2).draw()
    assert not np.allclose(plan.parameters["width"][:10], other.parameters["width"][:10])


def test_a_patient_is_the_same_in_a_larger_cohort(plan: ChestPlan) -> None:
    larger = ChestCohort(patients=55, visits=(1, 2), seed=1).draw()
    for name, values in plan.parameters.items():
        np.testing.assert_array_equal(values, larger.parameters[name][: len(plan)], err_msg=name)


@pytest.mark.parametrize("size", [64, 100])
def test_an_image_does_not_depend_on_its_batch(plan: ChestPlan, size: int) -> None:
    rows = np.arange(20)
    together = radiographs(plan, rows, size=size)
    for k in (0, 7, 19):
        alone = radiographs(plan, [k], size=size)
        np.testing.assert_array_equal(alone.images[0], together.images[k])
        assert alone.boxes[0] == together.boxes[k]
        for name, mask in alone.masks.items():
            np.testing.assert_array_equal(mask[0], together.masks[name][k], err_msg=name)


def test_labels_follow_from_what_is_drawn() -> None:
    plan = ChestCohort(patients=60, seed=7, label_noise=0).draw()
    films = radiographs(plan, size=128)
    assert (plan.labels == plan.truth).all()
    np.testing.assert_array_equal(plan.truth[:, 0], plan.ctr > 0.5)
    clear = np.abs(plan.ctr - 0.5) > 0.02
    np.testing.assert_array_equal(films.truth[clear, 0], films.ctr[clear] > 0.5)
    for k, name in enumerate(LABELS[1:], 1):
        np.testing.assert_array_equal(films.masks[name].any(axis=(1, 2)), plan.truth[:, k], err_msg=name)
    for found, truth in zip(films.boxes, plan.truth, strict=True):
        assert {b.label for b in found} == {name for name, t in zip(LABELS, truth, strict=True) if t}


def test_findings_lie_in_the_lungs(plan: ChestPlan) -> None:
    films = radiographs(plan)
    lungs = films.masks["left_lung"] | films.masks["right_lung"]
    for name in ("effusion", "nodule", "pneumonia"):
        assert not (films.masks[name] & ~lungs).any()
    assert not (films.masks["left_lung"] & films.masks["right_lung"]).any()
    assert not (lungs & films.masks["heart"]).any()
    share = lungs.mean(axis=(1, 2))
    assert share.min() > 0.15 and share.max() < 0.45


def test_nodules_stand_out_from_their_surroundings() -> None:
    cohort = ChestCohort(patients=30, visits=(1, 1), seed=9, prevalence={"nodule": 1.0}, noise=0.3)
    films = radiographs(cohort.draw(), size=192)
    contrast = []
    for image, mask in zip(films.images[:, 0], films.masks["nodule"], strict=True):
        ring = binary_dilation(mask, iterations=6) & ~binary_dilation(mask, iterations=2)
        contrast.append(image[mask].mean() - image[ring].mean())
    assert np.mean(contrast) > 0.035
    assert np.mean(np.array(contrast) > 0) > 0.85


def test_lungs_are_dark_and_bones_bright(plan: ChestPlan) -> None:
    films = radiographs(plan, np.arange(12))
    lungs = films.masks["left_lung"] | films.masks["right_lung"]
    for image, lung, heart in zip(films.images[:, 0], lungs, films.masks["heart"], strict=True):
        assert image[lung].mean() < 0.5 < 0.6 < image[heart].mean()
        assert image.min() >= 0 and image.max() <= 1
        assert image[:8, :8].mean() < image[heart].mean()


def test_prevalence_and_label_noise_are_near_what_was_asked() -> None:
    asked = {"cardiomegaly": 0.2, "effusion": 0.1, "nodule": 0.3, "pneumonia": 0.5}
    plan = ChestCohort(patients=1200, visits=(1, 1), seed=3, prevalence=asked, label_noise=0.05).draw()
    np.testing.assert_allclose(plan.truth.mean(axis=0), list(asked.values()), atol=0.045)
    assert (plan.truth != plan.labels).mean() == pytest.approx(0.05, abs=0.012)
    assert plan.ctr[plan.truth[:, 0]].min() >= 0.51 and plan.ctr[~plan.truth[:, 0]].max() <= 0.49


def test_visits_of_a_patient_look_alike() -> None:
    cohort = ChestCohort(patients=20, visits=(2, 2), seed=4, prevalence={})
    plan = cohort.draw()
    images = radiographs(plan).images[:, 0]
    fine = np.stack([gaussian_filter(i, 1) - gaussian_filter(i, 5) for i in images])[:, 16:-28, 16:-16]
    spectrum = np.fft.rfft2((fine - fine.mean((1, 2), keepdims=True)) / fine.std((1, 2), keepdims=True))
    first, second = spectrum[0::2], spectrum[1::2]
    shifted = np.fft.irfft2(first[:, None] * second[None].conj())
    best = shifted.max(axis=(2, 3)) / fine[0].size
    same, other = np.diag(best), best[~np.eye(20, dtype=bool)]
    assert same.mean() > other.mean() + 0.1
    assert np.mean(best.argmax(axis=1) == np.arange(20)) > 0.7


def test_visits_differ(plan: ChestPlan) -> None:
    rows = np.flatnonzero(plan.patient == plan.patient[plan.visit == 1][0])
    a, b = radiographs(plan, rows).images
    assert np.abs(a - b).mean() > 0.01
    assert plan.parameters["width"][rows[0]] == plan.parameters["width"][rows[1]]


def test_text_and_confounder_are_off_until_asked(plan: ChestPlan) -> None:
    plain = ChestCohort(patients=200, visits=(1, 1), seed=1, prevalence={"nodule": 0.5})
    loud = replace(plain, text=True, confounder="nodule", confounder_strength=0.9).draw()
    agree = (loud.marked == loud.labels[:, LABELS.index("nodule")]).mean()
    assert agree == pytest.approx(0.9, abs=0.06)
    a, b = radiographs(plain.draw(), np.arange(4)), radiographs(loud, np.arange(4))
    changed = a.images != b.images
    assert changed.any(axis=(1, 2, 3)).all()
    assert changed.mean() < 0.05
    assert not plan.marked.any()


def test_glyphs_differ() -> None:
    seen = {glyphs(c).tobytes() for c in "0123456789LR"}
    assert len(seen) == 12
    assert glyphs("10", 2).shape == (14, 22)


def test_ratio_of_empty_masks_is_unknown() -> None:
    empty = np.zeros((1, 4, 4), bool)
    assert np.isnan(cardiothoracic_ratio(empty, empty)).all()


def test_landmarks_lie_where_they_are_named(plan: ChestPlan) -> None:
    films = radiographs(plan, np.arange(6))
    at = films.landmarks
    assert (at["right_hilum"][:, 0] < at["carina"][:, 0]).all()
    assert (at["carina"][:, 0] < at["left_hilum"][:, 0]).all()
    assert (at["carina"][:, 1] < at["right_dome"][:, 1]).all()
    for k in range(6):
        x, y = np.round(at["right_dome"][k] - [0, 6]).astype(int)
        wet = films.masks["effusion"][k, y, x]
        assert films.masks["right_lung"][k, y, x] or wet


class TestVolumes:
    def test_units_and_masks(self, plan: ChestPlan) -> None:
        rows = np.flatnonzero(plan.truth[:, 1] | plan.truth[:, 2] | plan.truth[:, 3])[:4]
        v = volumes(plan, rows, shape=(40, 64, 72))
        for k in range(len(rows)):
            hu = v.images[k, 0]
            for side in ("left_lung", "right_lung"):
                lung = v.masks[side][k] & ~v.masks["nodule"][k] & ~v.masks["pneumonia"][k]
                assert np.median(hu[lung]) < -500
                assert (lung & ~v.masks["body"][k]).sum() == 0
            assert -50 < np.median(hu[v.masks["heart"][k]]) < 120
            assert np.median(hu[~v.masks["body"][k]]) < -950
            assert hu.max() > 300
        lungs = v.masks["left_lung"] | v.masks["right_lung"]
        assert not (v.masks["nodule"] & ~lungs).any()
        assert not (v.masks["pneumonia"] & ~lungs).any()
        assert not (v.masks["effusion"] & lungs).any()

    def test_findings_are_there_when_the_label_is(self, plan: ChestPlan) -> None:
        rows = np.arange(6)
        v = volumes(plan, rows, shape=(60, 80, 90))
        for k, name in enumerate(LABELS[1:], 1):
            np.testing.assert_array_equal(v.masks[name].any(axis=(1, 2, 3)), plan.truth[rows, k], err_msg=name)
            assert ((v.sides[name] != "") == plan.truth[rows, k]).all()

    def test_alone_as_in_company(self, plan: ChestPlan) -> None:
        both, one = volumes(plan, [2, 5], shape=(12, 20, 20)), volumes(plan, [5], shape=(12, 20, 20))
        np.testing.assert_array_equal(both.images[1], one.images[0])

    def test_marker_lies_outside_the_lungs(self) -> None:
        cohort = ChestCohort(patients=3, visits=(1, 1), seed=1, noise=0)
        plan = cohort.draw()
        shown = replace(plan, marked=np.ones(3, bool))
        a, b = (volumes(p, [0], shape=(40, 64, 72)) for p in (plan, shown))
        new = np.abs(a.images - b.images)[:, 0] > 100
        assert new.any()
        assert not (new & (a.masks["left_lung"] | a.masks["right_lung"])).any()

    def test_affine_places_the_left_lung_on_the_left(self, plan: ChestPlan) -> None:
        v = volumes(plan, [0], shape=(24, 32, 36))
        d, h, w = np.argwhere(v.masks["left_lung"][0]).mean(axis=0)
        x, _, z = (v.affine[0] @ [d, h, w, 1])[:3]
        assert x > 30
        assert 0 < z < 240

    def test_shape_is_checked(self, plan: ChestPlan) -> None:
        with pytest.raises(ConfigError, match="three positive"):
            volumes(plan, [0], shape=(8, 8))


def test_nothing_is_kept_on_disk(tmp_path: Path, plan: ChestPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    radiographs(plan, [0], size=64)
    assert not list(tmp_path.iterdir())
