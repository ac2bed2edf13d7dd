"""What training may be told, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import nn

from translucid.config import build, fingerprint, from_kind, to_plain
from translucid.data import Augment
from translucid.errors import ConfigError, lookup
from translucid.losses import LOSSES
from translucid.train.schedules import cosine, triangular2

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
CHOICES = {
    "optimiser": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "cosine", "triangular2"),
    "select": ("auc", "loss"),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
}
COUNTS = ("epochs", "batch", "devices", "patience", "epoch_cases", "threads", "checkpoint_every", "schedule_step")
# what may differ between an interrupted run and the one that takes it up again
FREE = {"epochs", "patience", "accelerator", "devices", "strategy", "threads", "checkpoint_every"}


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Args:
        epochs: at most so many passes.
        batch: cases per step in one process.
        lr: learning rate.
        schedule: "constant", "cosine" (falling to 0 over `epochs`) or "triangular2" (cyclic, with `lr` as its peak),
            all of `translucid.train.schedules`.
        schedule_step: epochs from valley to peak of "triangular2".
        optimiser: "adam", "adamw" or "sgd" (with Nesterov momentum where `momentum` is above 0).
        momentum: of "sgd" only.
        weight_decay: factor of the squared weights ("adam", "sgd") or of the decoupled decay ("adamw").
        loss: kind in `translucid.losses.LOSSES`, or {"kind": …, fields}.
        augment: fields of `translucid.data.Augment`, for training images; empty changes nothing.
        balance: weigh positives by negatives/positives of the training labels.
        precision: "32-true", "bf16-mixed" or "16-mixed" (GPU); weights stay in 32 bits.
        accelerator, devices, strategy: handed to Lightning Fabric; "auto" takes a GPU where there is one, and starts
            one process per device ("ddp_spawn": a script then needs the `if __name__ == "__main__"` guard).
        patience: stop after so many epochs without a better one; None never stops early.
        select: what "better" means, on the validation split: "auc" (macro average over labels) or "loss".
        clip: largest norm of the gradient; None leaves it.
        seed: of the order, the augmentation and anything random in the network.
        epoch_cases: cases per epoch, drawn anew without replacement; None means all.
        threads: threads of the CPU; None leaves them as they are.
        prefetch: batches made ahead of time in a thread.
        checkpoint_every: epochs between two checkpoints to resume from; the last epoch always makes one.

    Example:
        >>> TrainSettings(epochs=3, optimiser="adma")
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: unknown optimiser 'adma': did you mean 'adam'? (known: adam, adamw, sgd)

    Fails when: the validation split is small; the best epoch is then the luckiest one.
    """

    epochs: int = 20
    batch: int = 32
    lr: float = 1e-3
    schedule: Literal["constant", "cosine", "triangular2"] = "constant"
    schedule_step: int = 2
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    loss: str | Mapping[str, Any] = "bce"
    augment: Mapping[str, Any] = field(default_factory=dict)
    balance: bool = False
    precision: Precision = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    patience: int | None = None
    select: Literal["auc", "loss"] = "auc"
    clip: float | None = None
    seed: int = 0
    epoch_cases: int | None = None
    threads: int | None = None
    prefetch: int = 0
    checkpoint_every: int = 1

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            lookup(dict.fromkeys(known), getattr(self, name), name)
        self.make_loss()
        self.make_augment()
        for name in COUNTS:
            self._at_least(name, 1)
        for name in ("seed", "prefetch", "momentum", "weight_decay"):
            self._at_least(name, 0)
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be above 0, got {value}")

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and not value >= least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")

    def make_loss(self, positive: tuple[float, ...] = ()) -> Any:
        """The loss these settings name; `positive` weighs positives where the loss does not say itself."""
        table: dict[str, Any] = {"kind": self.loss} if isinstance(self.loss, str) else dict(self.loss)
        if positive and "positive" not in table:
            table["positive"] = positive
        return from_kind(LOSSES, table, "loss")

    def make_augment(self) -> Augment | None:
        """How training images are changed, or None."""
        return build(Augment, self.augment, "augment") if self.augment else None

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 1."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "cosine":
            return cosine(epoch - 1, self.lr, self.epochs)
        return triangular2(epoch - 1, self.lr, self.schedule_step)

    def mark(self) -> str:
        """Fingerprint of the settings that an interrupted and a resumed run must share."""
        free = FREE - {"epochs"} if self.schedule == "cosine" else FREE
        return fingerprint({f.name: to_plain(getattr(self, f.name)) for f in fields(self) if f.name not in free})


def make_optimiser(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser the settings name, in its fused form where gradients need no unscaling before clipping."""
    fused = settings.precision != "16-mixed"
    weights = [p for p in model.parameters() if p.requires_grad]
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": fused}
    if settings.optimiser == "adam":
        return torch.optim.Adam(weights, **common)
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(weights, **common)
    return torch.optim.SGD(weights, momentum=settings.momentum, nesterov=settings.momentum > 0, **common)


@dataclass(frozen=True)
class Fitted:
    """How a training went; the network itself holds the weights of the best epoch.

    Attributes:
        best_epoch: counted from 1.
        selected_by: "auc" or "loss", as it really was.
        best: the validation AUC or loss of that epoch.
        history: one row per epoch: epoch, train_loss, val_loss, val_auc (nan where undefined), seconds,
            images_per_second, peak_memory_mb, lr. Losses of the validation split are plain cross-entropies.
        seconds_per_epoch: median time of the training pass, the first epoch left out where there are more.
        seconds_per_15000: the same for 15 000 cases.
        peak_memory_bytes: on a GPU the most memory tensors took; on a CPU how much the process grew at most.
        parameters: trained numbers of the network.
        notes: what a reader should know.
    """

    best_epoch: int
    selected_by: Literal["auc", "loss"]
    best: float
    history: tuple[dict[str, float], ...]
    seconds_per_epoch: float
    seconds_per_15000: float
    peak_memory_bytes: int
    parameters: int
    notes: tuple[str, ...] = ()
