"""The protocol of trust on runs of volumes, on images too large to hold, and where there are too few cases."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_stores import VOLUMES, Codes
from tiny_nets import images
from translucid.config import build, read_json
from translucid.errors import InputError
from translucid.evaluate import TrustCases, TrustModels, TrustSettings, judge, measure_trust
from translucid.evaluate.trust_cases import Pairs, choose_pairs, shortage
from translucid.io.index import IndexRow
from translucid.io.places import whole_numbers
from translucid.pipeline import report_run, trust_step
from translucid.pipeline.compress_step import compress
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.places import Places
from translucid.pipeline.train_step import train
from translucid.pipeline.trust_step import cases_of, judge_maps, settings_of, verdict_lines
from translucid.pipeline.variants import Work
from translucid.study import PlacesSettings, ProtocolSettings, Study, Variant
from translucid.tensors import Explanation, Placement

SPACE, GRID = (4, 6, 8), (2, 3, 4)
SETTINGS = PlacesSettings(truth={"mass": "mass"}, grid=GRID)


def a_work(cases: int = 12, **trust: Any) -> tuple[Work, np.ndarray, np.ndarray]:
    """Volumes of 4 × 6 × 8 voxels, a third of them for training; masses on 2 × 3 × 4 cells."""
    rng = np.random.default_rng(0)
    y = np.array([[k % 2] for k in range(cases)], float)
    shares = rng.choice([0.0, 0.25, 0.75, 1.0], (cases, 1, *GRID)).astype(np.float32)
    shares[:, 0, 0, 0, 0] = 1.0
    index = [
        IndexRow(f"c{k:02d}", f"p{k}", "train" if k < cases // 3 else "test", labels={"mass": float(y[k, 0])})
        for k in range(cases)
    ]
    work = Work(RunFolder(Path()), Study(places=SETTINGS, trust=ProtocolSettings(**trust)), "main", Variant(), index)
    work.__dict__["store"] = Codes(images(cases, 1, *SPACE).float().numpy())
    work.__dict__["places"] = Places(Codes(whole_numbers(shares)), SETTINGS, ("mass",), SPACE)
    return work, y, shares


def slow_stretch(cells: np.ndarray) -> np.ndarray:
    """Each voxel lies a quarter of a cell from its cell's centre, along all three axes; eight cells make it."""
    out = np.zeros(SPACE)
    for voxel in product(*map(range, SPACE)):
        for corner in product((0, 1), repeat=3):
            at, weight = [], 1.0
            for v, c, n in zip(voxel, corner, GRID, strict=True):
                place = min(max((v + 0.5) / 2 - 0.5, 0), n - 1)
                left = min(int(place), n - 2)
                at.append(left + c)
                weight *= place - left if c else 1 - (place - left)
            out[voxel] += weight * cells[tuple(at)]
    return out


def test_masks_and_the_average_finding_of_volumes() -> None:
    work, y, shares = a_work()
    cases = cases_of(work)
    assert cases.space == SPACE and cases.patients == tuple(f"p{k}" for k in range(4, 12))
    assert cases.masks is not None and cases.average is not None
    for k in range(8):
        drawn = (shares[4 + k, 0] >= 0.5) * y[4 + k, 0]
        np.testing.assert_array_equal(cases.masks[k, 0], slow_stretch(drawn) >= 0.5)
    np.testing.assert_allclose(cases.average[0], slow_stretch(shares[[1, 3], 0].mean(0)), atol=2e-4)
    np.testing.assert_allclose(cases.images.numpy(), work.store.read(np.arange(4, 12)).reshape(8, 1, *SPACE), atol=1e-7)


def test_fewer_large_volumes_are_judged_and_none_where_not_two_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    work, _, _ = a_work()
    each = np.prod(SPACE) * (4 + 1 + 4)  # the image, a mask, a map: none has more than one label
    monkeypatch.setattr(trust_step, "HELD", 5 * each)
    cases = cases_of(work)
    assert len(cases.patients) == 5
    assert trust_step._left_out(work, cases) == ["5 of 8 cases are judged: more of 4 × 6 × 8 cannot be held"]
    few = a_work(cases=3)[0]
    assert trust_step._left_out(few, cases_of(few)) == []
    monkeypatch.setattr(trust_step, "HELD", 2 * each - 1)
    with pytest.raises(InputError, match=r"4 × 6 × 8 are too large .* framing.spacing"):
        cases_of(work)


def test_as_many_voxels_at_once_as_of_films(monkeypatch: pytest.MonkeyPatch) -> None:
    work, _, _ = a_work()
    assert settings_of(work).rows == TrustSettings.rows
    monkeypatch.setattr(trust_step, "CELLS", 3 * int(np.prod(SPACE)) + 1)
    assert settings_of(work).rows == 3
    assert settings_of(a_work(options={"rows": 7, "stages": 2})[0]).rows == 7


# -- a run -----------------------------------------------------------------------------------------------------------

RECIPE: dict[str, Any] = {
    "baseline": "free",
    "data": VOLUMES | {"split": {"train": 0.5, "val": 0.1, "test": 0.4}},
    "framing": {"kind": "volume", "spacing": 16.0, "shape": [18, 20, 24]},
    "places": {"truth": {"effusion": "effusion", "pneumonia": "pneumonia"}, "grid": [9, 10, 12]},
    "train": {"epochs": 1, "batch": 4},
    "explain": {"cases": 1, "methods": ["hirescam"]},
    "trust": {
        "cases": 6,
        "options": {
            "pairs": 5, "sanity": 4, "steps": 2, "removals": 3, "nearby": 1, "stages": 1, "resamples": 100,
            "shares": [0.5],
        },
    },
    "variants": {
        "free": {"model": {"kind": "axialnet", "trunk": "small", "tail": [], "norm": "group"}},
        "one": {"model": {"kind": "axialnet", "trunk": "small", "tail": [], "norm": "group", "pool": "max"}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    study, run = build(Study, RECIPE), tmp_path_factory.mktemp("trust") / "run"
    compress(study, run)
    train(study, run)
    judge_maps(study, RunFolder(run), lambda line: None, lambda done, total: None)
    return study, run


def test_every_method_is_judged_on_volumes(judged: tuple[Study, Path]) -> None:
    told = read_json(judged[1] / "trust.json")["free"]
    methods = {"native", "hirescam", *trust_step.post_hoc()}
    assert {v["explainer"] for v in told["verdicts"]} == methods and len(methods) == 10
    by = {(v["criterion"], v["explainer"]): v["verdict"] for v in told["verdicts"]}
    unknown = {c for c, _ in by if all(by[c, m] == "n/a" for m in methods)}
    assert unknown == {"gaze"}, "nobody's gaze is known; all else is measured"
    assert all(by[c, m] in ("passes", "fails") for c, m in by if c != "gaze")


def test_numbers_of_the_nets_own_map_are_those_of_hirescam(judged: tuple[Study, Path]) -> None:
    """With groups averaged the network's own map is its HiResCAM, so the protocol must say the same of both."""
    rows = read_json(judged[1] / "trust.json")["free"]["rows"]
    found = {(r["measure"], r["label"], r["explainer"]): r["value"] for r in rows}
    measures = [(m, k) for m, k, e in found if e == "native"]
    assert all(found[m, "pooled", "native"] is not None for m, _ in measures)
    assert len({m for m, _ in measures}) > 15
    for measure, label in measures:
        if measure.startswith(("ssim_arch", "rank_correlation_arch")):
            continue  # where groups compete the two part
        own, other = found[measure, label, "native"], found[measure, label, "hirescam"]
        assert (own is None) == (other is None), (measure, label)
        assert own is None or abs(own - other) < 1e-4, (measure, label)


def test_few_patients_are_warned_of_in_words(judged: tuple[Study, Path]) -> None:
    _, run = judged
    told = read_json(run / "trust.json")
    (said,) = told["free"]["warnings"]
    assert said.startswith("few patients: ") and "with fewer than 20" in said
    assert {"step": "trust", "text": f"free: {said}"} in read_json(run / "run.json")["warnings"]
    lines = verdict_lines(told)
    assert lines[-1] == f"warning: free: {said}" and len(lines) == 11
    report_run(run)
    assert "few patients: " in (run / "report.html").read_text("utf-8")


# -- too few cases -----------------------------------------------------------------------------------------------------


def whole(model: Any, x: Tensor, labels: Any) -> Explanation:
    """The image itself."""
    zero, space = torch.zeros(len(x), 1), tuple(x.shape[2:])
    return Explanation(x, tuple(labels), "image", False, zero, zero, Placement.tiling(space, space))


def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1)).double()


def cases(patients: str, present: list[int]) -> TrustCases:
    n = len(patients)
    return TrustCases(images(n, 1, 4, 4, 4), ("mass",), tuple(patients), present=np.array(present, float)[:, None])


QUICK = TrustSettings(resamples=100, steps=1, removals=2, stages=1, nearby=1)


def test_one_patient_has_no_verdicts_and_the_reason_is_told() -> None:
    given = cases("aaab", [1, 1, 1, 0])
    report = judge(measure_trust(given, TrustModels(net()), {"image": whole}, QUICK), ("mass",), given.patients, QUICK)
    rules = {v["criterion"]: v["rule"] for v in report.verdicts}
    assert {v["verdict"] for v in report.verdicts} == {"n/a"}
    assert rules["road"] == rules["stability"] == "measured on labels of 1 patient, an interval needs 2 patients"
    assert rules["gaze"] == rules["repeatability"] == "not measured"
    (said,) = shortage(given, choose_pairs(given, None, QUICK), QUICK)
    assert said == (
        "every verdict is n/a: 4 cases hold 3 labels that are present; judged are 1 patients in utility and gaze, 1 in "
        "insertion, deletion, ROAD and infidelity, 1 in the other criteria; an interval needs 2 patients, a reliable "
        "one 20 or more"
    )
    told = {"cnn": {**report.to_json(), "warnings": [said]}}
    first, last = verdict_lines(told)
    assert first.startswith("cnn / image: n/a: utility, gaze, ") and "interval needs 2 patients)" in first
    assert last == f"warning: cnn: {said}"


def test_no_case_at_all_has_no_verdicts_and_the_reason_is_told() -> None:
    given = cases("abcd", [0, 0, 0, 0])
    tables = measure_trust(given, TrustModels(net()), {"image": whole, "other": whole}, QUICK)
    report = judge(tables, ("mass",), given.patients, QUICK)
    assert {(v["explainer"], v["verdict"]) for v in report.verdicts} == {("image", "n/a"), ("other", "n/a")}
    (said,) = shortage(given, choose_pairs(given, None, QUICK), QUICK)
    assert said.startswith("every verdict is n/a: 4 cases hold 0 labels that are present; ")


def test_the_gravest_shortage_is_told_once() -> None:
    given = cases("".join(chr(97 + k) for k in range(25)), [1] * 25)

    def said(count: int = 25, **options: Any) -> str:
        pairs = choose_pairs(given, None, replace(QUICK, **options))
        some = Pairs(pairs.image[:count], pairs.label[:count], pairs.drawn[pairs.drawn < count])
        return " ".join(shortage(given, some, replace(QUICK, **options)))

    assert said() == ""
    assert said(19).startswith("few patients: ") and "judged are 19 patients" in said(19)
    assert said(sanity=19).startswith("few patients: ") and "19 in the other criteria" in said(sanity=19)
    assert said(sanity=1).startswith("some verdicts are n/a: ") and "raise trust.options.pairs" in said(sanity=1)
    assert said(1).startswith("every verdict is n/a")
