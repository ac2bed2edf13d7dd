"""How a volume becomes the network's block: turned, resampled, cut and stretched, recorded, with the way back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from translucid.errors import ConfigError, ShapeError
from translucid.io.placing import Transform
from translucid.io.resample import Taps, apply_all, area_taps, linear_taps, triangle_taps
from translucid.io.volume import Turn, affine_of, need_affine, spacing_of, turn_to
from translucid.types import Image, Space

Filter = Literal["linear", "triangle"]
How = Literal["nearest", "area"]
_SAME = 1e-3
"""A change of spacing that moves no voxel by more than this part of itself is rounding in a header, not a change."""


@dataclass(frozen=True)
class VolumeTransform:
    """Stored voxel numbers ⇄ voxel numbers of the block: first a turn, then target = scale · turned + offset.

    Args:
        turn: exchange and flips of axes.
        placing: scale and offset per turned axis.
        stored: size of the volume as stored.

    Example:
        >>> here = VolumeTransform(Turn((0, 1, 2), (False, False, True)),
        ...                        Transform((1.0, 1.0, 0.5), (0.0, 0.0, -0.25), (1, 1, 4), (1, 1, 2)), (1, 1, 4))
        >>> here.forward(np.array([0, 0, 3])), here.inverse(np.array([0, 0, -0.25]))
        (array([ 0.  ,  0.  , -0.25]), array([0., 0., 3.]))
    """

    turn: Turn
    placing: Transform
    stored: Space

    def matrix(self) -> np.ndarray:
        """4×4: voxel numbers of the block → stored voxel numbers."""
        scale, offset = np.asarray(self.placing.scale), np.asarray(self.placing.offset)
        back = np.diag([*(1 / scale), 1.0])
        back[:3, 3] = -offset / scale
        return self.turn.matrix(self.stored) @ back

    def forward(self, points: np.ndarray) -> np.ndarray:
        """(…, 3) stored voxel numbers → voxel numbers of the block."""
        return _moved(points, np.linalg.inv(self.matrix()))

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """(…, 3) voxel numbers of the block → stored voxel numbers."""
        return _moved(points, self.matrix())


def _moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


@dataclass(frozen=True, eq=False)
class FramedVolume:
    """What the network sees of a volume, and where it came from.

    Attributes:
        pixels: (1, *shape) float32 in [0, 1].
        affine: voxel numbers of the block (k, j, i, 1) → patient millimetres (RAS).
        transform: stored voxels ⇄ voxels of the block.
        record: the choices made, for the run record.
    """

    pixels: np.ndarray
    affine: np.ndarray
    transform: VolumeTransform
    record: Mapping[str, Any] = field(default_factory=dict)

    def to_source(
        self,
        values: np.ndarray,
        start: Sequence[float] | None = None,
        step: Sequence[float] | None = None,
        outside: float = 0.0,
    ) -> np.ndarray:
        """A map on any grid over the block → the grid of the volume as stored, whose affine then fits the map.

        Linear between the centres of the cells; beyond the outermost centres their value holds.

        Args:
            values: (*grid) numbers.
            start, step: centre of cell i along an axis is start + step·i, in voxels of the block; None means that
                the cells tile the block.
            outside: what voxels get that the block does not hold.

        Returns:
            (*stored space) float32.

        Raises:
            ShapeError: not three axes, or a start or step without the other.

        Example:
            >>> ct = Image(np.zeros((1, 2, 2, 4), np.float32), 0, 1, (1.0,) * 3, affine_of("LPS", (1.0,) * 3))
            >>> framed = VolumeFraming(None, (2, 2, 2)).apply(ct)
            >>> framed.to_source(np.array([[[1.0, 2.0]]]))[0, 0]
            array([0., 1., 2., 0.], dtype=float32)

        Fails when: 0 outside is read as "no evidence there"; it means "not looked at". Give nan to tell them apart.
        """
        placing = self.transform.placing
        if values.ndim != 3 or (start is None) != (step is None):
            raise ShapeError(f"a map of {values.shape}, start {start} and step {step}; wanted 3 axes, and both or none")
        if start is None or step is None:
            step = [n / g for n, g in zip(placing.target, values.shape, strict=True)]
            start = [(s - 1) / 2 for s in step]
        taps, seen = [], np.ones((1, 1, 1), bool)
        for axis, n in enumerate(placing.source):
            at = np.arange(n) * placing.scale[axis] + placing.offset[axis]
            shape = np.roll((n, 1, 1), axis)
            seen = seen & ((at >= -0.5) & (at <= placing.target[axis] - 0.5)).reshape(shape)
            taps.append(linear_taps((at - start[axis]) / step[axis], values.shape[axis]))
        turned = np.where(seen, apply_all(np.asarray(values), taps), np.float32(outside))
        return np.ascontiguousarray(self.transform.turn.undo(turned))

    def apply_mask(self, mask: np.ndarray, how: How = "area") -> np.ndarray:
        """A mask of the stored volume on the block: True where more than half of a voxel's volume lies inside.

        Args:
            mask: bool, of the stored volume's size; outside of it there is nothing.
            how: "area", or "nearest" for the stored voxel that holds the centre.

        Returns:
            bool, of the block's size.

        Raises:
            ShapeError: the mask is not of the volume's size.
            ConfigError: an unknown `how`.

        Example:
            >>> ct = Image(np.zeros((1, 1, 1, 4), np.float32), 0, 1, (1.0,) * 3, affine_of("LPS", (1.0,) * 3))
            >>> framed = VolumeFraming(None, (1, 1, 6)).apply(ct)
            >>> framed.apply_mask(np.array([[[True, False, False, True]]])).ravel().astype(int)
            array([0, 1, 0, 0, 1, 0])
        """
        placing = self.transform.placing
        if how not in get_args(How):
            raise ConfigError(f"mask how = {how!r}: known are {', '.join(get_args(How))}")
        if mask.shape != tuple(self.transform.stored):
            raise ShapeError(f"a mask of {mask.shape}; wanted {self.transform.stored}: use the one of this volume")
        taps = []
        for axis, (n, g) in enumerate(zip(placing.source, placing.target, strict=True)):
            at = (np.arange(g) - placing.offset[axis]) / placing.scale[axis]
            taps.append(area_taps(at, n, 1 / placing.scale[axis]) if how == "area" else _nearest_taps(at, n))
        return apply_all(self.transform.turn.apply(np.asarray(mask, bool)), taps) > 0.5 + 1e-5


def _nearest_taps(at: np.ndarray, size: int) -> Taps:
    index = np.floor(at + 0.5).astype(np.int64)[None]
    inside = (index >= 0) & (index < size)
    return Taps(np.clip(index, 0, size - 1), inside.astype(np.float32))


@dataclass(frozen=True)
class VolumeFraming:
    """Turn, resample to cubes, pad and cut around the middle, and stretch the values to [0, 1].

    v ↦ clip((v − low) / (high − low), 0, 1); the middle of the volume stays the middle of the resampled one, whose
    length along an axis is the source's in millimetres, rounded to whole voxels. What is padded is black, as air.

    Args:
        spacing: millimetres of a voxel's side; None leaves the voxels as they are.
        shape: size of the block (slices, rows, columns); None leaves it as it is.
        window: values that become 0 and 1.
        orientation: storage order of the block, see `translucid.io.volume`; "" leaves it as it is.
        filter: "linear" between neighbours; "triangle" also averages what is finer than the block's voxels.

    Raises:
        ConfigError: a spacing, shape or window that cannot be, or an unknown orientation or filter.

    Example:
        >>> ct = Image(np.full((1, 10, 20, 20), 350.0, np.float32), -1024, 3071, (2.0, 1.0, 1.0),
        ...            affine_of("LPS", (2.0, 1.0, 1.0)))
        >>> framed = VolumeFraming(spacing=1.0, shape=(18, 18, 18), window=(-1000, 800)).apply(ct)
        >>> framed.pixels.shape, float(framed.pixels[0, 9, 9, 9])
        ((1, 18, 18, 18), 0.75)
        >>> framed.transform.forward(np.array([4, 9, 9])), framed.affine @ [7.5, 8, 8, 1]
        (array([7.5, 8. , 8. ]), array([-9., -9.,  8.,  1.]))

    Source: Draelos and Carin 2022, doi 10.1016/j.artmed.2022.102372, arXiv 2111.12215: 0.8 mm, 405 × 420 × 420,
        −1000 to 800 HU. Linear interpolation, the order of steps and padding with air are our reading.

    Fails when: a block smaller than the chest is cut around the middle of a scan that also shows the abdomen; and
        with "linear" when the voxels become much larger, which turns fine texture into noise.
    """

    spacing: float | None = 0.8
    shape: tuple[int, int, int] | None = (405, 420, 420)
    window: tuple[float, float] = (-1000.0, 800.0)
    orientation: str = "LPS"
    filter: Filter = "linear"

    def __post_init__(self) -> None:
        if self.spacing is not None and not (math.isfinite(self.spacing) and self.spacing > 0):
            raise ConfigError(f"volume spacing = {self.spacing}: wanted millimetres above 0, or None")
        if self.shape is not None and (len(self.shape) != 3 or min(self.shape) < 1):
            raise ConfigError(f"volume shape = {self.shape}: wanted three sizes of at least 1, or None")
        if not (all(map(math.isfinite, self.window)) and self.window[0] < self.window[1]):
            raise ConfigError(f"volume window = {self.window}: wanted two rising numbers, such as (-1000, 800)")
        if self.filter not in get_args(Filter):
            raise ConfigError(f"volume filter = {self.filter!r}: known are {', '.join(get_args(Filter))}")
        if self.orientation:
            affine_of(self.orientation, (1.0, 1.0, 1.0))

    def plan(self, space: Space, affine: np.ndarray) -> VolumeTransform:
        """Which voxel goes where; needs no pixels."""
        turn = turn_to(affine, self.orientation) if self.orientation else Turn((0, 1, 2), (False,) * 3)
        sizes, stored = turn.space(space), spacing_of(affine)
        parts = [self._axis(axis, n, stored[turn.order[axis]]) for axis, n in enumerate(sizes)]
        scale, offset, target = zip(*parts, strict=True)
        return VolumeTransform(turn, Transform(scale, offset, sizes, target), space)

    def _axis(self, axis: int, n: int, spacing: float) -> tuple[float, float, int]:
        """Scale and offset of one axis, and its size in the block.

        Middles agree before cutting: t + start − (m − 1)/2 = scale · (s − (n − 1)/2), with m resampled voxels of
        which the block begins at number `start`.
        """
        scale = spacing / (self.spacing or spacing)
        if abs(scale - 1) * n < _SAME:
            scale = 1.0
        m = max(1, math.floor(n * scale + 0.5))
        target = self.shape[axis] if self.shape else m
        start = (m - target) // 2 if m >= target else -((target - m) // 2)
        return scale, (m - 1) / 2 - start - scale * (n - 1) / 2, target

    def apply(self, image: Image) -> FramedVolume:
        """Frame one volume of one channel.

        Raises:
            InputError: no volume, or none with an affine.
            ShapeError: several channels.
        """
        affine = need_affine(image)
        if len(image.pixels) != 1:
            raise ShapeError(f"a volume of {len(image.pixels)} channels; wanted 1: frame them one by one")
        transform = self.plan(image.space, affine)
        placing = transform.placing
        taps, inside = [], []
        for n, g, scale, offset in zip(placing.source, placing.target, placing.scale, placing.offset, strict=True):
            at = (np.arange(g) - offset) / scale
            held = np.flatnonzero((at >= -0.5 - 1e-9) & (at <= n - 0.5 + 1e-9))
            inside.append(slice(held[0], held[-1] + 1))
            taps.append(linear_taps(at[held], n) if self.filter == "linear" else triangle_taps(at[held], n, 1 / scale))
        pixels = np.zeros((1, *placing.target), np.float32)
        values = _stretched(transform.turn.apply(image.pixels[0]), *self.window)
        np.clip(apply_all(values, taps), 0.0, 1.0, out=pixels[0][tuple(inside)])
        record = vars(self) | {"stored": image.space, "scale": placing.scale, "offset": placing.offset}
        return FramedVolume(pixels, affine @ transform.matrix() + 0.0, transform, record)


def _stretched(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """low → 0, high → 1; clipped only after resampling, so that values beyond the window keep their say."""
    out = np.subtract(values, np.float32(low))
    out /= np.float32(high - low)
    return out


RAD_CHESTCT = VolumeFraming()
"""As published for AxialNet, which then takes 0.449 off every value."""
