"""What is usually done instead, with the same interface: pixelisation, blur, random projection. All are linear."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from translucid.compress.packet import along_axes
from translucid.compress.quadtree import owners
from translucid.compress.secret import SecretStream, check_secret
from translucid.errors import ConfigError, ShapeError
from translucid.tensors import Codes, Images
from translucid.types import Space

Way = Literal["encode", "lift"]


class _AxisByAxis(ABC):
    """What is done along one axis after the other, each a matrix of its own; numbers stand in row-major order."""

    linear = True

    @abstractmethod
    def grid(self, space: Space) -> tuple[int, ...]:
        """Numbers along each axis."""

    def code_length(self, space: Space) -> int:
        """Numbers in all."""
        return math.prod(self.grid(space))

    @abstractmethod
    def matrix(self, size: int, way: Way = "encode") -> np.ndarray:
        """What is done along one axis: (numbers, size), or (size, numbers) on the way back."""

    def encode(self, images: Images) -> Codes:
        """The numbers in row-major order."""
        space = tuple(images.shape[2:])
        self.code_length(space)
        return along_axes(images, self._matrices("encode", space, images)).flatten(2)

    def lift(self, codes: Codes, space: Space) -> Images:
        """Back to the image's size: `lift` after `encode` is an orthogonal projection."""
        return along_axes(self.to_image(codes, space), self._matrices("lift", space, codes))

    def adjoint(self, codes: Codes, space: Space) -> Images:
        """The transpose of `encode`: every number shared out with the weights it was taken with."""
        matrices = self._matrices("encode", space, codes)
        return along_axes(self.to_image(codes, space), [m.T for m in matrices])

    def to_image(self, codes: Codes, space: Space) -> Images:
        """One pixel a number, on the grid."""
        grid = self.grid(space)
        if codes.shape[-1] != math.prod(grid):
            raise ShapeError(f"codes of an image of {space} have {math.prod(grid)} numbers, got {codes.shape[-1]}")
        return codes.unflatten(2, grid)

    def _matrices(self, way: Way, space: Space, like: Tensor) -> list[Tensor]:
        return [_matrix(self, n, way, like.dtype, like.device) for n in space]


@dataclass(frozen=True)
class Pixelise(_AxisByAxis):
    """Keep the mean of each block of `block` × `block` pixels.

    z_c = (1/|c|) Σ_{pixels i of c} x_i, on ⌈n/block⌉ cells along an axis of n pixels, as equal as can be: cell i
    begins at pixel ⌊i·n/cells⌋. Where `block` divides n these are the usual blocks.

    Args:
        block: b, side of a block in pixels.

    Raises:
        ConfigError: `block` is less than one.

    Example:
        >>> Pixelise(2).encode(torch.arange(16.0).view(1, 1, 4, 4))
        tensor([[[ 2.5000,  4.5000, 10.5000, 12.5000]]])

    Source: L. Fan, Image pixelization with differential privacy, 2018, doi:10.1007/978-3-319-95729-6_10 (as the step
    before its noise).

    Fails when: it is taken for a guarantee; a trained network recognises people in surprisingly coarse blocks.
    """

    block: int = 16

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ConfigError(f"pixelise needs block >= 1, got {self.block}")

    def grid(self, space: Space) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(-(-n // self.block) for n in space)

    def code_length(self, space: Space) -> int:
        """The number of cells; a `ConfigError` where that is no less than the pixels."""
        return _shrinking(self, super().code_length(space), space)

    def matrix(self, size: int, way: Way = "encode") -> np.ndarray:
        """What is done along one axis: (cells, size), or (size, cells) on the way back."""
        cells = -(-size // self.block)
        members = (owners(size, cells).numpy()[:, None] == np.arange(cells)).astype(np.float64)
        return members if way == "lift" else (members / members.sum(0)).T


@dataclass(frozen=True)
class Blur(_AxisByAxis):
    """Gaussian blur, kept at every pixel or at every `stride`-th.

    z = (G_h ⊗ G_w) x with G[i, k] ∝ exp(−(stride·i + (stride − 1)/2 − k)² / 2σ²), every row adding up to 1 (so borders
    are weighted means of what is there); weights are cut off only where they no longer count, at 10⁻²⁰.

    `lift` undoes the blur as far as it can be undone: along each axis it inverts the singular values above a thousandth
    of the largest (a truncated pseudo-inverse), so it shows what blur leaves to whoever knows σ.

    Args:
        sigma: σ in pixels.
        stride: distance of the kept samples.

    Raises:
        ConfigError: σ is not positive or the stride below one.

    Example:
        >>> Blur(2.0).encode(torch.ones(1, 1, 8, 8))[0, 0, :3].round(decimals=3)
        tensor([1., 1., 1.])

    Source: the usual Gaussian filter; the cut of its inverse is ours.

    Fails when: it is taken for a privatiser: without noise much of it can be inverted, as `lift` does.
    """

    sigma: float = 4.0
    stride: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise ConfigError(f"blur needs a positive, finite sigma, got {self.sigma}")
        if self.stride < 1:
            raise ConfigError(f"blur needs stride >= 1, got {self.stride}")

    def grid(self, space: Space) -> tuple[int, ...]:
        """Samples along each axis."""
        return tuple(-(-n // self.stride) for n in space)

    def matrix(self, size: int, way: Way = "encode") -> np.ndarray:
        """What is done along one axis: (samples, size), or (size, samples) on the way back."""
        centres = self.stride * np.arange(-(-size // self.stride)) + (self.stride - 1) / 2
        distance = (centres.clip(max=size - 1)[:, None] - np.arange(size)) / self.sigma
        nearest = np.square(distance).min(1, keepdims=True)
        weights = np.exp((nearest - np.square(distance)) / 2)
        weights[weights < 1e-20] = 0  # adds nothing in double precision, and would be slow in single
        forward = weights / weights.sum(1, keepdims=True)
        return np.linalg.pinv(forward, rcond=1e-3) if way == "lift" else forward


@dataclass(frozen=True)
class RandomProjection:
    """Keep `share` of the numbers of a randomised orthonormal transform: z = S (C_h ⊗ C_w) D x.

    D flips the signs of random pixels, C is the orthonormal cosine transform of an axis and S picks random
    coefficients. The rows are orthonormal, so `lift` and `adjoint` are both the transpose, and distances between
    images are kept on average: E‖z‖² = share·‖x‖². All is drawn from a cryptographic stream, under a secret or not.

    Args:
        share: of the pixels' number that is kept, above 0 and below 1.
        seed: of the draw.
        secret: fingerprint of a secret that the draw depends on too (see `secret`); "" for a public draw.

    Raises:
        ConfigError: an option is out of range.

    Example:
        >>> projection = RandomProjection(share=0.25)
        >>> projection.encode(torch.rand(2, 1, 16, 16)).shape
        torch.Size([2, 1, 64])

    Source: N. Ailon, B. Chazelle, The fast Johnson–Lindenstrauss transform, 2009, doi:10.1137/060673096 (signs, fast
    transform, sampling); the cosine transform in place of Hadamard's, for all sizes, is ours.

    Fails when: the draw is known, or enough images and codes are: a linear map is then inverted by least squares.
    """

    share: float = 0.05
    seed: int = 1
    secret: str = ""
    linear = True

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"random_projection needs 0 < share < 1, got {self.share}")
        if self.seed < 0:
            raise ConfigError(f"random_projection needs a seed of 0 or more, got {self.seed}")
        check_secret(self.secret)

    def code_length(self, space: Space) -> int:
        """The share of the pixels, at least one; a `ConfigError` where nothing is left out."""
        return _shrinking(self, max(1, round(self.share * math.prod(space))), space)

    def encode(self, images: Images) -> Codes:
        """Some coefficients of the sign-flipped image."""
        space = tuple(images.shape[2:])
        signs, chosen = self._draw(space, images)
        return along_axes(images * signs, _cosines(space, images)).flatten(2).index_select(2, chosen)

    def lift(self, codes: Codes, space: Space) -> Images:
        """The least image with these codes: the transpose, which here is the pseudo-inverse."""
        if codes.shape[-1] != self.code_length(space):
            raise ShapeError(f"{self.code_length(space)} numbers are codes of an image {space}, got {codes.shape[-1]}")
        signs, chosen = self._draw(space, codes)
        flat = codes.new_zeros((*codes.shape[:2], math.prod(space))).index_copy(2, chosen, codes)
        return along_axes(flat.unflatten(2, space), [c.T for c in _cosines(space, codes)]) * signs

    def adjoint(self, codes: Codes, space: Space) -> Images:
        """The same as `lift`."""
        return self.lift(codes, space)

    def to_image(self, codes: Codes, space: Space) -> Images:
        """The numbers have no places, so there is no smaller image than the lifted one."""
        return self.lift(codes, space)

    def magnitudes(self, space: Space, power: float = 1.0) -> np.ndarray:
        """Σ over kept numbers of |weight of a pixel|^power, for every pixel: (*space)."""
        like = torch.empty(0, dtype=torch.float64)
        kept = torch.zeros(1, 1, math.prod(space), dtype=torch.float64)
        kept[..., self._draw(space, like)[1]] = 1
        weights = [c.abs().pow(power).T for c in _cosines(space, like)]
        return np.asarray(along_axes(kept.unflatten(2, space), weights)[0, 0].numpy())

    def _draw(self, space: Space, like: Tensor) -> tuple[Tensor, Tensor]:
        signs, chosen = _projection(self, space)
        return signs.to(like.device, like.dtype), chosen.to(like.device)


@lru_cache(maxsize=8)
def _projection(projection: RandomProjection, space: Space) -> tuple[Tensor, Tensor]:
    """Signs of the pixels and the chosen coefficients, in rising order."""
    stream = SecretStream(projection.secret, "random projection", projection.seed)
    pixels = math.prod(space)
    signs = 1.0 - 2.0 * (stream.words(pixels) >> np.uint64(63)).astype(np.float64)
    order = np.argsort(stream.words(pixels), kind="stable")
    chosen = np.sort(order[: projection.code_length(space)])
    with torch.inference_mode(False):
        return torch.from_numpy(signs.reshape(space)), torch.from_numpy(chosen)


def _cosines(space: Space, like: Tensor) -> list[Tensor]:
    return [_cosine(n, like.dtype, like.device) for n in space]


@lru_cache(maxsize=16)
def _cosine(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II of an axis, (frequency, pixel)."""
    k, i = np.arange(size)[:, None], np.arange(size)
    matrix = np.sqrt(2 / size) * np.cos(np.pi * k * (2 * i + 1) / (2 * size))
    matrix[0] /= math.sqrt(2)
    with torch.inference_mode(False):
        return torch.from_numpy(matrix).to(device, dtype)


@lru_cache(maxsize=64)
def _matrix(rival: _AxisByAxis, size: int, way: Way, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix of one axis, worked out once in double precision."""
    with torch.inference_mode(False):  # what is kept must serve autograd later
        return torch.from_numpy(np.ascontiguousarray(rival.matrix(size, way))).to(device, dtype)


def _shrinking(rival: object, length: int, space: Space) -> int:
    if length >= math.prod(space):
        raise ConfigError(f"{rival} keeps {length} numbers of an image of {space}: nothing shrinks; use larger images")
    return length
