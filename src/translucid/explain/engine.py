"""One forward pass, gradients to one layer, and what can be proved of the map; the methods hand in their formula."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from translucid.errors import ConfigError, InputError, ShapeError
from translucid.explain.geometry import Geometry, Tracer
from translucid.explain.grids import Tokens, start_graph
from translucid.explain.heads import (
    Form,
    as_logits,
    checked_labels,
    evaluating,
    form,
    refuse_probabilities,
    unwrap,
)
from translucid.explain.resolve import resolve
from translucid.explain.split import Split, pass_once
from translucid.tensors import Explanation, Placement, SplitModel

CHUNK = 2**26
"""Numbers of gradient held at once (256 MiB in single precision) where `chunk` is not given."""

Completeness = Literal["always", "flat", "never"]
"""Whether a method's maps sum to logit − head(0): wherever the head allows it, only for flat gradients, never."""


@runtime_checkable
class Method(Protocol):
    """A map's formula and the options of a run; `translucid.explain.cam.Cam` says what each means."""

    @property
    def layer(self) -> str | None: ...  # noqa: D102
    @property
    def output(self) -> str | int | None: ...  # noqa: D102
    @property
    def tokens(self) -> Tokens | None: ...  # noqa: D102
    @property
    def create_graph(self) -> bool: ...  # noqa: D102
    @property
    def chunk(self) -> int | None: ...  # noqa: D102

    @property
    def completeness(self) -> Completeness: ...  # noqa: D102
    @staticmethod
    def formula(a: Tensor, g: Tensor) -> Tensor: ...  # noqa: D102


@dataclass
class _State:
    """One forward pass, ready for gradients: `source` is the graph's start, `scores` what is differentiated.

    For an affine head of a `SplitModel` the gradient is the same for every image, so the one row of zeros that gave
    head(0) also gives the gradient: `source` then has one row and `seam` needs no graph at all.
    """

    seam: Tensor
    logits: Tensor
    bias: Tensor
    source: Tensor
    scores: Tensor
    form: Form
    geometry: Geometry | None
    remarks: list[str]


def explain(method: Method, model: Any, x: Tensor, labels: Sequence[int]) -> Explanation:
    """Run a method on a model; what `translucid.explain.cam.Cam.__call__` does.

    Example:
        >>> from translucid.explain.cam import HiResCAM
        >>> net = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten(), nn.Linear(8, 1))
        >>> explain(HiResCAM(layer="0"), net, torch.ones(1, 1, 4), [0]).maps.shape
        torch.Size([1, 1, 4])
    """
    model = unwrap(model)
    if x.ndim < 3 or len(x) == 0 or not x.is_floating_point():
        raise ShapeError(f"x is {x.dtype} {tuple(x.shape)}, wanted floats (batch, channel, *space), one image at least")
    with evaluating(model) as was_training:
        x = x.clone() if x.is_inference() else x
        state = _forward(method, model, x)
        if was_training:
            state.remarks.append("the model was in training mode; it was explained in evaluation mode")
        refuse_probabilities(state.scores)
        asked = checked_labels(labels, state.logits.shape[1])
        if not state.form.depends:
            raise InputError("the logits do not depend on this layer; choose one on the path to the output")
        # autocast would round the sums of the map itself to half precision
        with torch.set_grad_enabled(method.create_graph), torch.autocast(x.device.type, enabled=False):
            maps, flat = _maps(method, state, asked)
            return _finish(method, model, x, state, asked, maps, flat)


def _forward(method: Method, model: Any, x: Tensor) -> _State:
    if isinstance(model, Split) and method.layer is None:
        state = _hooked_forward(method, model.model, model.layer, x, model.tokens, model.output)
        state.remarks.extend(r for r in model.remarks if r not in state.remarks)
        return state
    if method.layer is None and names_its_seam(model, x, method.output):
        return _seam_forward(method, model, x)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{type(model).__name__} is neither a torch module nor has features() and head()")
    if method.layer is not None:
        return _hooked_forward(method, model, method.layer, x, method.tokens, method.output)
    choice = resolve(model, x, output=method.output)
    state = _hooked_forward(method, model, choice.layer, x, choice.tokens, method.output)
    state.remarks.insert(0, f"no layer was named; {choice.why}")
    return state


def names_its_seam(model: Any, x: Tensor, output: str | int | None = None) -> bool:
    """Whether a model is a `SplitModel`.

    Some networks merely have sub-modules of these names, with other steps between them: there the two are run in a row
    on one image and compared with the network.

    Example:
        >>> names_its_seam(nn.Linear(1, 1), torch.ones(1, 1))
        False
    """
    if not isinstance(model, SplitModel):
        return False
    if not (isinstance(model.features, nn.Module) and isinstance(model.head, nn.Module)):
        return True
    try:
        with torch.no_grad():
            ours, its = as_logits(model.head(model.features(x[:1]))), as_logits(model(x[:1]), output)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return ours.shape == its.shape and torch.allclose(ours, its, rtol=1e-3, atol=1e-4)


def _hooked_forward(
    method: Method, model: nn.Module, layer: str, x: Tensor, tokens: Tokens | None, output: str | int | None
) -> _State:
    passed = pass_once(model, layer, x, attached=method.create_graph, tokens=tokens, output=output)
    remarks = [f"{layer} runs {passed.calls} times; its last call is explained"] if passed.calls > 1 else []
    proved = form(passed.logits, passed.edge)
    geometry = None if tokens else passed.geometry
    return _State(passed.seam, passed.logits, passed.zero, passed.seam, passed.logits, proved, geometry, remarks)


def _seam_forward(method: Method, model: Any, x: Tensor) -> _State:
    with torch.set_grad_enabled(method.create_graph), Tracer(x) as trace:
        a = model.features(x)
        geometry = trace.of(a)
    if len(a) != len(x):
        raise ShapeError(f"features() gives {len(a)} rows for {len(x)} images")
    with torch.enable_grad():
        zero = start_graph(torch.zeros_like(a[:1]), attached=False)
        scores = as_logits(model.head(zero.clone()), method.output)
        proved = form(scores, zero)
        if proved.affine:
            with torch.set_grad_enabled(method.create_graph):
                logits = as_logits(model.head(a), method.output)
            state = _State(a, logits, scores, zero, scores, proved, geometry, [])
            if _adds_up(state):
                return state
        seam = start_graph(a, method.create_graph)
        logits = as_logits(model.head(seam.clone()), method.output)
    return _State(seam, logits, scores, seam, logits, form(logits, seam), geometry, [])


def _adds_up(state: _State) -> bool:
    """Guards the shortcut: the gradient at zero must explain the first logit of every image."""
    weight = torch.autograd.grad(state.scores[0, 0], state.source, retain_graph=True)[0]
    total = (state.seam.double() * weight.double()).flatten(1).sum(1)
    gap = state.logits[:, 0].double() - state.scores[0, 0].double() - total
    return bool((gap.abs() <= tolerance(state.logits) * (1 + state.logits[:, 0].double().abs())).all())


def tolerance(like: Tensor) -> float:
    """How far a provably complete map may miss its logit by rounding, relative to the sizes involved.

    Example:
        >>> tolerance(torch.zeros(1))
        0.0001
    """
    return {torch.float64: 1e-10, torch.float32: 1e-4}.get(like.dtype, 5e-2)


def _maps(method: Method, state: _State, asked: tuple[int, ...]) -> tuple[Tensor, bool]:
    """The maps of all labels in chunks, and whether the gradient is the same at every place."""
    step = method.chunk or max(1, CHUNK // max(state.source.numel(), 1))
    seam = state.seam if state.seam.dtype == torch.float64 else state.seam.float()
    maps, flat = [], True
    for i in range(0, len(asked), step):
        g = gradients(state.scores, state.source, asked[i : i + step], method.create_graph)
        flat = flat and _is_flat(g.detach())
        g = g.to(seam.dtype).expand(len(seam), *g.shape[1:])
        maps.append(method.formula(seam, g))
    return torch.cat(maps, 1), flat


def gradients(scores: Tensor, source: Tensor, labels: Sequence[int], create_graph: bool = False) -> Tensor:
    """∂ scores[:, label] / ∂ source for several labels in one batched backward pass; a loop where that is impossible.

    Args:
        scores: (batch, label), computed from `source` row by row.
        source: (batch, feature, *grid).
        labels: indices into the scores.
        create_graph: keep the graph of the gradients.

    Returns:
        (batch, len(labels), feature, *grid).

    Example:
        >>> a = torch.ones(1, 1, 2, requires_grad=True)
        >>> gradients((a**2).sum((1, 2)).view(1, 1), a, [0])
        tensor([[[[2., 2.]]]])
    """
    picks = torch.zeros(len(labels), *scores.shape, dtype=scores.dtype, device=scores.device)
    picks[torch.arange(len(labels)), :, list(labels)] = 1

    def grad(pick: Tensor, batched: bool) -> Tensor:
        found = torch.autograd.grad(
            scores, source, pick, retain_graph=True, create_graph=create_graph, is_grads_batched=batched
        )
        return found[0]

    with torch.set_grad_enabled(create_graph):
        if len(labels) == 1:
            return grad(picks[0], False).unsqueeze(1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return grad(picks, True).transpose(0, 1)
        except (RuntimeError, NotImplementedError):
            return torch.stack([grad(pick, False) for pick in picks], 1)


def _is_flat(g: Tensor) -> bool:
    if g.shape[3:].numel() == 1 or all(s == 0 for s in g.stride()[3:]):
        return True
    cells = g.flatten(3)
    spread = (cells.amax(3) - cells.amin(3)).amax()
    return bool(spread <= (1e-12 if g.dtype == torch.float64 else 1e-6) * cells.abs().amax())


# -- the record ---------------------------------------------------------------------------------------------------


def _finish(
    method: Method, model: Any, x: Tensor, state: _State, asked: tuple[int, ...], maps: Tensor, flat: bool
) -> Explanation:
    picked = state.logits[:, list(asked)].to(maps.dtype)
    bias = state.bias[:, list(asked)].to(maps.dtype).expand_as(picked)
    remarks = list(state.remarks)
    if not bool(torch.isfinite(bias).all()):
        remarks.append("head(0) is not finite; the bias is given as zero")
        bias = torch.zeros_like(picked)
    residual = picked - bias - maps.flatten(2).sum(2)
    proved = method.completeness == "always" or (method.completeness == "flat" and flat)
    exact = proved and state.form.complete and bool(_small(residual, picked, bias, maps, state.logits))
    remarks.extend(_method_remarks(method, state.form, flat, exact))
    placement, said = place(model, x, tuple(maps.shape[2:]), state.geometry)
    keep = (lambda t: t) if method.create_graph else Tensor.detach
    return Explanation(
        keep(maps), asked, type(method).__name__, exact, keep(residual), keep(bias), placement, (*remarks, *said)
    )


def _small(residual: Tensor, logits: Tensor, bias: Tensor, maps: Tensor, native: Tensor) -> Tensor:
    scale = logits.abs() + bias.abs() + maps.flatten(2).abs().sum(2)
    return (residual.abs() <= tolerance(native) * scale + 1e-30).all()


def _method_remarks(method: Method, head: Form, flat: bool, exact: bool) -> list[str]:
    said = []
    if method.completeness != "never":
        said.append(
            "the gradient is the same at every place, so Grad-CAM and HiResCAM coincide here"
            if flat
            else "the gradient varies in space, so Grad-CAM and HiResCAM differ here"
        )
    if exact:
        said.append("each map sums to its logit less the bias head(0)")
    elif method.completeness == "always" and not head.complete:
        said.append("the head is not provably affine or homogeneous: the map need not sum to the logit; see residual")
    elif method.completeness == "never" or not flat:
        said.append("this method's maps do not sum to the logit; see residual")
    return said


def place(model: Any, x: Tensor, grid: tuple[int, ...], geometry: Geometry | None) -> tuple[Placement, list[str]]:
    """Where a map's cells lie: as the model says, as traced through its layers, or as an even tiling.

    A model may say it itself through `placement(space) -> Placement`.

    Example:
        >>> place(None, torch.zeros(1, 1, 8, 8), (2, 2), None)[0]
        Placement(start=(1.5, 1.5), step=(4.0, 4.0))
    """
    space = tuple(x.shape[2:])
    if callable(getattr(model, "placement", None)):
        return model.placement(space), []
    if geometry is not None and len(geometry.axes) == len(grid):
        seen = "×".join(str(f) for f in geometry.field)
        return geometry.placement, [f"cells lie at the centres of their receptive fields, each {seen} pixels wide"]
    if len(grid) != len(space):
        return Placement((0.0,) * len(grid), (1.0,) * len(grid)), [
            f"the map has {len(grid)} axes and the image {len(space)}; the placement counts cells"
        ]
    return Placement.tiling(space, grid), ["the cells' places could not be traced; they are taken to tile the image"]
