"""Cross-entropy over the labels that are known, and weights for rare ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from translucid.errors import ConfigError, ShapeError
from translucid.tensors import Batch, Labels, Logits, Prediction

Scalar = Float[Tensor, ""]


@dataclass(frozen=True)
class BCE:
    """Binary cross-entropy on logits, averaged over the known labels of the batch.

    L = (1/|K|) Σ_{(i,l) ∈ K} −[ w_l · y_il · log σ(z_il) + (1 − y_il) · log(1 − σ(z_il)) ] + penalty, where K holds the
    labels that are known (not nan). `Prediction.extra["penalty"]` is added where a model makes one. A batch in which
    nothing is known gives 0 and a gradient of 0.

    Args:
        positive: w_l, how much a positive counts, one number per label; empty means 1.

    Raises:
        ShapeError: logits, labels and weights do not go together.

    Example:
        >>> y = torch.tensor([[1.0], [float("nan")]])
        >>> batch = Batch(torch.zeros(2, 1, 4), y, torch.arange(2))
        >>> BCE()(Prediction(torch.zeros(2, 1)), batch)
        tensor(0.6931)

    Source: leaving unknown labels out is "U-Ignore" of Irvin and others, CheXpert, AAAI 2019, arXiv:1901.07031.

    Fails when: a label is known in few cases; its entries then hardly count in the mean.
    """

    positive: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(not (math.isfinite(w) and w > 0) for w in self.positive):
            raise ConfigError(f"weights of positives must be above 0, got {self.positive}")

    def __call__(self, prediction: Prediction, batch: Batch) -> Scalar:
        """The loss of one batch."""
        logits = prediction.logits
        if logits.shape != batch.y.shape:
            raise ShapeError(f"logits {tuple(logits.shape)} and labels {tuple(batch.y.shape)} differ in shape")
        loss = known_bce(logits, batch.y, self._weights(logits))
        penalty = prediction.extra.get("penalty")
        return loss if penalty is None else loss + penalty.to(loss.dtype)

    def _weights(self, logits: Tensor) -> Tensor | None:
        if not self.positive:
            return None
        if len(self.positive) != logits.shape[1]:
            raise ShapeError(f"{len(self.positive)} weights of positives for {logits.shape[1]} labels: give one each")
        return torch.tensor(self.positive, dtype=torch.float32, device=logits.device)


def known_bce(logits: Logits, y: Labels, positive: Float[Tensor, " label"] | None = None) -> Scalar:
    """Mean binary cross-entropy over the entries of `y` that are not nan, computed in 32 bits; see `BCE`.

    Example:
        >>> known_bce(torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0, float("nan")]]))
        tensor(0.6931)

    Fails when: nothing is known; the mean is then 0, as if all were learned.
    """
    known = ~torch.isnan(y)
    truth = torch.where(known, y, 0.0).float()
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.float(), truth, pos_weight=positive, reduction="none"
    )
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def balanced_weights(y: np.ndarray | Tensor, most: float = 100.0) -> tuple[float, ...]:
    """Weight of a positive so that both classes of a label count alike: w_l = negatives_l / positives_l.

    Args:
        y: (case, label) 1, 0 or nan, of the training split only.
        most: no weight is above this, nor below its inverse. A label with one class gets 1.

    Example:
        >>> balanced_weights(np.array([[1.0], [0.0], [0.0], [float("nan")]]))
        (2.0,)

    Fails when: labels are soft; positives are then counted as the sum of the labels.
    """
    labels = np.asarray(y, dtype=np.float64)
    positives, negatives = np.nansum(labels, axis=0), np.nansum(1 - labels, axis=0)
    both = (positives > 0) & (negatives > 0)
    weights = np.where(both, negatives / np.where(both, positives, 1.0), 1.0)
    return tuple(float(w) for w in np.clip(weights, 1 / most, most))
