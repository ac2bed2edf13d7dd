"""Sizes that a compressed frame declares about itself, read before any decoder is let near it."""

from __future__ import annotations

from typing import NamedTuple

from translucid.errors import UnreadableImage

_BARE = {0x01, *range(0xD0, 0xD8)}
"""JPEG markers that carry no length."""
_SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Start of frame of JPEG (all processes) and of JPEG-LS."""


class StreamSize(NamedTuple):
    """What the stream will decode to."""

    height: int
    width: int
    components: int
    precision: int


def _number(data: bytes, at: int, width: int) -> int:
    piece = data[at : at + width]
    if len(piece) != width:
        raise UnreadableImage("the compressed frame stops within its header; wanted a whole one: copy the file again")
    return int.from_bytes(piece, "big")


def jpeg_size(data: bytes) -> StreamSize:
    """Size from the first start-of-frame marker of a JPEG or JPEG-LS stream.

    >>> jpeg_size(bytes.fromhex("ffd8 ffc0 000b 08 0010 0020 01 011100"))
    StreamSize(height=16, width=32, components=1, precision=8)
    """
    if data[:2] != b"\xff\xd8":
        raise UnreadableImage("the compressed frame is no JPEG stream; wanted one, as the transfer syntax says")
    at = 2
    while True:
        if _number(data, at, 1) != 0xFF:
            raise UnreadableImage("the JPEG stream has no frame header; wanted one: export the file again")
        marker = _number(data, at + 1, 1)
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        length = _number(data, at + 2, 2)
        if marker in _SOF:
            return StreamSize(
                _number(data, at + 5, 2), _number(data, at + 7, 2), _number(data, at + 9, 1), _number(data, at + 4, 1)
            )
        if marker in (0xD9, 0xDA) or length < 2:
            raise UnreadableImage("the JPEG stream has no frame header; wanted one: export the file again")
        at += 2 + length


def jpeg2000_size(data: bytes) -> StreamSize:
    """Size from the SIZ marker of a JPEG 2000 code stream, bare or inside a JP2 file.

    Raises:
        UnreadableImage: no SIZ where the standard (ITU-T T.800, A.5.1) puts it, or boxes that lead nowhere.
    """
    at = _code_stream(data) if data[4:8] == b"jP  " else 0
    if data[at : at + 4] != b"\xff\x4f\xff\x51":
        raise UnreadableImage("the compressed frame is no JPEG 2000 stream; wanted one, as the transfer syntax says")
    right, bottom, left, top = (_number(data, at + 8 + 4 * i, 4) for i in range(4))
    components = _number(data, at + 40, 2)
    return StreamSize(bottom - top, right - left, components, (_number(data, at + 42, 1) & 0x7F) + 1)


def _code_stream(data: bytes) -> int:
    """Offset of the code stream: the contents of the first jp2c box."""
    at = 0
    while at + 8 <= len(data):
        length = _number(data, at, 4)
        if data[at + 4 : at + 8] == b"jp2c":
            return at + (16 if length == 1 else 8)
        if length < 8:  # a length of 0 would turn a careless reader in circles
            break
        at += length
    raise UnreadableImage("the JP2 file has no code stream; wanted one: export the file again")
