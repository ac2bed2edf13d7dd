"""The verbs `audit` and `frontier` over a small run folder, and what they refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from translucid.audit import Budget, Cohort, Task
from translucid.cli import main
from translucid.compress import HeartSpot, Noise, RandomProjection
from translucid.config import build, read_json, write_json
from translucid.errors import ConfigError, InputError, LeakError
from translucid.io.index import IndexRow
from translucid.pipeline import compress, train
from translucid.pipeline.audit_members import confidence
from translucid.pipeline.audit_plan import (
    attributes_of,
    audit_plan,
    checked,
    holds_letters,
    left_out,
    refuse_shared,
    under_another_key,
    visits_of,
)
from translucid.pipeline.audit_step import audit, audit_table, pieces_of
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.frontier_step import frontier, frontier_table, pareto
from translucid.pipeline.spending import spending
from translucid.study import Study

HLINE = {"kind": "heartspot", "prior": "hline"}
BUDGET = {
    "grid": 16, "plain_side": 32, "epochs": 1, "copies": 0, "width": 4, "batch": 32, "resamples": 30,
}  # fmt: skip
TABLE: dict[str, Any] = {
    "baseline": "plain",
    "workers": 1,
    "data": {
        "layout": "phantom",
        "labels": ["cardiomegaly"],
        "options": {"patients": 24, "visits": [2, 2], "size": 64},
        "split": {"train": 0.5, "val": 0.2, "test": 0.3},
    },
    "framing": {"kind": "resize", "size": 64},
    "variants": {
        "plain": {"model": {"kind": "small_cnn"}},
        "hline": {"compress": HLINE, "model": {"kind": "heartspot_mlp", "widths": [16, 8]}},
    },
    "audit": {"parts": ["verification", "attributes", "bounds"], "budget": BUDGET},
}
KEYS = {"attack", "measure", "compressor", "value", "low", "high", "n", "chance", "plain", "budget"}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study, list[dict[str, Any]]]:
    run, study = tmp_path_factory.mktemp("audit") / "run", build(Study, TABLE)
    compress(study, run)
    return run, study, audit(study, run)


def tasks_of(run: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted((run / "audit" / "tasks").glob("*/*.json"))}


def store_of(run: Path) -> str:
    return next(name for name in RunFolder(run).record()["stores"] if name != "plain")


def test_rows_say_what_every_row_of_an_audit_says(audited: Any) -> None:
    run, _, rows = audited
    assert rows == read_json(run / "audit.json")
    assert all(set(row) >= KEYS for row in rows)
    assert {r["compressor"] for r in rows if r["attack"] == "verification/lda"} >= {"plain", "noise", store_of(run)}
    assert {r["attack"].split("/")[0] for r in rows} == {"verification", "attributes", "bounds"}
    measured = {r["measure"] for r in rows if r["attack"].startswith("attributes/")}
    assert {"sex.auc", "age.r2", "diagnosis cardiomegaly.auc"} <= measured
    assert "heartspot" in audit_table(rows)


def test_stored_records_are_what_the_compressor_makes_of_the_stored_films(audited: Any) -> None:
    run, study, _ = audited
    plan = audit_plan(RunFolder(run), checked(study))
    codec = plan.codecs[store_of(run)]
    assert codec.encode is not None
    assert codec.codes is not None
    assert float((codec.encode(plan.cohort.images) - codec.codes).abs().max()) < 1e-5
    assert plan.cohort.when is not None
    assert plan.cohort.images.shape == (48, 1, 64, 64)


def test_a_stopped_audit_goes_on_and_keeps_what_is_finished(audited: Any, tmp_path: Path) -> None:
    run, study, rows = audited
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = tasks_of(copy)
    (copy / "audit.json").unlink()
    lost = next(copy.glob("audit/tasks/*/0001.json"))
    lost.unlink()
    again = audit(study, copy)
    after = tasks_of(copy)
    assert {k: v for k, v in after.items() if k != lost.name} == {k: v for k, v in before.items() if k != lost.name}
    strip = [{k: v for k, v in row.items() if k != "budget"} for row in rows]
    assert [{k: v for k, v in row.items() if k != "budget"} for row in again] == strip
    assert RunFolder(copy).record()["steps"]["audit"]["tasks"] == 1


def test_two_workers_find_the_same(audited: Any, tmp_path: Path) -> None:
    run, study, rows = audited
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "audit.json").unlink()
    for file in copy.glob("audit/tasks/*/000[0-3].json"):
        file.unlink()
    again = audit(replace(study, workers=2), copy)
    assert [(r["attack"], r["measure"], r["value"]) for r in again] == [
        (r["attack"], r["measure"], r["value"]) for r in rows
    ]


def test_an_audit_needs_plain_films_headers_and_patients_seen_twice(audited: Any, tmp_path: Path) -> None:
    run, study, _ = audited
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    parts = replace(study, audit=replace(study.audit, parts=("verification",)))
    (copy / "codes" / store_of(run) / "header.json").unlink()
    with pytest.raises(InputError, match="is not there: the store is unfinished"):
        audit(parts, copy)
    few = build(Study, TABLE | {"data": TABLE["data"] | {"limit": 12}})
    compress(few, tmp_path / "few")
    with pytest.raises(InputError, match="have two films"):
        audit(few, tmp_path / "few")
    bare = build(
        Study, {k: v for k, v in TABLE.items() if k not in ("audit", "variants", "baseline")} | {"compress": HLINE}
    )
    compress(bare, tmp_path / "bare")
    with pytest.raises(InputError, match="keeps no framed plain images"):
        audit(bare, tmp_path / "bare")


def test_models_and_their_maps_are_audited_as_well(audited: Any, tmp_path: Path) -> None:
    run, study, _ = audited
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    settings = replace(study, audit=replace(study.audit, parts=("bounds", "membership", "explanations")))
    settings = replace(settings, train={"epochs": 1, "batch": 16})
    train(settings, copy)
    rows = audit(settings, copy)
    tested = {(r["attack"], r["compressor"]) for r in rows}
    assert {("membership/loss_threshold", "plain"), ("membership/loss_threshold", "hline")} <= tested
    assert ("bounds/length", "maps of plain") in tested
    assert ("bounds/length", "maps of hline") not in tested  # it sees no image, so it releases no map of one
    held = [r["compressor"] for r in rows if r["attack"] == "membership/loss_threshold" and r["measure"] == "control"]
    assert sorted(held) == ["constant", "nothing hidden"]


def test_shadows_are_trained_once_and_kept(audited: Any, tmp_path: Path) -> None:
    run, study, _ = audited
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    members = replace(study.audit, parts=("membership",), shadows=4, shadowed=("hline",))
    settings = replace(study, audit=members, train={"epochs": 2, "batch": 8})
    train(settings, copy)
    rows = audit(settings, copy)
    lira = {r["measure"]: r for r in rows if r["attack"] == "membership/lira" and r["compressor"] == "hline"}
    assert lira["auc"]["budget"]["shadows"] == 4
    assert lira["auc"]["low"] is not None
    assert not any(r["attack"] == "membership/lira" and r["compressor"] == "plain" for r in rows)
    assert {r["compressor"] for r in rows if r["attack"] == "membership/best"} == {"plain", "hline"}
    files = sorted(copy.glob("audit/shadows/*/*"))
    assert [f.name for f in files] == [f"hline-0{k}.npy" for k in range(4)]
    times = [f.stat().st_mtime_ns for f in files]
    files[2].unlink()
    (copy / "audit.json").unlink()
    assert audit(settings, copy) == rows
    now = [f.stat().st_mtime_ns for f in files]
    assert [a == b for a, b in zip(times, now, strict=True)] == [True, True, False, True]


def test_letters_and_second_keys_are_tried_in_a_run(tmp_path: Path) -> None:
    lines = {"kind": "heartspot", "prior": "rhline", "lines": 12}
    variants = {"plain": {}, "lines": {"compress": lines}}
    settings = {"parts": ["text", "unlinkability"], "budget": BUDGET | {"plain_side": 64}}
    study = build(Study, TABLE | {"variants": variants, "audit": settings})
    compress(study, tmp_path)
    rows = audit(study, tmp_path)
    plan = audit_plan(RunFolder(tmp_path), checked(study))
    (name,) = plan.rekeyed
    both = [plan.codecs[name].encode, plan.rekeyed[name].encode]
    assert all(both)
    one, two = (how(plan.cohort.images[:1]) for how in both if how)
    assert one.shape != two.shape or not torch.equal(one, two)
    read = {r["attack"] for r in rows if r["compressor"] == name and r["measure"] == "middle.letters_read"}
    assert read == {"text/inverse", "text/ridge", "text/best"}
    joined = {r["attack"] for r in rows if r["compressor"] == name and r["attack"].startswith("unlinkability/")}
    assert {"unlinkability/values", "unlinkability/cross", "unlinkability/best"} <= joined
    held = [r for r in rows if r["measure"] == "control"]
    assert {r["attack"] for r in held} >= {"text/inverse", "text/ridge", "unlinkability/cross", "unlinkability/values"}
    assert all(r["low"] is not None and r["n"] > 0 for r in held)


def test_parts_that_cannot_be_measured_are_named(audited: Any) -> None:
    run, study, _ = audited
    parts = replace(study, audit=replace(study.audit, parts=("text", "unlinkability")))
    plan = audit_plan(RunFolder(run), checked(parts))
    assert left_out(plan) == [
        "text was left out: films of 64×64 pixels hold no line of letters",
        "unlinkability was left out: no compressor here draws what it keeps, so none has a second key",
    ]
    assert holds_letters(plan.cohort, Budget(grid=16, plain_side=64))


def test_another_key_draws_anew_and_goes_through_noise() -> None:
    spot = HeartSpot("rline", seed=4)
    assert under_another_key(spot) == HeartSpot("rline", seed=5)
    assert under_another_key(RandomProjection(seed=1)) == RandomProjection(seed=2)
    noisy = under_another_key(Noise(spot, pixels=4))
    assert isinstance(noisy, Noise)
    assert noisy.compressor == HeartSpot("rline", seed=5)
    assert under_another_key(HeartSpot("hline")) is None
    assert under_another_key(Noise(HeartSpot("hline"))) is None


def test_costly_attacks_come_first_and_every_task_stands_in_one_shard() -> None:
    names = ("l2", "decoder", "lda", "contrastive")
    todo = [Task(a, c) for c in ("plain", "constant", "x") for a in names]
    pieces = pieces_of(todo)
    assert sorted(n for piece in pieces for n in piece) == list(range(len(todo)))
    assert [todo[n].attack for piece in pieces[:4] for n in piece] == ["decoder"] * 2 + ["contrastive"] * 2
    assert {len({todo[n].codec for n in piece}) for piece in pieces} == {1}


def test_every_draw_of_noise_is_counted(tmp_path: Path) -> None:
    def pix(epsilon: float) -> Study:
        noisy = {"kind": "dp_pix", "block": 8, "images": 2, "epsilon": epsilon}
        return build(Study, TABLE | {"audit": {}, "variants": {"plain": {}, "pix": {"compress": noisy}}})

    folder = compress(pix(0.5), tmp_path)
    (line,) = spending(folder)
    assert "a second release of the same images spends ε = 1 of a patient's budget again" in line
    compress(pix(0.5), tmp_path)  # finished already: nothing is drawn
    assert spending(folder) == [line]
    compress(pix(2.0), tmp_path)
    (line,) = spending(folder)
    assert "drawn 2 times" in line
    assert "a patient's is ε = 5," in line  # 2 · 0.5 and 2 · 2
    told = [w["text"] for w in folder.record()["warnings"] if w["step"] == "compress"]
    assert line in told
    assert spending(compress(build(Study, TABLE | {"audit": {}}), tmp_path / "other")) == []


def test_patients_in_two_splits_and_unknown_parts_are_refused() -> None:
    rows = [IndexRow("c1", "p", "train"), IndexRow("c2", "p", "test"), IndexRow("c3", "q", "")]
    with pytest.raises(LeakError, match="1 patients stand in two splits"):
        refuse_shared(rows)
    with pytest.raises(ConfigError, match="did you mean 'verification'"):
        checked(build(Study, {"audit": {"parts": ["verificaton"]}}))
    with pytest.raises(ConfigError, match=r"audit.budget.epoch is unknown"):
        checked(build(Study, {"audit": {"parts": ["bounds"], "budget": {"epoch": 3}}}))
    with pytest.raises(ConfigError, match=r"audit.shadowed: no variant 'man'.*did you mean 'main'"):
        checked(build(Study, {"audit": {"shadowed": ["man"]}}))
    with pytest.raises(ConfigError, match=r"audit.shadows = 3: take an even number"):
        build(Study, {"audit": {"shadows": 3}})
    who = np.arange(40) // 2
    with pytest.raises(LeakError):
        Cohort(torch.rand(40, 1, 16, 16), who, np.arange(40) % 2 == 0)


def test_attributes_are_numbers_words_and_diagnoses() -> None:
    rows = [
        IndexRow("a", "p", labels={"x": 1.0}, attributes={"sex": "F", "age": "40", "device": "D", "visit": "0"}),
        IndexRow("b", "q", labels={"x": None}, attributes={"sex": "M", "device": "D", "visit": "1"}),
        IndexRow("c", "r", labels={"x": 0.0}, attributes={"sex": "M", "age": "61", "device": "D", "visit": "4"}),
    ]
    found = attributes_of(rows, ("sex", "age", "device", "weight"))
    assert set(found) == {"sex", "age", "diagnosis x"}
    assert found["age"][[0, 2]].tolist() == [40.0, 61.0]
    assert np.isnan(found["age"][1])
    assert np.isnan(found["diagnosis x"][1])
    when = visits_of(rows)
    assert when is not None
    assert when.tolist() == [0.0, 1.0, 4.0]


def test_confidence_is_the_log_odds_of_the_true_labels() -> None:
    logits, y = np.array([[0.7, -2.0], [1.5, 0.3]]), np.array([[1.0, 0.0], [0.0, np.nan]])
    p = 1 / (1 + np.exp(-logits))
    odds = np.log(p / (1 - p))
    assert np.allclose(confidence(logits, y), [odds[0, 0] - odds[0, 1], -odds[1, 0]])


def test_a_guarantee_for_fewer_images_than_a_patient_has_is_refused(tmp_path: Path) -> None:
    table = TABLE | {"variants": {"plain": {}, "pix": {"compress": {"kind": "dp_pix", "block": 8, "images": 1}}}}
    with pytest.raises(ConfigError, match="states images = 1, but a patient has 2"):
        compress(build(Study, table), tmp_path / "run")


# -- the frontier on made-up numbers ------------------------------------------------------------------------------


def made(tmp_path: Path, aucs: dict[str, tuple[float, float]], ranks: dict[str, float | None]) -> tuple[Study, Path]:
    """A run folder with these AUCs (validation, test) by variant and rank-1 rates by store; nothing is compressed."""
    kinds = {
        "plain": {"kind": "plain"},
        "blur": {"kind": "blur"},
        "blur2": {"kind": "blur"},
        "pix": {"kind": "pixelise"},
    }
    study = build(Study, {"baseline": "plain", "variants": {name: {"compress": kinds[name]} for name in aucs}})
    folder = RunFolder(tmp_path)
    folder.begin(study)
    sizes = {"plain": 1000.0, "blur": 100.0, "pixelise": 10.0}
    stores = {s: {"bytes_per_image": sizes[s], "share_of_values": sizes[s] / 1000} for s in study.stores}
    folder.note("steps", "compress", value={"stores": stores})
    numbers = {"low": None, "high": None, "n": 9}
    metrics: list[dict[str, Any]] = [
        {"measure": "auc", "variant": name, "label": label, "split": split, "value": value} | numbers
        for name, pair in aucs.items()
        for split, value in zip(("val", "test"), pair, strict=True)
        for label in ("macro", "effusion")
    ]
    shown = {"measure": "map_average_precision", "variant": "pix", "split": "test", "subset": "", "label": "pooled"}
    metrics.append(shown | {"explainer": "native", "value": 0.4} | numbers)
    rows = [
        {"attack": "verification/best", "measure": m, "compressor": s, "value": v, "low": 0.0, "high": 1.0}
        for s, rank in ranks.items()
        for m, v in (("rank1@10", 1.0), ("rank1@100", rank), ("auc", 0.7))
    ]
    write_json(tmp_path / "metrics.json", metrics)
    write_json(tmp_path / "audit.json", rows)
    return study, tmp_path


def test_the_frontier_takes_the_best_by_validation_and_the_largest_gallery(tmp_path: Path) -> None:
    aucs = {"plain": (0.9, 0.9), "blur": (0.8, 0.95), "blur2": (0.85, 0.89), "pix": (0.7, 0.7)}
    study, run = made(tmp_path, aucs, {"plain": 0.9, "blur": 0.5, "pixelise": 0.1})
    found = frontier(study, run, 0.02)
    assert found == read_json(run / "frontier.json")
    by = {r["compressor"]: r for r in found["rows"]}
    assert by["blur"]["variant"] == "blur2"
    assert by["blur"]["auc"]["value"] == 0.89
    assert by["blur"]["rank1"]["value"] == 0.5
    assert by["pixelise"]["explanation"]["value"] == 0.4
    assert [r["front"] for r in found["rows"]] == [True, True, True]
    assert found["recommendation"]["compressor"] == "blur"
    assert "loses 0.010" in found["recommendation"]["reason"]
    assert frontier(study, run, 0.5)["recommendation"]["compressor"] == "pixelise"
    assert frontier(study, run, 0.0)["recommendation"] is None
    assert "no recommendation" in frontier_table(frontier(study, run, 0.0))


def test_a_withheld_rank_is_on_no_front_and_never_recommended(tmp_path: Path) -> None:
    study, run = made(tmp_path, {"plain": (0.9, 0.9), "pix": (0.9, 0.9)}, {"plain": 0.9, "pixelise": None})
    found = frontier(study, run)
    assert [r["front"] for r in found["rows"]] == [True, False]
    assert found["recommendation"] is None


def test_the_front_is_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 5, (40, 3)).astype(float)
    rows = [({"value": a}, {"value": b}, c) for a, b, c in points]
    slow = []
    for a, b, c in points:
        better = [p for p in points if p[0] >= a and p[1] <= b and p[2] <= c and (p[0] > a or p[1] < b or p[2] < c)]
        slow.append(not better)
    assert pareto(rows) == slow


def test_the_frontier_command_asks_for_an_audit_first(tmp_path: Path) -> None:
    study, run = made(tmp_path, {"plain": (0.9, 0.9)}, {"plain": 0.9})
    said = CliRunner().invoke(main, ["frontier", str(run), "--max-auc-loss", "0.1"])
    assert said.exit_code == 0, said.output
    assert "under" in said.output or "no recommendation" in said.output
    (run / "audit.json").unlink()
    said = CliRunner().invoke(main, ["frontier", str(run)])
    assert said.exit_code == 2
    assert "has not been audited yet" in said.output
    with pytest.raises(ConfigError, match="max AUC loss"):
        frontier(study, run, 2.0)
