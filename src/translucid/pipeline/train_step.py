"""The verb `train`: fit every variant on its codes, and write down what it predicts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from translucid.config import fingerprint, to_plain, whole_file, write_json
from translucid.errors import InputError
from translucid.models import save_model
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.variants import Work, works
from translucid.study import Study
from translucid.train import Fitted, clear_checkpoints, fit, predict

SPLITS = ("train", "val", "test")


def train(study: Study, run: Path, echo: Callable[[str], None] = lambda line: None) -> None:
    """Train the variants that are not trained yet; a stopped training goes on with its last finished epoch.

    Raises:
        InputError: nothing has been compressed, or a split is empty.
        StaleRun: index or codes have changed since they were written.

    Fails when: seconds are compared between runs on a machine that was doing other work.
    """
    folder = RunFolder(run)
    codes = folder.need_codes()
    everyone = works(folder, study)
    warnings: list[str] = []
    for number, work in enumerate(everyone, 1):
        wanted = fingerprint([codes, folder.index_fingerprint(), work.variant, work.settings])
        target = folder.model(work.name)
        if folder.done("train", work.name) != wanted or not (target / "model.safetensors").is_file():
            if folder.done("train", work.name):
                folder.clear(target)
            echo(f"train {number}/{len(everyone)}: {work.name} ({_describe(work)})")
            with folder.timed("train", work.name):
                _train_one(work)
            work.store.forget()  # or all the variants' codes would pile up
            folder.note("fingerprints", "train", work.name, value=wanted)
        notes = json.loads((target / "fit.json").read_text("utf-8"))["notes"]
        warnings += [f"{work.name}: {note}" for note in notes]
    folder.warn("train", warnings)


def _describe(work: Work) -> str:
    share = work.store.header["code_length"] / np.prod(work.space)
    return f"{work.variant.model['kind']} on {share:.1%} of the values, {work.settings.epochs} epochs"


def _train_one(work: Work) -> None:
    splits = {split: work.rows(split) for split in SPLITS}
    for split in ("train", "val"):
        if not len(splits[split]):
            raise InputError(f"no case is in the split {split!r}: change data.split, or use more patients")
    target = work.folder.model(work.name)
    shape = work.shape()
    model = work.spec.build(shape, len(work.labels), work.settings.seed)
    fitted = fit(model, work.training_loader(model, splits["train"]), work.loader(splits["val"]), work.settings, target)
    save_model(model, work.spec, shape, work.labels, target)
    everyone = np.concatenate([splits[s] for s in SPLITS])
    write_predictions(work, everyone, predict(model, work.loader(everyone), work.settings))
    _write_fit(work, fitted)
    clear_checkpoints(target)


def write_predictions(work: Work, rows: np.ndarray, logits: np.ndarray) -> None:
    """One line per case: its pseudonym, its split, and a logit per label."""
    lines = [["case", "split", *(f"logit:{name}" for name in work.labels)]]
    for i, values in zip(rows, logits, strict=True):
        row = work.index[i]
        lines.append([row.case, row.split, *(f"{v:.6g}" for v in values)])
    path = work.folder.model(work.name) / "predictions.csv"
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(lines)


def read_predictions(work: Work) -> np.ndarray:
    """Logits (row of the index, label); nan for cases that belong to no split."""
    path = work.folder.model(work.name) / "predictions.csv"
    if not path.is_file():
        raise InputError(f"no {path}: run `translucid train` first")
    place = {row.case: i for i, row in enumerate(work.index)}
    logits = np.full((len(work.index), len(work.labels)), np.nan)
    with path.open(newline="", encoding="utf-8") as f:
        for line in csv.DictReader(f):
            logits[place[line["case"]]] = [float(line[f"logit:{name}"]) for name in work.labels]
    return logits


def _write_fit(work: Work, fitted: Fitted) -> None:
    cases = min(len(work.rows("train")), work.settings.epoch_cases or 10**9)
    seconds = [row["seconds"] for row in fitted.history]
    steady = seconds[1:] or seconds
    record = {
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "selected_by": fitted.selected_by,
        "best": fitted.best,
        "seconds_per_epoch": seconds,
        "seconds_per_15000": fitted.seconds_per_15000,
        "seconds_per_15000_range": [min(steady) * 15000 / cases, max(steady) * 15000 / cases],
        "peak_memory_mb": fitted.peak_memory_bytes / 2**20,
        "parameters": fitted.parameters,
        "batch": work.settings.batch,
        "train_cases": len(work.rows("train")),
        "notes": fitted.notes,
    }
    write_json(work.folder.model(work.name) / "fit.json", to_plain(record))
