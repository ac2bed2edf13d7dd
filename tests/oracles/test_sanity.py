"""Similarity of maps, models that forget, and the protocol that turns all of it into verdicts."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tiny_nets import Net, Plain, images, seeded
from translucid.errors import ConfigError, InputError, ShapeError
from translucid.evaluate import (
    CRITERIA,
    PARTS,
    SIMILARITY,
    TrustCases,
    TrustModels,
    TrustReport,
    TrustSettings,
    judge,
    measure_trust,
    merge_tables,
    randomised_copies,
)
from translucid.evaluate import trust as run_trust
from translucid.evaluate.sanity import learned_layers
from translucid.evaluate.trust_cases import choose_pairs, partner
from translucid.tensors import Explanation, Placement, Prediction

QUICK = TrustSettings(sanity=24, steps=4, stages=2, removals=12, resamples=300, shares=(0.3,))


# -- similarity ----------------------------------------------------------------------------------------------------


def slow_ssim(a: np.ndarray, b: np.ndarray, width: int = 11) -> float:
    """Window by window, in two dimensions."""
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    width = min(width, a.shape[0] - (a.shape[0] + 1) % 2)
    g = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * 1.5**2))
    w = np.outer(g, g) / g.sum() ** 2
    found = []
    for i in range(a.shape[0] - width + 1):
        for j in range(a.shape[1] - width + 1):
            p, q = (m[i : i + width, j : j + width] for m in (a, b))
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq, both = (w * p * p).sum() - mp**2, (w * q * q).sum() - mq**2, (w * p * q).sum() - mp * mq
            c1, c2 = 0.02**2, 0.06**2
            found.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize("size", [4, 7, 15])
def test_ssim_window_by_window(size: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 3, size, size))
    expected = [slow_ssim(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(SIMILARITY["ssim"](first, second), expected, rtol=1e-10)


@pytest.mark.parametrize("name", list(SIMILARITY))
def test_laws_of_similarity(name: str) -> None:
    score, rng = SIMILARITY[name], np.random.default_rng(1)
    for grid in ((9, 12), (6, 5, 4)):
        first, second = rng.normal(size=(2, 20, *grid))
        near = first + 0.3 * second
        np.testing.assert_allclose(score(first, 5 * first), 1)
        np.testing.assert_allclose(score(first, near), score(near, first))
        np.testing.assert_allclose(score(first, 7 * near), score(first, near))
        assert (score(first, near) > score(first, second)).all()
        assert abs(score(first, second).mean()) < 0.1
        if name == "rank_correlation":
            np.testing.assert_allclose(score(first, -second), -score(first, second))
    first[0], second[1] = 2, 0
    found = score(first, second)
    assert np.isnan(found[:2]).all() and np.isfinite(found[2:]).all()
    with pytest.raises(ShapeError, match="resize"):
        score(first, second[:, 1:])
    with pytest.raises(InputError, match="not finite"):
        score(first, np.where(second == second.max(), np.nan, second))


# -- models that forget --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fresh", "shuffled"])
def test_cascade_goes_from_the_top_down_and_leaves_the_model(how: Any) -> None:
    model = seeded(Plain())
    before, draw = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert learned_layers(model) == ["fc", "norm2", "conv2", "norm1", "conv1"]
    copies = list(randomised_copies(model, how=how))
    assert [len(names) for names, _ in copies] == [1, 2, 3, 4, 5]
    for names, made in copies:
        for key, value in made.state_dict().items():
            layer = key.rsplit(".", 1)[0]
            same = torch.equal(value, before[key])
            if layer not in names:
                assert same, (names, key)
            elif value.ndim > 1:
                assert not same, (names, key)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), draw)
    again = [m.state_dict() for _, m in randomised_copies(model, how=how)]
    torch.testing.assert_close([m.state_dict() for _, m in copies], again, rtol=0, atol=0)
    other = next(randomised_copies(model, how=how, seed=1))[1].state_dict()
    assert not torch.equal(other["fc.weight"], again[0]["fc.weight"])


def test_fresh_and_shuffled_weights() -> None:
    model = nn.Sequential(nn.Linear(200, 300), nn.BatchNorm1d(300)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.uniform_(3, 4)
    (_, fresh), (_, shuffled) = (next(randomised_copies(model, 1, how=h)) for h in ("fresh", "shuffled"))  # type: ignore[arg-type]
    assert abs(float(fresh[0].weight.detach().std()) - math.sqrt(2 / 200)) < 1e-3 and not fresh[0].bias.any()
    assert (fresh[1].weight == 1).all() and (fresh[1].running_var == 1).all()
    assert torch.equal(shuffled[0].weight.flatten().sort().values, model[0].weight.flatten().sort().values)


def test_stages() -> None:
    model = seeded(Plain())
    assert [len(n) for n, _ in randomised_copies(model, 2)] == [3, 5]
    assert [len(n) for n, _ in randomised_copies(model, 99)] == [1, 2, 3, 4, 5]
    assert len(next(randomised_copies(model, 1))[0]) == 5
    with pytest.raises(ConfigError, match="stages = 0"):
        next(randomised_copies(model, 0))
    with pytest.raises(InputError, match="no parameters"):
        next(randomised_copies(nn.ReLU()))


# -- the protocol --------------------------------------------------------------------------------------------------


class Finder(nn.Module):
    """Label 0 is a bright disc: a convolution sees it, the bias counts noise out; its maps are the sum it makes."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.see = nn.Conv2d(1, 1, 3, padding=1).double()
        with torch.no_grad():
            self.see.weight.fill_(gain)
            self.see.bias.fill_(-5.5 * gain)

    def forward(self, x: Tensor) -> Prediction:
        maps = self.see(x).relu()
        return Prediction(0.2 * maps.flatten(2).sum(2) - 1, maps)


class Muddled(Finder):
    """Looks at the same random places in every image."""

    def forward(self, x: Tensor) -> Prediction:
        places = images(1, 1, *x.shape[2:], seed=3)
        return Prediction(super().forward(x).logits, places * x.mean((1, 2, 3), keepdim=True))


def own(model: Any, x: Tensor, labels: Any) -> Explanation:
    """The model's own maps."""
    with torch.no_grad():
        found = model(x)
    return explained(found.maps[:, list(labels)], found.logits[:, list(labels)])


def image_edges(model: Any, x: Tensor, labels: Any) -> Explanation:
    """Looks like an explanation and never asks the model."""
    gaps = x.diff(dim=2, prepend=x[:, :, :1]).abs() + x.diff(dim=3, prepend=x[..., :1]).abs()
    return explained(gaps, torch.zeros(len(x), 1))


def explained(maps: Tensor, logits: Tensor) -> Explanation:
    zero = torch.zeros_like(logits)
    where = Placement.tiling(tuple(maps.shape[2:]), tuple(maps.shape[2:]))
    return Explanation(maps, (0,), "test", False, logits, zero, where)


def scene(n: int = 30, size: int = 20) -> TrustCases:
    """Discs at random places on noise, seen by a reader who looks at them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    at = rng.uniform(4, size - 5, (n, 2, 1, 1))
    masks = (y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2 < 9
    film = 0.9 * masks + 0.35 * rng.random((n, size, size))
    gaze = np.exp(-((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2) / 20)
    fixations = rng.poisson(3 * gaze / gaze.max())
    patients = tuple(f"p{i // 2}" for i in range(n))
    average = masks.mean(0)[None]
    return TrustCases(
        torch.from_numpy(film)[:, None], ("disc",), patients, masks[:, None], None, gaze, fixations, average
    )


def verdicts(report: TrustReport, name: str) -> dict[str, str]:
    return {v["criterion"]: v["verdict"] for v in report.verdicts if v["explainer"] == name}


@pytest.fixture(scope="module")
def judged() -> TrustReport:
    seen: list[tuple[int, int]] = []
    explainers = {
        "own": own,
        "looks": image_edges,
        "centred": lambda m, x, k: explained(torch.ones_like(x), x[:, 0, 0, :1]),
    }
    others = TrustModels(Finder(), Finder(1.1), {"other": Finder(0.9)}, Muddled())
    report = run_trust(scene(), others, explainers, QUICK, progress=lambda done, total: seen.append((done, total)))
    by_itself = sum(p.by_itself for p in PARTS.values())
    assert seen == [(i + 1, len(seen)) for i in range(4 * by_itself + 3 * len(PARTS))]
    return report


def test_a_map_that_is_the_model_passes_everything(judged: TrustReport) -> None:
    assert verdicts(judged, "own") == dict.fromkeys(CRITERIA, "passes")


def test_edges_of_the_image_fail_what_they_must(judged: TrustReport) -> None:
    found = verdicts(judged, "looks")
    for criterion in ("weight_randomisation", "label_randomisation", "utility"):
        assert found[criterion] == "fails", criterion
    assert found["repeatability"] == "passes"  # it never changes, whatever the model


def test_a_map_that_says_nothing_is_not_applicable(judged: TrustReport) -> None:
    found = verdicts(judged, "centred")
    applies = {c for c, v in found.items() if v != "n/a"}
    assert applies <= {"utility", "stability"} and found["utility"] == "fails" and found.get("stability") != "fails"


def test_rows_and_comparisons(judged: TrustReport) -> None:
    keys = {"measure", "explainer", "label", "value", "low", "high", "n", "level", "verdict"}
    assert all(set(r) == keys and r["label"] == "disc" for r in judged.rows)
    names = {r["explainer"] for r in judged.rows if r["measure"] == "road"}
    assert names == {"own", "looks", "centred", "random", "centre", "edges", "average_mask"}
    decided = next(r for r in judged.rows if r["measure"] == "road" and r["explainer"] == "own")
    assert decided["verdict"] == "passes" and decided["low"] <= decided["value"] <= decided["high"]
    for v in judged.verdicts:
        assert (
            v["verdict"] in ("passes", "fails", "n/a") and v["rule"] and (v["verdict"] == "n/a") == (v["value"] is None)
        )
    pair = next(c for c in judged.comparisons if c.measure == "road" and {c.explainer, c.against} == {"own", "looks"})
    assert pair.difference.value > 0 and pair.p_holm < 0.05
    plain = judged.to_json()
    assert plain["rows"] and plain["comparisons"][0]["measure"]


def test_part_by_part_is_the_same_and_so_is_a_second_run() -> None:
    cases, models = scene(12), TrustModels(Finder(), Finder(1.1))
    both = {"own": own, "looks": image_edges}
    whole = measure_trust(cases, models, both, QUICK)
    pieces = [measure_trust(cases, models, {n: e}, QUICK, parts=[p]) for n, e in both.items() for p in reversed(PARTS)]
    merged = merge_tables(*pieces)
    assert set(merged) == set(whole) and "ssim_architecture" not in whole
    for measure, columns in whole.items():
        assert set(merged[measure]) == set(columns)
        for name, table in columns.items():
            np.testing.assert_array_equal(merged[measure][name], table)
    reports = [judge(t, cases.labels, cases.patients, QUICK).to_json() for t in (whole, merged)]
    for kind in ("verdicts", "comparisons"):
        ordered = [sorted(map(str, r[kind])) for r in reports]
        assert ordered[0] == ordered[1]


def test_pairs() -> None:
    x = torch.zeros(4, 1, 2, 2)
    present = np.array([[1, 1], [0, 1], [np.nan, 0], [1, 0]])
    masks = np.zeros((4, 2, 2, 2), bool)
    masks[0, 0, 0, 0] = masks[1, :, 1, 1] = True
    who = ("a", "b", "c", "d")

    def chosen(**given: Any) -> list[tuple[int, int]]:
        pairs = choose_pairs(
            TrustCases(x, ("u", "v"), who, **given), lambda x: torch.tensor([[0.0, 1]] * len(x)), QUICK
        )
        return list(zip(pairs.image.tolist(), pairs.label.tolist(), strict=True))

    assert chosen(present=present) == [(0, 0), (0, 1), (1, 1), (3, 0)]
    assert chosen(masks=masks) == [(0, 0), (1, 0), (1, 1)]
    assert chosen(present=present, masks=masks) == [(0, 0), (1, 1)]
    assert chosen() == [(0, 1), (1, 1), (2, 1), (3, 1)]
    pairs = choose_pairs(TrustCases(x, ("u", "v"), ("a", "a", "b", "b"), present=present), None, QUICK)
    found = partner(pairs, np.arange(4), ("a", "a", "b", "b"), 0)
    assert (
        found[0] == 3 and found[1] == 3 and found[2] == 3 and found[3] == 0
    )  # same label first, never the patient's own
    assert (partner(pairs, np.arange(3), ("a", "a", "a", "a"), 0) == -1).all()


def test_volumes_and_several_labels_go_through() -> None:
    model, x = seeded(Net("gap", 3)), images(20, 1, 6, 6, 6)
    masks = np.zeros((20, 3, 6, 6, 6), bool)
    masks[:, :2, 1:3, 1:3, 1:3] = True

    def coarse(model: Any, x: Tensor, labels: Any) -> Explanation:
        a = model.features(x)
        maps = torch.einsum("bf...,lf->bl...", a, model.fc.weight)[:, list(labels)]
        zero = torch.zeros(len(x), 1)
        return Explanation(maps, tuple(labels), "cam", False, zero, zero, Placement((0.0,) * 3, (2.0,) * 3))

    cases = TrustCases(x, ("u", "v", "w"), tuple("abcdefghijklmnopqrst"), masks)
    report = run_trust(cases, TrustModels(model, model), {"cam": coarse}, QUICK)
    rows = {(r["measure"], r["label"]): r for r in report.rows if r["explainer"] == "cam"}
    assert rows["map_average_precision", "pooled"]["n"] == 40 and rows["map_average_precision", "w"]["n"] == 0
    assert verdicts(report, "cam")["repeatability"] == "passes" and rows["ssim_seed", "pooled"]["value"] > 0.999999


def test_a_method_that_cannot_explain_the_other_model_has_no_verdict() -> None:
    def picky(model: Any, x: Tensor, labels: Any) -> Explanation:
        if not isinstance(model, Finder):
            raise InputError("shows no maps of itself")
        return own(model, x, labels)

    other = nn.Sequential(nn.Flatten(), nn.Linear(400, 1)).double()
    models = TrustModels(Finder(), architectures={"other": other})
    report = run_trust(scene(10), models, {"picky": picky}, QUICK, parts=["reproducibility", "other_images"])
    assert verdicts(report, "picky")["reproducibility"] == "n/a"


def test_bad_input() -> None:
    cases, models = scene(4), TrustModels(Finder())
    with pytest.raises(ConfigError, match="did you mean 'gaze'"):
        measure_trust(cases, models, {"own": own}, parts=["gaz"])
    with pytest.raises(ConfigError, match="trivial map"):
        measure_trust(cases, models, {"random": own})
    with pytest.raises(ShapeError, match="masks has shape"):
        TrustCases(cases.images, ("a", "b"), cases.patients, cases.masks)
    with pytest.raises(ShapeError, match="3 patients"):
        TrustCases(cases.images, ("a",), ("p", "q", "r"))
    with pytest.raises(ShapeError, match="road of own"):
        judge({"road": {"own": np.zeros((2, 1))}}, ["a"], ["p"])
    for bad in ({"steps": 0}, {"sanity": -1}, {"alike": 0.0}, {"fill": "grey"}, {"shares": (1.0,)}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            TrustSettings(**bad)  # type: ignore[arg-type]
