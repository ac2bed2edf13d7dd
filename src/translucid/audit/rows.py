"""Rows of audit.json as one attack on one compressor writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from translucid.audit import bounds
from translucid.audit.records import Codec
from translucid.audit.staging import Stage
from translucid.types import Estimate

Row = dict[str, Any]


def row(
    part: str, attack: str, measure: str, codec: str, value: Estimate, chance: float, budget: Mapping[str, Any]
) -> Row:
    """One row of audit.json; the plain column is filled when all tasks are done.

    Example:
        >>> row("verification", "l2", "auc", "hline", Estimate(0.8, 0.7, 0.9, 50), 0.5, {})["attack"]
        'verification/l2'
    """
    numbers = value.to_json()
    return {
        "attack": f"{part}/{attack}",
        "measure": measure,
        "compressor": codec,
        "value": numbers["value"],
        "low": numbers["low"],
        "high": numbers["high"],
        "n": numbers["n"],
        "chance": None if math.isnan(chance) else float(chance),
        "plain": None,
        "budget": dict(budget),
    }


def validation(part: str, attack: str, codec: str, value: float, budget: Mapping[str, Any]) -> Row:
    """How well an attack did on the attacker's own patients; by it the best rung is chosen."""
    return row(part, attack, "validation", codec, lone(value), math.nan, budget)


def control(part: str, attack: str, which: str, value: Estimate, holds: bool) -> Row:
    """One row of a control: `which` stands in the column of compressors."""
    return row(part, attack, "control", which, value, math.nan, {}) | {"holds": bool(holds)}


def lone(value: float, n: int = 0) -> Estimate:
    """A number that is no estimate from the scored people, and so has no interval."""
    return Estimate(value, math.nan, math.nan, n)


def bound_rows(here: Codec, ready: Stage, codec: str) -> list[Row]:
    """Bits a record may tell, and the rank-1 rate they allow among the scored people."""
    people = len(ready.secret.first)
    numbers = int(np.prod(ready.release.codes.shape[1:]))
    bits = {"length": bounds.code_bits(numbers, here.bits)}
    if here.sigma > 0:
        mine = ready.public.release.codes[torch.from_numpy(ready.public.original)]
        bits["gaussian"] = bounds.gaussian_information(mine.flatten(1).numpy(), here.sigma)
    rows = []
    for name, amount in bits.items():
        rate = bounds.fano_rank1(amount, people)
        for measure, value in (("bits", amount), (f"rank1_at_most@{people}", rate)):
            line = row("bounds", name, measure, codec, lone(value, people), math.nan, {})
            rows.append(line | ({"reason": bounds.vacuous(rate)} if rate >= 1 and measure != "bits" else {}))
    return rows
