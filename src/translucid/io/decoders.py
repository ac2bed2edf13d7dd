"""Which library decodes which DICOM transfer syntax; own instances, so pydicom's shared ones stay as they are.

JPEG Lossless and 12-bit JPEG need the optional imagecodecs (BSD). gdcm and pylibjpeg-libjpeg (GPL) are never used,
also where they are installed.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.pixels.decoders import pylibjpeg
from pydicom.pixels.decoders.base import Decoder, DecodeRunner

from translucid.errors import UnreadableImage
from translucid.io.streams import StreamSize, jpeg2000_size, jpeg_size

JPEG = (
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.UID("1.2.840.10008.1.2.4.53"),  # spectral selection, retired
    uid.UID("1.2.840.10008.1.2.4.55"),  # full progression, retired
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
HTJ2K = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)

_PLUGINS = {
    "pillow": ("pydicom.pixels.decoders.pillow", "_decode_frame"),
    "openjpeg": ("pydicom.pixels.decoders.pylibjpeg", "_decode_frame"),
    "rle": ("translucid.io.decoders", "decode_rle"),
    "pyjpegls": ("pydicom.pixels.decoders.pyjpegls", "_decode_frame"),
    "imagecodecs": ("translucid.io.decoders", "decode_frame"),
}
_ORDER: dict[uid.UID, tuple[str, ...]] = {
    **dict.fromkeys(NATIVE, ()),
    **dict.fromkeys(JPEG, ("imagecodecs",)),
    **dict.fromkeys(JPEG[:2], ("pillow", "imagecodecs")),
    **dict.fromkeys(JPEG_LS, ("pyjpegls",)),
    **dict.fromkeys(JPEG2000, ("openjpeg", "pillow")),
    **dict.fromkeys(HTJ2K, ("openjpeg",)),
    uid.RLELossless: ("rle",),
}

DECODER_DEPENDENCIES = {**dict.fromkeys(JPEG, ("imagecodecs>=2024.9.22",)), uid.RLELossless: ("pylibjpeg-rle>=2.0",)}
"""Asked for by pydicom of a module that offers a decoder."""


def is_available(syntax: str) -> bool:
    """Whether the library behind `decode_frame` or `decode_rle` is here; asked by pydicom."""
    if syntax == uid.RLELossless:
        return pylibjpeg.is_available(syntax)
    return syntax in JPEG and importlib.util.find_spec("imagecodecs") is not None


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one JPEG frame with imagecodecs; the samples come out as they are stored, colours unconverted.

    JPEG knows no sign: the bytes are handed back as they are, and pydicom reads them again as the signed or unsigned
    type that Pixel Representation asks for.
    """
    import imagecodecs

    # naming one colour space for both ends keeps libjpeg from converting
    colours: dict[str, Any] = {} if runner.samples_per_pixel == 1 else {"colorspace": "RGB", "outcolorspace": "RGB"}
    array: np.ndarray = imagecodecs.jpeg_decode(src, **colours)
    runner.set_option("bits_allocated", 8 * array.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(array).tobytes()


def decode_rle(src: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one RLE frame with pylibjpeg-rle; its Rust code answers some damage with more than an `Exception`."""
    try:
        return pylibjpeg._decode_frame(src, runner)
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        raise RuntimeError("the RLE decoder gave up") from None


@functools.cache
def decoder_for(syntax: uid.UID) -> Decoder:
    """The decoder of a transfer syntax.

    Raises:
        UnreadableImage: a syntax nobody here decodes, or one whose optional package is not installed.
    """
    if syntax not in _ORDER:
        known = syntax.name if syntax.name != syntax else "unknown to DICOM"
        raise UnreadableImage(
            f"the transfer syntax is {known}; wanted one of uncompressed, RLE, JPEG, JPEG-LS, JPEG 2000, HTJ2K: "
            "convert the file, for example to Explicit VR Little Endian"
        )
    decoder = Decoder(syntax)
    decoder.add_plugins([(name, _PLUGINS[name]) for name in _ORDER[syntax]])
    if not decoder.is_available:
        raise UnreadableImage(f"the transfer syntax is {syntax.name}; wanted a decoder for it: {_advice(syntax)}")
    return decoder


def _advice(syntax: uid.UID) -> str:
    """What to do when a syntax could not be decoded."""
    if syntax in JPEG and not is_available(syntax):
        return "run pip install 'translucid[codecs]'"
    return "export the file again, uncompressed if it can be had"


def undecodable(syntax: uid.UID) -> UnreadableImage:
    """The error for a frame that all decoders refused."""
    return UnreadableImage(
        f"the {syntax.name} data cannot be decoded; wanted a whole and valid stream: {_advice(syntax)}"
    )


def stream_size(syntax: uid.UID, frame: bytes) -> StreamSize | None:
    """What a compressed frame says of its own size; None where the syntax has no header of its own."""
    if syntax in JPEG or syntax in JPEG_LS:
        return jpeg_size(frame)
    if syntax in JPEG2000 or syntax in HTJ2K:
        return jpeg2000_size(frame)
    return None
