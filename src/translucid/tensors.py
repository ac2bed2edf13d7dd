"""Records and protocols that hold tensors: what flows between compressors, models, losses and explainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from translucid.types import Space

Images = Float[Tensor, "batch channel *space"]
Codes = Float[Tensor, "batch channel code"]
Maps = Float[Tensor, "batch label *grid"]
Placed = Float[Tensor, "batch label *space"]
Labels = Float[Tensor, "batch label"]
Logits = Float[Tensor, "batch label"]


@dataclass
class Batch:
    """What a model and a loss see.

    Attributes:
        x: images (batch, channel, *space) or codes (batch, channel, code).
        y: (batch, label) 1, 0, or nan where the label is unknown.
        index: (batch,) row of each case in the run's index.
        extra: optional tensors by name: "regions" (batch, label, *grid), "gaze" (batch, 1, *grid), …
    """

    x: Tensor
    y: Tensor
    index: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        extra = {k: v.to(device, non_blocking=True) for k, v in self.extra.items()}
        return Batch(self.x.to(device, non_blocking=True), self.y.to(device, non_blocking=True), self.index, extra)


class Prediction(NamedTuple):
    """A model's answer: logits, and whatever it shows of itself.

    `maps` holds (batch, label, *grid) in logit units where the model explains itself; `extra` anything a loss needs.
    """

    logits: Tensor
    maps: Tensor | None = None
    extra: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Placement:
    """Where the cells of a map lie in the image: centre of cell i along axis a = start[a] + step[a]·i.

    Unit: pixels of the image the model saw, pixel centres at whole numbers + 0 (the first pixel's centre is 0).
    A map that tiles an image of n pixels in g cells has step n/g and start (n/g − 1)/2.
    """

    start: tuple[float, ...]
    step: tuple[float, ...]

    @staticmethod
    def tiling(space: Space, grid: Space) -> Placement:
        """The placement of a grid whose cells divide the image evenly."""
        step = tuple(n / g for n, g in zip(space, grid, strict=True))
        return Placement(tuple((s - 1) / 2 for s in step), step)


@dataclass(frozen=True)
class Explanation:
    """Signed maps in logit units on the grid where they were computed.

    Attributes:
        maps: (batch, label, *grid).
        labels: the index of each explained label.
        method: the explainer's name.
        exact: whether every map provably sums to its logit less `bias`.
        residual: (batch, label) logit − bias − sum of the map.
        bias: (batch, label) the part of the logit that no place contributes.
        placement: where the cells lie in the image.
        remarks: what a reader should know, e.g. that Grad-CAM and HiResCAM coincide for this model.
    """

    maps: Tensor
    labels: tuple[int, ...]
    method: str
    exact: bool
    residual: Tensor
    bias: Tensor
    placement: Placement
    remarks: tuple[str, ...] = ()


@runtime_checkable
class Compressor(Protocol):
    """A frozen dataclass without learned state; written as {"kind": …, fields}."""

    def encode(self, images: Images) -> Codes:
        """Images in [0, 1] → codes."""
        ...

    def lift(self, codes: Codes, space: Space) -> Images:
        """Linear: what the codes still show, on the full grid of the image."""
        ...

    def adjoint(self, codes: Codes, space: Space) -> Images:
        """Transpose of the linear part of `encode`: carries gradients with respect to codes back to the image."""
        ...

    def to_image(self, codes: Codes, space: Space) -> Images:
        """The smallest image that holds the codes: what a CNN is fed."""
        ...

    def code_length(self, space: Space) -> int:
        """Numbers kept per channel for an image of this size; raises `ConfigError` where it would not shrink."""
        ...


class Model(Protocol):
    """Any network of ours."""

    def __call__(self, x: Tensor) -> Prediction:
        """Images or codes → logits and what the model shows of itself."""
        ...


@runtime_checkable
class SplitModel(Protocol):
    """A network that names its own seam: forward(x).logits == head(features(x))."""

    def features(self, x: Tensor) -> Tensor:
        """Input → activations (batch, feature, *grid)."""
        ...

    def head(self, a: Tensor) -> Tensor:
        """Activations → logits (batch, label)."""
        ...

    def __call__(self, x: Tensor) -> Prediction:
        """Both in a row."""
        ...


class Explainer(Protocol):
    """All asked labels from one forward pass; the model is left as found."""

    def __call__(self, model: Any, x: Tensor, labels: Sequence[int]) -> Explanation:
        """Explain the logits of the asked labels."""
        ...


class Attack(Protocol):
    """Learns from a release and public images, then guesses; scored elsewhere against a secret it never sees."""

    def fit(self, release: Any, public: Any, seed: int) -> Attack:
        """Learn from other patients' data."""
        ...

    def guess(self, release: Any) -> Any:
        """One guess per released record."""
        ...
