"""Parts of the attackers: reconstruction climbs its ladder, attributes, intervals, letters, copies, pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from audit_phantoms import SMALL, cohort, letters
from translucid.audit import (
    ATTACKS,
    Audit,
    Budget,
    Codec,
    Cohort,
    Task,
    halves,
    legibility,
    ms_ssim,
    psnr,
    read_letters,
    run_task,
    ssim,
    stage,
    tesseract,
)
from translucid.audit.attributes import attribute_measures, kind_of
from translucid.audit.judging import judge_reconstruction
from translucid.audit.linear import Pca, Scale
from translucid.audit.pairs import TwoSamples, pair_measures, settle
from translucid.audit.records import fit_grid, square
from translucid.audit.resample import mean_of_patients, patient_counts, with_interval
from translucid.audit.search import search_measures
from translucid.audit.staging import Stage, first_and_last, moved
from translucid.errors import InputError, ShapeError
from translucid.phantom import ChestCohort, radiographs


def blocks(images: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(images, 4).flatten(2)


@cache
def staged() -> Stage:
    def small(codes: torch.Tensor) -> torch.Tensor:
        return codes.unflatten(-1, (8, 8))

    def lift(codes: torch.Tensor) -> torch.Tensor:
        return small(codes).repeat_interleave(4, -1).repeat_interleave(4, -2)

    return stage(cohort(80), Codec("blocks", blocks, small, lift), SMALL)


# -- strength of the attacker -------------------------------------------------------------------------------------


def test_the_attacker_is_strong_enough_on_plain_chests() -> None:
    """On phantoms whose anatomy stays with the patient, two films of one are told from films of two."""
    plan = ChestCohort(patients=300, visits=(3, 3), size=64, seed=2).draw()
    films = np.concatenate([radiographs(plan, np.arange(k, min(k + 64, len(plan)))).images for k in range(0, 900, 64)])
    x = torch.from_numpy(films).float().reshape(-1, 1, 64, 64)
    base = Cohort(x, plan.patient, halves(plan.patient))
    audit = Audit(base, {}, ("verification",), Budget(plain_side=64, resamples=100))
    (found,) = [r for r in run_task(audit, Task("lda", "plain")) if r["measure"] == "auc"]
    assert found["value"] >= 0.99


# -- reconstruction ----------------------------------------------------------------------------------------------


def test_reconstruction_climbs_its_ladder_and_shows_the_person() -> None:
    ready = staged()
    got = {}
    for name in ("mean_image", "nearest", "inverse", "ridge", "decoder"):
        fitted = ATTACKS[name].fit(ready.release, ready.public, 0)
        got[name] = {k: v for k, (v, _) in judge_reconstruction(fitted, ready, 50, 0).items()}
    assert got["mean_image"]["gain"].value == pytest.approx(0, abs=1e-9)
    assert got["mean_image"]["own_minus_other"].value == pytest.approx(0, abs=1e-6)
    assert got["nearest"]["ssim"].value < got["ridge"]["ssim"].value
    assert got["ridge"]["gain"].low > 0.3
    assert got["decoder"]["ssim"].value > got["ridge"]["ssim"].value - 0.02
    assert got["ridge"]["reid_auc"].value > 0.95
    for found in got.values():
        assert found["ssim_median"].value <= found["ssim_p99"].value <= found["ssim_max"].value


def test_an_inverse_that_does_not_exist_is_refused() -> None:
    ready = stage(cohort(60), Codec("blocks", blocks), SMALL)
    with pytest.raises(InputError, match="no analytic inverse"):
        ATTACKS["inverse"].fit(ready.release, ready.public, 0)


def test_a_linear_code_of_linear_films_is_inverted_by_ridge() -> None:
    ready = staged()
    basis = torch.randn(5, 256, generator=torch.Generator().manual_seed(0)) / 40
    weights = torch.randn(len(ready.public), 5, generator=torch.Generator().manual_seed(1))
    films = (0.5 + weights @ basis).reshape(-1, 1, 16, 16)
    codes = weights[:, None] @ torch.randn(5, 7, generator=torch.Generator().manual_seed(2))
    release = replace(ready.public.release, codes=codes, probe=None)
    public = replace(ready.public, films=films, release=release)
    made = ATTACKS["ridge"].fit(release, public, 0).guess(release)
    assert float((made - films).abs().max()) < 1e-3


# -- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_best_is_one_and_noise_lowers_it() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, 48, 40, generator=draw, dtype=torch.float64)
    y = x + 0.1 * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    for measure in (ssim, ms_ssim):
        torch.testing.assert_close(measure(x, x), torch.ones(3, dtype=torch.float64))
        assert (measure(x, y) < 0.99).all()
        torch.testing.assert_close(measure(x, y), measure(y, x))
    assert psnr(x, y).mean().item() == pytest.approx(20, abs=0.5)
    assert torch.isinf(psnr(x, x)).all()
    with pytest.raises(ShapeError, match="window of 7"):
        ssim(x[..., :5], x[..., :5])
    with pytest.raises(ShapeError):
        ssim(x, x[:2])


# -- attributes --------------------------------------------------------------------------------------------------


def test_attributes_are_read_where_they_show() -> None:
    ready = staged()
    for name in ("attribute_linear", "attribute_mlp"):
        guess = ATTACKS[name].fit(ready.release, ready.public, 0).guess(ready.release)
        found = attribute_measures(guess, ready.secret.attributes, ready.secret.patient, 50)
        assert found["sex.auc"][0].low > 0.6
        assert found["age.r2"][0].low > 0
        assert found["age.mae"][0].value < found["age.mae"][1]


def test_unknown_attributes_are_left_out_and_several_classes_averaged() -> None:
    words = np.array(["a", "b", "c", "", "a", "b", "c", "a"])
    scores = np.zeros((8, 3))
    for k, name in enumerate("abc"):
        scores[words == name, k] = 1.0
    found = attribute_measures({"device": scores}, {"device": words}, np.arange(8), 40)
    assert found["device.auc"][0].value == 1.0
    age = np.array([30.0, np.nan, 50.0, 70.0])
    found = attribute_measures({"age": np.array([30.0, 0.0, 50.0, 60.0])}, {"age": age}, np.arange(4), 40)
    assert found["age.mae"][0].value == pytest.approx(10 / 3)
    assert found["age.r2"][0].value == pytest.approx(1 - 100 / 800)
    assert kind_of(np.array([0.0, 1.0, np.nan])) == "classes"


# -- intervals ---------------------------------------------------------------------------------------------------


def test_intervals_of_pairs_cover_the_truth_about_as_often_as_they_say() -> None:
    truth, hits, trials = 0.7602499, 0, 60  # Φ(1/√2) for one unit of shift, independent of patients here
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), 2)
    for _ in range(trials):
        s = rng.normal(size=(80, 80)) + 1.0 * (who[:, None] == who)
        found = pair_measures(TwoSamples.of_pairs(np.triu(s) + np.triu(s, 1).T, who), 200, 1, ("auc",))["auc"]
        hits += found.low <= truth <= found.high
    assert hits >= 0.85 * trials


def test_ties_are_chance_and_have_no_width() -> None:
    who = np.repeat(np.arange(20), 2)
    found = pair_measures(TwoSamples.of_pairs(np.zeros((40, 40)), who), 50)
    assert (found["auc"].value, found["eer"].value, found["ks"].value) == (0.5, 0.5, 0.0)
    assert found["tpr_at_fpr_0.001"].value == 0
    assert search_measures(np.zeros((20, 20)), 50)["rank1@20"][0].value == pytest.approx(1 / 20)
    assert search_measures(np.zeros((20, 20)), 50)["guesswork@20"][0].value == pytest.approx(10.5)


def test_rounding_hides_the_order_of_additions_but_no_difference_that_matters() -> None:
    s = np.array([[1.0, 1.0 + 1e-9], [0.5, 0.50001]])
    assert settle(s)[0, 0] == settle(s)[0, 1]
    assert settle(s)[1, 0] < settle(s)[1, 1]


def test_numbers_that_do_not_vary_speak_for_nothing() -> None:
    x = np.full((30, 4), 0.3, np.float32)
    assert (Scale.fit(x)(x) == 0).all()
    assert Pca.fit(x, 3).axes.shape == (4, 0)


def test_patients_are_drawn_whole() -> None:
    counts = patient_counts(6, 30, 1)
    assert counts.shape == (30, 6)
    assert (counts.sum(1) == 6).all()
    value = mean_of_patients(np.array([1.0, np.nan, 3.0]), np.array([0, 1, 2]), patient_counts(3, 200, 0))
    assert value.value == 2.0
    assert value.n == 2
    assert np.isnan(with_interval(0.5, np.full(10, np.nan), 3).low)


# -- staging -----------------------------------------------------------------------------------------------------


def test_copies_are_encoded_and_never_stand_in_for_films() -> None:
    public = staged().public
    assert public.original.sum() == len(public) // 2
    learn, held = public.split(0)
    assert held.original.all()
    assert not set(learn.patient) & set(held.patient)
    torch.testing.assert_close(moved(torch.ones(2, 1, 9, 9), 1), torch.ones(2, 1, 9, 9))


def test_first_and_last_follow_time() -> None:
    patient, when = np.array([3, 1, 3, 1, 2, 3]), np.array([5, 1, 2, 0, 9, 7])
    first, last = first_and_last(patient, when)
    assert first.tolist() == [3, 2]
    assert last.tolist() == [1, 5]


def test_records_as_released_are_what_is_attacked() -> None:
    base = cohort(60)
    noisy = blocks(base.images) + torch.rand(180, 1, 64, generator=torch.Generator().manual_seed(0))
    ready = stage(base, Codec("noisy", blocks, codes=noisy), SMALL)
    torch.testing.assert_close(ready.release.codes, noisy[base.scored])
    assert ready.public.codec.codes is None
    with pytest.raises(ShapeError, match="hand in the encoder that made them"):
        stage(base, Codec("other", blocks, codes=noisy[..., :12]), SMALL)


@pytest.mark.parametrize(("shape", "want"), [((5, 200), (16, 64)), ((64, 64), (64, 64)), ((300, 40), (64, 40))])
def test_pictures_fit_the_grid(shape: tuple[int, int], want: tuple[int, int]) -> None:
    assert tuple(fit_grid(torch.rand(2, 1, *shape), 64).shape[2:]) == want
    assert square(torch.rand(2, 3, 10)).shape == (2, 3, 4, 4)


# -- letters -----------------------------------------------------------------------------------------------------


def test_letters_are_read_through_noise_and_not_from_nothing() -> None:
    shapes, rng = letters(), np.random.default_rng(1)
    truth = ["".join(rng.choice(list(shapes), 4)) for _ in range(30)]
    films, at = 0.2 * rng.random((30, 20, 40)), [(8, 4 + 8 * k) for k in range(4)]
    for n, line in enumerate(truth):
        for (row, column), name in zip(at, line, strict=True):
            films[n, row : row + 7, column + 1 : column + 6] += 0.5 * shapes[name]
    found = legibility(read_letters(films, shapes, at), truth, np.arange(30), 50)
    assert found["lines_read"].value > 0.9
    blank = read_letters(np.full((2, 20, 40), 0.4), shapes, at)
    assert blank == ["????", "????"]
    with pytest.raises(ShapeError, match="outside"):
        read_letters(films, shapes, [(18, 0)])


def test_tesseract_reads_or_says_why_not() -> None:
    reader, reason = tesseract()
    if reader is None:
        assert "not installed" in reason
    else:
        assert isinstance(reader(np.ones((40, 40))), str)
