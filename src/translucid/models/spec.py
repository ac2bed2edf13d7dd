"""What the networks of the table share: their description, reproducible weights, and a check of what comes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from translucid.errors import ConfigError, ShapeError

Eats = Literal["codes", "image"]


class ModelSpec(Protocol):
    """A network's description: a frozen dataclass that can be written as JSON and knows how to build the network."""

    eats: ClassVar[Eats]

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for inputs of `shape` (channel first, no batch) with weights drawn from `seed`."""
        ...


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Let everything inside draw from `seed`, and give the process its own random state back afterwards.

    Example:
        >>> with drawn_from(3):
        ...     a = torch.rand(2)
        >>> with drawn_from(3):
        ...     b = torch.rand(2)
        >>> bool((a == b).all())
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def as_trained(spec: Any) -> Any:
    """The description without the file its weights started from: they stand in the network now, and paths tell tales.

    Example:
        >>> from translucid.models import AxialNet
        >>> as_trained(AxialNet(weights="resnet18.safetensors")) == AxialNet()
        True
    """
    return dataclasses.replace(spec, weights=None) if getattr(spec, "weights", None) is not None else spec


def need_shape(shape: tuple[int, ...], labels: int, axes: tuple[int, ...], what: str) -> None:
    """Refuse a shape or a number of labels from which no network can be built."""
    if len(shape) not in axes or min(shape, default=0) < 1:
        raise ShapeError(f"{what} needs a shape {_named(axes)}, got {shape}: hand in the shape of one case, no batch")
    if labels < 1:
        raise ConfigError(f"{what} needs at least 1 label, got {labels}")


def _named(axes: tuple[int, ...]) -> str:
    names = {2: "(channel, code)", 3: "(channel, height, width)", 4: "(channel, depth, height, width)"}
    return " or ".join(names[n] for n in axes)


def need_input(x: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Refuse a batch whose cases have another shape than the network was built for; −1 fits any size."""
    got = tuple(x.shape[1:])
    if len(got) != len(shape) or any(w not in (-1, g) for w, g in zip(shape, got, strict=True)):
        wanted = ", ".join("any" if w == -1 else str(w) for w in shape)
        raise ShapeError(f"{what} was built for cases of shape ({wanted}), got {got}: rebuild it, or compress alike")
