"""Laws of every attack: it succeeds when nothing is hidden, is at chance on constant codes, and sees no secret."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from audit_phantoms import SMALL, cohort, keyed, letters
from translucid.audit import ATTACKS, LADDERS, Audit, ModelRelease, Shadows, Task, run_task, set_up
from translucid.audit.judging import SUCCEEDS
from translucid.audit.membership import membership_measures
from translucid.audit.plan import CONSTANT, PLAIN
from translucid.audit.staging import Stage

MODEL = LADDERS["membership"]
RECORDS = [name for name in ATTACKS if name not in MODEL]
every = pytest.mark.parametrize("name", RECORDS)
on_models = pytest.mark.parametrize("name", MODEL)


@cache
def plan() -> Audit:
    """With noise, a second key and letters, so that every rung is planned for the added compressors."""
    return Audit(cohort(), {"spots": keyed(1, 0.1)}, budget=SMALL, rekeyed={"spots": keyed(2, 0.1)}, letters=letters())


@cache
def staged(codec: str) -> Stage:
    return set_up(plan(), codec)


@cache
def fitted(name: str, codec: str = PLAIN) -> Any:
    ready = staged(codec)
    return ATTACKS[name].fit(ready.release, ready.public, 0)


def guess(name: str, ready: Stage, codec: str = PLAIN) -> list[np.ndarray]:
    """Whatever the attack says, as arrays."""
    seen = replace(ready.release, probe=ready.again) if name == "cross" else ready.release
    said = fitted(name, codec).guess(seen)
    parts = said.values() if isinstance(said, dict) else [said]
    return [np.asarray(p) for p in parts]


def controls(name: str, codec: str) -> list[dict[str, Any]]:
    rows = run_task(plan(), Task(name, codec), staged(codec))
    return [r for r in rows if r["measure"] == "control"]


def test_every_attack_stands_on_a_ladder() -> None:
    assert {a for ladder in LADDERS.values() for a in ladder} == set(ATTACKS)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_attack_is_a_frozen_record_of_options(name: str) -> None:
    attack = ATTACKS[name]
    assert is_dataclass(attack)
    if fields(attack):
        with pytest.raises(FrozenInstanceError):
            setattr(attack, fields(attack)[0].name, 1)
    assert list(inspect.signature(attack.fit).parameters) == ["release", "public", "seed"]
    text = inspect.getdoc(attack) or ""
    assert "Example:" in text
    assert "Fails when:" in text
    assert "Source:" in text


@pytest.mark.parametrize("name", [n for n in RECORDS if n != "mean_image"])
def test_succeeds_when_nothing_is_hidden(name: str) -> None:
    rows = controls(name, PLAIN)
    assert rows
    for row in rows:
        assert row["holds"], row
        assert row["value"] >= SUCCEEDS[row["attack"].partition("/")[0]]


@pytest.mark.parametrize("name", [n for n in RECORDS if n != "mean_image"])
def test_at_chance_on_constant_codes(name: str) -> None:
    rows = controls(name, CONSTANT)
    assert rows
    assert all(row["holds"] for row in rows), rows


@every
def test_equal_codes_get_equal_guesses(name: str) -> None:
    for said in guess(name, staged(CONSTANT), CONSTANT):
        said = said.T if name == "cross" else said  # its rows are plain films, its columns records
        first = said[0]
        np.testing.assert_allclose(said, np.broadcast_to(first, said.shape), atol=1e-5)


@every
def test_never_handed_the_secret(name: str) -> None:
    """With the scored people's names, looks and attributes exchanged, every guess stays what it was."""
    ready = staged(PLAIN)
    base = plan().cohort
    mine = np.flatnonzero(base.scored)
    turned = np.random.default_rng(1).permutation(len(mine))
    patient = base.patient.copy()
    patient[mine] = base.patient[mine][turned]
    attributes = {k: np.where(base.scored, "F" if k == "sex" else 1.0, v) for k, v in base.attributes.items()}
    other = set_up(replace(plan(), cohort=replace(base, patient=patient, attributes=attributes)), PLAIN)
    assert not np.array_equal(other.secret.patient, ready.secret.patient)
    again = ATTACKS[name].fit(other.release, other.public, 0)
    seen = replace(other.release, probe=other.again) if name == "cross" else other.release
    said = again.guess(seen)
    parts = said.values() if isinstance(said, dict) else [said]
    for a, b in zip(guess(name, ready), parts, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))


@every
def test_one_guess_for_each_record_and_nothing_written_to(name: str) -> None:
    ready = staged(PLAIN)
    before = ready.release.codes.clone(), ready.public.release.codes.clone()
    whole = guess(name, ready)
    assert torch.equal(before[0], ready.release.codes)
    assert torch.equal(before[1], ready.public.release.codes)
    assert all(len(part) == len(ready.release) for part in whole)
    assert fitted(name).spent["patients"] == 40


@every
def test_the_global_generator_is_left_alone(name: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    np_before = np.random.get_state()[1].copy()  # noqa: NPY002
    ready = staged(CONSTANT)
    ATTACKS[name].fit(ready.release, ready.public, 0)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(np_before, np.random.get_state()[1])  # noqa: NPY002


# -- attacks on a model ------------------------------------------------------------------------------------------


def candidates(seed: int, gap: float, n: int = 200) -> tuple[np.ndarray, np.ndarray, Shadows]:
    """A model and its shadows: every film has its own difficulty, and training on it adds `gap`."""
    rng = np.random.default_rng(seed)
    hard = 3 * rng.normal(size=n)
    member = rng.permutation(n) < n // 2

    def train(rows: np.ndarray, number: int) -> np.ndarray:
        own = np.isin(np.arange(n), rows)
        return hard + gap * own + 0.3 * np.random.default_rng([seed, number]).normal(size=n)

    return train(np.flatnonzero(member), 999), member, Shadows(np.arange(n), train)


@on_models
def test_membership_is_found_where_the_model_gives_it_away(name: str) -> None:
    confidence, member, shadows = candidates(0, 30.0)
    said = ATTACKS[name].fit(ModelRelease(confidence), shadows, 0).guess(ModelRelease(confidence))
    found = membership_measures(said, member, shadows.patient, 100)
    assert found["auc"][0].value >= SUCCEEDS["membership"]
    assert found["balanced_accuracy"][0].value >= 0.95


@on_models
def test_membership_is_at_chance_where_the_model_says_the_same_of_all(name: str) -> None:
    flat = ModelRelease(np.zeros(200))
    shadows = Shadows(np.arange(200), lambda rows, number: np.zeros(200))
    said = ATTACKS[name].fit(flat, shadows, 0).guess(flat)
    _, member, _ = candidates(0, 0.0)
    for measure in ("auc", "balanced_accuracy"):
        value, chance = membership_measures(said, member, shadows.patient, 100)[measure]
        assert value.low <= chance <= value.high


def test_lira_sees_what_the_threshold_misses() -> None:
    confidence, member, shadows = candidates(1, 1.0)
    found = {}
    for name in MODEL:
        said = ATTACKS[name].fit(ModelRelease(confidence), shadows, 0).guess(ModelRelease(confidence))
        found[name] = membership_measures(said, member, shadows.patient, 100)["auc"][0].value
    assert found["lira"] > 0.95 > 0.7 > found["loss_threshold"]
