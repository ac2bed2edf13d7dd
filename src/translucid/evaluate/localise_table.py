"""Localisation of a whole split: means with patient intervals, by label, region and size of the finding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from translucid.errors import ConfigError, ShapeError, did_you_mean
from translucid.evaluate.cases import by_case
from translucid.evaluate.interval import at_edge, check_aligned, from_draws, missing, patient_weights
from translucid.evaluate.localise import LOCALISATION
from translucid.evaluate.overlap import LOCALISATION_AT
from translucid.types import Estimate

MACRO = "macro"
POOLED = "pooled"
SIZES = ("small", "medium", "large")
SHARE = "mask_share"


def case_scores(
    masks: np.ndarray,
    maps: np.ndarray,
    present: np.ndarray,
    measure: str,
    thresholds: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """One measure for every case and label that is present.

    Args:
        masks: (case, label, *grid) bool.
        maps: (case, label, *grid).
        present: (case, label) true, or 1, where the label is; nan and 0 are left out, for there is nothing to find.
        measure: one of `LOCALISATION` or `LOCALISATION_AT`, or "mask_share", the mask's share of the grid, which is
            about what noise scores in most of them.
        thresholds: (label,) shares of the maximum, for `LOCALISATION_AT`.

    Returns:
        (case, label); nan where absent or undefined.

    Raises:
        ShapeError: shapes do not agree.
        ConfigError: an unknown measure, or thresholds lack.
        InputError: a map is not finite, or a mask is not binary.

    Example:
        >>> masks, maps = np.array([[[1, 0], [0, 1]]], bool), np.array([[[2.0, 1.0], [3.0, 0.0]]])
        >>> case_scores(masks, maps, np.array([[1, 0]]), "pointing_game")
        array([[ 1., nan]])

    Fails when: `present` comes from the model's predictions; its misses then do not count.
    """
    masks, maps, there = _tables(masks, maps, present)
    score = _scorer(measure)
    out = np.full(there.shape, np.nan)
    cuts = [None] * there.shape[1] if thresholds is None else list(thresholds)
    if len(cuts) != there.shape[1]:
        raise ShapeError(f"{there.shape[1]} labels, but {len(cuts)} thresholds")
    for k, cut in enumerate(cuts):
        rows = np.flatnonzero(there[:, k])
        if measure in LOCALISATION_AT and cut is None:
            raise ConfigError(f"{measure} needs a threshold per label: fit it with fit_threshold on validation")
        more = (cut,) if measure in LOCALISATION_AT else ()
        out[rows, k] = score(masks[rows, k], maps[rows, k], *more)
    return out


def _scorer(measure: str) -> Any:
    table: dict[str, Any] = {**LOCALISATION, **LOCALISATION_AT, SHARE: _share}
    if measure not in table:
        raise ConfigError(f"unknown localisation measure {measure!r}: {did_you_mean(measure, table)}")
    return table[measure]


def _share(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Share of the grid; nan where the measures are undefined for the mask's sake."""
    return by_case(lambda m, _: m.mean(1), mask, maps, constant=True)[:, 0]


def _tables(masks: np.ndarray, maps: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    masks, maps, present = np.asarray(masks), np.asarray(maps), np.asarray(present)
    if masks.shape != maps.shape or masks.ndim < 3 or present.shape != masks.shape[:2]:
        raise ShapeError(
            f"masks {masks.shape}, maps {maps.shape}, present {present.shape}: need (case, label, *grid) twice and "
            "(case, label)"
        )
    return masks, maps, present == 1


def size_cuts(masks: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Terciles of the findings' size per label, to be fixed on training or validation masks.

    Args:
        masks: (case, label, *grid) bool.
        present: (case, label).

    Returns:
        (label, 2) in shares of the grid; nan where a label has no mask.

    Raises:
        ShapeError: shapes do not agree.

    Example:
        >>> masks = np.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]], [[1, 1, 1, 0]], [[0, 0, 0, 0]]], bool)
        >>> size_cuts(masks, np.ones((4, 1)))
        array([[0.41666667, 0.58333333]])

    Fails when: findings come in two or three sizes only; the thirds are then unequal.
    """
    share = case_scores(masks, np.broadcast_to(0.0, np.shape(masks)), present, SHARE)
    out = np.full((share.shape[1], 2), np.nan)
    for k, column in enumerate(share.T):
        known = column[~np.isnan(column)]
        if len(known):
            out[k] = np.quantile(known, (1 / 3, 2 / 3))
    return out


@dataclass(frozen=True)
class _Group:
    """Which (case, label) pairs a row is the mean of."""

    label: str
    subset: str
    chosen: np.ndarray


def _groups(
    labels: Sequence[str],
    there: np.ndarray,
    share: np.ndarray,
    regions: Mapping[str, Sequence[str]],
    cuts: np.ndarray | None,
) -> Iterator[_Group]:
    """Labels, all pairs, regions; then the same for each size."""
    columns = {name: [k] for k, name in enumerate(labels)}
    if len(labels) > 1:
        columns[POOLED] = list(range(len(labels)))
    picks = [(name, "", wanted) for name, wanted in columns.items()]
    picks += [(name, "region", [labels.index(m) for m in members]) for name, members in regions.items()]
    for name, subset, wanted in picks:
        yield _Group(name, subset, there & np.isin(np.arange(len(labels)), wanted))
    if cuts is None:
        return
    size = np.where(np.isnan(share) | np.isnan(cuts).any(1), -1, (share[..., None] > cuts).sum(-1))
    for name, wanted in columns.items():
        chosen = there & np.isin(np.arange(len(labels)), wanted)
        for at, subset in enumerate(SIZES):
            yield _Group(name, subset, chosen & (size == at))


def localisation_rows(
    masks: np.ndarray,
    maps: np.ndarray,
    patients: Sequence[str] | np.ndarray,
    present: np.ndarray,
    labels: Sequence[str],
    *,
    explainer: str,
    variant: str = "",
    split: str = "test",
    measures: Sequence[str] = tuple(LOCALISATION),
    thresholds: Mapping[str, np.ndarray] | None = None,
    regions: Mapping[str, Sequence[str]] | None = None,
    by_size: np.ndarray | None = None,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """All localisation measures of one explainer, as rows of metrics.json.

    Each number is the mean over (case, label) pairs where the label is present and the measure defined; its interval
    resamples patients, the same resamples for every row. "pooled" is over the pairs of all labels, as published for
    OrganIoU; "macro" is the unweighted mean of the labels. "mask_share" comes first: about what noise would score.

    Args:
        masks: (case, label, *grid) bool.
        maps: (case, label, *grid), brought to the masks' grid.
        patients: (case,) any names.
        present: (case, label) true, or 1, where the label is.
        labels: (label,) names.
        explainer, variant, split: named in the rows.
        measures: which of `LOCALISATION`.
        thresholds: measure of `LOCALISATION_AT` → (label,) from `fit_threshold`; each adds its rows.
        regions: name → labels, for a pooled row each (subset "region").
        by_size: (label, 2) from `size_cuts`, for rows with the subsets small, medium, large; up to and including the
            first cut is small.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        Rows with measure, variant, label, split, explainer, subset, value, low, high, n, level, n_undefined and
        n_empty: pairs that count, pairs left out, and those of them whose mask is empty. Undefined numbers are None.

    Raises:
        ShapeError: shapes do not agree.
        ConfigError: an unknown measure, or a region names an unknown label.
        InputError: a map is not finite, or a mask is not binary.

    Example:
        >>> masks = np.zeros((4, 1, 3), bool)
        >>> masks[:3, 0, 1] = True
        >>> maps = np.tile([0.0, 2.0, 1.0], (4, 1, 1))
        >>> rows = localisation_rows(masks, maps, list("abcd"), np.ones((4, 1)), ["mass"], explainer="hirescam")
        >>> [(r["measure"], round(r["value"], 3), r["n"], r["n_empty"]) for r in rows][:2]
        [('mask_share', 0.333, 3, 1), ('map_average_precision', 1.0, 3, 1)]

    Fails when: present cases have no mask because nobody drew one; the rest may be the easy ones. Look at n_empty.
    """
    masks, maps, there = _tables(masks, maps, present)
    patient, labels, at = np.asarray(patients), list(labels), dict(thresholds or {})
    _check_names(labels, regions or {}, there, patient, measures, at)
    tables = {m: case_scores(masks, maps, there, m, at.get(m)) for m in (SHARE, *measures, *at)}
    cuts = None if by_size is None else np.asarray(by_size, np.float64).reshape(len(labels), 2)
    groups = list(_groups(labels, there, tables[SHARE], regions or {}, cuts))
    empty = there & ~masks.reshape(*there.shape, -1).any(-1)
    names = {"variant": variant, "split": split, "explainer": explainer}
    rows: list[dict[str, Any]] = []
    for measure, table in tables.items():
        found = _means(table, groups, patient, resamples, level, seed)
        for number, group in found:
            out = int(group.chosen.sum()) - number.n
            rows.append(_row(measure, group, number, names, out, int((group.chosen & empty).sum())))
    return rows


def _check_names(
    labels: list[str],
    regions: Mapping[str, Sequence[str]],
    there: np.ndarray,
    patient: np.ndarray,
    measures: Sequence[str],
    thresholds: Mapping[str, np.ndarray],
) -> None:
    check_aligned(present=there, patients=patient)
    if len(labels) != there.shape[1]:
        raise ShapeError(f"{there.shape[1]} columns, but {len(labels)} labels")
    for asked, table in ((measures, LOCALISATION), (thresholds, LOCALISATION_AT)):
        for name in asked:
            if name not in table:
                raise ConfigError(f"unknown localisation measure {name!r}: {did_you_mean(name, table)}")
    for region, members in regions.items():
        for name in members:
            if name not in labels:
                raise ConfigError(f"region {region!r} holds the unknown label {name!r}: {did_you_mean(name, labels)}")


def _row(
    measure: str, group: _Group, number: Estimate, names: Mapping[str, str], undefined: int, empty: int
) -> dict[str, Any]:
    plain = number.to_json()
    head = {"measure": measure, "variant": names["variant"], "label": group.label, "split": names["split"]}
    head |= {"explainer": names["explainer"], "subset": group.subset}
    values = {k: plain[k] for k in ("value", "low", "high", "n", "level")}
    return head | values | {"n_undefined": undefined, "n_empty": empty}


def _means(
    table: np.ndarray, groups: Sequence[_Group], patient: np.ndarray, resamples: int, level: float, seed: int
) -> list[tuple[Estimate, _Group]]:
    """Each group's mean with its interval; after them the macro average of the labels."""
    there = np.stack([g.chosen & ~np.isnan(table) for g in groups], -1)
    draws = mean_draws(table, there, patient, resamples, seed)
    found = [(mean_estimate(table, there[..., k], patient, draws[k], level), g) for k, g in enumerate(groups)]
    width = table.shape[1]
    if width > 1:
        points, ns = (np.array([getattr(f[0], part) for f in found[:width]]) for part in ("value", "n"))
        macro = _macro(points, draws[:width], int(ns.sum()), level)
        fewest = min((_patients(there[..., k], patient) for k in np.flatnonzero(ns)), default=0)
        chosen = np.asarray(np.stack([g.chosen for g in groups[:width]]).any(0))
        found.append((_bounded(macro, table[there.any(-1)], fewest), _Group(MACRO, "", chosen)))
    return found


def _macro(points: np.ndarray, draws: np.ndarray, n: int, level: float) -> Estimate:
    """Unweighted mean of the labels that are defined; a resample leaves out the labels it lost."""
    known = ~np.isnan(points)
    if not known.any():
        return missing(n, level)
    mine = draws[known]
    count = (~np.isnan(mine)).sum(0)
    means = np.divide(np.nansum(mine, 0), count, out=np.full(mine.shape[1], np.nan), where=count > 0)
    return from_draws(float(points[known].mean()), means, n, level)


def mean_draws(
    table: np.ndarray, chosen: np.ndarray, patient: np.ndarray, resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """Bootstrap draws of means over chosen pairs; patients are drawn with all their cases and labels.

    Args:
        table: (case, label), finite where chosen.
        chosen: (case, label, group) bool.
        patient: (case,) any names.
        resamples: how many.
        seed: of the generator.

    Returns:
        (group, resample); nan where a resample has none of the group's pairs.

    Example:
        >>> mean_draws(np.array([[2.0], [2.0]]), np.ones((2, 1, 1), bool), np.array(["a", "b"]), 3)
        array([[2., 2., 2.]])
    """
    total = np.where(chosen, np.nan_to_num(table)[..., None], 0.0).sum(1)
    count = chosen.sum(1).astype(np.float64)
    parts = []
    for weights in patient_weights(patient, resamples, seed):
        below = weights @ count
        parts.append(np.divide(weights @ total, below, out=np.full(below.shape, np.nan), where=below > 0))
    return np.concatenate(parts).T if parts else np.empty((chosen.shape[-1], 0))


def mean_estimate(
    table: np.ndarray, chosen: np.ndarray, patient: np.ndarray, draws: np.ndarray, level: float
) -> Estimate:
    """Mean over the chosen pairs with the percentile interval of its draws; none where one patient is all there is.

    Fails when: fewer than about twenty patients have the finding; the interval is then rough.
    """
    n = int(chosen.sum())
    if not n:
        return missing(0, level)
    number = from_draws(float(table[chosen].mean()), draws, n, level)
    return _bounded(number, table[chosen], _patients(chosen, patient))


def _patients(chosen: np.ndarray, patient: np.ndarray) -> int:
    return len(np.unique(patient[chosen.any(1)]))


def _bounded(number: Estimate, values: np.ndarray, patients: int) -> Estimate:
    """No certainty from one patient; all at 0 or 1 gets the exact bound of a proportion, where values are shares."""
    if patients < 2:
        return Estimate(number.value, math.nan, math.nan, number.n, number.level)
    return at_edge(number, patients) if values.min() >= 0 and values.max() <= 1 else number
