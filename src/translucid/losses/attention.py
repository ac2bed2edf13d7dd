"""Maps that a loss can work on: gradient × activation with a graph of its own, and its closed form for linear heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.tensors import Maps, Prediction, SplitModel

Activations = Float[Tensor, "batch feature *grid"]


def attention(
    model: SplitModel, x: Tensor | None = None, a: Activations | None = None, labels: Sequence[int] | None = None
) -> Maps:
    """HiResCAM maps at a network's seam, differentiable by its weights: H_m(d) = Σ_f (∂s_m/∂A_{f,d}) · A_{f,d}.

    Labels go through one by one, so that no tensor of labels × features × cells is made. Where gradients are switched
    off the maps are the same and have no graph.

    Args:
        model: names its seam with features() and head().
        x: input; or give the activations.
        a: activations, with or without a graph behind them.
        labels: indices into the logits; None means all.

    Raises:
        InputError: neither input nor activations are given, or both, or the head does not use the activations.

    Example:
        >>> from translucid.models import SmallCNN
        >>> net = SmallCNN(head="flatten").build((1, 32, 32), labels=2, seed=0)
        >>> maps = attention(net, torch.ones(1, 1, 32, 32), labels=[1])
        >>> maps.shape, maps.requires_grad
        (torch.Size([1, 1, 4, 4]), True)

    Source: Draelos & Carin 2020, arXiv:2011.08891.

    Fails when: rows of a batch see each other in the head (batch statistics); the gradients of all rows then mix.
    """
    if (x is None) == (a is None):
        raise InputError("attention needs the input x or the activations a, and not both")
    keep = torch.is_grad_enabled()
    seam: Tensor = model.features(x) if a is None else a  # type: ignore[arg-type]
    with torch.enable_grad():
        seam = seam if seam.requires_grad and keep else seam.detach().requires_grad_()
        logits = model.head(seam)
        if not logits.requires_grad:
            raise InputError("the logits do not depend on the activations: does head() detach them?")
        asked = range(logits.shape[1]) if labels is None else labels
        maps = torch.stack([_map_of(logits[:, label], seam, keep) for label in asked], 1)
    return maps if keep else maps.detach()


def _map_of(logit: Tensor, a: Tensor, keep: bool) -> Tensor:
    (g,) = torch.autograd.grad(logit.sum(), a, retain_graph=True, create_graph=keep)
    return (g * a).sum(1)


def linear_attention(a: Activations, weight: Float[Tensor, "label features *cells"], chunk: int = 16) -> Maps:
    """The same in closed form where the head is linear: H_m(d) = Σ_f w_{m,f,d} · A_{f,d}.

    Args:
        a: activations.
        weight: ∂s/∂A; an axis of length 1 stands for the same weight all along. A head that averages its scores over S
            slices has w/S; hand in w itself for the attention of `PublishedMask`.
        chunk: labels at once; one chunk makes chunk × cells numbers, and no tensor has labels, features and cells.

    Raises:
        ShapeError: activations and weights do not go together.

    Example:
        >>> linear_attention(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 0.0]], [[1.0, 1.0]]]))
        tensor([[[3., 0.],
                 [1., 2.]]])

    Source: Draelos & Carin 2020, arXiv:2011.08891.

    Fails when: the head is not linear; compare the sum of a map with its logit less head(0).
    """
    fits = a.ndim == weight.ndim and all(w in (1, n) for w, n in zip(weight.shape[2:], a.shape[2:], strict=False))
    if not fits or a.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"activations {tuple(a.shape)} do not fit weights {tuple(weight.shape)}: wanted (label, feature, *grid) "
            "with the same features, and each axis as long as the grid's or 1"
        )
    if chunk < 1:
        raise ConfigError(f"chunk must be at least 1 label, got {chunk}")
    return torch.cat([torch.einsum("bf...,lf...->bl...", a, w) for w in weight.split(chunk)], 1)


class Shown(nn.Module):
    """A network with a seam that shows its HiResCAM maps with every prediction, so that a mask loss can price them.

    Args:
        model: names its seam; save this one, the wrapping has no weights of its own.

    Example:
        >>> from translucid.models import SmallCNN
        >>> net = Shown(SmallCNN().build((1, 32, 32), labels=2, seed=0))
        >>> net(torch.ones(1, 1, 32, 32)).maps.shape
        torch.Size([1, 2, 4, 4])

    Source: see `attention`.

    Fails when: the head averages all places: the gradient is then the same everywhere, and the map is the plain CAM.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, SplitModel):
            raise InputError(
                f"{type(model).__name__} has no features() and head(): only networks with a seam show maps"
            )
        self.model = model

    def features(self, x: Tensor) -> Tensor:
        """Input → activations."""
        return self.model.features(x)

    def head(self, a: Tensor) -> Tensor:
        """Activations → logits."""
        return self.model.head(a)

    def forward(self, x: Tensor) -> Prediction:
        """Logits and maps from one pass through the features."""
        a = self.model.features(x)
        return Prediction(self.model.head(a), attention(self.model, a=a))
