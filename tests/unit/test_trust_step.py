"""The protocol of trust on a run folder: its cases, its further networks, and what is kept between calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from small_stores import Codes
from tiny_nets import images
from translucid.config import build, read_json
from translucid.data import Loader
from translucid.errors import InputError
from translucid.io.index import IndexRow
from translucid.io.places import whole_numbers
from translucid.models import load_model
from translucid.pipeline import trust_step
from translucid.pipeline.compress_step import compress
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.places import Extra, Places
from translucid.pipeline.train_step import train
from translucid.pipeline.trust_step import cases_of, judge_maps, verdict_lines
from translucid.pipeline.variants import Work, works
from translucid.study import PlacesSettings, ProtocolSettings, Study, Variant

GRID = (4, 4)
LABELS = ("mass", "free")
SETTINGS = PlacesSettings(truth={"mass": "mass"}, regions={"mass": "heart"}, gaze=True, grid=GRID)


def a_work(**trust: Any) -> tuple[Work, np.ndarray, np.ndarray]:
    """Twenty images of 8 × 8; the store of places has truth:mass, heart and gaze on 4 × 4 cells."""
    rng = np.random.default_rng(0)
    y = np.array([[k % 2, k % 3 == 0] for k in range(20)], float)
    shares = rng.choice([0.0, 0.25, 0.75, 1.0], (20, 3, *GRID)).astype(np.float32)
    shares[1::2, 0, 0, 0] = 1.0
    shares[[3, 13], 0], shares[4, 2] = -1, -1  # nobody drew these, nobody looked at that one
    index = [
        IndexRow(f"c{k:02d}", f"p{k}", "train" if k < 8 else "test", labels=dict(zip(LABELS, row, strict=True)))
        for k, row in enumerate(y.tolist())
    ]
    study = Study(places=SETTINGS, trust=ProtocolSettings(**trust))
    work = Work(RunFolder(Path()), study, "main", Variant(), index)
    work.__dict__["store"] = Codes(images(20, 1, 8, 8).float().numpy())
    work.__dict__["places"] = Places(Codes(whole_numbers(shares)), SETTINGS, LABELS, (8, 8))
    return work, y, shares


def stretched(cells: np.ndarray) -> np.ndarray:
    """4 → 8 along the last two axes: each pixel lies a quarter of a cell from its cell's centre."""
    weights = np.zeros((8, 4))
    for i in range(8):
        at = np.clip((i + 0.5) / 2 - 0.5, 0, 3)
        left = min(int(at), 2)
        weights[i, left] += 1 - (at - left)
        weights[i, left + 1] += at - left
    return np.einsum("yi,xj,...ij->...yx", weights, weights, cells)


def test_cases_hold_what_is_known_of_the_test_split() -> None:
    work, y, shares = a_work()
    cases = cases_of(work)
    rows = np.arange(8, 20)
    assert cases.labels == LABELS and cases.patients == tuple(f"p{k}" for k in rows)
    np.testing.assert_allclose(cases.images.numpy(), work.store.read(rows).reshape(12, 1, 8, 8), atol=1e-7)
    present = y[rows].copy()
    present[13 - 8, 0] = 0  # it is there, but nobody drew where
    present[:, 1] = 0  # the recipe names no drawing for it
    assert cases.present is not None and np.array_equal(cases.present, present)
    drawn = np.maximum(shares[rows, 0], 0) * y[rows, :1, None]
    assert cases.masks is not None and np.array_equal(cases.masks[:, 0], stretched(drawn >= 0.5) >= 0.5)
    assert cases.gaze is not None
    np.testing.assert_allclose(cases.gaze, stretched(np.maximum(shares[rows, 2], 0)), atol=2e-4)


def test_the_average_map_is_the_mean_of_the_training_findings_that_were_drawn() -> None:
    work, _, shares = a_work()
    cases = cases_of(work)
    assert cases.average is not None
    np.testing.assert_allclose(cases.average[0], stretched(shares[[1, 5, 7], 0].mean(0)), atol=2e-4)
    assert not cases.average[1].any()


def test_at_most_so_many_cases_are_drawn_and_always_the_same() -> None:
    few, again = cases_of(a_work(cases=5)[0]), cases_of(a_work(cases=5)[0])
    assert len(few.patients) == 5 and few.patients == again.patients == tuple(sorted(few.patients, key=_number))
    work, _, _ = a_work(cases=5)
    other = cases_of(replace_seed(work, 4))
    assert set(few.patients) <= {f"p{k}" for k in range(8, 20)} and other.patients != few.patients


def _number(name: str) -> int:
    return int(name[1:])


def replace_seed(work: Work, seed: int) -> Work:
    other = Work(work.folder, replace(work.study, seed=seed), work.name, work.variant, work.index)
    other.__dict__.update(store=work.store, places=work.places)
    return other


def test_a_run_without_test_cases_has_nothing_to_judge() -> None:
    work, _, _ = a_work()
    bare = Work(work.folder, work.study, "main", work.variant, [replace(row, split="train") for row in work.index])
    with pytest.raises(InputError, match="test split"):
        cases_of(bare)


def test_regions_follow_the_shuffled_labels() -> None:
    work, y, _ = a_work()
    assert work.places is not None
    rows = work.rows("train")
    extra = {"regions": Extra(work.places, "regions", rows, y[rows], np.ones(len(rows), bool))}
    shuffled = y[rows][::-1].copy()
    loader = trust_step._relabelled(Loader(np.zeros((8, 1, 8, 8)), y[rows], batch=8, extra=extra), shuffled)
    batch = next(iter(loader))
    assert np.array_equal(batch.y.numpy(), shuffled)
    assert np.array_equal(batch.extra["regions"].numpy(), work.places.regions(rows, shuffled))
    assert np.array_equal(batch.extra["regions"].flatten(2).any(2)[:, 0].numpy(), shuffled[:, 0] == 1)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """Two small networks on forty films, trained, with nothing judged yet."""
    options = {"patients": 40, "visits": [1, 1], "size": 32, "label_noise": 0.0, "prevalence": {"pneumonia": 0.5}}
    study = build(
        Study,
        {
            "baseline": "cnn",
            "data": {"layout": "phantom", "labels": ["pneumonia"], "options": options},
            "framing": {"kind": "resize", "size": 32},
            "places": {"truth": {"pneumonia": "pneumonia"}, "grid": [8, 8]},
            "train": {"epochs": 1, "batch": 16},
            "explain": {"methods": ["gradcam"]},
            "trust": {
                "cases": 4,
                "options": {
                    "pairs": 2, "sanity": 1, "steps": 1, "removals": 2, "nearby": 1, "stages": 1, "resamples": 100,
                    "shares": [0.5],
                },
            },
            "variants": {
                "cnn": {"model": {"kind": "small_cnn"}},
                "flat": {"model": {"kind": "small_cnn", "head": "flatten"}},
            },
        },
    )  # fmt: skip
    run = tmp_path_factory.mktemp("trust") / "run"
    compress(study, run)
    train(study, run)
    return study, run


def judge(study: Study, run: Path, echo: Any = lambda line: None) -> None:
    judge_maps(study, RunFolder(run), echo, lambda done, total: None)


def test_judging_is_kept_and_goes_on_where_it_was_stopped(
    run_folder: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, run = run_folder
    # two of the post-hoc methods are enough to see what is kept
    monkeypatch.setattr(trust_step, "post_hoc", lambda: {"gradcam": trust_step.EXPLAINERS["gradcam"]()})
    said: list[str] = []
    both = replace(study, trust=replace(study.trust, variants=("cnn", "flat")))
    real = trust_step.trust

    def stopped(cases: Any, models: Any, *rest: Any, **more: Any) -> Any:
        if len([line for line in said if line.startswith("trust: ") and "train" not in line]) == 2:
            raise KeyboardInterrupt
        return real(cases, models, *rest, **more)

    monkeypatch.setattr(trust_step, "trust", stopped)
    with pytest.raises(KeyboardInterrupt):
        judge(both, run, said.append)
    assert list(read_json(run / "trust.json")) == ["cnn"], "the finished variant is kept"
    assert sum("again" in line for line in said) == 4, "each network once from another seed, once on shuffled labels"
    weights = {p: p.stat().st_mtime_ns for p in (run / "models").rglob("model.safetensors")}
    assert {p.parent.name for p in weights} == {
        "cnn", "flat", "cnn.seed", "cnn.shuffled", "flat.seed", "flat.shuffled",
    }  # fmt: skip
    monkeypatch.setattr(trust_step, "trust", real)
    before = read_json(run / "trust.json")["cnn"]
    more: list[str] = []
    judge(both, run, more.append)
    told = read_json(run / "trust.json")
    assert list(told) == ["cnn", "flat"] and told["cnn"] == before
    assert more == ["trust: flat"], "neither the finished variant nor the further networks are made again"
    assert {p: p.stat().st_mtime_ns for p in weights} == weights
    lines = [line for line in verdict_lines(told) if not line.startswith("warning: ")]
    assert len(lines) == len({(v, e["explainer"]) for v in told for e in told[v]["verdicts"]})
    quiet: list[str] = []
    judge(both, run, quiet.append)
    assert quiet == []
    _again_differs(run)
    _fewer_are_forgotten(study, run)


def test_methods_that_a_variant_names_are_judged_beside_the_usual_ones(
    run_folder: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, run = run_folder
    work = works(RunFolder(run), study)[0]
    model = load_model(run / "models" / "cnn")[0]
    assert "xrai" not in trust_step._explainers(work, model) and len(trust_step._explainers(work, model)) == 9
    named = replace(study, variants={"cnn": replace(study.variants["cnn"], methods=("xrai", "gradcam"))})
    work = works(RunFolder(run), named)[0]
    assert set(trust_step._explainers(work, model)) == {"xrai", "hirescam", *trust_step.post_hoc()}
    monkeypatch.setattr(trust_step, "post_hoc", dict)
    judge(named, run)
    told = read_json(run / "trust.json")["cnn"]["verdicts"]
    assert {entry["explainer"] for entry in told} == {"xrai", "gradcam", "hirescam"}


def _again_differs(run: Path) -> None:
    """Other weights, the same network."""
    nets: list[nn.Module] = [load_model(run / "models" / name)[0] for name in ("cnn", "cnn.seed", "cnn.shuffled")]
    first = [next(iter(net.parameters())) for net in nets]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    assert first[0].shape == first[1].shape == first[2].shape


def _fewer_are_forgotten(study: Study, run: Path) -> None:
    """Without a list the baseline is judged; what nobody asks for any more leaves the file."""
    judge(study, run)
    assert list(read_json(run / "trust.json")) == ["cnn"]
    strange = replace(study, trust=replace(study.trust, variants=("cn",)))
    with pytest.raises(InputError, match="did you mean 'cnn'"):
        judge(strange, run)
