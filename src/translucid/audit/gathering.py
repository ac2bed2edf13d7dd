"""Rows of all tasks → audit.json: the best rung, the plain column, and numbers withheld where a control failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from translucid.audit.plan import BEST, CONSTANT, PLAIN, Audit, Progress, run
from translucid.audit.records import Budget, Codec, Cohort
from translucid.audit.rows import Row
from translucid.audit.table import LADDERS, PARTS

CONTROLS = ("nothing hidden", CONSTANT)


def gather(rows: Iterable[Row]) -> list[Row]:
    """Join the rows of `run_task`.

    An attack of which a control failed or is absent keeps its rows, but their numbers are withheld: None, with the
    reason. The best rung of each part and compressor is the one that did best on the attacker's own validation
    patients; its rows are repeated under the name "part/best" with the rung's name beside.

    Args:
        rows: of all tasks, in any order.

    Returns:
        Rows of audit.json, with "reason" where a number is withheld and "rung" where it is that of the best.

    Example:
        >>> gather([])
        []

    Fails when: the plain row was not run; its column is then empty.
    """
    rows = [dict(r) for r in rows]
    failed = _failed(rows)
    rows = [_withheld(r, failed[r["attack"]]) if r["attack"] in failed and _is_number(r) else r for r in rows]
    rows = [r for r in rows if r["compressor"] != CONSTANT or r["measure"] == "control"]
    rows += _best(rows)
    plain = {(r["attack"], r["measure"]): r["value"] for r in rows if r["compressor"] == PLAIN}
    return [r | {"plain": plain.get((r["attack"], r["measure"]))} for r in rows]


def _is_number(r: Mapping[str, Any]) -> bool:
    return r["measure"] != "control" and not r["attack"].startswith("bounds/")


def _failed(rows: Sequence[Row]) -> dict[str, str]:
    """Attack → why its numbers are withheld."""
    attacks = dict.fromkeys(r["attack"] for r in rows if _is_number(r) and not r["attack"].endswith("/mean_image"))
    reasons = {}
    for attack in attacks:
        held = {r["compressor"]: r for r in rows if r["attack"] == attack and r["measure"] == "control"}
        lines = [_reason(which, held.get(which)) for which in CONTROLS]
        if any(lines):
            reasons[attack] = "; ".join(line for line in lines if line)
    return reasons


def _reason(which: str, control: Row | None) -> str:
    if control is None:
        return f"control '{which}' was not run"
    if control["holds"]:
        return ""
    said = "no value" if control["value"] is None else f"{control['value']:.3f}"
    wanted = "success" if which != CONSTANT else "chance"
    return f"control '{which}' gave {said} instead of {wanted}"


def _withheld(r: Row, why: str) -> Row:
    return r | {"value": None, "low": None, "high": None, "reason": why}


def _best(rows: Sequence[Row]) -> list[Row]:
    tried: dict[tuple[str, str], dict[str, float | None]] = {}
    for r in rows:
        part, _, rung = r["attack"].partition("/")
        if part in LADDERS and r["measure"] != "control" and rung != "mean_image":
            mine = tried.setdefault((part, r["compressor"]), {})
            mine[r["attack"]] = r["value"] if r["measure"] == "validation" else mine.get(r["attack"])
    chosen = {(_chosen(mine), codec) for (_, codec), mine in tried.items()}
    return [
        r | {"attack": f"{r['attack'].partition('/')[0]}/{BEST}", "rung": r["attack"].partition("/")[2]}
        for r in rows
        if (r["attack"], r["compressor"]) in chosen and r["measure"] not in ("validation", "control")
    ]


def _chosen(tried: Mapping[str, float | None]) -> str:
    """The attack that did best by the attacker's own account; "" where none can say, unless there is but one."""
    told = {attack: value for attack, value in tried.items() if value is not None}
    if not told:
        return next(iter(tried)) if len(tried) == 1 else ""
    return max(told, key=lambda attack: told[attack])


def audit(
    cohort: Cohort,
    codecs: Mapping[str, Codec],
    parts: Sequence[str] = PARTS,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    rekeyed: Mapping[str, Codec] | None = None,
    letters: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Run the whole ladder against every compressor, the plain image and noise, with both controls.

    Args:
        cohort: films and patients; attackers learn from one side and are scored on the other.
        codecs: name → compressor.
        parts: which of `PARTS`.
        budget: what attackers may spend; the same for all.
        seed: of everything drawn.
        rekeyed: name → the same compressor under another key.
        letters: name → picture of the letters burnt in for the part "text".
        progress: told (done, all).

    Returns:
        Rows of audit.json: attack, measure, compressor, value, low, high, n, chance, plain, budget.

    Raises:
        LeakError: a patient stands on both sides.
        InputError: too few patients with two films.
        ConfigError: an unknown part.

    Example:
        >>> import torch, numpy as np
        >>> draw = torch.Generator().manual_seed(0)
        >>> who = np.arange(80) // 2
        >>> films = torch.rand(40, 1, 16, 16, generator=draw)[who] + 0.02 * torch.randn(80, 1, 16, 16, generator=draw)
        >>> rows = Codec("rows", lambda x: x[:, :, ::4].flatten(2))
        >>> small = Budget(grid=16, plain_side=16, epochs=1, copies=0, resamples=50)
        >>> found = audit(Cohort(films, who, who < 20), {"rows": rows}, ("verification",), budget=small)
        >>> best = [r for r in found if r["attack"] == "verification/l2" and r["measure"] == "auc"]
        >>> sorted(r["compressor"] for r in best)
        ['noise', 'plain', 'rows']

    Fails when: a compressor looks private because the attacker is weak: read the plain column first.
    """
    plan = Audit(cohort, codecs, parts, budget or Budget(), seed, rekeyed or {}, letters or {})
    return gather(r for _, rows in run(plan, progress) for r in rows)
