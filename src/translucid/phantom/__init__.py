"""Synthetic chests with known truth."""

from __future__ import annotations

from translucid.phantom.cohort import LABELS, ChestCohort, ChestPlan
from translucid.phantom.project import Radiographs, cardiothoracic_ratio, radiographs

__all__ = ["LABELS", "ChestCohort", "ChestPlan", "Radiographs", "cardiothoracic_ratio", "radiographs"]
