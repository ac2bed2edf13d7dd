"""Any network cut in two at a named layer: the only file with hooks, and none outlives a call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from translucid.errors import ConfigError, InputError, ShapeError, did_you_mean
from translucid.explain.geometry import Geometry, Tracer
from translucid.explain.grids import Tokens, from_grid, start_graph, to_grid
from translucid.explain.heads import as_logits, evaluating, leaves_batch_statistics, unwrap
from translucid.tensors import Prediction


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The sub-module of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.

    Example:
        >>> find_layer(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), "1")
        ReLU()
    """
    modules = dict(model.named_modules())
    if layer not in modules or layer == "":
        raise ConfigError(f"no layer {layer!r} in {type(model).__name__}: {did_you_mean(layer, filter(None, modules))}")
    return modules[layer]


# -- hooks --------------------------------------------------------------------------------------------------------


def _first(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    found = next((p for p in parts if isinstance(p, Tensor)), None)
    if found is None:
        raise InputError(f"the layer gives a {type(output).__name__} without a tensor; choose another layer")
    return found


def _put_back(output: Any, tensor: Tensor) -> Any:
    """The layer's output with its first tensor replaced."""
    if isinstance(output, Tensor):
        return tensor
    old = _first(output)
    if isinstance(output, dict):
        return {k: tensor if v is old else v for k, v in output.items()}
    parts = [tensor if p is old else p for p in output]
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)


@contextlib.contextmanager
def _hooked(module: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Let `act` see, and replace unless it returns None, the module's output; the hook goes on every path."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        new = act(_first(output))
        return None if new is None else _put_back(output, new)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _Stop(Exception):
    """Ends a forward pass once the wanted layer has run; never leaves this file."""


# -- one forward --------------------------------------------------------------------------------------------------


@dataclass
class Passed:
    """What one forward pass leaves behind.

    Attributes:
        seam: (batch, feature, *grid) the activations from which the graph to the logits starts.
        logits: (batch, label).
        edge: where a proof about the head starts in the graph.
        zero: logits of a head that is given zeros, (1, label) or (batch, label).
        calls: how often the layer ran.
        geometry: where the cells lie, as far as it could be followed.
    """

    seam: Tensor
    edge: Any
    logits: Tensor
    zero: Tensor
    calls: int
    geometry: Geometry | None


class _Cut:
    """Replaces a layer's output by a fresh start of the graph, with one image of zeros behind the real ones.

    A layer that runs several times is cut each time, so that the last cut counts.
    """

    def __init__(self, rows: int, tokens: Tokens | None, attached: bool, spare: bool, trace: Tracer) -> None:
        self.rows, self.tokens, self.attached, self.spare, self.trace = rows, tokens, attached, spare, trace
        self.seam: Tensor | None = None
        self.edge: Any = None
        self.geometry: Geometry | None = None
        self.calls = 0

    def __call__(self, output: Tensor) -> Tensor:
        self.calls += 1
        real = output[: self.rows] if self.spare and self.calls > 1 else output
        if len(real) != self.rows:
            raise ShapeError(
                f"the layer gives {len(real)} rows for {self.rows} images; wrap the model with features() and head()"
            )
        if self.geometry is None:
            self.geometry = self.trace.of(output)
        torch.set_grad_enabled(True)
        self.seam = start_graph(to_grid(real, self.tokens) if self.tokens else real, self.attached)
        # a clone goes on, because an in-place activation may follow and must not change what is explained
        onward = from_grid(self.seam.clone(), real, self.tokens)
        sent = torch.cat([onward, torch.zeros_like(onward[:1])]) if self.spare else onward
        # the row of zeros is no constant added to the activations, special tokens are
        start = self.seam if self.tokens and self.tokens[2] else sent
        self.edge = torch.autograd.graph.get_gradient_edge(start)
        return sent


def pass_once(
    model: nn.Module,
    layer: str,
    x: Tensor,
    *,
    attached: bool = False,
    tokens: Tokens | None = None,
    output: str | int | None = None,
) -> Passed:
    """One forward pass in which the graph starts at a layer: no activations before it are kept.

    An image of zeros rides along from the layer on, which gives head(0) for free; where the head cannot take another
    row (a path round the layer, batch statistics), a second pass gives it.
    """
    module = find_layer(model, layer)
    passed = None
    if not leaves_batch_statistics(model):
        with contextlib.suppress(RuntimeError, ValueError, IndexError):
            passed = _pass(model, module, x, attached, tokens, output, spare=True)
    if passed is None:
        passed = _pass(model, module, x, attached, tokens, output, spare=False)
        passed.zero = _head_of_zeros(model, module, x, tokens, output)
    return passed


def _pass(
    model: nn.Module,
    module: nn.Module,
    x: Tensor,
    attached: bool,
    tokens: Tokens | None,
    output: str | int | None,
    spare: bool,
) -> Passed:
    with torch.set_grad_enabled(attached), Tracer(x) as trace:
        cut = _Cut(len(x), tokens, attached, spare, trace)
        with _hooked(module, cut):
            logits = as_logits(model(x), output)
    if cut.seam is None:
        raise InputError("the layer did not run for this input; choose one that does")
    if len(logits) != len(x) + spare:
        raise ShapeError(f"the model gives {len(logits) - spare} rows of logits for {len(x)} images")
    rows = len(x)
    return Passed(cut.seam, cut.edge, logits[:rows], logits[rows:], cut.calls, cut.geometry)


def _head_of_zeros(
    model: nn.Module, module: nn.Module, x: Tensor, tokens: Tokens | None, output: str | int | None
) -> Tensor:
    def zeros(a: Tensor) -> Tensor:
        return torch.zeros_like(a) if tokens is None else torch.cat([a[:, : tokens[2]], 0 * a[:, tokens[2] :]], 1)

    with torch.no_grad(), _hooked(module, zeros):
        return as_logits(model(x), output)


# -- watching a forward pass --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """One module's output in a watched forward pass: its place in the autograd graph, not the tensor itself."""

    order: int
    layer: str
    kind: str
    shape: tuple[int, ...]
    edge: Any
    geometry: Geometry | None
    calls: int


@contextlib.contextmanager
def watch(model: nn.Module, trace: Tracer) -> Iterator[list[Seen]]:
    """Note every module's output that hangs on the graph, in the order they run; all hooks go on every path."""
    seen: list[Seen] = []
    calls: dict[str, int] = {}

    def note(name: str, module: nn.Module, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        if isinstance(output, Tensor) and output.requires_grad and output.ndim > 2:
            edge = torch.autograd.graph.get_gradient_edge(output)
            shape, kind = tuple(output.shape), type(module).__name__
            seen.append(Seen(len(seen), name, kind, shape, edge, trace.of(output), calls[name]))

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                handle = module.register_forward_hook(lambda m, _i, o, n=name: note(n, m, o))
                hooks.callback(handle.remove)
        yield seen


# -- a model cut in two -------------------------------------------------------------------------------------------


class Split(nn.Module):
    """A `SplitModel` made by `split`; every call runs in evaluation mode.

    Attributes:
        model, layer, tokens, output: what was split and where.
        calls: how often the layer runs per forward pass; the last call is the seam.
        bound: whether a path leads round the layer, so that `head` holds only for the images given to `split`.
    """

    def __init__(
        self, model: nn.Module, layer: str, x: Tensor, tokens: Tokens | None, output: str | int | None
    ) -> None:
        super().__init__()
        self.model, self.layer, self.tokens, self.output = model, layer, tokens, output
        self._reference = x.detach()
        self.calls = 0
        self.bound = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of its maps should know."""
        said = []
        if self.calls > 1:
            said.append(f"{self.layer} runs {self.calls} times in one forward pass; its last call is explained")
        if self.bound:
            said.append(f"a path leads round {self.layer}: the head holds only for the images given to split")
        return tuple(said)

    def forward(self, x: Tensor) -> Prediction:
        """The model's own logits."""
        with evaluating(self.model):
            return Prediction(as_logits(self.model(x), self.output))

    def features(self, x: Tensor) -> Tensor:
        """The layer's output (batch, feature, *grid); what comes after it is not run."""
        taken: list[Tensor] = []

        def take(a: Tensor) -> None:
            taken.append(a)
            if len(taken) == self.calls:
                raise _Stop

        with evaluating(self.model), _hooked(find_layer(self.model, self.layer), take), contextlib.suppress(_Stop):
            self.model(x)
        if not taken:
            raise InputError(f"{self.layer} did not run for this input")
        return to_grid(taken[-1], self.tokens) if self.tokens else taken[-1].clone()

    def head(self, a: Tensor) -> Tensor:
        """Activations → logits, by running the model with the layer's output replaced (so: a whole forward pass)."""
        x = self._reference
        if len(a) != len(x):
            if self.bound:
                raise ShapeError(f"{self.remarks[-1]}: {len(x)} images, got activations of {len(a)}")
            x = x[:1].expand(len(a), *x.shape[1:])
        seen = 0
        wanted = torch.is_grad_enabled()

        def replace(old: Tensor) -> Tensor | None:
            nonlocal seen
            seen += 1
            if seen < self.calls:
                return None
            torch.set_grad_enabled(wanted)
            return from_grid(a.clone(), old, self.tokens)

        module = find_layer(self.model, self.layer)
        with evaluating(self.model), torch.no_grad(), _hooked(module, replace):
            return as_logits(self.model(x), self.output)


def split(
    model: nn.Module, layer: str, x: Tensor, *, tokens: Tokens | None = None, output: str | int | None = None
) -> Split:
    """Cut any network at a named layer: forward(x) = head(features(x)).

    Args:
        model: any network; DataParallel and compiled wrappers are taken off.
        layer: a name out of `model.named_modules()`.
        x: (batch, channel, *space) real input; it is run twice.
        tokens: (rows, cols, prefix) where the layer gives a transformer's sequence (batch, token, feature).
        output: name or index of the logits in the model's output.

    Returns:
        A `SplitModel`. Its `bound` says whether a path leads round the layer (a skip connection, a class token).

    Raises:
        ConfigError: there is no such layer.
        InputError: the layer does not run, or its output holds no tensor.
        ShapeError: the layer has no grid, or its rows are not the images.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(32, 1))
        >>> x = torch.ones(2, 1, 6, 6)
        >>> cut = split(net, "0", x)
        >>> torch.equal(cut.head(cut.features(x)), net(x))
        True

    Fails when: the network keeps state between calls, or branches on the values it sees.
    """
    model = unwrap(model)
    module = find_layer(model, layer)
    made = Split(model, layer, x, tokens, output)
    taken: list[Tensor] = []

    def take(a: Tensor) -> None:
        taken.append(to_grid(a, tokens) if tokens else a.clone())

    with evaluating(model), torch.no_grad():
        with _hooked(module, take):
            logits = as_logits(model(x), output)
        if not taken:
            raise InputError(f"{layer} did not run for this input; choose a layer that does")
        made.calls = len(taken)
        start_graph(taken[-1], attached=False)
        if len(taken[-1]) != len(x):
            raise ShapeError(f"{layer} gives {len(taken[-1])} rows for {len(x)} images; it is no seam between images")
        made.bound = _leads_round(made, taken[-1], logits)
    return made


def _leads_round(cut: Split, a: Tensor, logits: Tensor) -> bool:
    """Whether other images with the same activations get other logits."""
    x = cut._reference
    axes = tuple(range(2, x.ndim))
    cut._reference = 0.5 * x.flip(axes) + 0.1 if x.is_floating_point() else x.flip(axes)
    try:
        other = cut.head(a)
    finally:
        cut._reference = x
    scale = 1e-4 * max(1.0, float(logits.abs().max()))
    return not torch.allclose(other.float(), logits.float(), rtol=0, atol=scale)
