"""The benchmarks run, on next to nothing, and say what they found; no time is judged here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import claims, engine, heartspot, kernel, memory, run, scaling
from benchmarks.plots import draw, draw_targets
from benchmarks.rivals import Setting, grouped_pass, noise, team
from benchmarks.table import Curve, Part, Row, Watch, as_text, row, shown
from benchmarks.timing import Plan, Samples, Stat, here, measure
from scipy import stats

TINY = Plan(True, 1, 0.0, 2, 160)


def judged(part: Part) -> list[str]:
    return [r.what for r in part.rows if r.target]


def test_ratios_are_taken_turn_by_turn() -> None:
    samples = Samples({"a": [1.0, 2.0, 4.0], "b": [3.0, 4.0, 20.0]}, {"a": [1.0] * 3, "b": [2.0] * 3})
    assert samples.faster("a", "b") == Stat(3.0, 2.0, 5.0, 3)  # not 4 ÷ 2, the ratio of the medians
    assert samples.faster("a", "b", "cpu").median == 2.0
    assert samples.rate("a") == Stat(0.5, 0.25, 1.0, 3)
    assert samples.medians()["b"] == {"wall_s": 4.0, "cpu_s": 2.0}


def test_ways_take_turns_and_see_their_threads() -> None:
    seen: list[tuple[str, int]] = []
    ways = {
        n: here(1, lambda n=n: seen.append((n, torch.get_num_threads())), threads=t) for n, t in (("a", 2), ("b", 1))
    }
    before = torch.get_num_threads()
    try:
        found = measure(ways, 3, 0.0)
    finally:
        torch.set_num_threads(before)
    assert seen[-6:] == [("a", 2), ("b", 1)] * 3
    assert len(found.of("a")) == 3


def test_a_row_knows_its_target_and_its_spread() -> None:
    met = row("x", Stat(2.0, 1.9, 2.1, 3), least=2)
    missed = row("x", Stat(1.31, 0.8, 1.4, 3), most=1.3)
    assert (met.target, met.met, met.unsteady) == ("≥ 2", True, False)
    assert (missed.target, missed.met, missed.unsteady) == ("≤ 1.3", False, True)
    assert row("x", Stat(1.0, 1.0, 1.0, 1)).low is None
    text = as_text([met, missed])
    assert "NOT MET" in text
    assert "~" in text


def test_numbers_are_short() -> None:
    assert [shown(v) for v in (12345.6, 99.95, 0.5, 4.5e-7, 0)] == ["12,346", "100", "0.5", "4.5e-07", "0"]


def test_a_busy_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    said = Watch().complaints([row("x", Stat(1.0, 0.5, 2.0, 3))])
    assert "load average was 99.0" in said[0]
    assert "1 of 1 rows" in said[-1]


@pytest.mark.parametrize("setting", [*kernel.MAIN, *kernel.OTHERS], ids=str)
def test_the_rival_computes_the_same_codes(setting: Setting) -> None:
    assert kernel.agreement(setting, 160) < 1e-5


def test_every_target_of_the_kernel_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_batches", lambda plan: [1, 2])
    monkeypatch.setattr(kernel, "MAIN", kernel.MAIN[:1])
    monkeypatch.setattr(kernel, "cores", lambda: 1)  # no teams; they are tried below
    part = kernel.part(TINY)
    assert [what.removeprefix("Haar J2P19 ") for what in judged(part)[:3]] == [
        "over grouped at its best",
        "over grouped, batches of 32",
        "uint8 over float32",
    ]
    assert len(judged(part)) == 3 + 3 + 1
    assert all(math.isfinite(r.value) and r.value > 0 for r in part.rows)
    assert part.times["Haar J2P19"]["ours"]["wall_s"] > 0


def test_a_team_works_and_goes_home() -> None:
    with team(1, 2, 64) as members:
        way = members.way(Setting("haar", 1, 4), 1)
        assert way.images == 2
        assert way.run(1) > 0
    assert members.processes[0].exitcode == 0


def test_grouped_passes_take_all_images() -> None:
    grouped_pass(noise(3, 32), Setting("haar", 1, 4), 2)


def test_heartspot_and_its_slice_keep_the_same() -> None:
    images = noise(2, 320)
    kept = images[:, :, heartspot.kept_rows(320)].flatten(2)
    assert torch.equal(heartspot.HeartSpot("hline").encode(images), kept)
    assert len(judged(heartspot.part(TINY))) == 2


def test_memory_is_counted() -> None:
    assert memory.rise(lambda: torch.ones(2**24)) > 0.9 * 2**26
    assert memory.extra("ours", Setting("haar", 1, 16), 2, 160) < 100


def test_scaling_curves_have_all_their_points(tmp_path: Path) -> None:
    for curve in (scaling.by_patches(TINY), scaling.by_cores(TINY)):
        assert all(len(line) == len(curve.lines[scaling.KERNEL]) for line in curve.lines.values())
        assert draw(curve, tmp_path, quiet=False).read_bytes().startswith(b"\x89PNG")
        assert len(curve.text().splitlines()) == 3 + len(curve.lines[scaling.KERNEL])


def test_the_engines_rivals_draw_the_same_maps() -> None:
    net, x = engine.network((1, 64, 64), "flatten"), engine.inputs((1, 64, 64), 2)
    mine = engine.ours(net, x, range(2))
    assert engine.apart(mine, engine.full_backward(net, x, range(2))) < 1e-5
    assert engine.apart(mine, engine.layer_backward(net, x, range(2))) < 1e-5
    assert all(p.grad is None for p in net.parameters())


def test_the_allocators_record_counts_what_lives_at_once() -> None:
    def work() -> None:
        a = torch.ones(2**20)
        b = torch.ones(2**20)
        del a, b
        torch.ones(2**18)

    assert engine.peak_bytes(work) == 2 * 2**22


def test_a_frozen_models_maps_cost_no_more_than_themselves() -> None:
    found = engine.memory_row("2-D", engine.network((1, 64, 64)), engine.inputs((1, 64, 64), 2))
    assert found.met
    assert found.value >= 0


def test_table_plots_and_record_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = [(1.0, Stat(2.0, 1.0, 3.0, 3)), (2.0, Stat(3.0, 2.0, 4.0, 3))]
    rows = [row("fast", Stat(2.0, 1.9, 2.1, 3), least=1, cpu=2.2), Row("exact", 0.0, "", "≤ 1e-05", True)]
    part = Part(rows, [Curve("c", "Title", "x", "y", {"ours": line})], {"kernel": {"ours": {"wall_s": 1.0}}})
    monkeypatch.setattr(run, "run_all", lambda names, plan: (part, []))
    assert run.main(["--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert {"machine", "rows", "not_quiet", "seconds_per_image"} <= found.keys()
    assert found["machine"]["cpu"]
    assert found["rows"][0]["met"] is True
    assert (tmp_path / "c.png").exists()
    assert (tmp_path / "targets.png").exists()


def test_targets_in_any_words_find_their_place(tmp_path: Path) -> None:
    rows = [Row("a", 1700.0, "images/s", "≥ 1,700", True), Row("b", 3.0, "×", "under 1.2", False, 2.0, 4.0, 3)]
    assert draw_targets(rows, tmp_path) is not None
    assert draw_targets([Row("c", 1.0, "×")], tmp_path) is None


def test_rows_from_elsewhere_are_taken_as_they_are() -> None:
    made = run.as_row({"what": "x", "value": 1.0, "unit": "%", "target": 80, "met": True, "more": "left out"})
    assert made == Row("x", 1.0, "%", "80", True)


def test_a_benchmark_of_rows_alone_is_taken_in() -> None:
    class Simple:
        @staticmethod
        def rows(quick: bool) -> list[dict[str, object]]:
            return [{"what": "x", "value": float(quick), "unit": "%", "target": None, "met": None}]

    assert run.rows_of(Simple, Plan.rough()).rows == [Row("x", 1.0, "%")]


def a_run(saliency: float, gain: float) -> list[dict[str, Any]]:
    """Rows of metrics.json as a study on saliency writes them."""
    ap = {"measure": "map_average_precision", "label": "pooled", "subset": "", "target": "finding", "split": "test"}
    interval = {"low": 0.1, "high": 0.9}
    values = {"saliency": saliency, "saliency-30": 0.8, "saliency-all": 0.9, "unet": 0.9}
    rows = [ap | {"variant": v, "explainer": "native", "value": x} | interval for v, x in values.items()]
    rows += [ap | {"variant": "cnn", "explainer": e, "value": x} | interval for e, x in (("a", 0.2), ("b", 0.4))]
    rows += [rows[0] | {"versus": "cnn/b", "value": 7.0}, rows[0] | {"split": "val", "value": 7.0}]
    gained = {"measure": "auc_difference", "label": "macro", "variant": "saliency", "versus": "cnn", "split": "test"}
    return [*rows, gained | {"value": gain} | interval]


def test_claims_are_judged_by_their_mean_over_seeds() -> None:
    """Ratios are taken seed by seed; the best of the post-hoc maps is taken; comparisons are told apart."""
    runs = [a_run(0.72, 0.1), a_run(0.76, 0.0), a_run(0.8, -0.2)]
    said = claims.text(claims.CLAIMS["trainable-saliency-phantom"], runs, [5, 6, 7]).splitlines()
    (over,) = [line for line in said if "post-hoc" in line]
    assert over.startswith("saliency over the best of eight post-hoc maps: 1.900 (")
    assert over.endswith("> 1.5: met")
    assert "    seed 6: 0.760 (0.100 to 0.900)" in said
    assert next(line for line in said if "macro AUC" in line).endswith("NOT MET")


def test_the_interval_over_seeds_is_that_of_scipy() -> None:
    values = [0.061, 0.072, 0.049, 0.066]
    mean, low, high = claims.student(values)
    found = stats.ttest_1samp(values, 0.0).confidence_interval()
    assert (mean, low, high) == pytest.approx((sum(values) / 4, found.low, found.high))


def test_one_seed_cannot_tell_whether_an_interval_excludes_zero() -> None:
    claim = claims.Claim("gain", lambda rows: claims.Value(0.06), least=0.0, strictly=True)
    assert claim.holds(*claims.student([0.06])[:2]) is None
    assert "gain: 0.060  > 0: more seeds are needed" in claims.text([claim], [[]], [0])
