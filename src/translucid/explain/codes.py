"""Explaining a network on codes from the codes alone, and carrying the result back into the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from translucid.errors import ConfigError, ShapeError
from translucid.explain.engine import gradients, tolerance
from translucid.explain.heads import Form, as_logits, checked_labels, evaluating, form, refuse_probabilities, unwrap
from translucid.tensors import Compressor, Explanation, Placed, Placement
from translucid.types import Space

CodeMaps = Float[Tensor, "batch label channel code"]


@dataclass(frozen=True)
class CodeGradients:
    """Gradients with respect to codes, and the two outputs between which they are to add up.

    Attributes:
        gradient: (batch, label, channel, code), averaged along the path where there is one.
        step: (batch, channel, code) codes − baseline.
        logits, bias: (batch, label) f(codes) and f(baseline).
        form: what is proved of the network.
    """

    gradient: Tensor
    step: Tensor
    logits: Tensor
    bias: Tensor
    form: Form

    @property
    def contributions(self) -> CodeMaps:
        """Gradient × (code − baseline)."""
        return self.gradient * self.step.unsqueeze(1)


@dataclass(frozen=True)
class GradientTimesCode:
    """Contribution of every code to a logit: c_k = (z_k − z⁰_k) · ∂f/∂z_k, or integrated from z⁰ to z.

    With `steps` = 0 the gradient is taken at the codes; otherwise it is the mean over the straight path,
    c_k = (z_k − z⁰_k) ∫₀¹ ∂f/∂z_k(z⁰ + t(z − z⁰)) dt, by Gauss–Legendre quadrature, and Σ_k c_k → f(z) − f(z⁰).

    Attributes:
        steps: points of the quadrature; 0 for the gradient at the codes.
        output: name or index of the logits in the model's output.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1))
        >>> GradientTimesCode()(net, torch.ones(1, 1, 4), labels=[0]).exact
        True

    Source: Sundararajan, Taly & Yan 2017, arXiv:1703.01365, for the integral; Shrikumar et al. 2016, arXiv:1605.01713.

    Fails when: the network bends sharply between baseline and codes and `steps` is small: `residual` then grows. A zero
    code is said to contribute nothing, however much its being zero means.
    """

    steps: int = 0
    output: str | int | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"steps = {self.steps}: 0 for the gradient at the codes, or a number of points")

    def __call__(self, model: Any, x: Tensor, labels: Sequence[int], baseline: Tensor | None = None) -> Explanation:
        """Maps (batch, label, channel, code); the grid is (channel, code), its placement counts codes."""
        found = code_gradients(model, x, labels, steps=self.steps, baseline=baseline, output=self.output)
        maps = found.contributions
        residual = found.logits - found.bias - maps.flatten(2).sum(2)
        exact = _proved(found, baseline) and _small(residual, found)
        remarks = _remarks(exact, self.steps, baseline)
        placement = Placement((0.0, 0.0), (1.0, 1.0))
        chosen = tuple(int(k) for k in labels)
        return Explanation(maps, chosen, "GradientTimesCode", exact, residual, found.bias, placement, remarks)


def code_gradients(
    model: Any,
    codes: Tensor,
    labels: Sequence[int],
    *,
    steps: int = 0,
    baseline: Tensor | None = None,
    output: str | int | None = None,
) -> CodeGradients:
    """Gradients of the asked logits with respect to codes; the model is left as found.

    Args:
        model: (batch, channel, code) → logits.
        codes: what the model sees.
        labels: indices into the logits.
        steps: points along the path from the baseline; 0 takes the gradient at the codes.
        baseline: codes of "nothing to see", broadcast over the batch; None means zeros.
        output: name or index of the logits in the model's output.

    Raises:
        ShapeError: codes are not (batch, channel, code), or the baseline does not fit them.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> code_gradients(net, torch.ones(3, 1, 4), [1]).gradient.shape
        torch.Size([3, 1, 1, 4])
    """
    if codes.ndim != 3 or len(codes) == 0:
        raise ShapeError(f"codes have shape {tuple(codes.shape)}, wanted (batch, channel, code), one row at least")
    model = unwrap(model)
    with evaluating(model):
        z = codes.detach().clone()
        start = torch.zeros_like(z[:1]) if baseline is None else _baseline(baseline, z)
        points = _path(steps)
        total = torch.zeros(())
        for t, weight in points:
            source, scores = _scores(model, start + t * (z - start), output)
            asked = checked_labels(labels, scores.shape[1])
            total = total + weight * gradients(scores, source, asked)
        refuse_probabilities(scores)
        proved = form(scores, source)
        with torch.no_grad():
            logits = as_logits(model(z), output)[:, list(asked)]
            bias = as_logits(model(start.clone()), output)[:, list(asked)].expand_as(logits)
    return CodeGradients(total, z - start, logits, bias, proved)


def _baseline(baseline: Tensor, z: Tensor) -> Tensor:
    try:
        return torch.broadcast_to(baseline.detach().to(z), z.shape).clone()
    except RuntimeError:
        raise ShapeError(f"a baseline of shape {tuple(baseline.shape)} does not fit codes {tuple(z.shape)}") from None


def _path(steps: int) -> list[tuple[float, float]]:
    if steps == 0:
        return [(1.0, 1.0)]
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return [((float(t) + 1) / 2, float(w) / 2) for t, w in zip(nodes, weights, strict=True)]


def _scores(model: Any, z: Tensor, output: str | int | None) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        source = z.detach().clone().requires_grad_(True)
        return source, as_logits(model(source.clone()), output)


def _proved(found: CodeGradients, baseline: Tensor | None) -> bool:
    return found.form.affine or (found.form.complete and baseline is None)


def _small(residual: Tensor, found: CodeGradients) -> bool:
    scale = found.logits.abs() + found.bias.abs() + found.contributions.abs().flatten(2).sum(2)
    return bool((residual.abs() <= tolerance(residual) * scale + 1e-30).all())


def _remarks(exact: bool, steps: int, baseline: Tensor | None) -> tuple[str, ...]:
    nothing = "codes of zero" if baseline is None else "the given baseline"
    bias = f"the bias is the network's output for {nothing}"
    if exact:
        return (bias, "contributions sum to the logit less the bias")
    if steps:
        return (bias, f"integrated over {steps} points; what the quadrature misses is the residual")
    return (
        bias,
        "the network bends between baseline and codes: contributions need not add up; see residual, or set steps",
    )


# -- back into the image ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Carried:
    """Contributions carried back into the image.

    Attributes:
        maps: (batch, label, *space), in logit units, summed over channels.
        residual: (batch, label) what the codes contributed less the sum of the map.
        how: "adjoint" or "footprint".
        why: the reason in words.
    """

    maps: Tensor
    residual: Tensor
    how: str
    why: str


def carry_back(
    gradient: Tensor, codes: Tensor, compressor: Compressor, space: Space, how: str = "auto", chunk: int = 2**25
) -> Carried:
    """Place what the codes contributed in the image, such that contributions still add up.

    "adjoint": map = (Eᵀ g) ⊙ lift(z). Its sum is ⟨g, E lift(z)⟩, which is Σ_k g_k z_k wherever E lift = identity.
    "footprint": every g_k z_k is spread evenly over the pixels that code k sees (where Eᵀ e_k is not zero).
    "auto" takes the adjoint where the sum is kept, and the footprint otherwise.

    Args:
        gradient: (batch, label, channel, code), e.g. `CodeGradients.gradient`.
        codes: (batch, channel, code), or codes − baseline.
        compressor: what made the codes.
        space: size of the image in pixels.
        how: "auto", "adjoint" or "footprint".
        chunk: numbers held at once while footprints are computed.

    Raises:
        ShapeError: gradient and codes do not fit together.
        ConfigError: `how` is unknown.

    Example:
        >>> from types import SimpleNamespace
        >>> up = lambda z, space: z.unflatten(2, space)
        >>> pixels = SimpleNamespace(encode=torch.flatten, lift=up, adjoint=up, to_image=up, code_length=len)
        >>> carry_back(torch.ones(1, 1, 1, 4), torch.arange(4.0).view(1, 1, 4), pixels, (2, 2)).maps
        tensor([[[[0., 1.],
                  [2., 3.]]]])

    Source: adjoint of the wavelet and sampling operators, our reading; finished attributions pushed through the inverse
        transform, as in DeepFixCX (Gaudio et al. 2022), do not keep their sum.

    Fails when: a code is blind to the image (an empty footprint): what it contributed then stays in the residual. A
    footprint says where a code looks, not where in its cell the evidence lies; it costs one adjoint per code, seconds
    where the adjoint way costs milliseconds.
    """
    if gradient.ndim != 4 or (gradient.shape[0], *gradient.shape[2:]) != tuple(codes.shape):
        raise ShapeError(
            f"gradient {tuple(gradient.shape)} does not fit codes {tuple(codes.shape)}; "
            "wanted (batch, label, channel, code)"
        )
    if how not in ("auto", "adjoint", "footprint"):
        raise ConfigError(f"how = {how!r}: known are auto, adjoint, footprint")
    shares = gradient * codes.unsqueeze(1)
    total = shares.flatten(2).sum(2)
    if how != "footprint":
        maps = _adjoint(gradient, codes, compressor, space)
        residual = total - maps.flatten(2).sum(2)
        kept = bool((residual.abs() <= 10 * tolerance(codes) * shares.abs().flatten(2).sum(2) + 1e-30).all())
        if kept or how == "adjoint":
            why = "the transform gives its own codes back" if kept else "asked for, though the sum is not kept"
            return Carried(maps, residual, "adjoint", f"adjoint of the transform times what the codes show: {why}")
    maps = _footprint(shares, compressor, space, chunk)
    residual = total - maps.flatten(2).sum(2)
    said = "asked for" if how == "footprint" else "the transform does not give its own codes back"
    return Carried(maps, residual, "footprint", f"every code's share spread evenly over its own cell: {said}")


def _adjoint(gradient: Tensor, codes: Tensor, compressor: Compressor, space: Space) -> Placed:
    batch, label = gradient.shape[:2]
    back = compressor.adjoint(gradient.flatten(0, 1), space).unflatten(0, (batch, label))
    return (back * compressor.lift(codes, space).unsqueeze(1)).sum(2)


def _footprint(shares: Tensor, compressor: Compressor, space: Space, chunk: int) -> Placed:
    """One-hot codes through the adjoint show what each code sees; channels share the geometry."""
    summed = shares.sum(2)
    count, pixels = summed.shape[2], int(np.prod(space))
    out = summed.new_zeros(*summed.shape[:2], pixels)
    step = max(1, chunk // (pixels + count))
    for i in range(0, count, step):
        n = min(step, count - i)
        ones = summed.new_zeros(n, 1, count)
        ones[torch.arange(n), 0, torch.arange(i, i + n)] = 1
        sees = compressor.adjoint(ones, space).flatten(1).abs()
        sees = (sees > 1e-6 * sees.amax(1, keepdim=True)).to(summed.dtype)
        out += summed[:, :, i : i + n] @ (sees / sees.sum(1, keepdim=True).clamp(min=1))
    return out.unflatten(2, space)


def explain_codes(
    model: Any,
    codes: Tensor,
    labels: Sequence[int],
    compressor: Compressor,
    space: Space,
    *,
    steps: int = 0,
    baseline: Tensor | None = None,
    output: str | int | None = None,
    how: str = "auto",
) -> Explanation:
    """Explain a network on codes in the image, from the codes alone: `code_gradients`, then `carry_back`.

    Args:
        model, codes, labels, steps, baseline, output: as in `code_gradients`.
        compressor, space, how: as in `carry_back`.

    Returns:
        Maps on the image's own grid; `exact` where the network is complete and nothing got lost on the way.

    Example:
        >>> from types import SimpleNamespace
        >>> up = lambda z, space: z.unflatten(2, space)
        >>> pixels = SimpleNamespace(encode=torch.flatten, lift=up, adjoint=up, to_image=up, code_length=len)
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1))
        >>> explain_codes(net, torch.ones(1, 1, 4), [0], pixels, (2, 2)).exact
        True

    Fails when: see `carry_back` and `GradientTimesCode`.
    """
    found = code_gradients(model, codes, labels, steps=steps, baseline=baseline, output=output)
    carried = carry_back(found.gradient, found.step, compressor, space, how)
    residual = found.logits - found.bias - carried.maps.flatten(2).sum(2)
    exact = _proved(found, baseline) and _small(residual, found)
    placement = Placement.tiling(space, space)
    remarks = (*_remarks(exact, steps, baseline), carried.why)
    chosen = tuple(int(k) for k in labels)
    return Explanation(carried.maps, chosen, "GradientTimesCode", exact, residual, found.bias, placement, remarks)
