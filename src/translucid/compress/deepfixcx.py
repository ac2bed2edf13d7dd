"""DeepFixCX: a wavelet packet whose sub-bands are pooled on a coarse grid; nothing is learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Literal

import scipy.sparse as sp
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from translucid.compress import packet
from translucid.compress import packet_kernel as kernel
from translucid.compress.cells import BOUNDARY, AxisCells, Geometry, axis_cells, cell_edges, pooling
from translucid.compress.reducers import REDUCERS, reduce_cells
from translucid.errors import ConfigError, ShapeError, did_you_mean, lookup
from translucid.tensors import Codes, Images
from translucid.types import Space

Split = Float[Tensor, "batch channel band *cell reducer"]
Whole = UInt[Tensor, "batch channel *space"]
Compact = Float[Tensor, "batch channel *compact"]


@dataclass(frozen=True)
class DeepFixCX:
    """Keep what each sub-band of a J-level wavelet packet holds in each of P×P cells.

    z[b, p, f] = reduce_f { |W x|_b,k : k in cell p }, W the full packet (2^(dJ) bands), and so for `sum`, `max`, ….

    Args:
        wavelet: any discrete wavelet of PyWavelets.
        levels: J ≥ 1; more levels tell more scales and directions apart, and see less place.
        patches: P, cells per side of every sub-band, for all axes or one number per axis.
        pool: one or several of l1, sum, max, min, median, l2 (of squares, no root), sum_pos, sum_neg; several are
            interleaved last, in the order given ("published": in the order of `reducers.REDUCERS`, our reading).
        cells: "published" agrees with the published codes: zero-padded, sums. "balanced" (default) wraps the filters
            round, cuts cells without padding and takes the *mean* over a cell's true area wherever the published one
            takes the sum: a code depends neither on image size nor on P, and no cell is empty.
        allow_enlarging: permit codes with as many numbers as the image or more, as some published settings have.

    Raises:
        ConfigError: an option is unknown or out of range.

    Example:
        >>> images = torch.rand(2, 1, 320, 320, generator=torch.Generator().manual_seed(0))
        >>> system = DeepFixCX(wavelet="haar", levels=2, patches=19, pool="l1", cells="published")
        >>> system.encode(images).shape, system.code_length((320, 320)) / 320**2
        (torch.Size([2, 1, 5776]), 0.05640625)

    Source: A. Gaudio et al., DeepFixCX: Explainable privacy-preserving image compression for medical image analysis,
    WIREs Data Mining and Knowledge Discovery, 2023, doi:10.1002/widm.1495.

    Fails when: the sign or the exact place of a fine structure matters: `l1` drops the first, the grid the second.
    Compression is no proof of privacy: a picture of P·2^J pixels per side can be drawn from the codes (`to_image`).
    """

    wavelet: str = "haar"
    levels: int = 2
    patches: int | tuple[int, ...] = 19
    pool: str | tuple[str, ...] = "l1"
    cells: Geometry = "balanced"
    allow_enlarging: bool = False

    def __post_init__(self) -> None:
        for name in ("patches", "pool"):  # as tuples, so that a system can be a key
            if isinstance(given := getattr(self, name), list):
                object.__setattr__(self, name, tuple(given))
        if self.cells not in BOUNDARY:
            raise ConfigError(f"unknown cells {self.cells!r}: {did_you_mean(self.cells, BOUNDARY)}")
        packet.taps(self.wavelet, BOUNDARY[self.cells])
        if self.levels < 1:
            raise ConfigError(f"levels must be at least 1, got {self.levels}")
        grid = (self.patches,) if isinstance(self.patches, int) else self.patches
        if not grid or min(grid) < 1:
            raise ConfigError(f"patches must be positive, got {self.patches!r}")
        names = (self.pool,) if isinstance(self.pool, str) else self.pool
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"pool needs one or several different reducers, got {self.pool!r}")
        for name in names:
            lookup(REDUCERS, name, "reducer")

    @property
    def reducers(self) -> tuple[str, ...]:
        """The reducers in the order of the codes."""
        names = (self.pool,) if isinstance(self.pool, str) else tuple(self.pool)
        return tuple(n for n in REDUCERS if n in names) if self.cells == "published" else names

    @property
    def linear(self) -> bool:
        """Whether the codes are a linear function of the image."""
        return self.reducers == ("sum",)

    # -- sizes and names ----------------------------------------------------------------------------------------

    def grid(self, space: Space) -> tuple[int, ...]:
        """Cells per axis of a sub-band, for an image of this size."""
        grid = (self.patches,) * len(space) if isinstance(self.patches, int) else tuple(self.patches)
        if len(grid) != len(space):
            raise ShapeError(f"patches={self.patches} belong to {len(grid)} axes, the image has {space}")
        return grid

    def code_length(self, space: Space) -> int:
        """Numbers per channel: 2^(dJ) · P_1 ⋯ P_d · F.

        Raises:
            ConfigError: more cells than samples on a sub-band, or nothing would be saved.

        Example:
            >>> DeepFixCX(levels=1, patches=160).code_length((320, 320))
            Traceback (most recent call last):
            ...
            translucid.errors.ConfigError: levels=1, patches=160, pool='l1' keeps 102400 numbers of 102400 pixels
            (ratio 1.00), which compresses nothing: take patches <= 159, or allow_enlarging=True to do it all the same
        """
        self._check_cells(space)
        pixels = math.prod(space)
        length = 2 ** (len(space) * self.levels) * math.prod(self.grid(space)) * len(self.reducers)
        if length >= pixels and not self.allow_enlarging:
            raise ConfigError(
                f"levels={self.levels}, patches={self.patches}, pool={self.pool!r} keeps {length} numbers of {pixels} "
                f"pixels (ratio {length / pixels:.2f}), which compresses nothing: take {self._smaller(space)}, "
                "or allow_enlarging=True to do it all the same"
            )
        return length

    def _check_cells(self, space: Space) -> None:
        for axis, (n, p) in enumerate(zip(space, self.grid(space), strict=True)):
            # balanced bands of an odd axis are ⌊⌋ or ⌈⌉ of n/2^J samples long; the shortest one decides
            shortest = n >> self.levels if self.cells == "balanced" else -(-n // 2**self.levels)
            if shortest < p:
                fitting = (n // p).bit_length() - 1 if n >= p else 0
                ways = [f"patches <= {shortest}"] * (shortest > 0) + [f"levels <= {fitting}"] * (fitting > 0)
                other = "a larger image, or fewer levels or patches"
                raise ConfigError(
                    f"levels={self.levels} leaves sub-bands of {shortest} samples along axis {axis} of an image of "
                    f"{space}, fewer than patches={p}: take {' or '.join(ways) or other}"
                )

    def _smaller(self, space: Space) -> str:
        """The nearest setting that compresses, in words."""
        dims, pixels, reducers = len(space), math.prod(space), len(self.reducers)
        room = (pixels - 1) // (2 ** (dims * self.levels) * reducers)  # cells that may be kept per band
        side = max((p for p in range(1, min(self.grid(space)) + 1) if p**dims <= room), default=0)
        if side:
            return f"patches <= {side}"
        levels = max((j for j in range(self.levels) if 2 ** (dims * j) * reducers < pixels), default=0)
        return f"levels <= {levels} and fewer patches" if levels else "a larger image"

    def band_names(self, dims: int = 2) -> tuple[str, ...]:
        """Names of the sub-bands in the order of the codes; see `packet.band_names`."""
        return packet.band_names(self.levels, dims)

    def band(self, name: str, dims: int = 2) -> int:
        """The index of a sub-band by its name, e.g. "AD".

        Raises:
            ConfigError: no such sub-band at this number of levels.
        """
        names = self.band_names(dims)
        if name not in names:
            raise ConfigError(f"no sub-band {name!r} at levels={self.levels}: {did_you_mean(name, names[:16])}")
        return names.index(name)

    def cell_edges(self, space: Space) -> tuple[tuple[int, ...], ...]:
        """Edges of the cells in pixels, per axis; cell i reaches from edge i to edge i + 1.

        Example:
            >>> DeepFixCX(levels=1, patches=3).cell_edges((16, 18))
            ((0, 6, 10, 16), (0, 6, 12, 18))
        """
        self._check_cells(space)
        scale = 2**self.levels
        edges = []
        for n, p in zip(space, self.grid(space), strict=True):
            band = cell_edges(-(-n // scale), p, self.cells)
            edges.append(tuple(min(max(e * scale, 0), n) for e in band))
        return tuple(edges)

    # -- there and back -----------------------------------------------------------------------------------------

    def encode(self, images: Images | Whole) -> Codes:
        """Images → codes (batch, channel, 2^(dJ)·P^d·F); flat order: band, cell by axis, reducer.

        Images of 8 or 16 bits mean value/255 and value/65535. Where no gradient is asked, larger 2-D images on the
        processor take compiled loops (`packet_kernel`), and on a GPU with Triton most Haar codes take one kernel
        (`packet_cuda`); everything else is products of matrices, on any device.

        Raises:
            ConfigError: the setting does not fit the size of the images (see `code_length`).
        """
        space = tuple(images.shape[2:])
        setting, fused = _setting(self, space), _fused(images.device)
        if fused.applies(images, setting):
            codes: Tensor = fused.encode(images, setting)
            return codes
        x = _floating(images)
        if self.linear:
            pooled = packet.along_axes(x, self._matrices("encode", space, x))[..., None]
        else:
            tiled = packet.along_axes(x, self._matrices("packet", space, x))
            pooled = reduce_cells(tiled, self._cells(space), self._matrices("pool", space, x), self.reducers)
        by_reducer = packet.interleave(pooled.movedim(-1, 0), len(space), self.levels)
        return by_reducer.movedim(0, -1).flatten(2)

    def split(self, codes: Codes, dims: int | None = None) -> Split:
        """Codes as (batch, channel, band, *cell, reducer), a view where it can be.

        Args:
            codes: what `encode` gave.
            dims: axes of the image; found from the length where None.

        Raises:
            ShapeError: the length fits no number of axes.
        """
        length = codes.shape[-1]
        for d in (dims,) if dims else (1, 2, 3, 4):
            if isinstance(self.patches, tuple) and len(self.patches) != d:
                continue
            cells = self.grid((0,) * d)
            if 2 ** (d * self.levels) * math.prod(cells) * len(self.reducers) == length:
                return codes.unflatten(-1, (2 ** (d * self.levels), *cells, len(self.reducers)))
        raise ShapeError(f"{length} numbers are no codes of {self}")

    def lift(self, codes: Codes, space: Space) -> Images:
        """Un-pool (every coefficient is its cell's mean) and invert the packet: linear, on the full grid.

        In the balanced geometry the linear encoder undoes it, E(lift(z)) = z, for every wavelet and size; where 2^J
        divides the size and the wavelet is orthonormal, lift∘E is the orthogonal projection onto what `sum` keeps. Of
        several reducers `sum` is taken where there is one, else `l1`, else the first.

        Fails when: the reducer is not `sum`: magnitudes are taken for values, so all details come out with one sign.
        """
        z = self._means(codes, space)
        return packet.along_axes(z, self._matrices("lift", space, z))

    def adjoint(self, codes: Codes, space: Space) -> Images:
        """The transpose Eᵀ of the linear encoder (`sum`: exactly that of `encode`).

        ⟨E x, z⟩ = ⟨x, Eᵀ z⟩. Together with `lift` it moves attributions to the image and keeps their sum:
        Σ (Eᵀ g) ⊙ lift(z) = ⟨g, z⟩ in the balanced geometry.

        Fails when: the reducer is not `sum`: it is then the transpose of what the codes would be without |·|.
        """
        z = self._one(codes, space)
        return packet.along_axes(z, [m.T for m in self._matrices("encode", space, z)])

    def to_image(self, codes: Codes, space: Space) -> Compact:
        """Invert the packet without un-pooling: an image of P·2^J pixels per side, as the published networks see.

        Values may leave [0, 1]; nothing is clipped.

        Example:
            >>> system = DeepFixCX(levels=2, patches=19)
            >>> system.to_image(system.encode(torch.rand(1, 1, 320, 320)), (320, 320)).shape
            torch.Size([1, 1, 76, 76])
        """
        z = self._means(codes, space)
        return packet.along_axes(z, self._matrices("compact", space, z))

    def _one(self, codes: Tensor, space: Space) -> Tensor:
        """The reducer that is shown, every axis laid out cell after cell, band after band."""
        if codes.shape[-1] != self.code_length(space):
            raise ShapeError(f"{self.code_length(space)} numbers are codes of an image {space}, got {codes.shape[-1]}")
        split = self.split(codes, len(space))[..., self.reducers.index(self._shown)]
        z = packet.deinterleave(split, len(space), self.levels)
        return z if z.dtype == torch.float64 else z.float()

    def _means(self, codes: Tensor, space: Space) -> Tensor:
        """The same as means over the cells: published sums are divided by their equal areas."""
        z = self._one(codes, space)
        if self.cells == "published" and REDUCERS[self._shown].kind == "sum":
            z = z / math.prod(int(c.areas[0]) for c in self._cells(space))
        return z

    @property
    def _shown(self) -> str:
        return next((n for n in ("sum", "l1") if n in self.reducers), self.reducers[0])

    def _cells(self, space: Space) -> list[AxisCells]:
        grid = self.grid(space)
        return [axis_cells(n, self.wavelet, self.levels, p, self.cells) for n, p in zip(space, grid, strict=True)]

    def _matrices(self, what: Role, space: Space, like: Tensor) -> list[Tensor]:
        grid = self.grid(space)
        kept = (self.wavelet, self.levels, self.cells)
        return [_matrix(what, n, p, *kept, like.dtype, like.device) for n, p in zip(space, grid, strict=True)]


@lru_cache(maxsize=256)
def _setting(system: DeepFixCX, space: Space) -> kernel.Setting:
    """What the loops depend on, for images of a size that fits; asked for every small batch, so it is kept."""
    system.code_length(space)
    return kernel.Setting(space, system.wavelet, system.levels, system.grid(space), system.reducers, system.cells)


def _fused(device: torch.device) -> ModuleType:
    """Where the way without stored sub-bands is found for images on this device."""
    if device.type != "cuda":
        return kernel
    from translucid.compress import packet_cuda

    return packet_cuda


def _floating(images: Tensor) -> Tensor:
    if not images.dtype.is_floating_point:
        return images.float() * kernel.UNIT[images.dtype]
    return images if images.dtype == torch.float64 else images.float()


Role = Literal["packet", "pool", "encode", "lift", "compact"]


@lru_cache(maxsize=64)
def _matrix(
    what: Role,
    size: int,
    patches: int,
    wavelet: str,
    levels: int,
    geometry: Geometry,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """The matrix of one axis for a step of the way: multiplied once in double precision, then kept."""
    like = torch.empty(0, dtype=dtype, device=device)
    return packet.to_tensor(_sparse(what, size, patches, wavelet, levels, geometry), like)


def _sparse(what: Role, size: int, patches: int, wavelet: str, levels: int, geometry: Geometry) -> sp.csr_matrix:
    boundary = BOUNDARY[geometry]
    if what == "compact":
        return packet.axis_packet(patches << levels, wavelet, levels, boundary).synthesis
    axis = packet.axis_packet(size, wavelet, levels, boundary)
    if what == "packet":
        return axis.analysis
    if what == "lift":
        return (axis.synthesis @ axis_cells(size, wavelet, levels, patches, geometry).members.T).tocsr()
    pool = pooling(size, wavelet, levels, patches, geometry)
    return pool if what == "pool" else (pool @ axis.analysis).tocsr()
