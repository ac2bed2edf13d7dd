"""Attackers made for one way of hiding: noise, another key, letters burnt in; and the best rung, chosen blind."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit_phantoms import SMALL, cohort, keyed, letters
from translucid.audit import (
    ATTACKS,
    Audit,
    Codec,
    Lira,
    LossThreshold,
    ModelRelease,
    Release,
    Shadows,
    Shrink,
    audit,
    gather,
    membership_rows,
    run_task,
    set_up,
    stage,
    tasks,
)
from translucid.audit.adaptive import of_person, pooled
from translucid.audit.attributes import skill
from translucid.audit.lettering import PLACES, Ink, speaking
from translucid.audit.membership import membership_measures
from translucid.audit.plan import CONSTANT, NOISE, PLAIN, WRITTEN, Task
from translucid.audit.table import AGAINST_NOISE
from translucid.compress import HeartSpot
from translucid.compress.secret import secret_fingerprint
from translucid.errors import ConfigError
from translucid.io.pseudonym import new_key
from translucid.pipeline.audit_plan import under_another_key

FAST = replace(SMALL, epochs=2, resamples=40)


def values(rows: list[dict[str, Any]], attack: str, measure: str, codec: str) -> dict[str, Any]:
    (found,) = [r for r in rows if (r["attack"], r["measure"], r["compressor"]) == (attack, measure, codec)]
    return found


# -- noise -------------------------------------------------------------------------------------------------------


@cache
def noisy() -> Audit:
    """Eight films of each, so that averaging has something to average."""
    codec = keyed(1, 0.8)
    base = cohort(60, each=8)
    return Audit(base, {"spots": replace(codec, codes=codec.encode(base.images))}, budget=FAST)  # type: ignore[misc]


def test_the_filter_is_the_posterior_mean_of_a_gaussian() -> None:
    """x ~ N(m, C), z = x + N(0, σ²I): E[x | z] = m + C (C + σ²I)⁻¹ (z − m), written out."""
    ready = set_up(noisy(), "spots")
    assert ready.public.clean is not None
    clean = ready.public.clean.flatten(1).double().numpy()
    z = ready.public.release.codes.flatten(1).double().numpy()
    m, c, variance = clean.mean(0), np.cov(clean.T), np.mean((z - clean) ** 2)
    shrink = Shrink.of(ready.public)
    assert shrink is not None
    for records in (1, 4):
        want = m + (z[:20] - m) @ np.linalg.solve(c + variance / records * np.eye(len(c)), c)
        seen = replace(ready.public.release.take(np.arange(20)), probe=None, counts=np.full(20, records))
        np.testing.assert_allclose(shrink(seen).codes.flatten(1).numpy(), want, atol=1e-4)
    assert Shrink.of(set_up(noisy(), PLAIN).public) is None


def test_pooling_takes_means_over_a_person() -> None:
    codes = torch.arange(8.0).reshape(4, 1, 2)
    groups = of_person(np.array([0, 1, 0, 0]), np.array([2]))
    assert groups.astype(int).tolist() == [[1, 0, 0, 1]]
    found = pooled(Release(codes, codes[..., None]), groups)
    assert found.codes.flatten().tolist() == [3.0, 4.0]
    assert found.counts is not None
    assert found.counts.tolist() == [2]


def test_adaptive_attackers_beat_the_plain_ones_on_noise() -> None:
    rows = [r for a in ("l2", "ridge", *AGAINST_NOISE) for r in run_task(noisy(), Task(a, "spots"))]
    auc = {a: values(rows, f"linkage_other/{a}", "auc", "spots") for a in ("l2", "wiener", "averaged")}
    assert auc["l2"]["high"] < auc["wiener"]["low"] < auc["averaged"]["value"]
    verified = [values(rows, f"verification/{a}", "auc", "spots")["value"] for a in ("l2", "wiener")]
    assert verified[1] > verified[0] + 0.1
    gain = [values(rows, f"reconstruction/{a}", "gain", "spots")["value"] for a in ("ridge", "wiener_ridge")]
    assert gain[1] > gain[0]


def test_only_noise_meets_the_attackers_of_noise() -> None:
    assert set(AGAINST_NOISE) <= {t.attack for t in tasks(noisy()) if t.codec == "spots"}
    assert set(AGAINST_NOISE) <= {t.attack for t in tasks(noisy()) if t.codec in (PLAIN, NOISE, CONSTANT)}
    bare = replace(noisy(), codecs={"spots": keyed(1)})
    assert not set(AGAINST_NOISE) & {t.attack for t in tasks(bare)}


def test_who_holds_a_film_compresses_it_without_noise() -> None:
    ready = set_up(noisy(), "spots")
    clean = noisy().codecs["spots"].clean
    assert clean is not None
    assert ready.again is not None
    mine = noisy().cohort.images[torch.from_numpy(noisy().cohort.scored)]
    torch.testing.assert_close(ready.again.codes, clean(mine))
    assert float((ready.release.codes - clean(mine)).std()) == pytest.approx(0.8, rel=0.05)


# -- two keys ----------------------------------------------------------------------------------------------------


def test_records_under_two_keys_are_told_with_their_controls() -> None:
    found = audit(cohort(80), {"spots": keyed(1)}, ("unlinkability",), budget=SMALL, rekeyed={"spots": keyed(2)})
    for rung in ("l2", "cosine", "values", "cross"):
        mine = [r for r in found if r["attack"] == f"unlinkability/{rung}" and r["measure"] == "control"]
        held = {r["compressor"]: r for r in mine}
        assert held["nothing hidden"]["holds"], rung
        assert held[CONSTANT]["holds"], rung
    best = values(found, "unlinkability/best", "auc", "spots")
    assert best["low"] > 0.6
    noise = values(found, "unlinkability/values", "auc", NOISE)
    assert noise["low"] <= 0.5 <= noise["high"]


def test_values_are_compared_whatever_the_length_of_the_code() -> None:
    def some(count: int) -> Codec:
        return Codec("some", lambda x: x.flatten(2)[..., :: 1024 // count][..., :count])

    plan = Audit(cohort(60), {"some": some(200)}, ("unlinkability",), FAST, rekeyed={"some": some(150)})
    told = {r["attack"] for t in tasks(plan) if t.codec.endswith("keys") for r in run_task(plan, t)}
    assert told == {"unlinkability/values", "unlinkability/cross"}


def test_the_next_seed_under_a_secret_is_another_secret_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So an audit needs no second secret: nothing joins the masks but the film, as with two secrets."""
    new_key(tmp_path / "mask.key")
    monkeypatch.setenv("TRANSLUCID_SECRET", str(tmp_path / "mask.key"))
    one = HeartSpot("rline", secret=secret_fingerprint(tmp_path / "mask.key"))
    other = under_another_key(one)
    assert isinstance(other, HeartSpot)
    assert other.secret == one.secret
    a, b = (spot.mask((160, 160)).double().flatten() for spot in (one, other))
    both, alone = float((a * b).mean()), float(a.mean() * b.mean())
    assert both == pytest.approx(alone, rel=0.25)  # lines cross as often as those of strangers
    codec = Codec("masked", one.encode, codes=one.encode(cohort(40).images))
    again = Codec("masked", other.encode)
    plan = Audit(cohort(40), {"masked": codec}, ("unlinkability",), FAST, rekeyed={"masked": again})
    rows = [x for t in tasks(plan) if t.codec.endswith("keys") for x in run_task(plan, t)]
    assert (
        values(rows, "unlinkability/values", "auc", "masked")["low"] > 0.6
    )  # values alone tell: keys do not hide them


# -- letters -----------------------------------------------------------------------------------------------------


def blocks(size: int) -> Codec:
    def pool(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, size).flatten(2)

    def lift(z: torch.Tensor) -> torch.Tensor:
        small = z.unflatten(-1, (64 // size, 64 // size))
        return small.repeat_interleave(size, -1).repeat_interleave(size, -2)

    return Codec("blocks", pool, None, lift)


@cache
def written() -> Audit:
    upper = Codec("lower half", lambda x: x[:, :, 40:].flatten(2), None, None)
    budget = replace(FAST, plain_side=64)
    codecs = {"fine": blocks(1), "coarse": blocks(16), "lower": upper}
    return Audit(cohort(60, side=64), codecs, ("text",), budget, letters=letters())


def told(attack: str, codec: str, measure: str) -> Any:
    rows = run_task(written(), Task(attack, codec + WRITTEN))
    return values(rows, f"text/{attack}", measure, codec)["value"]


def test_letters_are_read_where_they_are_kept_and_not_where_they_are_not() -> None:
    assert told("inverse", "fine", "middle.letters_read") > 0.98
    assert told("ridge", "fine", "corner.lines_read") > 0.95
    assert told("ridge", "coarse", "middle.letters_read") < 0.35
    assert told("ridge", "lower", "corner.letters_read") < 0.15  # both lines end above row 40
    assert told("ridge", "lower", "middle.letters_read") < 0.15
    assert {t.attack for t in tasks(written()) if t.codec == "lower" + WRITTEN} == {"ridge"}


def test_reading_has_its_controls() -> None:
    rows = [
        r for n in (PLAIN, CONSTANT) for a in ("inverse", "ridge") for r in run_task(written(), Task(a, n + WRITTEN))
    ]
    held = [r for r in rows if r["measure"] == "control"]
    assert len(held) == 4
    assert all(r["holds"] and r["low"] is not None and r["n"] == 30 for r in held)


def test_films_that_hold_no_line_are_refused_and_no_letters_mean_no_part() -> None:
    with pytest.raises(ConfigError, match="5 letters do not fit"):
        Ink.of(letters(), (32, 32), 32)
    assert not any(t.codec.endswith(WRITTEN) for t in tasks(replace(written(), letters={})))


def test_what_was_written_is_what_is_read_from_the_film_itself() -> None:
    ink = Ink.of(letters(), (128, 100), 64)
    lines = ink.lines(23, 4)
    films = ink.burnt(0.5 * torch.rand(23, 1, 128, 100), lines)
    assert ink.scale == 2
    assert ink.read(ink.cut(films).mean(1).double().numpy()) == ink.spelt(lines)
    counts = np.stack([np.bincount(lines[:, p, k], minlength=10) for p in range(len(PLACES)) for k in range(5)])
    assert counts.max() - counts.min() <= 1


def test_the_attacker_looks_only_where_lettering_shows() -> None:
    draw = torch.Generator().manual_seed(0)
    film = torch.randn(1, 40, 1, 6, generator=draw).repeat(3, 1, 1, 1)
    film[..., 2] += torch.randn(3, 40, 1, generator=draw)
    assert speaking(film).tolist() == [2]
    assert speaking(torch.zeros(2, 4, 1, 3)).tolist() == [0]


# -- the best rung -----------------------------------------------------------------------------------------------


def test_the_best_reader_of_attributes_is_chosen_on_the_attackers_own_patients() -> None:
    rows = audit(cohort(60), {"spots": keyed(1)}, ("attributes",), budget=FAST)
    own = {r["attack"]: r["value"] for r in rows if r["measure"] == "validation" and r["compressor"] == "spots"}
    assert set(own) == {"attributes/attribute_linear", "attributes/attribute_mlp"}
    best = values(rows, "attributes/best", "sex.auc", "spots")
    assert own[f"attributes/{best['rung']}"] == max(own.values())


def test_no_choice_depends_on_the_scored_people() -> None:
    """With the scored half's attributes shuffled the same rung is chosen, whatever it then scores."""
    base = cohort(60)
    mixed = np.random.default_rng(0).permutation(base.attributes["sex"][base.scored])
    sex = base.attributes["sex"].copy()
    sex[base.scored] = mixed
    found = []
    for attributes in ({"sex": base.attributes["sex"]}, {"sex": sex}):
        plan = Audit(replace(base, attributes=attributes), {}, ("attributes",), FAST)
        rows = [r for a in ("attribute_linear", "attribute_mlp") for r in run_task(plan, Task(a, PLAIN))]
        found.append({r["attack"]: r["value"] for r in rows if r["measure"] == "validation"})
    assert found[0] == found[1]


def test_skill_is_twice_the_auc_less_one_or_the_share_explained() -> None:
    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 2, 60), rng.normal(size=60)
    pairs = [(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for i in np.flatnonzero(y) for j in np.flatnonzero(y == 0)]
    assert skill(np.stack([-s, s], 1), y.astype(float)) == pytest.approx(2 * np.mean(pairs) - 1)
    age = np.array([1.0, np.nan, 3.0, 5.0])
    assert skill(np.array([2.0, 9.0, 3.0, 4.0]), age) == pytest.approx(1 - 2 / 8)
    assert np.isnan(skill(np.zeros((3, 2)), np.array(["F", "F", ""])))


def shadowed(gap: float, n: int = 160) -> tuple[np.ndarray, np.ndarray, Shadows]:
    rng = np.random.default_rng(3)
    hard, member = 3 * rng.normal(size=n), rng.permutation(n) < n // 2

    def train(rows: np.ndarray, number: int) -> np.ndarray:
        own = np.isin(np.arange(n), rows)
        return hard + gap * own + 0.3 * np.random.default_rng([9, number]).normal(size=n)

    return train(np.flatnonzero(member), 99), member, Shadows(np.arange(n) // 2, train, count=4)


def test_the_best_membership_attack_is_chosen_on_shadows() -> None:
    confidence, member, own = shadowed(1.0)
    rows = gather(membership_rows("net", confidence, member, own.patient, own.train, shadows=4, resamples=40))
    told = {r["attack"]: r["value"] for r in rows if r["measure"] == "validation"}
    assert told["membership/lira"] > told["membership/loss_threshold"]
    best = values(rows, "membership/best", "auc", "net")
    assert best["rung"] == "lira"
    alone = gather(membership_rows("net", confidence, member, own.patient, resamples=40))
    assert values(alone, "membership/best", "auc", "net")["rung"] == "loss_threshold"
    held = [r for r in rows if r["measure"] == "control"]
    assert len(held) == 4
    assert all(r["holds"] and r["low"] is not None for r in held)


def test_few_shadows_still_see_and_none_see_nothing_where_nothing_is() -> None:
    confidence, member, own = shadowed(1.0)
    score = Lira().fit(ModelRelease(confidence), own, 0).guess(ModelRelease(confidence))
    assert membership_measures(score, member, own.patient, 50)["auc"][0].value > 0.9
    confidence, member, own = shadowed(0.0)
    for attack in (Lira(), LossThreshold()):
        fitted = attack.fit(ModelRelease(confidence), own, 0)
        found = membership_measures(fitted.guess(ModelRelease(confidence)), member, own.patient, 100)["auc"][0]
        assert found.low <= 0.5 <= found.high
        assert fitted.validation == pytest.approx(0.5, abs=0.1)


def test_halves_of_shadows_are_complementary_and_share_nobody() -> None:
    own = Shadows(np.array(["a", "a", "b", "c", "c", "d"]), count=6, seed=5)
    assert own.halves.shape == (6, 6)
    assert (own.halves.sum(0) == 3).all()
    for half in own.halves:
        assert not set(own.patient[half]) & set(own.patient[~half])
    for count in (2, 5, -2):
        with pytest.raises(ConfigError, match="even number of at least 4"):
            Shadows(own.patient, count=count)
    with pytest.raises(ConfigError, match="lira needs `train`"):
        Lira().fit(ModelRelease(np.zeros(6)), own, 0)


def test_every_attack_of_noise_stands_in_the_table() -> None:
    assert set(AGAINST_NOISE) <= set(ATTACKS)
    assert stage(cohort(40), keyed(1), FAST).public.clean is None
