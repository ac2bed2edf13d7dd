"""Made-up explanation numbers, trust verdicts, audits, certificates and frontiers, for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SECRET = "0123abcd"


def put(path: Path, value: Any) -> None:
    """Write JSON, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def add_pointing(run: Path, variants: Sequence[str], labels: Sequence[str]) -> None:
    """Explanation rows in metrics.json: two trivial maps, and two methods for each variant."""
    rows: list[dict[str, Any]] = json.loads((run / "metrics.json").read_text())
    maps = [("", "random", 0.1), ("", "centre", 0.2)]
    maps += [
        (v, e, 0.4 + 0.2 * i + 0.1 * k) for i, v in enumerate(variants) for k, e in enumerate(("gradcam", "hirescam"))
    ]
    reference = (variants[0], "gradcam", 0.4)
    for variant, explainer, score in maps:
        for target, measures in (
            ("finding", ("map_average_precision", "pointing_game", "iou", "energy_share", "iou_otsu")),
            ("organ", ("organ_iou", "organ_iou_released", "energy_share", "pointing_game")),
        ):
            at = {"variant": variant, "explainer": explainer, "target": target, "split": "test", "level": 0.95}
            for k, label in enumerate([*labels, "pooled"]):
                for subset in ("", "small", "large") if target == "finding" else ("",):
                    for m in measures:
                        value = score + 0.01 * k + 0.05 * (subset == "large")
                        rows.append(at | number(m, value, label) | {"subset": subset, "n_undefined": 7, "n_empty": 0})
                    rows.append(at | number("mask_share", 0.123, label) | {"subset": subset, "n_undefined": 0})
                d = number(f"{measures[0]}_difference", score - reference[2], label) | {"subset": ""}
                d |= {"versus": "/".join(reference[:2]), "p": 0.004, "first": score, "second": reference[2]}
                if (variant, explainer) != reference[:2]:
                    rows.append(at | d)
    put(run / "metrics.json", rows)


def number(measure: str, value: float, label: str) -> dict[str, Any]:
    """A row's number with an interval of ± 0.05."""
    return {"measure": measure, "value": value, "low": value - 0.05, "high": value + 0.05, "n": 40, "label": label}


def add_trust(run: Path, variant: str, label: str = "pooled") -> None:
    """One criterion passed, one failed, one not measured."""
    head = {"explainer": "hirescam", "n": 30, "limit": 0.2, "p": 0.01}
    verdicts = [
        head
        | {"criterion": "utility", "verdict": "passes", "measure": "map_average_precision", "rule": "above centre"}
        | {"value": 0.41, "low": 0.36, "high": 0.46},
        head
        | {"criterion": "weight_randomisation", "verdict": "fails", "measure": "ssim_weights", "p": None}
        | {"value": 0.61, "low": 0.56, "high": 0.66, "rule": "upper limit below 0.2"},
        {"criterion": "gaze", "explainer": "hirescam", "verdict": "n/a", "measure": "gaze_cc", "rule": "not measured"},
    ]
    rows = [number("road", 0.3, label) | {"explainer": e, "verdict": ""} for e in ("hirescam", "random")]
    put(run / "trust.json", {variant: {"rows": rows, "verdicts": verdicts}})


def audit_row(part: str, attack: str, measure: str, name: str, value: float | None, **more: Any) -> dict[str, Any]:
    """One row of audit.json."""
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    row = {
        "attack": f"{part}/{attack}",
        "measure": measure,
        "compressor": name,
        "value": value,
        "low": low,
        "high": high,
    }
    return row | {"n": 50, "chance": 0.5, "plain": None, "budget": {"images": 300, "epochs": 20}} | more


def add_audit(run: Path, names: Sequence[str], linkage_holds: bool = True) -> None:
    """Verification and linkage, the second perhaps withheld; attributes without a chosen rung; a vacuous bound."""
    rows, why = [], None if linkage_holds else "control 'constant' gave 0.930 instead of chance"
    for i, name in enumerate(["noise", *names, "plain"]):
        score = 0.5 if name == "noise" else 0.95 if name == "plain" else 0.6 + 0.1 * i
        for rung in ("l2", "best"):
            more = {"rung": "l2"} if rung == "best" else {}
            rows += [audit_row("verification", rung, m, name, score, **more) for m in ("auc", "tpr_at_fpr_0.001")]
            rows += [
                audit_row("verification", rung, f"rank1@{n}", name, score - n / 1e3, chance=1 / n, **more)
                for n in (10, 50)
            ]
        rows.append(audit_row("linkage_same", "l2", "rank1@50", name, score if why is None else None, reason=why))
        rows += [audit_row("attributes", a, "sex.auc", name, score - 0.02 * k) for k, a in enumerate(("mlp", "linear"))]
        rows.append(audit_row("attributes", "best", "sex.auc", name, score, rung="mlp"))
        rows += [audit_row("text", "ridge", f"{p}.letters_read", name, 0.3, chance=0.1) for p in ("corner", "middle")]
    held = [("verification", "l2", True), ("linkage_same", "l2", linkage_holds)]
    for part, attack, holds in [*held, ("attributes", "mlp", True), ("attributes", "linear", True)]:
        rows.append(audit_row(part, attack, "control", "nothing hidden", 1.0, holds=True))
        rows.append(audit_row(part, attack, "control", "constant", 0.5 if holds else 0.93, holds=holds))
    rows.append(audit_row("bounds", "length", "bits", names[0], 40960.0))
    rows.append(audit_row("bounds", "length", "rank1_at_most@50", names[0], 1.0, reason="vacuous"))
    put(run / "audit.json", rows)


def add_store(run: Path, name: str, compressor: dict[str, Any], certificate: dict[str, Any] | None = None) -> None:
    """The header of a store of codes, without the codes."""
    header = {"compressor": compressor, "channels": 1, "code_length": 640, "rows": 90, "format": 1}
    header |= {"shards": [{"file": "shard-00000.safetensors", "rows": 90, "bytes": 45000}]}
    put(run / "codes" / name / "header.json", header | ({"certificate": certificate} if certificate else {}))


CERTIFICATE = {
    "guarantee": "pixels",
    "mechanism": "discrete laplace",
    "epsilon": 0.5,
    "delta": 0.0,
    "neighbourhood": {"pixels": 16, "meaning": "any change of the framed image within 16 pixels"},
    "patient": {"images": 4, "epsilon": 2.0, "delta": 0.0, "vacuous": False},
    "whole_image": {"epsilon": 812.0, "delta": 0.0, "meaning": "any change of the patient's images", "vacuous": True},
    "vacuous": ["whole_image"],
    "not_covered": ["who the patient is", "what the label tells"],
}


def add_frontier(run: Path, rows: Sequence[tuple[str, str, float, float, bool]], chosen: str = "") -> None:
    """(compressor, variant, AUC, rank-1, on the front) each."""

    def around(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    maps = around(0.4) | {"measure": "map_average_precision", "explainer": "hirescam"}
    told = [
        {"compressor": c, "variant": v, "auc": around(a), "verification": around(0.7), "rank1": around(r)}
        | {"gain": around(0.3), "bytes_per_image": 718.0, "share_of_values": 0.3125, "explanation": maps, "front": f}
        for c, v, a, r, f in rows
    ]
    reason = {"compressor": chosen, "reason": "rank-1 is the lowest of 2"} if chosen else None
    put(run / "frontier.json", {"rows": told, "recommendation": reason, "constraint": {"max_auc_loss": 0.02}})
