"""Stores that stand for run folders' ones, and the data of a run on small volumes."""

from __future__ import annotations

from typing import Any

import numpy as np


class Codes:
    """A store of images or volumes that are their own codes, or of places."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.header = {"space": list(values.shape[2:]), "compressor": {"kind": "plain"}, "code_length": 1}
        self.shape = (len(values), values.shape[1], int(np.prod(values.shape[2:])))

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows].reshape(len(rows), *self.shape[1:])


VOLUMES: dict[str, Any] = {
    "layout": "phantom",
    "labels": ["effusion", "pneumonia"],
    "options": {
        "patients": 24,
        "visits": [1, 1],
        "volume": [12, 24, 24],
        "seed": 1,
        "label_noise": 0.0,
        "prevalence": {"effusion": 0.5, "pneumonia": 0.5},
    },
}
