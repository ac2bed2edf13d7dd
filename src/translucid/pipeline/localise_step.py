"""Where the maps of every variant point, against what is known of places: rows of metrics.json with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from translucid import maps
from translucid.errors import lookup
from translucid.evaluate import (
    LOCALISATION,
    case_scores,
    compare_explainers,
    fit_threshold,
    localisation_rows,
    size_cuts,
)
from translucid.evaluate.baseline_maps import centre_prior, random_maps
from translucid.evaluate.gaze_agreement import GAZE
from translucid.evaluate.localise_table import mean_draws, mean_estimate
from translucid.explain import EXPLAINERS, explain_codes
from translucid.io.index import label_matrix
from translucid.io.places import onto
from translucid.models import load_model
from translucid.pipeline.explain_step import methods_of, path_of
from translucid.pipeline.places import Places
from translucid.pipeline.variants import Work
from translucid.tensors import Explanation, Placement
from translucid.types import Space

Row = dict[str, Any]
TRUTH_AT = ("iou",)
ORGAN_AT = ("organ_iou", "organ_iou_released")
ORGAN_MEASURES = ("energy_share", "signed_share", "pointing_game")


@dataclass(frozen=True)
class Split:
    """What is known of the cases of one split, on the grid of the places."""

    rows: np.ndarray
    y: np.ndarray
    patients: np.ndarray
    truth: np.ndarray
    drawn: np.ndarray
    organs: np.ndarray
    known: np.ndarray
    gaze: np.ndarray | None

    @staticmethod
    def of(work: Work, places: Places, name: str) -> Split:
        """Read one split."""
        rows = work.rows(name)
        y = label_matrix(work.index, work.labels)[rows]
        shares = places.truth(rows, y)
        drawn = ~np.isnan(shares).reshape(*y.shape, -1).any(-1) & (y == 1)
        organs, known = np.zeros(shares.shape, bool), np.zeros(y.shape, bool)
        if places.settings.regions:
            organs = places.regions(rows, y)
            whole = organs.reshape(*y.shape, -1).all(-1)
            known = (y == 1) & ~whole & np.isin(work.labels, list(places.settings.regions))
        patients = np.array([work.index[i].patient for i in rows])
        gaze = places.read(rows)["gaze"] if places.settings.gaze else None
        return Split(rows, y, patients, covered(np.nan_to_num(shares)), drawn, organs, known, gaze)


def covered(shares: np.ndarray) -> np.ndarray:
    """Cells that a finding covers by half or more; of one that covers none so far, those it covers most.

    >>> covered(np.array([[[0.9, 0.4]], [[0.1, 0.2]], [[0.0, 0.0]]])).astype(int).tolist()
    [[[1, 0]], [[0, 1]], [[0, 0]]]
    """
    flat = shares.reshape(*shares.shape[:2], -1)
    most = flat.max(-1, keepdims=True)
    found = (flat >= 0.5) | ((flat == most) & (most < 0.5) & (most > 0))
    return np.asarray(found.reshape(shares.shape))


def localise(works: Sequence[Work]) -> tuple[list[Row], list[str]]:
    """Localisation of all variants and methods on the test split; thresholds and sizes come from validation.

    Findings ("truth") and organs are told apart by "target". Rows with the explainers "random" and "centre" say what
    maps score that have seen nothing.

    Returns:
        Rows, all of them of one case or more; and in words which measures of which labels could not be scored, and why.

    Fails when: few cases of a label have a drawn finding; the intervals say so, the means do not.
    """
    first = works[0]
    places = first.places
    if places is None:
        return [], []
    splits = {name: Split.of(first, places, name) for name in ("val", "test")}
    if not len(splits["test"].rows):
        return [], []
    rows: list[Row] = []
    said: list[str] = []
    tables: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for variant, method, found in _everyone(works, splits, places):
        for judged in _judge(first, splits, found, variant, method):
            rows += judged.rows
            said += judged.said
            if judged.scores:
                tables.setdefault(judged.target, {})[f"{variant}/{method}"] = judged.scores
        rows += _looking_alike(first, splits["test"], found["test"], variant, method)
    rows += _paired(first, splits["test"], tables)
    return [row for row in rows if row["n"]], list(dict.fromkeys(said))


def _everyone(works: Sequence[Work], splits: Mapping[str, Split], places: Places) -> Any:
    """(variant, method, split → maps) of all explainers, the trivial ones first."""
    labels = len(works[0].labels)
    trivial = {"random": random_maps, "centre": centre_prior}
    for name, make in trivial.items():
        found = {k: np.repeat(make(len(s.rows), places.grid)[:, None], labels, 1) for k, s in splits.items()}
        yield "", name, found
    for work in works:
        model, _ = load_model(work.folder.model(work.name))
        model.requires_grad_(False)
        for method in methods_of(work, model):
            yield work.name, method, {k: maps_of(work, model, method, s.rows, places.grid) for k, s in splits.items()}


def maps_of(work: Work, model: nn.Module, method: str, rows: np.ndarray, grid: Space) -> np.ndarray:
    """(row, label, *grid) maps of all labels on cells that tile the framed image, batch by batch."""
    labels = list(range(len(work.labels)))
    parts = [np.zeros((0, len(labels), *grid), np.float32)]
    if work.eats == "codes":
        how = path_of(work)
        for some in np.array_split(rows, max(1, len(rows) // 16)) if len(rows) else ():
            codes = torch.from_numpy(work.store.read(some))
            found = explain_codes(model, codes, labels, work.compressor, work.space, **how)
            parts.append(placed_on(found, work.space, grid))
        return np.concatenate(parts)
    explain = lookup(EXPLAINERS, method, "explain.methods")()
    for batch in work.loader(rows):
        parts.append(placed_on(explain(model, batch.x, labels), tuple(batch.x.shape[2:]), grid))
    return np.concatenate(parts)


def placed_on(found: Explanation, space: Space, grid: Space) -> np.ndarray:
    """Maps on cells that tile the image: linear between centres, means where the map is the finer one."""
    pixels = [n / g for n, g in zip(space, grid, strict=True)]
    where = found.placement
    if any(s < p for s, p in zip(where.step, pixels, strict=True)):
        full = maps.resize(found.maps, space, where)
        tiles = Placement.tiling(space, grid)
        return onto(_array(full), grid, tiles.start, tiles.step, space)
    start = tuple((s + 0.5) / p - 0.5 for s, p in zip(where.start, pixels, strict=True))
    step = tuple(s / p for s, p in zip(where.step, pixels, strict=True))
    return _array(maps.resize(found.maps, grid, Placement(start, step)))


@dataclass(frozen=True)
class _Judged:
    """One explainer against one target: rows, what could not be scored, and scores by case for the paired tests."""

    target: str
    rows: list[Row]
    said: list[str]
    scores: dict[str, np.ndarray]


def _judge(
    work: Work, splits: Mapping[str, Split], found: Mapping[str, np.ndarray], variant: str, method: str
) -> Iterator[_Judged]:
    """One explainer against findings and against organs, where there are any."""
    val, test, how = splits["val"], splits["test"], work.study.evaluate
    targets = {
        "finding": (val.truth, val.drawn, test.truth, test.drawn, tuple(LOCALISATION), TRUTH_AT),
        "organ": (val.organs, val.known, test.organs, test.known, ORGAN_MEASURES, ORGAN_AT),
    }
    for target, (mask_v, there_v, mask_t, there_t, measures, at) in targets.items():
        if not there_t.any():
            continue
        every = {m: _cuts(mask_v, found["val"], there_v, m) for m in at}
        cuts = {m: c for m, c in every.items() if not np.isnan(c[there_t.any(0)]).all()}
        sizes = size_cuts(mask_v, there_v) if target == "finding" and there_v.any() else None
        rows = localisation_rows(
            mask_t, found["test"], test.patients, there_t, work.labels, explainer=method, variant=variant,
            measures=measures, thresholds=cuts, by_size=sizes, resamples=how.resamples, level=how.level,
            seed=work.study.seed,
        )  # fmt: skip
        chief = "map_average_precision" if target == "finding" else "organ_iou"
        scores = {}
        if chief in LOCALISATION or chief in cuts:
            scores = {chief: case_scores(mask_t, found["test"], there_t, chief, cuts.get(chief))}
        who = f"{variant}/{method}" if variant else method
        said = _without_threshold(work.labels, every, there_v, there_t, target, who)
        said += _undefined(work.labels, rows, every, target, who)
        yield _Judged(target, [row | {"target": target} for row in rows], said, scores)


def _without_threshold(
    labels: Sequence[str],
    cuts: Mapping[str, np.ndarray],
    there_v: np.ndarray,
    there_t: np.ndarray,
    target: str,
    who: str,
) -> list[str]:
    """Labels that are in the test split, but for which validation gave no threshold; one line for each label."""
    lines = []
    what = "a drawn finding" if target == "finding" else "a known organ"
    for k in np.flatnonzero(there_t.any(0)).tolist():
        lost = ", ".join(m for m, c in cuts.items() if np.isnan(c[k]))
        if lost and not there_v[:, k].any():
            lines.append(f"{labels[k]}: no {lost}, for no validation case has {what} to fit the threshold on")
        elif lost:
            count = int(there_v[:, k].sum())
            lines.append(f"{labels[k]}: no {lost} of {who}, for none of {count} validation cases defines a threshold")
    return lines


def _undefined(
    labels: Sequence[str], rows: Sequence[Row], cuts: Mapping[str, np.ndarray], target: str, who: str
) -> list[str]:
    """Labels of which a measure is undefined in every test case, thresholds apart; one line for each label."""
    lines = []
    for k, label in enumerate(labels):
        blank = [r for r in rows if r["label"] == label and not r["subset"] and not r["n"] and r["n_undefined"]]
        blank = [r for r in blank if r["measure"] not in cuts or not np.isnan(cuts[r["measure"]][k])]
        if blank:
            lost, count = ", ".join(r["measure"] for r in blank), blank[0]["n_undefined"]
            why = f"undefined in all {count} test cases: the map has no contrast, or the {target} fills the grid"
            lines.append(f"{label}: no {lost} of {who}, {why}")
    return lines


def _looking_alike(work: Work, test: Split, found: np.ndarray, variant: str, method: str) -> list[Row]:
    """Agreement of one explainer with the readers' gaze: of the mean map of the labels that are present.

    One map for all labels is a decoder's heatmap in logits; its probabilities are compared.
    """
    if test.gaze is None:
        return []
    seen = ~np.isnan(test.gaze).reshape(len(test.gaze), -1).any(1)
    if not seen.any():
        return []
    shared = found.shape[1] > 1 and bool((found == found[:, :1]).all())
    weight = np.where((test.y == 1).any(1, keepdims=True), test.y == 1, True).astype(float)
    weight = (weight / weight.sum(1, keepdims=True)).reshape(*test.y.shape, *[1] * (found.ndim - 2))
    one = 1 / (1 + np.exp(-found[:, 0].astype(np.float64))) if shared else (found * weight).sum(1)
    rows, how = [], work.study.evaluate
    for name, measure in GAZE.items():
        table = np.full((len(seen), 1), np.nan)
        table[seen, 0] = measure(test.gaze[seen], one[seen])
        chosen = ~np.isnan(table)
        draws = mean_draws(table, chosen[..., None], test.patients, how.resamples, work.study.seed)[0]
        number = mean_estimate(table, chosen, test.patients, draws, how.level)
        head = {"measure": name, "variant": variant, "label": "pooled", "split": "test", "explainer": method}
        rows.append(head | {"subset": "", "target": "gaze"} | number.to_json())
    return rows


def _cuts(masks: np.ndarray, found: np.ndarray, there: np.ndarray, measure: str) -> np.ndarray:
    """A threshold for each label; nan where validation has no such case."""
    cuts = [fit_threshold(masks[there[:, k], k], found[there[:, k], k], measure) for k in range(there.shape[1])]
    return np.array(cuts)


def _paired(work: Work, test: Split, tables: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> list[Row]:
    """Every explainer against the baseline variant's first method, on the same cases."""
    base = work.study.baseline or work.name
    rows: list[Row] = []
    for target, everyone in tables.items():
        against = next((name for name in everyone if name.startswith(f"{base}/")), None)
        if against is None or len(everyone) < 2:
            continue
        measure = next(iter(everyone[against]))
        scores = {name: table[measure] for name, table in everyone.items()}
        how = work.study.evaluate
        found = compare_explainers(
            scores, test.patients, work.labels, measure, against=against,
            resamples=how.resamples, level=how.level, seed=work.study.seed,
        )  # fmt: skip
        for one in found:
            variant, method = one.explainer.split("/", 1)
            head = {"measure": f"{measure}_difference", "variant": variant, "label": one.label, "split": "test"}
            head |= {"explainer": method, "subset": "", "target": target, "versus": against}
            p = None if np.isnan(one.p_holm) else one.p_holm
            rows.append(
                head | one.difference.to_json() | {"first": one.first.value, "second": one.second.value, "p": p}
            )
    return rows


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
