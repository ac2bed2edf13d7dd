"""An audit as tasks: which there are, what they answer, how they are joined, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from audit_phantoms import SMALL, cohort, films, keyed
from translucid.audit import (
    ATTACKS,
    Audit,
    Budget,
    Codec,
    Cohort,
    Task,
    audit,
    gather,
    halves,
    membership_rows,
    run_task,
    set_up,
    tasks,
)
from translucid.audit.plan import CONSTANT, NOISE, PLAIN, REKEYED
from translucid.audit.table import AGAINST_NOISE
from translucid.errors import ConfigError, InputError, LeakError, ShapeError

FAST = replace(SMALL, epochs=2, resamples=40)
COLUMNS = {"attack", "measure", "compressor", "value", "low", "high", "n", "chance", "plain", "budget"}


def rows_codec(name: str = "rows", every: int = 4) -> Codec:
    return Codec(name, lambda x: x[:, :, ::every].flatten(2), lambda z: z.unflatten(-1, (-1, 32)))


@cache
def small() -> Audit:
    return Audit(cohort(60), {"rows": rows_codec()}, budget=FAST)


@cache
def found() -> list[dict[str, Any]]:
    return audit(small().cohort, small().codecs, ("verification", "linkage_same", "bounds"), budget=FAST)


# -- what is refused ---------------------------------------------------------------------------------------------


def test_a_patient_on_both_sides_is_refused() -> None:
    x, who = films(40, 2)
    with pytest.raises(LeakError, match="1 patients stand on both sides"):
        Cohort(x, who, np.arange(80) < 41)


def test_too_few_patients_with_two_films_are_refused() -> None:
    x, who = films(30, 1)
    with pytest.raises(InputError, match="only 0 of the scored patients have two films"):
        Cohort(x, who, who < 15)


def test_arrays_must_be_aligned_and_images_flat() -> None:
    x, who = films(40, 2)
    with pytest.raises(ShapeError, match="as many rows"):
        Cohort(x, who[:-1], who < 20)
    with pytest.raises(ShapeError, match="channel, height, width"):
        Cohort(x[..., None], who, who < 20)


def test_unknown_words_are_refused_with_the_nearest() -> None:
    base = cohort(40)
    with pytest.raises(ConfigError, match="did you mean 'verification'"):
        Audit(base, {}, ("verificaton",))
    with pytest.raises(ConfigError, match="did you mean 'lda'"):
        Audit(base, {}, leave_out=("lad",))
    with pytest.raises(ConfigError, match="reserved"):
        Audit(base, {PLAIN: rows_codec()})
    with pytest.raises(ConfigError, match="did you mean 'rows'"):
        set_up(small(), "row")
    with pytest.raises(ConfigError, match="multiples of 16"):
        Budget(grid=20)


def test_a_store_of_other_length_is_refused() -> None:
    codec = Codec("bad", None, codes=torch.zeros(180, 5))
    with pytest.raises(ShapeError, match=r"\(n, channel, code\)"):
        set_up(Audit(cohort(60), {"bad": codec}, budget=FAST), "bad")


# -- tasks -------------------------------------------------------------------------------------------------------


def test_every_compressor_meets_the_whole_ladder() -> None:
    todo = tasks(small())
    assert len(set(todo)) == len(todo)
    for name in (PLAIN, NOISE, CONSTANT, "rows"):
        mine = {t.attack for t in todo if t.codec == name}
        barred = {"inverse"} if name == "rows" else set()
        assert mine - {"bounds"} == set(ATTACKS) - {"loss_threshold", "lira", "values"} - set(AGAINST_NOISE) - barred


def test_records_without_encoder_are_verified_but_not_linked() -> None:
    maps = Codec("maps", None, codes=torch.rand(180, 1, 9))
    plan = Audit(cohort(60), {"maps": maps}, ("verification", "linkage_same"), FAST)
    assert "cross" not in {t.attack for t in tasks(plan) if t.codec == "maps"}
    rows = run_task(plan, Task("lda", "maps"))
    assert {r["attack"] for r in rows} == {"verification/lda"}


def test_a_task_is_the_same_alone_and_in_company_and_again() -> None:
    task = Task("lda", "rows")
    one, two = run_task(small(), task), run_task(small(), task, set_up(small(), "rows"))
    strip = [{k: v for k, v in r.items() if k != "budget"} for r in one]
    assert strip == [{k: v for k, v in r.items() if k != "budget"} for r in two]
    spent = one[0]["budget"]
    assert spent["images"] == 90
    assert spent["copies"] == 90
    assert spent["patients"] == 30
    assert spent["seconds"] >= 0
    assert spent["follow_up"] == 2.0


# -- rows --------------------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_run_folder_and_json() -> None:
    for r in found():
        assert set(r) >= COLUMNS
        assert set(r) - COLUMNS <= {"reason", "rung", "holds"}
        if None not in (r["value"], r["low"], r["high"]):
            assert r["low"] - 1e-9 <= r["value"] <= r["high"] + 1e-9
    json.dumps(found(), allow_nan=False)


def one(attack: str, measure: str, codec: str) -> dict[str, Any]:
    (row,) = [r for r in found() if (r["attack"], r["measure"], r["compressor"]) == (attack, measure, codec)]
    return row


def test_stable_identity_is_found_in_plain_films_and_not_in_noise() -> None:
    assert one("verification/best", "auc", PLAIN)["value"] >= 0.99
    noise = one("verification/best", "auc", NOISE)
    assert noise["low"] <= 0.5 <= noise["high"]
    assert one("linkage_same/l2", "rank1@30", "rows")["value"] == 1.0
    linked = one("linkage_same/l2", "rank1@30", NOISE)
    assert linked["low"] <= 1 / 30 <= linked["high"]


def test_the_plain_column_and_chance_stand_beside() -> None:
    row = one("verification/lda", "auc", "rows")
    assert row["plain"] == one("verification/lda", "auc", PLAIN)["value"]
    assert row["chance"] == 0.5
    assert one("verification/lda", "rank1@30", "rows")["chance"] == pytest.approx(1 / 30)


def test_the_best_rung_is_chosen_on_validation_patients() -> None:
    own = {
        r["attack"]: r["value"]
        for r in found()
        if r["measure"] == "validation" and r["compressor"] == "rows" and r["attack"].startswith("verification/")
    }
    best = one("verification/best", "auc", "rows")
    assert own[f"verification/{best['rung']}"] == max(own.values())
    assert best["value"] == one(f"verification/{best['rung']}", "auc", "rows")["value"]


def test_bounds_say_when_they_say_nothing() -> None:
    row = one("bounds/length", "rank1_at_most@30", "rows")
    assert row["value"] == 1.0
    assert row["reason"] == "vacuous"
    noisy = replace(rows_codec(), sigma=30.0)
    rows = run_task(Audit(small().cohort, {"rows": noisy}, budget=FAST), Task("bounds", "rows"))
    told = {(r["attack"], r["measure"]): r for r in rows}
    assert told["bounds/gaussian", "bits"]["value"] < 1
    assert told["bounds/gaussian", "rank1_at_most@30"]["value"] < 0.5
    assert "reason" not in told["bounds/gaussian", "rank1_at_most@30"]


# -- controls ----------------------------------------------------------------------------------------------------


def test_a_failed_control_withholds_the_numbers_with_a_reason() -> None:
    rows = [r for name in (PLAIN, CONSTANT, "rows") for r in run_task(small(), Task("l2", name))]
    assert all(r["value"] is not None for r in gather(rows) if r["measure"] == "auc")
    for r in rows:
        if r["measure"] == "control" and r["compressor"] == CONSTANT and r["attack"] == "verification/l2":
            r["holds"] = False
    joined = gather(rows)
    lost = [r for r in joined if r["attack"] == "verification/l2" and r["measure"] != "control"]
    assert lost
    assert all(r["value"] is None and r["low"] is None and "constant" in r["reason"] for r in lost)
    kept = [r for r in joined if r["attack"] == "linkage_same/l2" and r["measure"] == "auc"]
    assert all(r["value"] is not None for r in kept)


def test_without_controls_nothing_is_told() -> None:
    rows = run_task(small(), Task("l2", "rows"))
    joined = [r for r in gather(rows) if r["measure"] == "auc"]
    assert joined
    assert all(r["value"] is None and "was not run" in r["reason"] for r in joined)


def test_gathering_does_not_change_what_it_is_given() -> None:
    rows = run_task(small(), Task("l2", "rows"))
    before = json.dumps(rows)
    gather(rows)
    assert json.dumps(rows) == before


# -- keys and models ---------------------------------------------------------------------------------------------


def test_two_keys_of_random_pixels_are_linked_by_a_trained_attacker() -> None:
    plan = Audit(cohort(60), {"spots": keyed(1)}, ("unlinkability",), SMALL, rekeyed={"spots": keyed(2)})
    name = "spots" + REKEYED
    assert {t.attack for t in tasks(plan) if t.codec == name} == {"l2", "cosine", "values", "cross"}
    rows = {r["measure"]: r for r in run_task(plan, Task("cross", name)) if r["attack"] == "unlinkability/cross"}
    assert rows["auc"]["compressor"] == "spots"
    assert rows["auc"]["low"] > 0.6
    assert rows["d_sys"]["value"] > 0


def test_membership_joins_the_other_rows() -> None:
    rng = np.random.default_rng(0)
    member = rng.random(120) < 0.5
    rows = gather(membership_rows("net", 4.0 * member + rng.normal(size=120), member, np.arange(120), resamples=40))
    auc = next(r for r in rows if r["measure"] == "auc" and r["attack"] == "membership/loss_threshold")
    assert auc["value"] > 0.95
    assert not any(r["attack"] == "membership/lira" for r in rows)
    with pytest.raises(InputError, match="inside and outside"):
        membership_rows("net", np.zeros(4), np.ones(4, bool), np.arange(4))


def test_halves_share_nobody() -> None:
    who = np.repeat(np.arange(50), 2)
    half = halves(who, 3)
    assert half.sum() == 50
    assert not set(who[half]) & set(who[~half])
    assert not np.array_equal(half, halves(who, 4))
