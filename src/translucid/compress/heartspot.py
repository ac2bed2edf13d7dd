"""HeartSpot: keep a fixed set of pixels, the same for every image, and throw the rest away."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from translucid.compress.masks import MASKS, All, Intersection, Mask, Union, plane
from translucid.compress.median import Window, median_sample, published_window
from translucid.compress.quadtree import fitting_depth, owners, quadtree_means
from translucid.errors import ConfigError, ShapeError, did_you_mean
from translucid.tensors import Codes, Images
from translucid.types import Space

Planes = Float[Tensor, "batch channel height width"]

STAGES = ("median", "quadtree")
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType({"rhline": ("rline", "hline")})


@dataclass(frozen=True)
class HeartSpot:
    """Keep fixed pixels of each image: c = x[M], M the union of lines, cut by a region, after an optional stage.

    `prior` is a sum of words: lines ("hline", "rline", "rhline" for both) unite, regions ("heart", "all") intersect,
    and a stage ("median" or "quadtree"), which shrinks the image beforehand, comes first: "hline", "rhline+heart",
    "median+hline". A region without lines is the mask itself.

    With S the stage's grid of cells, `lift` writes each number over its cell and leaves zero elsewhere. `encode` is
    linear without a stage. With one, its linear part is taken to be the mean over each cell (for the median that of
    stride × stride pixels) before the mask; `adjoint` is the transpose of that, so it keeps sums: Σ adjoint(z) = Σ z.

    Args:
        prior: the sum of words.
        seed, lines: of the random lines.
        size, stride: window of the median in pixels; None means the published 12 and 2, scaled from 320×320.
        depth, threshold: of the quadtree; the depth is lowered for images too small for it.
        secret: fingerprint of a secret that the random lines depend on too (see `compress.secret`); "" for a public
            mask. The kept values are no secret, nor is a mask of which a picture or a lifted code is shown.

    Raises:
        ConfigError: an unknown word, a stage that does not come first, an option out of range.

    Example:
        >>> spot = HeartSpot("median+hline")
        >>> spot.code_length((320, 320)), HeartSpot("hline").code_length((320, 320))
        (3200, 6400)
        >>> spot.encode(torch.rand(2, 1, 320, 320)).shape
        torch.Size([2, 1, 3200])

    Source: Johnson et al., HeartSpot: privatized and explainable data compression for cardiomegaly detection, 2022,
    arXiv:2210.02241.

    Fails when: what decides the label lies between the kept pixels, or the image is not a centred upright frontal
    chest. Kept pixels are stored as they are: without a formal privacy guarantee, and the mask is public.
    """

    prior: str = "hline"
    seed: int = 1
    lines: int = 140
    size: int | None = None
    stride: int | None = None
    depth: int = 6
    threshold: float = 100.0
    secret: str = ""

    PRESETS: ClassVar[tuple[str, ...]] = (
        "hline",
        "rline",
        "heart",
        "hline+heart",
        "rline+heart",
        "rhline",
        "rhline+heart",
        "median+hline",
        "median+hline+heart",
        "median+rhline+heart",
    )

    def __post_init__(self) -> None:
        Window(1 if self.size is None else self.size, 1 if self.stride is None else self.stride)
        if not 0 <= self.threshold < math.inf:
            raise ConfigError(f"a quadtree needs a finite threshold of 0 or more, got {self.threshold}")
        if not 1 <= self.depth <= 12:
            raise ConfigError(f"a quadtree needs a depth of 1 to 12, got {self.depth}")
        if self.secret and not {"rline", "rhline"} & set(self.prior.split("+")):
            raise ConfigError(f"prior {self.prior!r} draws no lines, so a secret would change nothing: add rline")
        self.pixels()

    @classmethod
    def presets(cls) -> dict[str, HeartSpot]:
        """The published combinations by name."""
        return {prior: cls(prior) for prior in cls.PRESETS}

    @cached_property
    def stage(self) -> str:
        """The stage before the mask: "median", "quadtree" or ""."""
        first = self.prior.split("+")[0]
        return first if first in STAGES else ""

    @property
    def linear(self) -> bool:
        """Whether `encode` is a linear map."""
        return not self.stage

    def pixels(self) -> Mask:
        """The mask that the words stand for."""
        words = self.prior.split("+")[1 if self.stage else 0 :]
        masks = [self._mask(w) for word in words for w in ALIASES.get(word, (word,))]
        lines = tuple(m for m in masks if m.role == "lines")
        regions = tuple(m for m in masks if m.role == "region")
        parts = (*((Union(lines),) if lines else ()), *regions) or (All(),)
        return Intersection(parts)

    def _mask(self, word: str) -> Mask:
        """A mask by its word, with those of our options that it has too."""
        if word in STAGES:
            raise ConfigError(f"prior {self.prior!r}: {word} must come first, once, e.g. '{word}+hline'")
        if word not in MASKS:
            known = [*MASKS, *ALIASES, *STAGES]
            raise ConfigError(f"prior {self.prior!r}: unknown word {word!r}: {did_you_mean(word.lower(), known)}")
        kind = MASKS[word]
        own = {f.name for f in fields(kind)}  # type: ignore[arg-type]
        return kind(**{f.name: getattr(self, f.name) for f in fields(self) if f.name in own})

    # -- geometry ------------------------------------------------------------------------------------------------

    def window(self, space: Space) -> Window:
        """The median's window for an image of this size."""
        published = published_window(space)
        size = published.size if self.size is None else self.size
        return Window(size, published.stride if self.stride is None else self.stride)

    def grid(self, space: Space) -> tuple[int, int]:
        """Size of the image after the stage, on which the mask lies."""
        size = plane(space)
        if self.stage == "median":
            return self.window(size).grid(size)
        if self.stage == "quadtree":
            side = 2 ** fitting_depth(size, self.depth)
            return side, side
        return size

    def mask(self, space: Space) -> Bool[Tensor, "rows columns"]:
        """The kept cells of the grid for an image of this size: what is published of the method, and its explanation.

        Raises:
            ConfigError: the image is so small that nothing is kept.
        """
        kept = self.pixels().mask(self.grid(space))
        if not kept.any():
            raise ConfigError(
                f"prior {self.prior!r} keeps no pixel of an image of {tuple(space)}: use larger images or another prior"
            )
        return kept

    def code_length(self, space: Space) -> int:
        """Numbers kept per channel.

        Raises:
            ConfigError: the code would be as long as the image.
        """
        return _plan(self, plane(space), torch.device("cpu")).length

    def kept_share(self, space: Space) -> float:
        """Numbers kept, as a share of the pixels (the published "in-memory ratio").

        Example:
            >>> HeartSpot("median+hline").kept_share((320, 320))
            0.03125
        """
        return self.code_length(space) / (space[0] * space[1])

    # -- what a compressor does -----------------------------------------------------------------------------------

    def encode(self, images: Images) -> Codes:
        """The kept numbers in row-major order.

        Raises:
            ShapeError: the images are not two-dimensional.
        """
        if images.ndim != 4:
            raise ShapeError(f"HeartSpot needs images (batch, channel, height, width), got {tuple(images.shape)}")
        space = tuple(images.shape[2:])
        plan = _plan(self, space, images.device)
        if not self.stage:
            return plan.take(images)
        if self.stage == "median":
            return plan.take_from_rows(median_sample(images, plan.rows, self.window(space)))
        return plan.take(quadtree_means(images, fitting_depth(space, self.depth), self.threshold))

    def to_image(self, codes: Codes, space: Space) -> Images:
        """The numbers at their places on the stage's grid, zero elsewhere: 160×160 after the median of 320×320."""
        plan = self._plan_for(codes, space)
        flat = codes.new_zeros((*codes.shape[:2], plan.grid[0] * plan.grid[1]))
        return flat.index_copy(2, plan.index, codes).unflatten(2, plan.grid)

    def lift(self, codes: Codes, space: Space) -> Images:
        """The numbers at their places in the image, each over its whole cell; zero elsewhere."""
        image = self.to_image(codes, space)
        if not self.stage:
            return image
        rows, columns = self._cells(space)
        return image[:, :, rows.to(codes.device)][..., columns.to(codes.device)]

    def adjoint(self, codes: Codes, space: Space) -> Images:
        """Transpose of the linear part: the numbers at their places, each shared out over the pixels of its cell."""
        image = self.lift(codes, space)
        if not self.stage:
            return image
        rows, columns = (w.bincount()[w].to(image.dtype).to(image.device) for w in self._cells(space))
        return image / (rows[:, None] * columns)

    def _cells(self, space: Space) -> tuple[Tensor, Tensor]:
        """Which row and column of the stage's grid each row and column of the image belongs to."""
        size = plane(space)
        if self.stage == "median":
            stride = self.window(size).stride
            return torch.arange(size[0]) // stride, torch.arange(size[1]) // stride
        cells = self.grid(size)
        return owners(size[0], cells[0]), owners(size[1], cells[1])

    def _plan_for(self, codes: Tensor, space: Space) -> _Plan:
        plan = _plan(self, plane(space), codes.device)
        if codes.shape[-1] != plan.length:
            raise ShapeError(
                f"codes of length {codes.shape[-1]} are not from an image of {tuple(space)} under {self.prior!r}, "
                f"which gives {plan.length}: pass the size of the image that was encoded"
            )
        return plan


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where the kept numbers lie, worked out once per compressor, size and device.

    Attributes:
        grid: size of the image after the stage.
        index: kept places of the flat grid.
        rows: the rows that hold any.
        within: kept places among those rows, None where the rows are kept whole.
        strip: those rows as a slice where they are evenly spaced and whole.
    """

    grid: tuple[int, int]
    index: Tensor
    rows: tuple[int, ...]
    within: Tensor | None
    strip: slice | None

    @property
    def length(self) -> int:
        return len(self.index)

    def take(self, images: Tensor) -> Tensor:
        """Kept numbers of images on the whole grid; always a copy."""
        if self.strip is None:
            return gather(images.flatten(2), self.index)
        lines = images[:, :, self.strip]
        if self.strip.step == 1 or not images.is_contiguous():  # flattening alone need not copy
            lines = lines.clone(memory_format=torch.contiguous_format)
        return lines.flatten(2)

    def take_from_rows(self, images: Tensor) -> Tensor:
        """Kept numbers of images of which only `rows` were computed."""
        return images.flatten(2) if self.within is None else gather(images.flatten(2), self.within)


def gather(values: Float[Tensor, "batch channel place"], index: Int64[Tensor, " code"]) -> Codes:
    """values[:, :, index], on a CPU by way of NumPy, which takes along the last axis several times as fast.

    Example:
        >>> gather(torch.tensor([[[5.0, 6.0, 7.0]]]), torch.tensor([2, 0]))
        tensor([[[7., 5.]]])
    """
    plain = values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)
    if not plain or (values.requires_grad and torch.is_grad_enabled()):
        return values.index_select(2, index)
    return torch.from_numpy(values.detach().numpy().take(index.numpy(), axis=2))


@lru_cache(maxsize=32)
def _plan(spot: HeartSpot, space: tuple[int, int], device: torch.device) -> _Plan:
    # A tensor born under a caller's inference_mode could not be used for gradients later.
    with torch.inference_mode(False):
        kept = spot.mask(space)
        index = kept.flatten().nonzero()[:, 0]
        rows = kept.any(1).nonzero()[:, 0]
        whole = bool(kept[rows].all())
        within = None if whole else kept[rows].flatten().nonzero()[:, 0].to(device)
        if len(index) >= space[0] * space[1]:
            raise ConfigError(
                f"prior {spot.prior!r} keeps all {len(index)} pixels of an image of {space}, so nothing would shrink: "
                "use larger images, another prior, or Plain to keep everything on purpose"
            )
        strip = _evenly(rows.tolist()) if whole else None
        return _Plan(tuple(kept.shape), index.to(device), tuple(rows.tolist()), within, strip)  # type: ignore[arg-type]


def _evenly(rows: list[int]) -> slice | None:
    """The slice that takes these rows, if they are evenly spaced."""
    step = rows[1] - rows[0] if len(rows) > 1 else 1
    even = rows == list(range(rows[0], rows[-1] + 1, step))
    return slice(rows[0], rows[-1] + 1, step) if even else None
