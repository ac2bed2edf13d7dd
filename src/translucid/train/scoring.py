"""How good an epoch was, judged on the validation split only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from translucid.errors import InputError
from translucid.losses import known_bce

Row = Mapping[str, float]


def both_classes(y: np.ndarray) -> np.ndarray:
    """Which labels have at least one known positive and one known negative.

    Example:
        >>> both_classes(np.array([[1.0, 1, np.nan], [0, np.nan, np.nan]])).tolist()
        [True, False, False]
    """
    known = ~np.isnan(y)
    return ((y > 0.5) & known).any(0) & ((y <= 0.5) & known).any(0)


def macro_auc(y: np.ndarray, logits: np.ndarray) -> float:
    """Mean over labels of the area under the ROC curve of the known cases; nan where no label has both classes.

    Args:
        y: (case, label) 1, 0 or nan.
        logits: (case, label).

    Example:
        >>> macro_auc(np.array([[0.0], [1.0], [np.nan]]), np.array([[-1.0], [2.0], [0.0]]))
        1.0

    Fails when: labels differ much in how many cases they have; all count alike.
    """
    areas = []
    for label in np.flatnonzero(both_classes(y)):
        known = ~np.isnan(y[:, label])
        areas.append(roc_auc_score(y[known, label] > 0.5, logits[known, label]))
    return float(np.mean(areas)) if areas else math.nan


def validate(y: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Plain cross-entropy and macro AUC of the validation split."""
    loss = known_bce(torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(y.astype(np.float32)))
    return float(loss), macro_auc(y, logits)


def best_row(history: Sequence[Row], by: Literal["auc", "loss"]) -> int:
    """Position of the best epoch; the first of equals.

    Example:
        >>> best_row([{"val_auc": 0.5}, {"val_auc": 0.9}, {"val_auc": 0.9}], "auc")
        1
    """
    score = [row["val_auc"] if by == "auc" else -row["val_loss"] for row in history]
    return int(np.argmax(score))


def way_to_select(wanted: Literal["auc", "loss"], y: np.ndarray) -> tuple[Literal["auc", "loss"], tuple[str, ...]]:
    """What epochs are really compared by, and what to tell the user about it."""
    usable = both_classes(y)
    if wanted == "loss" or usable.all():
        return wanted, ()
    if not usable.any():
        return "loss", ("validation has one class only: selected by loss",)
    missing = ", ".join(str(i) for i in np.flatnonzero(~usable))
    return "auc", (f"validation has one class only for label {missing}: left out of the AUC that selects",)


def check_labels(train: np.ndarray, val: np.ndarray) -> tuple[str, ...]:
    """Refuse splits that nothing can be learned from, or judged on; name labels that have one class."""
    for name, y in (("training", train), ("validation", val)):
        if len(y) == 0:
            raise InputError(f"the {name} split is empty: check the split column of the manifest")
        if np.isnan(y).all():
            raise InputError(f"all labels of the {name} split are unknown: check the label names and the label policy")
    if len(train) < 2:
        raise InputError("the training split holds 1 case, at least 2 are needed")
    if train.shape[1] != val.shape[1]:
        raise InputError(f"training has {train.shape[1]} labels, validation {val.shape[1]}: use the same labels")
    single = np.flatnonzero(~both_classes(train))
    if len(single) == 0:
        return ()
    return (f"training has one class only for label {', '.join(map(str, single))}: it cannot be learned",)
