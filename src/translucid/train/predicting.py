"""Logits of every case, in the order of the arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from translucid.data import Loader
from translucid.errors import InputError, ShapeError
from translucid.train.device import make_fabric, placed, quiet, threads
from translucid.train.settings import TrainSettings


def predict(model: nn.Module, loader: Loader, settings: TrainSettings | None = None) -> np.ndarray:
    """Logits (case, label) of every case as stored; the network's mode and place are left as found.

    Args:
        model: any of our networks.
        loader: shuffling, augmentation and drawing are left out.
        settings: where and how precisely to compute; None means where the network lies, in 32 bits.

    Raises:
        InputError: there is no case.

    Example:
        >>> from translucid.models import HeartspotMLP
        >>> net = HeartspotMLP(widths=(4, 4)).build((1, 6), labels=1, seed=0)
        >>> predict(net, Loader(np.zeros((3, 1, 6), np.float32), np.zeros((3, 1)), batch=2)).shape
        (3, 1)

    Fails when: two cases share a value of `index`; the order is that of the arrays, not of the index.
    """
    if loader.cases == 0:
        raise InputError("no case to predict: check the split")
    loader = loader.in_order().with_(rank=0, world=1)
    if settings is None:
        first = next(model.parameters(), None)
        device = first.device if first is not None else torch.device("cpu")
        return torch.cat(logits_of(model, loader, device)).numpy()
    with quiet(), threads(settings.threads):
        fabric = make_fabric(settings, devices=1)
        with placed(model, fabric.device), fabric.autocast():
            return torch.cat(logits_of(model, loader, fabric.device)).numpy()


@torch.no_grad()
def logits_of(model: nn.Module, loader: Loader, device: torch.device) -> list[Tensor]:
    """One tensor of logits per batch, on the CPU in 32 bits."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        return [_need_logits(model(b.x.to(device)).logits, loader.labels).float().cpu() for b in loader]
    finally:
        for module, mode in modes.items():
            module.training = mode


def _need_logits(logits: Tensor, labels: int) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] != labels:
        raise ShapeError(f"the network gives {logits.shape[-1]} logits a case, the data has {labels} labels")
    return logits


def gather_logits(fabric: Any, model: nn.Module, loader: Loader) -> np.ndarray:
    """Every process predicts its share; all get all logits, in the order of the arrays."""
    share = loader.in_order().with_(rank=fabric.global_rank, world=fabric.world_size)
    with fabric.autocast():
        mine = torch.cat(logits_of(model, share, fabric.device))
    if fabric.world_size == 1:
        return mine.numpy()
    every = fabric.all_gather(mine.to(fabric.device))  # (process, case of the process, label)
    return every.transpose(0, 1).flatten(0, 1)[: loader.cases].float().cpu().numpy()
