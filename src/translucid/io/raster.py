"""PNG, JPEG, TIFF and BMP → `Image`, with what Pillow does to palettes, transparency and orientation said aloud."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from translucid.errors import UnreadableImage
from translucid.io.limits import DEFAULT_POLICY, ReadPolicy, border, read_bytes
from translucid.types import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_RANGES = {
    "1": (0.0, 1.0),
    "L": (0.0, 255.0),
    "RGB": (0.0, 255.0),
    "I;16": (0.0, 65535.0),
    "I": (math.nan, math.nan),
    "F": (math.nan, math.nan),
}
"""Pillow's mode → what means black and white; 32-bit integers and floats declare nothing."""


def looks_raster(head: bytes) -> bool:
    """Whether a file begins like one of the four formats."""
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM"))


def read_raster(data: bytes, frame: int | None, policy: ReadPolicy) -> Image:
    """One picture, or one page of it; a TIFF of several pages gives (channel, pages, h, w).

    The range is that of the mode (8 bit 0–255, 16 bit 0–65535, 1 bit 0–1). A palette becomes grey where all its
    colours are, RGB otherwise. An alpha channel is laid over black and dropped. EXIF orientation is applied. Colour
    of 16 bits a channel is read with 8, because Pillow holds no more; `source` says each of these.

    Raises:
        UnreadableImage: damaged, too large, of an unknown mode, or a page that is not there.
    """
    with Pillow.open(BytesIO(data), formats=FORMATS) as picture:
        pages = _pages(picture, frame)
        policy.check_samples(len(pages), picture.height, picture.width, max(len(picture.getbands()), 1))
        first = _first(picture, data)
        arrays: list[np.ndarray] = []
        notes: dict[str, Any] = {}
        for page in pages:
            if page:
                picture.seek(page)
                policy.check_samples(len(pages), picture.height, picture.width, max(len(picture.getbands()), 1))
            array, mode, notes = _one(picture)
            arrays.append(array)
    if any(a.shape != arrays[0].shape for a in arrays):
        raise UnreadableImage("pages of different sizes; wanted one size: read them one by one with frame=…")
    low, high = _RANGES[mode] if not (mode == "I" and first["format"] == "PNG") else (0.0, 65535.0)
    pixels = arrays[0] if len(arrays) == 1 else np.stack(arrays, 1)
    if mode == "F" and not np.isfinite(pixels).all():
        raise UnreadableImage("values that are not finite; wanted numbers only: replace them and save it again")
    return Image(pixels, low, high, source=first | notes | {"frame": frame})


def _pages(picture: Pillow.Image, frame: int | None) -> list[int]:
    """Which pages are asked for: all of a TIFF, the first of anything else, unless one is named."""
    count = int(getattr(picture, "n_frames", 1)) if frame is not None or picture.format == "TIFF" else 1
    if frame is not None:
        if not 0 <= frame < count:
            raise UnreadableImage(f"frame {frame} asked for; wanted 0 to {count - 1}: correct the manifest")
        return [frame]
    return list(range(count))


def _first(picture: Pillow.Image, data: bytes) -> dict[str, Any]:
    """Format, and the bits a channel has in the file, which Pillow hides where it drops some."""
    facts: dict[str, Any] = {"format": str(picture.format)}
    if picture.format == "PNG":
        facts["bits_stored"] = data[24]
    elif picture.format == "TIFF":
        facts["bits_stored"] = int(picture.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0])  # type: ignore[attr-defined]
    if facts.get("bits_stored", 8) > 8 and picture.mode in ("RGB", "RGBA", "LA"):
        facts["bits_kept"] = 8
    return facts


def _one(picture: Pillow.Image) -> tuple[np.ndarray, str, dict[str, Any]]:
    """(channel, h, w) float32 of the current page, its mode, and what was done to it."""
    turn = int(picture.getexif().get(_ORIENTATION, 1))
    mode = picture.mode
    if turn != 1:
        picture = ImageOps.exif_transpose(picture)
    upright, notes = _plain(picture)
    if turn in range(2, 9):
        notes["exif_orientation"] = turn
    if upright.mode != mode:
        notes["mode"] = mode
    kind = "I;16" if upright.mode.startswith("I;16") else upright.mode
    if kind not in _RANGES:
        raise UnreadableImage(f"a picture of mode {mode}; wanted grey, RGB, palette or CMYK: save it as 8-bit RGB")
    array = np.asarray(upright, np.float32)
    return (array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))), kind, notes


def _plain(picture: Pillow.Image) -> tuple[Pillow.Image, dict[str, Any]]:
    """Palette, transparency, CMYK and YCbCr made grey or RGB."""
    if picture.mode in ("L", "RGB", "1", "F", "I") and "transparency" not in picture.info:
        return picture, {}
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        plain, notes = _over_black(picture)
        return _grey_if_all_are(plain), notes | {"palette": True}
    if picture.mode in ("LA", "La", "RGBA", "RGBa") or (picture.mode in ("L", "RGB") and picture.has_transparency_data):
        return _over_black(picture)
    if picture.mode in ("CMYK", "YCbCr"):
        return picture.convert("RGB"), {}
    return picture, {}


def _over_black(picture: Pillow.Image) -> tuple[Pillow.Image, dict[str, Any]]:
    """Lay a picture over black by its alpha, in 8 bits; an opaque one is left as it is."""
    if not picture.has_transparency_data:
        return picture, {}
    grey = picture.mode in ("L", "LA", "La")
    clear = picture.convert("RGBA")
    if clear.getchannel("A").getextrema() == (255, 255):
        return clear.convert("L" if grey else "RGB"), {"alpha": "opaque, dropped"}
    black = Pillow.new("RGBA", clear.size, (0, 0, 0, 255))
    flat = Pillow.alpha_composite(black, clear)
    return (flat.getchannel("R") if grey else flat.convert("RGB")), {"alpha": "laid over black"}


def _grey_if_all_are(picture: Pillow.Image) -> Pillow.Image:
    if picture.mode != "RGB":
        return picture
    red, green, blue = picture.split()
    same = red.tobytes() == green.tobytes() == blue.tobytes()
    return red if same else picture


def read_mask(path: Path, policy: ReadPolicy = DEFAULT_POLICY) -> np.ndarray:
    """A picture as a region: True inside.

    A file of at most two values, one of them zero, is taken as zero outside, the other inside (so 0/1 and 0/255 read
    alike); any other, such as a mask kept as JPEG, is cut at half of its declared range.

    Args:
        path: PNG, JPEG, TIFF or BMP; grey, or RGB with three equal channels.
        policy: ceilings for reading.

    Returns:
        (h, w) bool.

    Raises:
        UnreadableImage: not a picture, channels that differ, or more than two values none of which lies above half,
            which looks like a map of labels.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Pillow.fromarray(np.array([[0, 1]], np.uint8)).save(f"{folder}/m.png")
        ...     read_mask(Path(folder) / "m.png").tolist()
        [[False, True]]

    Fails when: a file that marks the inside with black is read; it comes out inverted.
    """
    with border(Path(path).name):
        image = read_raster(read_bytes(Path(path), policy), 0, policy)
        plane = image.pixels[0]
        if any(not np.array_equal(plane, other) for other in image.pixels[1:]):
            raise UnreadableImage("a coloured mask; wanted black and white: save one mask for each colour")
        top = plane.max()
        if np.all((plane == 0) | (plane == top)):
            return plane > 0
        if math.isnan(image.high) or top <= image.high / 2:
            raise UnreadableImage(
                "more than two values, none above half of the range, looks like a map of labels; wanted black and "
                "white: save one mask for each label"
            )
        return plane > image.high / 2
