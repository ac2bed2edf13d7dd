"""What noisy stores of one run folder have spent together: every draw for the same images counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translucid.io.codes import CodeStore
from translucid.pipeline.folder import RunFolder


def draws(folder: RunFolder) -> dict[str, Any]:
    """Store → how often its noise was drawn in this folder and what one draw costs a patient.

    Stores that the folder no longer holds stay in the account: whether they were handed on, nobody can tell here.

    Args:
        folder: with its new codes in place, and the record of those before.
    """
    before = folder.record()["steps"].get("compress", {})
    found: dict[str, Any] = {name: dict(told) for name, told in before.get("draws", {}).items()}
    for path in sorted(p for p in (folder.path / "codes").iterdir() if p.is_dir()):
        told = CodeStore.open(path).header.get("certificate")
        if told:
            patient = told.get("patient") or told
            times = found.get(path.name, {}).get("times", 0) + 1
            found[path.name] = {"times": times, "epsilon": patient["epsilon"], "delta": patient["delta"]}
    return found


def spending(folder: RunFolder) -> list[str]:
    """What a reader must know before a noisy store is handed on; nothing where no store is noisy."""
    found = folder.record()["steps"].get("compress", {}).get("draws", {})
    total = sum(told["times"] for told in found.values())
    if not total:
        return []
    if total == 1:
        ((name, told),) = found.items()
        return [
            f"{name}: every compression draws other noise; a second release of the same images spends {_cost(told)} of "
            "a patient's budget again: hand on this store only, and delete what else was made of these images"
        ]
    epsilon, delta = (sum(told["times"] * told[k] for told in found.values()) for k in ("epsilon", "delta"))
    names = ", ".join(name + (f" ({told['times']} times)" if told["times"] > 1 else "") for name, told in found.items())
    return [
        f"noise was drawn {total} times for images of this run folder: {names}. Budgets add up: if all have left, a "
        f"patient's is {_cost({'epsilon': epsilon, 'delta': delta})}, not that of one certificate. Hand on one, once, "
        "and delete the others"
    ]


def _cost(told: Mapping[str, float]) -> str:
    """ε and δ in words.

    >>> _cost({"epsilon": 2.0, "delta": 0.0})
    'ε = 2'
    """
    return f"ε = {told['epsilon']:.4g}" + (f", δ = {told['delta']:.2g}" if told["delta"] else "")
