"""How an image becomes the network's square: one explicit, recorded choice, with the way there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image as Pillow

from translucid.errors import ConfigError, ShapeError, UnreadableImage
from translucid.io.placing import Plan, Transform
from translucid.types import Image, Space

Kind = Literal["crop", "centre_crop", "letterbox", "resize", "none"]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. ITU-R BT.601: the weights of red, green and blue in grey."""


@dataclass(frozen=True)
class Framed:
    """What the network sees, and where it came from.

    Attributes:
        pixels: (channel, *space) float32 in [0, 1].
        transform: pixels of the file → pixels of the square.
        record: the choices made and the values that became black and white, for the run record.
    """

    pixels: np.ndarray
    transform: Transform
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Framing:
    """Cut, scale and stretch the values: v ↦ clip((v − low) / (high − low), 0, 1).

    Args:
        kind: "crop" cuts size × size out of the middle without resizing, the published way with CheXpert;
            "centre_crop" takes the largest square in the middle and resizes it; "letterbox" keeps all of the image
            and its proportions and fills with black; "resize" stretches; "none" leaves the grid as it is.
        size: side of the square in pixels; not used by "none".
        window: values that become black and white; None takes the range the file declares. Never the image's own
            least and greatest value.
        channels: 1 turns colour to grey (Rec. 601 luma), 3 repeats grey.

    Raises:
        ConfigError: an unknown kind, a size below 1, a window that does not rise, channels other than 1 or 3.

    Example:
        >>> image = Image(np.full((1, 2, 4), 51.0, np.float32), 0.0, 255.0)
        >>> framed = Framing("centre_crop", size=2).apply(image)
        >>> framed.pixels.shape, float(framed.pixels[0, 0, 0])
        ((1, 2, 2), 0.20000000298023224)
        >>> framed.transform.forward(np.array([[0.0, 1.0]]))
        array([[0., 0.]])

    Fails when: "crop" meets an image much larger than its square; most of the anatomy is then cut away.
    """

    kind: Kind = "centre_crop"
    size: int = 320
    window: tuple[float, float] | None = None
    channels: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"framing kind = {self.kind!r}: known are {', '.join(get_args(Kind))}")
        if self.size < 1:
            raise ConfigError(f"framing size = {self.size}: wanted at least 1")
        if self.channels not in (1, 3):
            raise ConfigError(f"framing channels = {self.channels}: wanted 1 or 3")
        if self.window is not None and not (all(map(math.isfinite, self.window)) and self.window[0] < self.window[1]):
            raise ConfigError(f"framing window = {self.window}: wanted two rising numbers, black and white")

    def apply(self, image: Image) -> Framed:
        """Frame one image.

        Raises:
            UnreadableImage: smaller than the "crop", or without a declared range while no window is given.
            ShapeError: a volume with any kind but "none".
        """
        low, high = self._range(image)
        plan = self.plan(image.space)
        pixels = _moved(_with_channels(image.pixels, self.channels), plan)
        pixels = _stretched(pixels, low, high)
        return Framed(_padded(pixels, plan), plan.transform(), vars(self) | {"low": low, "high": high})

    def plan(self, space: Space) -> Plan:
        """Which part of an image of this size goes where; needs no pixels."""
        zero = (0,) * len(space)
        if self.kind == "none":
            return Plan(space, space, zero, space, zero, space)
        if len(space) != 2:
            raise ShapeError(
                f"framing {self.kind!r} of an image of {len(space)} axes {space}; wanted 2: "
                "read one frame or slice, or use 'none'"
            )
        square = (self.size, self.size)
        if self.kind in ("crop", "centre_crop"):
            side = _side(space, self.size) if self.kind == "crop" else min(space)
            start = tuple((n - side) // 2 for n in space)
            return Plan(space, square, start, (side, side), zero, square)
        inner = _fitted(space, self.size) if self.kind == "letterbox" else square
        return Plan(space, square, zero, space, tuple((self.size - n) // 2 for n in inner), inner)

    def _range(self, image: Image) -> tuple[float, float]:
        low, high = self.window or (image.low, image.high)
        if math.isnan(low) or math.isnan(high):
            raise UnreadableImage(
                "the file declares no values for black and white; wanted a window: "
                "give one, such as window = [-1000, 400] for the lung in CT"
            )
        if not low < high:
            raise UnreadableImage(
                f"the file declares the range {low:g} to {high:g}; wanted a rising one: give a window"
            )
        return float(low), float(high)


def _side(space: Space, size: int) -> int:
    if min(space) < size:
        raise UnreadableImage(
            f"an image of {' × '.join(map(str, space))} pixels; wanted at least {size} × {size} for framing 'crop': "
            "choose a smaller size, or 'centre_crop' or 'letterbox', which resize"
        )
    return size


def _fitted(space: Space, size: int) -> Space:
    """The largest space of the same proportions within the square, in whole pixels."""
    return tuple(max(1, round(n * size / max(space))) for n in space)


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    have = len(pixels)
    if have == channels:
        return pixels
    if have == 3:
        return np.tensordot(_LUMA, pixels, 1)[None]
    if have == 1:
        return np.repeat(pixels, channels, 0)
    raise UnreadableImage(f"an image of {have} channels; wanted 1 or 3: convert it to grey or RGB")


def _moved(pixels: np.ndarray, plan: Plan) -> np.ndarray:
    """Cut and resize: a triangle filter as wide as a target pixel when shrinking, bilinear when enlarging.

    Neither overshoots. Pillow widens the filter's support when it shrinks, so fine stripes become grey, not moiré.
    """
    if plan.cut_size == plan.inner_size:
        window = tuple(slice(c, c + n) for c, n in zip(plan.cut, plan.cut_size, strict=True))
        return pixels[(slice(None), *window)]
    (top, left), (height, width) = plan.cut, plan.cut_size
    part = np.ascontiguousarray(pixels[:, top : top + height, left : left + width], np.float32)
    size = (plan.inner_size[1], plan.inner_size[0])
    planes = [Pillow.fromarray(plane).resize(size, Pillow.Resampling.BILINEAR) for plane in part]
    return np.stack([np.asarray(plane) for plane in planes])


def _stretched(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """low → 0, high → 1, clipped; always a new array, in as few passes as can be."""
    span = np.float32(high - low)
    if low == 0:
        out = np.divide(pixels, span)
    else:
        out = np.subtract(pixels, np.float32(low))
        out /= span
    return np.clip(out, 0.0, 1.0, out=out)


def _padded(pixels: np.ndarray, plan: Plan) -> np.ndarray:
    """Black around what does not fill the square."""
    if plan.inner_size == plan.target:
        return pixels
    out = np.zeros((len(pixels), *plan.target), np.float32)
    window = tuple(slice(i, i + n) for i, n in zip(plan.inner, plan.inner_size, strict=True))
    out[(slice(None), *window)] = pixels
    return out
