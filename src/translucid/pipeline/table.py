"""The result table, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translucid.config import read_json
from translucid.pipeline.folder import RunFolder

Row = Mapping[str, Any]


def result_table(folder: RunFolder) -> str:
    """One line per variant: test AUC with its interval, what is kept, bytes, and training time; then where maps point.

    Fails when: read without the intervals.
    """
    everything = read_json(folder.path / "metrics.json")
    rows = [r for r in everything if not r.get("explainer")]
    labels = list(dict.fromkeys(r["label"] for r in rows if r["label"] not in ("", "macro")))
    shown = ["macro", *labels] if len(labels) > 1 else labels
    head = ["variant", *(f"AUC {name}" for name in shown), "values kept", "bytes/image", "s per 15 000"]
    lines = [head]
    for variant in folder.record()["variants"]:
        found = {(r["measure"], r["label"], r["split"]): r for r in rows if r["variant"] == variant}
        aucs = [interval(found.get(("auc", name, "test"))) for name in shown]
        share, size, seconds = (
            found.get((m, "", "")) for m in ("share_of_values", "bytes_per_image", "seconds_per_15000")
        )
        costs = [f"{share['value']:.2%}" if share else "", f"{size['value']:,.0f}" if size else ""]
        lines.append([variant, *aucs, *costs, f"{seconds['value']:,.1f}" if seconds else ""])
    return "\n\n".join(_aligned(table) for table in (lines, _pointing(everything)) if len(table) > 1)


POINTING = ("map_average_precision", "pointing_game", "organ_iou", "organ_iou_released", "gaze_cc")


def _pointing(rows: list[Row]) -> list[list[str]]:
    """A line per explainer with its pooled numbers; of one label alone that label's."""
    mine = [r for r in rows if r.get("explainer") and r["subset"] == "" and r["measure"] in POINTING]
    pooled = [r for m in POINTING for r in _whole([r for r in mine if r["measure"] == m])]
    there = [m for m in POINTING if any(r["measure"] == m for r in pooled)]
    found = {(r["variant"], r["explainer"], r["measure"]): r for r in pooled}
    names = dict.fromkeys((variant, explainer) for variant, explainer, _ in found)
    lines = [["maps", *there]]
    for variant, explainer in names:
        lines.append(
            [
                "/".join(filter(None, (variant, explainer))),
                *(interval(found.get((variant, explainer, m))) for m in there),
            ]
        )
    return lines


def _whole(rows: list[Row]) -> list[Row]:
    """The pooled rows of one measure, or those of its only label: gaze is pooled where a finding is not."""
    return [r for r in rows if r["label"] == "pooled"] or rows


def _aligned(lines: list[list[str]]) -> str:
    head = lines[0]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def interval(row: Row | None) -> str:
    """A value with its interval, or n/a.

    >>> interval({"value": 0.81234, "low": 0.7, "high": 0.9})
    '0.812 (0.700–0.900)'
    """
    if row is None or row["value"] is None:
        return "n/a"
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
