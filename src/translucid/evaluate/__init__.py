"""How good a classifier is, with intervals that resample patients, and whether two differ."""

from __future__ import annotations

from translucid.evaluate.area import auc, delong
from translucid.evaluate.classify import MEASURES, evaluate_classification, fit_thresholds
from translucid.evaluate.curves import chance, curves
from translucid.evaluate.interval import bootstrap, proportion
from translucid.evaluate.paired import Comparison, compare, delong_test, holm

__all__ = [
    "MEASURES",
    "Comparison",
    "auc",
    "bootstrap",
    "chance",
    "compare",
    "curves",
    "delong",
    "delong_test",
    "evaluate_classification",
    "fit_thresholds",
    "holm",
    "proportion",
]
