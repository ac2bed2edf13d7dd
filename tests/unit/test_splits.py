"""Whole patients, the same for every order of the rows."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.errors import ConfigError, LeakError
from translucid.io.manifest import Manifest
from translucid.io.splits import assign_splits, check_splits
from translucid.types import Case

EIGHTY = {"train": 0.8, "val": 0.1, "test": 0.1}


def cohort(patients: list[str], labels: list[float | None] | None = None) -> Manifest:
    known = labels or [None] * len(patients)
    cases = (Case(f"{i}.png", p, {"m": v}) for i, (p, v) in enumerate(zip(patients, known, strict=True)))
    return Manifest(Path("."), tuple(cases), ("m",))


def by_patient(manifest: Manifest) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for case in manifest.cases:
        found.setdefault(case.patient, set()).add(case.split)
    return found


def sizes(manifest: Manifest) -> dict[str, int]:
    return dict(Counter(next(iter(s)) for s in by_patient(manifest).values()))


def test_the_published_sizes() -> None:
    # 1,083 images of 1,038 patients, 80/10/10 by patient
    patients = [f"p{i}" for i in range(1038)] + [f"p{i}" for i in range(45)]
    assert sizes(assign_splits(cohort(patients), EIGHTY)) == {"train": 830, "val": 104, "test": 104}


def test_the_method_written_again() -> None:
    patients = [f"patient {i}" for i in range(97)]
    in_order = sorted(patients, key=lambda p: hashlib.sha256(f"5\0{p}".encode()).digest())
    # 0.7, 0.1, 0.2 of 97 are 67.9, 9.7, 19.4: floors 67, 9, 19, and the two largest remainders get one more
    expected = dict.fromkeys(in_order[:68], "train") | dict.fromkeys(in_order[68:78], "val")
    done = assign_splits(cohort(patients), seed=5)
    assert {c.patient: c.split for c in done.cases} == expected | dict.fromkeys(in_order[78:], "test")


patients = st.lists(st.text(max_size=3).map(lambda t: "p" + t), min_size=1, max_size=60)
shares = st.tuples(*[st.integers(0, 20)] * 3).filter(any)
values = st.sampled_from([None, 0.0, 1.0])


@given(patients, shares, st.integers(0, 9), st.randoms(use_true_random=False), st.booleans(), st.data())
def test_whole_patients_in_any_order(patients, shares, seed, random, stratified, data) -> None:  # type: ignore[no-untyped-def]
    labels = data.draw(st.lists(values, min_size=len(patients), max_size=len(patients)))
    manifest = cohort(patients, labels)
    fractions = {s: n / sum(shares) for s, n in zip(("train", "val", "test"), shares, strict=True)}
    stratify = "m" if stratified else None
    done = assign_splits(manifest, fractions, seed, stratify)
    check_splits(done)
    assert all(len(s) == 1 and "" not in s for s in by_patient(done).values())
    assert [replace(c, split="") for c in done.cases] == list(manifest.cases)
    shuffled = list(manifest.cases)
    random.shuffle(shuffled)
    again = assign_splits(manifest.with_cases(shuffled), fractions, seed, stratify)
    assert by_patient(again) == by_patient(done)
    n = len(set(patients))
    for split, share in fractions.items():
        # three strata are rounded one after the other, each by less than one patient
        assert abs(sizes(done).get(split, 0) - share * n) < (3 if stratified else 1) + 1e-9
        assert share > 0 or stratified or split not in sizes(done)


@given(patients, st.lists(st.sampled_from(["", "train", "val", "test"]), min_size=60, max_size=60))
def test_what_is_assigned_stays(patients: list[str], given_splits: list[str]) -> None:
    first: dict[str, str] = {}
    cases = []
    for case, split in zip(cohort(patients).cases, given_splits, strict=False):
        chosen = first.setdefault(case.patient, split) if split else ""
        cases.append(replace(case, split=chosen))
    manifest = cohort(patients).with_cases(cases)
    done = assign_splits(manifest)
    check_splits(done)
    assert all(new.split == old.split for new, old in zip(done.cases, cases, strict=True) if old.split)
    assert assign_splits(done, EIGHTY, seed=9) == done


def test_strata_are_shared_out_evenly() -> None:
    labels: list[float | None] = [1.0] * 30 + [0.0] * 140 + [None] * 30
    done = assign_splits(cohort([f"p{i}" for i in range(200)], labels), EIGHTY, stratify="m")
    count = Counter((c.split, c.labels["m"]) for c in done.cases)
    assert [count[s, 1.0] for s in EIGHTY] == [24, 3, 3]
    assert [count[s, 0.0] for s in EIGHTY] == [112, 14, 14]
    assert [count[s, None] for s in EIGHTY] == [24, 3, 3]


def test_a_patient_is_positive_if_any_image_is() -> None:
    patients = [f"p{i // 2}" for i in range(40)]
    labels: list[float | None] = [float(i % 2 == 0 and i < 20) for i in range(40)]
    done = assign_splits(cohort(patients, labels), {"train": 0.5, "test": 0.5}, stratify="m")
    assert Counter(c.split for c in done.cases if c.labels["m"]) == {"train": 5, "test": 5}


def test_rare_strata_do_not_all_round_to_the_same_split() -> None:
    # alone, each stratum of 4 would round to 4 + 0 and nobody would be left to test on
    labels: list[float | None] = [1.0] * 4 + [0.0] * 4 + [None] * 4
    done = assign_splits(cohort([f"p{i}" for i in range(12)], labels), {"train": 0.9, "test": 0.1}, stratify="m")
    assert sizes(done) == {"train": 11, "test": 1}


def test_another_seed_gives_another_split() -> None:
    manifest = cohort([f"p{i}" for i in range(100)])
    one, two = (by_patient(assign_splits(manifest, seed=s)) for s in (0, 1))
    assert one != two
    assert Counter(map(str, one.values())) == Counter(map(str, two.values()))


def test_the_hash_seed_of_python_does_not_matter() -> None:
    code = (
        "from pathlib import Path; from translucid.io.manifest import Manifest; from translucid.types import Case\n"
        "from translucid.io.splits import assign_splits\n"
        "m = Manifest(Path('.'), tuple(Case(f'{i}', f'p{i}') for i in range(50)), ())\n"
        "print([c.split for c in assign_splits(m).cases])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s}
        )
        for s in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout


def test_a_torn_patient_is_a_leak_that_names_rows_only() -> None:
    cases = [Case(f"{i}.png", f"Patient-{i % 8}", split="train" if i < 8 else "test") for i in range(16)]
    cases.append(Case("x.png", "alone", split="val"))
    manifest = Manifest(Path("."), tuple(cases), ())
    with pytest.raises(LeakError, match=r"8 patients stand in two splits \(rows 2, 3, .*, 11 and 6 more\)") as caught:
        check_splits(manifest)
    assert "Patient-" not in str(caught.value)
    with pytest.raises(LeakError):
        assign_splits(manifest)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.5, "val": 0.4}, "must sum to 1, not 0.9"),
        ({"train": 1.1, "val": -0.1}, "between 0 and 1"),
        ({"train": 0.5, "tset": 0.5}, "did you mean 'test'"),
        ({"train": float("nan")}, "between 0 and 1"),
        ({}, "sum to 1"),
    ],
)
def test_fractions_are_checked(fractions: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assign_splits(cohort(["p"]), fractions)


def test_the_label_to_stratify_by_is_checked() -> None:
    with pytest.raises(ConfigError, match="cannot stratify by 'n': known: m"):
        assign_splits(cohort(["p"]), stratify="n")
