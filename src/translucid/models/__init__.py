"""Networks: perceptrons for codes, convolutional networks with a named seam for images."""

from __future__ import annotations

from translucid.models.cnn import DenseNet121, ResNet18, SmallCNN, SplitCNN
from translucid.models.mlp import DeepfixcxMLP, HeartspotMLP, code_statistics
from translucid.models.saving import ModelInfo, load_model, save_model
from translucid.models.spec import ModelSpec
from translucid.models.table import MODELS

__all__ = [
    "MODELS",
    "ModelSpec",
    "HeartspotMLP",
    "DeepfixcxMLP",
    "DenseNet121",
    "ResNet18",
    "SmallCNN",
    "SplitCNN",
    "ModelInfo",
    "save_model",
    "load_model",
    "code_statistics",
]
