"""The verb `evaluate`: numbers with intervals for every variant, and each against the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from translucid.config import fingerprint, read_json, write_json
from translucid.evaluate import compare, curves, evaluate_classification, fit_thresholds
from translucid.io.index import label_matrix
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.localise_step import localise
from translucid.pipeline.train_step import read_predictions
from translucid.pipeline.variants import Work, works
from translucid.study import Study, store_name

Row = dict[str, Any]
FEW = 30


def evaluate(study: Study, run: Path) -> list[Row]:
    """Write `metrics.json` and `curves.json`: thresholds from validation, numbers from test, patients resampled.

    Raises:
        InputError: a variant has not been trained.

    Fails when: the test split was looked at while choosing a variant; no interval knows of that.
    """
    folder = RunFolder(run)
    folder.need_codes()
    everyone = works(folder, study)
    y = label_matrix(everyone[0].index, everyone[0].labels)
    patients = np.array([row.patient for row in everyone[0].index])
    logits = {work.name: read_predictions(work) for work in everyone}
    rows: list[Row] = []
    drawn: dict[str, Any] = {}
    for work in everyone:
        rows += _classification(work, y, logits[work.name], patients)
        test = work.rows("test")
        drawn[work.name] = curves(y[test], logits[work.name][test], work.labels) if len(test) else {}
    rows += _against_baseline(everyone, study, y, logits, patients)
    pointing, unscored = localise(everyone)
    rows += pointing
    for work in everyone:
        rows += _costs(work, everyone)
    write_json(run / "metrics.json", rows)
    write_json(run / "curves.json", drawn)
    folder.warn("evaluate", [*_warnings(everyone[0], y), *unscored])
    folder.note("fingerprints", "evaluate", value=fingerprint(rows))
    return rows


def _classification(work: Work, y: np.ndarray, logits: np.ndarray, patients: np.ndarray) -> list[Row]:
    val, settings = work.rows("val"), work.study.evaluate
    cuts = np.nan_to_num(fit_thresholds(y[val], logits[val])) if len(val) else np.zeros(y.shape[1])
    rows = [
        _cost(work, "threshold", float(cut), n=len(val)) | {"label": name, "split": "val"}
        for name, cut in zip(work.labels, cuts, strict=True)
    ]
    for split in ("val", "test"):
        at = work.rows(split)
        if len(at):
            rows += evaluate_classification(
                y[at], logits[at], patients[at], work.labels, split, variant=work.name, thresholds=cuts,
                resamples=settings.resamples, level=settings.level, seed=work.study.seed,
            )  # fmt: skip
    return rows


def _against_baseline(
    everyone: list[Work], study: Study, y: np.ndarray, logits: dict[str, np.ndarray], patients: np.ndarray
) -> list[Row]:
    """AUC of each variant less the baseline's, on the same cases."""
    base = study.baseline or everyone[0].name
    test, settings = everyone[0].rows("test"), study.evaluate
    rows: list[Row] = []
    for work in everyone:
        if work.name == base or not len(test):
            continue
        found = compare(
            y[test], logits[work.name][test], logits[base][test], patients[test], work.labels,
            resamples=settings.resamples, level=settings.level, seed=study.seed,
        )  # fmt: skip
        for one in found:
            head = {"measure": "auc_difference", "variant": work.name, "label": one.label, "split": "test"}
            p = None if np.isnan(one.p) else one.p
            rows.append(head | one.difference.to_json() | {"versus": base, "p": p})
    return rows


def _costs(work: Work, everyone: list[Work]) -> list[Row]:
    """Time, memory and size; a time's interval is the fastest and slowest epoch (level 1)."""
    fit, steps = _fit(work), work.folder.record()["steps"]["compress"]
    weight = steps["stores"][store_name(work.variant.compress)]
    low, high = fit["seconds_per_15000_range"]
    cases = steps["cases"]
    rows = [
        _cost(work, "seconds_per_15000", fit["seconds_per_15000"], low, high, fit["epochs"]),
        _cost(work, "parameters", fit["parameters"]),
        _cost(work, "peak_memory_mb", fit["peak_memory_mb"]),
        _cost(work, "share_of_values", weight["share_of_values"]),
        _cost(work, "bytes_per_image", weight["bytes_per_image"], n=cases),
    ]
    if steps["jpeg95_bytes_per_image"]:
        ratio = steps["jpeg95_bytes_per_image"] / weight["bytes_per_image"]
        rows.append(_cost(work, "times_smaller_than_jpeg95", ratio, n=cases))
    base = next(w for w in everyone if w.name == (work.study.baseline or everyone[0].name))
    if base.name != work.name:
        rows.append(_speed_ratio(work, fit, _fit(base)) | {"versus": base.name})
    return rows


def _fit(work: Work) -> Row:
    found: Row = read_json(work.folder.model(work.name) / "fit.json")
    return found


def _speed_ratio(work: Work, ours: Row, theirs: Row) -> Row:
    """How many times faster an epoch is than the baseline's; the interval takes the epochs at their worst."""
    (fast, slow), (base_fast, base_slow) = ours["seconds_per_15000_range"], theirs["seconds_per_15000_range"]
    value = theirs["seconds_per_15000"] / max(ours["seconds_per_15000"], 1e-9)
    low, high = min(value, base_fast / max(slow, 1e-9)), max(value, base_slow / max(fast, 1e-9))
    return _cost(work, "speed_ratio", value, low, high, min(ours["epochs"], theirs["epochs"]))


def _cost(
    work: Work, measure: str, value: float, low: float | None = None, high: float | None = None, n: int = 1
) -> Row:
    where = {"measure": measure, "variant": work.name, "label": "", "split": ""}
    return where | {"value": value, "low": low, "high": high, "n": n, "level": 1.0}


def _warnings(work: Work, y: np.ndarray) -> list[str]:
    """Say where numbers rest on few cases."""
    test = work.rows("test")
    lines = []
    if not len(test):
        lines.append("no case is in the test split: there are no test numbers")
    for k, name in enumerate(work.labels):
        positive = int(np.nansum(y[test, k] == 1))
        if len(test) and positive < FEW:
            lines.append(f"{name}: only {positive} positive test cases, so the intervals are wide")
    return lines
