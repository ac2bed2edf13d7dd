"""Where the cells of an activation grid lie in the image, followed through every convolution and pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from translucid.errors import ShapeError
from translucid.explain.heads import names
from translucid.tensors import Placement
from translucid.types import Space

Axis = tuple[float, float, float]  # centre of the first cell, distance of the centres, receptive field, in pixels


@dataclass(frozen=True)
class Window:
    """A convolution or pooling: size, stride, padding before the first element, and dilation per axis.

    Example:
        >>> Window.cube(2, 3).kernel
        (3, 3)
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def __post_init__(self) -> None:
        if len({len(self.kernel), len(self.stride), len(self.padding), len(self.dilation)}) != 1:
            raise ShapeError(f"a window needs as many sizes on each of its axes, got {self}")

    @staticmethod
    def cube(axes: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Window:
        """The same window along every axis."""
        return Window((kernel,) * axes, (stride,) * axes, (padding,) * axes, (dilation,) * axes)


@dataclass(frozen=True)
class Geometry:
    """Cell centres (start + step·i) and theoretical receptive field along each axis, in pixels of the input."""

    axes: tuple[Axis, ...]

    @staticmethod
    def pixels(axes: int) -> Geometry:
        """The input itself: every pixel its own cell."""
        return Geometry(((0.0, 1.0, 1.0),) * axes)

    def through(self, window: Window) -> Geometry:
        """One layer on: the centre of the first window, in input pixels.

        start' = start + step·((kernel − 1)·dilation/2 − padding), step' = step·stride,
        field' = field + step·(kernel − 1)·dilation.
        """
        if len(window.kernel) != len(self.axes):
            raise ShapeError(f"a window of {len(window.kernel)} axes on a grid of {len(self.axes)}")
        sizes = zip(self.axes, window.kernel, window.stride, window.padding, window.dilation, strict=True)
        return Geometry(
            tuple((a + s * ((k - 1) * d / 2 - p), s * t, f + s * (k - 1) * d) for (a, s, f), k, t, p, d in sizes)
        )

    @property
    def placement(self) -> Placement:
        """The centres alone."""
        return Placement(tuple(a for a, _, _ in self.axes), tuple(s for _, s, _ in self.axes))

    @property
    def field(self) -> tuple[int, ...]:
        """Pixels a cell can see along each axis, were the image endless."""
        return tuple(round(f) for _, _, f in self.axes)


def trace_placement(layers: Sequence[Window]) -> Placement:
    """Centres of the receptive fields after a chain of convolutions and poolings.

    centre(i) = Σ_l step_l·((k_l − 1)·d_l/2 − p_l) + i·Π_l stride_l, with step_l the product of the strides before l.

    Args:
        layers: first to last.

    Raises:
        ShapeError: the chain is empty, or its windows have different numbers of axes.

    Example:
        >>> trace_placement([Window.cube(2, 7, stride=2, padding=3), Window.cube(2, 3)])
        Placement(start=(2.0, 2.0), step=(2.0, 2.0))

    Source: arithmetic of strided windows; cf. Araujo, Norris & Sim 2019, doi:10.23915/distill.00021.

    Fails when: the chain is not the network's only path; then the centres hold for this path.
    """
    if not layers:
        raise ShapeError("an empty chain has no placement: give at least one window")
    geometry = Geometry.pixels(len(layers[0].kernel))
    for layer in layers:
        geometry = geometry.through(layer)
    return geometry.placement


KEEPS = names("""
    native_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit cudnn_batch_norm
    miopen_batch_norm native_group_norm native_dropout clone detach alias _to_copy contiguous
    _unsafe_view view reshape expand slice _softmax prelu _prelu_kernel
""")

PADS = names("constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d")


class Tracer(TorchDispatchMode):
    """Follows `Geometry` from an image through every operation of the forward passes made inside the block.

    Where an operation is not known to keep or to move the grid in a regular way, the trail ends and `of` gives None.

    Example:
        >>> x = torch.zeros(1, 1, 8, 8)
        >>> with Tracer(x) as trace:
        ...     y = torch.nn.Conv2d(1, 2, 3, stride=2)(x).relu()
        >>> trace.of(y).placement
        Placement(start=(1.0, 1.0), step=(2.0, 2.0))
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.known: Any = WeakTensorKeyDictionary()
        self.known[x] = Geometry.pixels(x.ndim - 2)

    def of(self, tensor: Tensor) -> Geometry | None:
        """What is known of a tensor's grid."""
        found: Geometry | None = self.known.get(tensor)
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note where its output's cells lie."""
        out = func(*args, **(kwargs or {}))
        target = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(target, Tensor) and target.ndim > 2:
            geometry = self._follow(func, args, target)
            if geometry is not None and len(geometry.axes) == target.ndim - 2:
                self.known[target] = geometry
        return out

    def _follow(self, func: Any, args: Any, out: Tensor) -> Geometry | None:
        sources = [(t, g) for t in _tensors(args) if (g := self.of(t)) is not None]
        if not sources:
            return None
        name = func.overloadpacket.__name__
        source, geometry = sources[0]
        if name == "convolution":
            return None if args[6] else geometry.through(_window(source, args[1].shape[2:], args[3], args[4], args[5]))
        if "pool" in name and "backward" not in name:
            return _pooled(name, args, source, geometry)
        if name.startswith("upsample"):
            return _scaled(geometry, tuple(source.shape[2:]), tuple(out.shape[2:]))
        if name == "cat" and (len(args) < 2 or args[1] not in (1, 1 - out.ndim)):
            return None
        if name in PADS:
            return _padded(geometry, args[1])
        if name in ("unsqueeze", "squeeze"):
            return _one_axis(name, args, source, geometry)
        if name in KEEPS or name == "cat" or torch.Tag.pointwise in func.tags:
            return _merged([g for t, g in sources if t.shape[2:] == out.shape[2:] and t.ndim == out.ndim])
        return None


def _tensors(args: Any) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, (tuple, list)):
            yield from _tensors(arg)


def _window(source: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    axes = source.ndim - 2
    return Window(*(_spread(v, axes) for v in (kernel, stride, padding, dilation)))


def _spread(value: Any, axes: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,)
    return tuple(int(v) for v in (sizes * axes if len(sizes) == 1 else sizes))


def _pooled(name: str, args: Any, source: Tensor, geometry: Geometry) -> Geometry | None:
    """Pooling with fixed windows; adaptive pooling has no single window unless the grid divides."""
    if name.startswith(("_adaptive", "adaptive", "mkldnn_adaptive")):
        wanted = _spread(args[1], source.ndim - 2)
        if any(n % w for n, w in zip(source.shape[2:], wanted, strict=True)):
            return None
        kernel = tuple(n // w for n, w in zip(source.shape[2:], wanted, strict=True))
        return geometry.through(_window(source, kernel, kernel, 0, 1))
    if not name.startswith(("max_pool", "avg_pool")):
        return None
    stride = args[2] if len(args) > 2 and args[2] else args[1]
    padding = args[3] if len(args) > 3 else 0
    dilation = args[4] if len(args) > 4 and name.startswith("max") else 1
    return geometry.through(_window(source, args[1], stride, padding, dilation))


def _padded(geometry: Geometry, widths: Sequence[int]) -> Geometry | None:
    """Cells added in front move the first centre outwards; widths run from the last axis to the first, in pairs."""
    if len(widths) > 2 * len(geometry.axes):
        return None
    front = [*widths[::2], *[0] * (len(geometry.axes) - len(widths) // 2)][::-1]
    return Geometry(tuple((a - s * n, s, f) for (a, s, f), n in zip(geometry.axes, front, strict=True)))


def _one_axis(name: str, args: Any, source: Tensor, geometry: Geometry) -> Geometry | None:
    """An axis of one cell comes or goes: how pooling along one axis is done inside torch."""
    if len(args) < 2 or not isinstance(args[1], int):
        return None
    at = args[1] % (source.ndim + (name == "unsqueeze")) - 2
    axes = list(geometry.axes)
    if at < 0:
        return None
    if name == "unsqueeze":
        axes.insert(at, (0.0, 1.0, 1.0))
    elif source.shape[at + 2] == 1:
        del axes[at]
    return Geometry(tuple(axes))


def _scaled(geometry: Geometry, before: Space, after: Space) -> Geometry:
    """Resampling between cell edges: the outer edges of the grid stay where they are."""
    axes = []
    for (a, s, f), n, m in zip(geometry.axes, before, after, strict=True):
        step = s * n / m
        axes.append((a + (step - s) / 2, step, f))
    return Geometry(tuple(axes))


def _merged(paths: Sequence[Geometry]) -> Geometry | None:
    """Where paths meet, the widest view counts; paths of different step have no common grid."""
    if not paths or len({tuple(s for _, s, _ in g.axes) for g in paths}) != 1:
        return None
    return max(paths, key=lambda g: g.field)
