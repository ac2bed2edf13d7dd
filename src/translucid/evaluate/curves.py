"""Points of the curves a report draws: ROC, precision–recall and reliability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from translucid.errors import ShapeError
from translucid.evaluate.calibration import BINS, equal_mass_bins
from translucid.evaluate.classify import Sample


def curves(y: np.ndarray, logits: np.ndarray, labels: Sequence[str], points: int = 200) -> dict[str, Any]:
    """Points of the ROC, precision–recall and reliability curves of every label, few enough to draw.

    Args:
        y: (case, label) 1, 0 or nan.
        logits: (case, label).
        labels: (label,) names.
        points: at most so many per curve; the corners that matter least are left out.

    Returns:
        label → {"roc": {"fpr", "tpr", "logit"}, "pr": {"recall", "precision", "prevalence"},
        "reliability": {"predicted", "observed", "n"}}, lists for JSON; a label with one class only has None.

    Raises:
        ShapeError: shapes do not agree.

    Example:
        >>> c = curves(np.array([[0], [1], [1]]), np.array([[-1.0], [0.0], [2.0]]), ["effusion"])["effusion"]
        >>> c["roc"]["fpr"], c["roc"]["tpr"]
        ([0.0, 0.0, 0.0, 1.0], [0.0, 0.5, 1.0, 1.0])

    Fails when: the area is computed from the thinned points; take it from `evaluate_classification`.
    """
    y, logits = (a[:, None] if a.ndim == 1 else a for a in (np.asarray(y, np.float64), np.asarray(logits)))
    if y.shape != logits.shape or y.shape[1] != len(labels):
        raise ShapeError(f"labels {y.shape}, logits {logits.shape} and {len(labels)} names must agree")
    return {name: _curves(Sample.of(y[:, k], logits[:, k]), points) for k, name in enumerate(labels)}


def _curves(sample: Sample, points: int) -> dict[str, Any] | None:
    if sample.one_class:
        return None
    hits = np.cumsum(np.add.reduceat(sample.y, sample.starts))
    called = np.append(sample.starts[1:], len(sample))
    false = called - hits
    tpr, fpr = np.append(0, hits / hits[-1]), np.append(0, false / false[-1])
    scores = sample.logit[sample.starts]
    keep = _thin(fpr, tpr, points)
    cut = [None if k == 0 else float(scores[k - 1]) for k in keep]
    chosen = _thin(hits / hits[-1], hits / called, points)
    return {
        "roc": {"fpr": fpr[keep].tolist(), "tpr": tpr[keep].tolist(), "logit": cut},
        "pr": {
            "recall": (hits / hits[-1])[chosen].tolist(),
            "precision": (hits / called)[chosen].tolist(),
            "prevalence": float(sample.y.mean()),
        },
        "reliability": reliability(sample.y, sample.logit),
    }


def _thin(x: np.ndarray, y: np.ndarray, points: int) -> np.ndarray:
    """Places of points about equally far apart along the curve, ends included."""
    if len(x) <= points:
        return np.arange(len(x))
    way = np.append(0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    return np.unique(np.append(np.searchsorted(way, np.linspace(0, way[-1], points)), len(x) - 1).clip(max=len(x) - 1))


def reliability(y: np.ndarray, logit: np.ndarray, bins: int = BINS) -> dict[str, list[float]]:
    """Mean prediction, observed share and number of cases in bins of equal mass.

    Args:
        y: (case,) 1 or 0.
        logit: (case,).
        bins: how many at most.

    Example:
        >>> reliability(np.array([0, 1]), np.array([0.0, 0.0]))
        {'predicted': [0.5], 'observed': [0.5], 'n': [2]}

    Source: Murphy and Winkler, JRSS C 1977, doi:10.2307/2346866.

    Fails when: bins hold fewer than about 20 cases; the observed shares are then mostly noise.
    """
    place = equal_mass_bins(logit, bins)
    count = np.bincount(place, minlength=bins)
    there = count > 0
    sums = [np.bincount(place, v, bins)[there] / count[there] for v in (expit(logit), y)]
    predicted, observed = ([round(float(v), 12) for v in s] for s in sums)
    return {"predicted": predicted, "observed": observed, "n": count[there].tolist()}


def chance(measure: str, prevalence: float) -> float:
    """What a model that knows nothing scores, where that has a fixed value; nan where not.

    Example:
        >>> chance("auc", 0.1), chance("average_precision", 0.1)
        (0.5, 0.1)
    """
    known = {
        "auc": 0.5,
        "balanced_accuracy": 0.5,
        "average_precision": prevalence,
        "brier": prevalence * (1 - prevalence),
    }
    return known.get(measure, math.nan)
