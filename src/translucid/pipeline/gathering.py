"""Framed pixels of one shard, gathered block by block, in whole numbers where they are rounded to 8 or 16 bits."""

from __future__ import annotations

import io
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from translucid.errors import InputError, UnreadableImage
from translucid.io.dicom_file import looks_dicom
from translucid.io.fence import Fence
from translucid.io.framing import Framed, Framing
from translucid.io.placing import Plan, Transform, apply_box, boxes_cut
from translucid.io.plain_dicom import PlainDicom, read_plain_dicom
from translucid.io.plain_grey import LARGEST, content, read_plain_grey
from translucid.io.volume_framing import FramedVolume
from translucid.types import Case, Space

LEVELS = {8: 255, 16: 65535}
STORED: dict[int, type[np.generic]] = {8: np.uint8, 16: np.uint16, 32: np.float32}
"""What framed pixels are kept as: k for k/255 and k/65535, or the pixels themselves."""
BLOCK = 1 << 21
"""Bytes of pixels that are compressed at once: what was decoded should still lie in the cache."""


class Gathered:
    """What a shard has gathered so far; the pixels of a block lie in one array, which serves all blocks.

    Attributes:
        kept: pseudonyms of the images, in their order.
        boxes: pseudonym → boxes of the framed image.
        cut: how many boxes stuck out of their images.
        rejects: pseudonym → why a file was left out.
        places: what is known of places, one array an image.
        shape: (channel, *space) of the framed images; empty until there is one.
    """

    def __init__(self, framing: Any, bits: int, room: int) -> None:
        self.kept: list[str] = []
        self.boxes: dict[str, list[Any]] = {}
        self.cut = 0
        self.rejects: dict[str, str] = {}
        self.places: list[np.ndarray] = []
        self.shape: tuple[int, ...] = ()
        self._bits, self._room, self._held = bits, room, 0
        self._pixels: np.ndarray | None = None
        self._shortcut = Shortcut(framing) if bits == 8 and Shortcut.serves(framing) else None

    @property
    def full(self) -> bool:
        """Whether the block must be taken before the next image comes."""
        return self._pixels is not None and self._held == len(self._pixels)

    def block(self) -> np.ndarray | None:
        """The images since the last block, (image, channel, *space), to be used before the next one comes."""
        held, self._held = self._held, 0
        return self._pixels[:held] if held and self._pixels is not None else None

    def add(self, name: str, case: Case, framed: Framed | FramedVolume, known: np.ndarray | None) -> None:
        """Take one framed image and its places.

        Raises:
            UnreadableImage: its size is not the first one's, or a box lies outside of it.
        """
        transform = framed.transform if isinstance(framed.transform, Transform) else None
        cut = boxes_cut(case.boxes, transform.source, case.file) if transform else 0
        round_into(self._slot(framed.pixels.shape), framed.pixels, self._bits)
        if transform:
            self._add_boxes(name, case, transform, cut)
        if known is not None:
            self.places.append(known)
        self._keep(name)

    def take(self, name: str, case: Case, fence: Fence) -> bool:
        """Read a plain grey file the short way; False, and nothing done, for any other."""
        if self._shortcut is None or case.frame is not None:
            return False
        slot = None if self._pixels is None else self._pixels[self._held, 0]
        found = self._shortcut.read(fence, case, slot)
        if found is None:
            return False
        pixels, plan = found
        cut = boxes_cut(case.boxes, plan.source, case.file)
        if pixels is not slot:
            self._slot((1, *pixels.shape))[0] = pixels
        if case.boxes:
            self._add_boxes(name, case, plan.transform(), cut)
        self._keep(name)
        return True

    def _slot(self, shape: tuple[int, ...]) -> np.ndarray:
        """Where the next image goes."""
        if self._pixels is None:
            kind = STORED[self._bits]
            fit = BLOCK // (math.prod(shape) * np.dtype(kind).itemsize)
            self.shape, self._pixels = shape, np.empty((min(self._room, max(1, fit)), *shape), kind)
        if shape != self.shape:
            raise UnreadableImage(
                f"{shape} after framing, where the others have {self.shape}: choose a "
                f"framing that gives all images one size"
            )
        slot: np.ndarray = self._pixels[self._held]
        return slot

    def _keep(self, name: str) -> None:
        self.kept.append(name)
        self._held += 1

    def _add_boxes(self, name: str, case: Case, transform: Transform, cut: int) -> None:
        self.cut += cut
        boxes = [apply_box(box, transform) for box in case.boxes]
        if found := [list(b) for b in boxes if b is not None]:
            self.boxes[name] = found


class Shortcut:
    """Reads plain grey files where framing only cuts, and each stored value has its own byte.

    A value v of 0 … 255 of a JPEG or PNG becomes v/255 and is kept as v; those of a DICOM file are looked up in a
    table, which the long way has made of them all. It gives up for good after a few files that are of another kind, so
    that these are not looked at twice.
    """

    patience = 4

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._as_is = framing.window in (None, (0, 255))
        self._plans: dict[Space, Plan | None] = {}
        self._table: tuple[Any, np.ndarray] = None, np.empty(0, np.uint8)
        self._failures = 0

    @staticmethod
    def serves(framing: Any) -> bool:
        """Whether each pixel can be looked at alone."""
        return isinstance(framing, Framing) and framing.channels == 1

    def read(self, fence: Fence, case: Case, slot: np.ndarray | None) -> tuple[np.ndarray, Plan] | None:
        """Pixels of the cut, (h, w) uint8, and where they come from."""
        if self._failures >= self.patience:
            return None
        near = fence.unlinked(case.file)
        data = content(near, follow=False) if near else b""
        if not data:  # a link, or an unusual path
            if fence.problem(case.file):
                return None
            data = content(os.path.join(fence.root, case.file))
        found = self._dicom(data) if looks_dicom(data[:132]) else self._picture(data, slot)
        self._failures = 0 if found else self._failures + 1
        return found

    def _picture(self, data: bytes, slot: np.ndarray | None) -> tuple[np.ndarray, Plan] | None:
        pixels = read_plain_grey(data, slot) if self._as_is else None
        plan = self._plan(pixels.shape) if pixels is not None else None
        return None if pixels is None or plan is None else (_cut(pixels, plan), plan)

    def _dicom(self, data: bytes) -> tuple[np.ndarray, Plan] | None:
        image = read_plain_dicom(data, LARGEST)
        plan = self._plan(image.stored.shape) if image is not None else None
        if image is None or plan is None:
            return None
        try:
            return self._bytes(image)[_cut(image.stored, plan)], plan
        except InputError:  # the long way will say it
            return None

    def _bytes(self, image: PlainDicom) -> np.ndarray:
        """What each stored value becomes; kept for the next file, which mostly has the same header."""
        key = image[1:]
        if self._table[0] != key:
            framed = replace(self._framing, kind="none").apply(image.levels())
            table = np.empty(framed.pixels.size, np.uint8)
            round_into(table, framed.pixels.reshape(-1), 8)
            self._table = key, table
        return self._table[1]

    def _plan(self, space: Space) -> Plan | None:
        """How an image of this size is framed, if that neither resizes nor fills."""
        if space not in self._plans:
            try:
                plan = self._framing.plan(space)
            except InputError:
                return None
            self._plans[space] = plan if plan.cut_size == plan.inner_size == plan.target else None
        return self._plans[space]


def _cut(pixels: np.ndarray, plan: Plan) -> np.ndarray:
    if plan.cut_size == plan.source:
        return pixels
    return pixels[tuple(slice(c, c + n) for c, n in zip(plan.cut, plan.cut_size, strict=True))]


def round_into(out: np.ndarray, pixels: np.ndarray, bits: int) -> None:
    """Values in [0, 1] → the k of the nearest k/255 or k/65535; with 32 bits they stay.

    >>> out = np.empty(3, np.uint8)
    >>> round_into(out, np.array([0, 0.2, 1], np.float32), 8)
    >>> out
    array([  0,  51, 255], dtype=uint8)
    """
    if bits not in LEVELS:
        out[...] = pixels
        return
    scaled = np.multiply(pixels, np.float32(LEVELS[bits]))
    out[...] = np.rint(scaled, out=scaled)


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """k → k/255 or k/65535 in float32; floats stay as they are.

    >>> as_floats(np.array([51], np.uint8))
    array([0.2], dtype=float32)
    """
    if pixels.dtype == np.float32:
        return pixels
    return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)


def jpeg_bytes(pixels: np.ndarray) -> int:
    """What framed images, (image, channel, h, w), would take as JPEG of quality 95, the usual way to keep them."""
    total = 0
    for image in pixels:
        whole = image if image.dtype == np.uint8 else np.rint(as_floats(image) * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Pillow.fromarray(whole[0] if len(whole) == 1 else whole.transpose(1, 2, 0)).save(buffer, "JPEG", quality=95)
        total += buffer.tell()
    return total


def reason(error: InputError, file: str, root: Path) -> str:
    """Why a file was left out, without its name or place."""
    text = str(error)
    for name in (str(root / file), file, Path(file).name):
        text = text.replace(name, "the file")
    return text
