"""Class activation maps: Grad-CAM, HiResCAM, Grad-CAM++ and LayerCAM, signed, in logit units, on the native grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from translucid.errors import ConfigError
from translucid.explain.engine import Completeness, explain
from translucid.tensors import Explanation

Activations = Float[Tensor, "batch feature *grid"]
Gradients = Float[Tensor, "batch label feature *grid"]
CamMaps = Float[Tensor, "batch label *grid"]


# -- the methods, as functions of activations and gradients -----------------------------------------------------


def hires_cam(a: Activations, g: Gradients) -> CamMaps:
    """HiResCAM: H(d) = Σ_f (∂s/∂A_{f,d}) · A_{f,d}.

    Args:
        a: activations.
        g: gradient of each label's logit with respect to them.

    Example:
        >>> hires_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[3.0, 0.0]]]]))
        tensor([[[3., 0.]]])

    Source: Draelos & Carin 2020, arXiv:2011.08891.

    Fails when: the head is neither affine nor bias-free and piecewise linear; the map then no longer sums to the logit.
    """
    return torch.einsum("bf...,blf...->bl...", a, g)


def grad_cam(a: Activations, g: Gradients) -> CamMaps:
    """Grad-CAM without its final ReLU: G(d) = Σ_f α_f A_{f,d}, α_f = (1/|D|) Σ_d ∂s/∂A_{f,d}.

    Example:
        >>> grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[3.0, 0.0]]]]))
        tensor([[[1.5000, 3.0000]]])

    Source: Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74.

    Fails when: the gradient varies in space. In the example the second place contributes nothing and gets the peak.
    """
    return torch.einsum("bf...,blf->bl...", a, g.flatten(3).mean(3))


def grad_cam_plus_plus(a: Activations, g: Gradients) -> CamMaps:
    """Grad-CAM++ without its final ReLU: weights w_f = Σ_d α_{f,d} · ReLU(∂s/∂A_{f,d}).

    With y = exp(s) the paper's α = (∂²y/∂A²) / (2 ∂²y/∂A² + Σ_d' A_{f,d'} ∂³y/∂A³) is g²/(2g² + g³ ΣA) for a piecewise
    linear s; exp(s) cancels, and where g is not zero one g² does too: α = 1/(2 + g ΣA). Only g > 0 counts. The factor
    exp(s) of w_f, one number per image and label, is left out, so that the map stays in logit units.

    Example:
        >>> grad_cam_plus_plus(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[2.0, 0.0]]]]))
        tensor([[[0.2500, 0.5000]]])

    Source: Chattopadhay et al. 2018, doi:10.1109/WACV.2018.00097.

    Fails when: activations are negative, so that 2 + g ΣA comes near zero; a vanishing denominator gives α = 0.
    """
    positive = g.clamp(min=0)
    total = a.flatten(2).sum(2).view(a.shape[0], 1, a.shape[1], *[1] * (a.ndim - 2))
    denominator = 2 + positive * total
    alpha = torch.where(denominator == 0, 0, 1 / torch.where(denominator == 0, 1, denominator))
    return torch.einsum("bf...,blf->bl...", a, (alpha * positive).flatten(3).sum(3))


def layer_cam(a: Activations, g: Gradients) -> CamMaps:
    """LayerCAM without its final ReLU: L(d) = Σ_f ReLU(∂s/∂A_{f,d}) · A_{f,d}.

    Example:
        >>> layer_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[3.0, -1.0]]]]))
        tensor([[[3., 0.]]])

    Source: Jiang et al. 2021, doi:10.1109/TIP.2021.3089943.

    Fails when: evidence against a label matters; negative gradients are dropped by definition.
    """
    return hires_cam(a, g.clamp(min=0))


# -- the explainers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cam(ABC):
    """What all class activation maps share: one forward pass, gradients to one layer, a model left as found.

    Attributes:
        layer: where to look; None takes the model's own seam, or what `resolve` finds.
        output: name or index of the logits in the model's output.
        tokens: (rows, cols, prefix) where the layer gives a transformer's sequence.
        create_graph: keep the graph, so that the maps can stand in a loss.
        chunk: labels per backward pass; None bounds the gradients held at once to 256 MiB.
    """

    layer: str | None = None
    output: str | int | None = None
    tokens: tuple[int, int, int] | None = None
    create_graph: bool = False
    chunk: int | None = None

    completeness: ClassVar[Completeness] = "never"

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise ConfigError(f"chunk = {self.chunk}: at least one label per backward pass")
        if self.tokens is not None and (min(self.tokens[:2]) < 1 or self.tokens[2] < 0):
            raise ConfigError(f"tokens = {self.tokens}: wanted (rows, cols, prefix), e.g. (14, 14, 1)")

    @staticmethod
    @abstractmethod
    def formula(a: Tensor, g: Tensor) -> Tensor:
        """Activations and gradients → maps."""

    def __call__(self, model: Any, x: Tensor, labels: Sequence[int]) -> Explanation:
        """Explain the asked labels' logits, all from one forward pass.

        Args:
            model: a `SplitModel`, or any network if `layer` names the seam.
            x: (batch, channel, *space).
            labels: indices into the logits.

        Raises:
            ConfigError: a label or the layer does not exist.
            InputError: the outputs are probabilities, or do not depend on the layer.
            ShapeError: the layer has no grid, or the output is not (batch, label).
        """
        return explain(self, model, x, labels)


@dataclass(frozen=True)
class HiResCAM(Cam):
    """HiResCAM: gradient × activation, summed over features; see `hires_cam`.

    The map sums to logit − head(0) where the head is affine, or piecewise linear without biases.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        >>> HiResCAM(layer="1")(net, torch.ones(1, 1, 6, 6), labels=[0, 2]).exact
        True

    Source: Draelos & Carin 2020, arXiv:2011.08891.

    Fails when: see `hires_cam`; `exact` and `residual` tell.
    """

    completeness: ClassVar[Completeness] = "always"
    formula = staticmethod(hires_cam)


@dataclass(frozen=True)
class GradCAM(Cam):
    """Grad-CAM, signed; see `grad_cam`. It sums to the logit only where the gradient is the same everywhere.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        >>> GradCAM(layer="1")(net, torch.ones(1, 1, 6, 6), labels=[0]).exact
        False

    Source: Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74.

    Fails when: the gradient varies in space; the map can then peak where nothing contributes.
    """

    completeness: ClassVar[Completeness] = "flat"
    formula = staticmethod(grad_cam)


@dataclass(frozen=True)
class GradCAMPlusPlus(Cam):
    """Grad-CAM++, signed; see `grad_cam_plus_plus`. It never sums to the logit.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        >>> GradCAMPlusPlus(layer="1")(net, torch.ones(1, 1, 6, 6), labels=[0]).maps.shape
        torch.Size([1, 1, 4, 4])

    Source: Chattopadhay et al. 2018, doi:10.1109/WACV.2018.00097.

    Fails when: see `grad_cam_plus_plus`.
    """

    formula = staticmethod(grad_cam_plus_plus)


@dataclass(frozen=True)
class LayerCAM(Cam):
    """LayerCAM, signed activations and positive gradients; see `layer_cam`. It never sums to the logit.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
        >>> LayerCAM(layer="1")(net, torch.ones(1, 1, 6, 6), labels=[0]).maps.shape
        torch.Size([1, 1, 4, 4])

    Source: Jiang et al. 2021, doi:10.1109/TIP.2021.3089943.

    Fails when: see `layer_cam`.
    """

    formula = staticmethod(layer_cam)
