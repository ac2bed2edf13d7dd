"""Losses: (Prediction, Batch) → scalar; unknown labels (nan) count for nothing."""

from __future__ import annotations

from translucid.losses.attention import Shown, attention, linear_attention
from translucid.losses.augment_regions import FlipRot, draw_flip_rot, flip_rot
from translucid.losses.bce import BCE, balanced_weights, known_bce
from translucid.losses.mask import OutsideMask, PublishedMask, forbidden_cells, outside_positive, outside_softplus
from translucid.losses.table import LOSSES

__all__ = [
    "LOSSES",
    "BCE",
    "PublishedMask",
    "OutsideMask",
    "known_bce",
    "balanced_weights",
    "forbidden_cells",
    "outside_softplus",
    "outside_positive",
    "attention",
    "linear_attention",
    "Shown",
    "FlipRot",
    "draw_flip_rot",
    "flip_rot",
]
