"""The one training loop, on Lightning Fabric, and what goes with it."""

from __future__ import annotations

from translucid.train.checkpoint import clear_checkpoints
from translucid.train.loop import fit
from translucid.train.predicting import predict
from translucid.train.scoring import macro_auc
from translucid.train.settings import Fitted, TrainSettings

__all__ = ["TrainSettings", "Fitted", "fit", "predict", "macro_auc", "clear_checkpoints"]
