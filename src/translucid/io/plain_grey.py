"""The short way for the commonest files: 8-bit grey JPEG and PNG with nothing that calls for a decision.

What comes out equals `read_image`, as bytes and without a copy in between. Everything else – colour, orientation,
transparency, damage – is answered with None, and takes the long way, which knows what to say of it.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image as Pillow

from translucid.errors import UnreadableImage
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border
from translucid.types import Space

LARGEST = 1 << 24
"""Pixels; larger images gain nothing here."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SILENT = {0xE0, 0xFE, 0xDB, 0xC4, 0xDD}
"""JPEG segments that leave the picture as it is: JFIF, a comment, tables, the restart interval."""
_SIZES = {0xC0, 0xC1, 0xC2}
_PNG = b"\x89PNG\r\n\x1a\n"
_HARMLESS = {"dpi", "gamma", "srgb", "aspect", "chromaticity", "interlace"}


def read_plain_grey(
    data: bytes, slot: np.ndarray | None = None, policy: ReadPolicy = DEFAULT_POLICY
) -> np.ndarray | None:
    """The pixels of a plain 8-bit grey JPEG or PNG, or None for any other file and for all that goes wrong.

    Args:
        data: the whole file.
        slot: (h, w) uint8 to decode into where the size fits; it may be written to in vain.
        policy: ceilings for reading.

    Returns:
        (h, w) uint8 – `slot` itself where it was filled – whose range is 0 to 255; or None.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Pillow.new("L", (4, 3), 51).save(f"{folder}/grey.jpg")
        ...     read_plain_grey(content(f"{folder}/grey.jpg"))[0].tolist()
        [51, 51, 51, 51]
        >>> read_plain_grey(content("missing.jpg")) is None
        True
    """
    if data.startswith(b"\xff\xd8"):
        space = _grey_jpeg(data)
        return None if space is None or space[0] * space[1] > policy.max_samples else _decoded(data, space, slot)
    return _grey_png(data, policy) if data.startswith(_PNG) else None


def content(path: str, policy: ReadPolicy = DEFAULT_POLICY, follow: bool = True) -> bytes:
    """The file's bytes; none where it cannot be read, is no regular file or a large one, or a link not to follow."""
    try:
        handle = os.open(path, _FLAGS if follow else _FLAGS | os.O_NOFOLLOW)
    except (OSError, ValueError):
        return b""
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > min(policy.max_file_bytes, 4 * LARGEST):
            return b""
        data = os.read(handle, found.st_size)
        return data if len(data) == found.st_size else b""
    except OSError:
        return b""
    finally:
        os.close(handle)


def _grey_jpeg(data: bytes) -> Space | None:
    """Size of a stream of one component of 8 bits, if no segment before the pixels asks for more."""
    at, space = 2, None
    while data[at : at + 1] == b"\xff" and at + 9 < len(data):
        marker = data[at + 1]
        if marker == 0xDA:
            return space
        if marker in _SIZES and space is None:
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            if data[at + 4] != 8 or data[at + 9] != 1 or not 0 < height * width <= LARGEST:
                return None
            space = height, width
        elif marker not in _SILENT:
            return None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _decoded(data: bytes, space: Space, slot: np.ndarray | None) -> np.ndarray | None:
    if not _decodes_in_place():
        return None
    return _in_place(data, slot if slot is not None and slot.shape == space else np.empty(space, np.uint8))


def _in_place(data: bytes, slot: np.ndarray) -> np.ndarray | None:
    """Let Pillow's decoder write to an array, which spares two copies."""
    try:
        size = slot.shape[::-1]
        canvas = Pillow.core.map_buffer(slot, size, "raw", 0, ("L", 0, 1))
        decoder = Pillow.core.jpeg_decoder("L", "L", "", 1, 0)
        decoder.setimage(canvas, (0, 0, *size))
        left, failed = decoder.decode(data)
    except Exception:  # `Pillow.core` is not promised to stay as it is; see `_decodes_in_place`
        return None
    return slot if left < 0 and not failed else None


@cache
def _decodes_in_place() -> bool:
    """Whether this Pillow's pictures share their memory with an array and write to it; asked once."""
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    file, slot = BytesIO(), np.zeros((16, 16), np.uint8)
    Pillow.fromarray(pixels).save(file, "JPEG")
    with Pillow.open(file) as picture:
        return _in_place(file.getvalue(), slot) is slot and bool((slot == np.asarray(picture)).all())


def _grey_png(data: bytes, policy: ReadPolicy) -> np.ndarray | None:
    try:
        with border(""), Pillow.open(BytesIO(data), formats=("PNG",)) as picture:
            if picture.mode != "L" or getattr(picture, "is_animated", False) or not _HARMLESS.issuperset(picture.info):
                return None
            if not 0 < picture.width * picture.height <= min(LARGEST, policy.max_samples):
                return None
            pixels = np.asarray(picture)
            return pixels if _HARMLESS.issuperset(picture.info) else None
    except UnreadableImage:
        return None
