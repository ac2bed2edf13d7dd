"""Perceptrons that read the kept numbers directly: the ones published with HeartSpot and with DeepFixCX."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from translucid.errors import ConfigError, InputError
from translucid.models.spec import Eats, drawn_from, need_input, need_shape
from translucid.tensors import Batch, Prediction

Cases = Float[Tensor, "batch channel *code"]


@dataclass(frozen=True)
class HeartspotMLP:
    """The perceptron of HeartSpot: flatten → (linear → batch normalisation → SELU) twice → linear.

    The linear maps before a batch normalisation carry no bias, since the normalisation would subtract it again.

    Args:
        widths: units of the two hidden layers; the defaults are the published ones.

    Example:
        >>> net = HeartspotMLP(widths=(8, 4)).build((1, 20), labels=1, seed=0)
        >>> net.eval()(torch.zeros(3, 1, 20)).logits.shape
        torch.Size([3, 1])

    Source: Johnson, Mohan, Gaudio and others, HeartSpot, arXiv:2210.02241 (2022); widths of its published runs.

    Fails when: there are far fewer cases than kept pixels; with 6 400 pixels it has 21 million weights, three times
    those of a DenseNet-121.
    """

    widths: tuple[int, int] = (3200, 300)
    eats: ClassVar[Eats] = "codes"

    def __post_init__(self) -> None:
        if min(self.widths) < 1:
            raise ConfigError(f"widths must be at least 1, got {self.widths}")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for cases of `shape` (channel, code), or an image, with weights drawn from `seed`."""
        need_shape(shape, labels, (2, 3, 4), "heartspot_mlp")
        with drawn_from(seed):
            return _HeartspotNet(shape, labels, self.widths)


class _HeartspotNet(nn.Module):
    def __init__(self, shape: tuple[int, ...], labels: int, widths: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        first, second = widths
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(shape), first, bias=False),
            nn.BatchNorm1d(first),
            nn.SELU(),
            nn.Linear(first, second, bias=False),
            nn.BatchNorm1d(second),
            nn.SELU(),
            nn.Linear(second, labels),
        )

    def forward(self, x: Cases) -> Prediction:
        need_input(x, self.shape, "this perceptron")
        return Prediction(self.layers(x))


@dataclass(frozen=True)
class DeepfixcxMLP:
    """The perceptron of DeepFixCX: centre → one weight per code entry → linear → CELU → linear.

    logits = W₂ · CELU(W₁ · vec(a ∘ (x − mean)/scale) + b₁) + b₂; the weights a (one per code entry, shared over the
    channels, drawn from U[0, 1)) are drawn to zero by the penalty 0.1 · mean|a|, so they rank the entries of the code.

    Args:
        width: units of the hidden layer.
        normalise: "mean" subtracts the training mean of each entry, "whiten" also divides by its standard deviation,
            "none" leaves the codes as they are. `fit_statistics` takes both from training codes.
        penalty: factor of the mean |a| that is added to the loss.

    Example:
        >>> net = DeepfixcxMLP().build((1, 5776), labels=14, seed=0)
        >>> sum(p.numel() for p in net.parameters())
        1743090

    Source: Gaudio, Smailagic, Faloutsos and others, DeepFixCX, WIREs Data Mining and Knowledge Discovery 13 (2023),
    doi:10.1002/widm.1495. The linear weights are drawn from Kaiming's normal distribution, as in its published runs;
    that the biases start at zero is our reading.

    Fails when: `fit_statistics` saw other codes than those of training; the centre then lies elsewhere.
    """

    width: int = 300
    normalise: Literal["mean", "whiten", "none"] = "mean"
    penalty: float = 0.1
    eats: ClassVar[Eats] = "codes"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"width must be at least 1, got {self.width}")
        if self.normalise not in ("mean", "whiten", "none"):
            raise ConfigError(f"normalise = {self.normalise!r}: known are mean, whiten, none")
        if not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise ConfigError(f"penalty must be 0 or more, got {self.penalty}")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for codes of `shape` (channel, code) with weights drawn from `seed`."""
        need_shape(shape, labels, (2,), "deepfixcx_mlp")
        with drawn_from(seed):
            return _DeepfixcxNet(shape, labels, self)


class _DeepfixcxNet(nn.Module):
    def __init__(self, shape: tuple[int, ...], labels: int, spec: DeepfixcxMLP) -> None:
        super().__init__()
        self.shape, self.normalise, self.penalty = shape, spec.normalise, spec.penalty
        self.attention = nn.Parameter(torch.rand(shape[1]))
        self.hidden = nn.Linear(math.prod(shape), spec.width)
        self.out = nn.Linear(spec.width, labels)
        for layer in (self.hidden, self.out):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("cases_seen", torch.zeros((), dtype=torch.int64))

    mean: Tensor
    scale: Tensor
    cases_seen: Tensor

    def needs_statistics(self) -> bool:
        """Whether `fit_statistics` has still to be called."""
        return self.normalise != "none" and int(self.cases_seen) == 0

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Take centre and scale of each code entry from training batches, and from nothing else."""
        mean, variance, cases = code_statistics(batch.x for batch in batches)
        if self.normalise != "none":
            self.mean.copy_(mean)
        if self.normalise == "whiten":
            self.scale.copy_(torch.where(variance > 0, variance, 1.0).sqrt())
        self.cases_seen.fill_(cases)

    def forward(self, x: Cases) -> Prediction:
        need_input(x, self.shape, "this perceptron")
        centred = x if self.normalise == "none" else x - self.mean
        if self.normalise == "whiten":
            centred = centred / self.scale
        # W(a ∘ x) = (W ∘ a)x, and the right side spares the gradient of a whole batch of codes
        weight = (self.hidden.weight.unflatten(1, self.shape) * self.attention).flatten(1)
        hidden = nn.functional.celu(nn.functional.linear(centred.flatten(1), weight, self.hidden.bias))
        return Prediction(self.out(hidden), extra={"penalty": self.penalty * self.attention.abs().mean()})


def code_statistics(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of each code entry over all cases, in one pass and in double precision.

    Batches are merged by mean ← mean + δ·n/N and M₂ ← M₂ + m₂ + δ²·n·(N − n)/N, where δ is the difference of the
    means, n the cases of the batch and N those up to and with it.

    Raises:
        InputError: there is no case.

    Example:
        >>> mean, variance, cases = code_statistics([torch.tensor([[[1.0]], [[3.0]]]), torch.tensor([[[5.0]]])])
        >>> mean.item(), round(variance.item(), 4), cases
        (3.0, 2.6667, 3)

    Source: Chan, Golub, LeVeque, The American Statistician 37 (1983) 242, doi:10.1080/00031305.1983.10483115.

    Fails when: a code holds nan or infinity; the statistics of its entry are then nan.
    """
    cases, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for x in batches:
        n = len(x)
        if n == 0:
            continue
        x = x.detach().double().cpu()
        here = x.mean(0)
        cases, delta = cases + n, here - mean
        squares = squares + (x - here).square().sum(0) + delta.square() * (n * (cases - n) / cases)
        mean = mean + delta * (n / cases)
    if cases == 0:
        raise InputError("no case to take statistics from: hand in the batches of the training split")
    return mean, squares / cases, cases
