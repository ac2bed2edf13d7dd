"""What a reader will not do for a hostile file, and the border where every failure becomes `UnreadableImage`."""

from __future__ import annotations

import logging
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from pathlib import Path

from translucid.errors import ConfigError, UnreadableImage


@dataclass(frozen=True)
class ReadPolicy:
    """Ceilings that are checked before memory is taken, from the header and from the compressed stream's own header.

    Args:
        max_file_bytes: largest file opened.
        max_samples: rows × columns × frames × channels of what is asked for; each becomes four bytes.
        max_inflated_bytes: largest result of inflating a deflated DICOM or a gzipped NIfTI.

    Raises:
        ConfigError: a ceiling below one.

    Example:
        >>> ReadPolicy(max_samples=4096 * 4096).max_samples
        16777216

    Fails when: a decoder written in C is made to loop or crash within these ceilings; a service that reads files from
    strangers should read them in a process of their own.
    """

    max_file_bytes: int = 1 << 30
    max_samples: int = 1 << 28
    max_inflated_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        for f in fields(self):
            if getattr(self, f.name) < 1:
                raise ConfigError(f"{f.name} = {getattr(self, f.name)}: wanted at least 1")

    def check_samples(self, *sizes: int) -> None:
        """Refuse a product of sizes that is empty or above the ceiling."""
        total = 1
        for n in sizes:
            total *= n
        shape = " × ".join(map(str, sizes))
        if min(sizes) < 1:
            raise UnreadableImage(f"an image of {shape} samples has no pixels; wanted at least one: export it anew")
        if total > self.max_samples:
            raise UnreadableImage(
                f"an image of {shape} samples; wanted at most {self.max_samples}: "
                "read one frame of it, or raise max_samples in the ReadPolicy if you trust the file"
            )


DEFAULT_POLICY = ReadPolicy()


def read_bytes(path: Path, policy: ReadPolicy) -> bytes:
    """The whole of a regular file, if it is not larger than the policy allows."""
    if not path.is_file():
        what = "not a regular file" if path.exists() else "not there"
        raise UnreadableImage(f"is {what}; wanted an image file: check the path in the manifest")
    with path.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        if size > policy.max_file_bytes:
            raise UnreadableImage(
                f"is {size} bytes long; wanted at most {policy.max_file_bytes}: raise max_file_bytes in the ReadPolicy"
            )
        data = f.read(size)
    if not data:
        raise UnreadableImage("is empty; wanted an image: copy the file again")
    return data


def inflate(data: bytes, policy: ReadPolicy, bits: int = -zlib.MAX_WBITS) -> bytes:
    """Inflate a stream, never beyond the policy's ceiling.

    >>> inflate(zlib.compress(b"abc"), ReadPolicy(), zlib.MAX_WBITS)
    b'abc'
    """
    engine = zlib.decompressobj(bits)
    out = engine.decompress(data, policy.max_inflated_bytes)
    if engine.unconsumed_tail and not engine.eof:
        raise UnreadableImage(
            f"inflates to more than {policy.max_inflated_bytes} bytes; wanted fewer: "
            "raise max_inflated_bytes in the ReadPolicy if you trust the file"
        )
    if not engine.eof:
        raise UnreadableImage("the deflated data stop early; wanted a whole stream: copy the file again")
    return out


_quiet: ContextVar[bool] = ContextVar("translucid_quiet", default=False)
_CHATTY = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils", "nibabel", "PIL.TiffImagePlugin")


def _outside_border(record: logging.LogRecord) -> bool:
    return not _quiet.get()


for _name in _CHATTY:
    logging.getLogger(_name).addFilter(_outside_border)


@contextmanager
def border(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an `UnreadableImage` that names the file.

    A library's own words are not passed on, nor may it warn or log meanwhile: they can quote header values, and
    those can be a patient's name.
    """
    token = _quiet.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableImage as e:
        raise UnreadableImage(f"{name}: {e}") from None
    except RecursionError:
        raise UnreadableImage(
            f"{name}: sequences nested too deeply; wanted a plain image object: export it anew"
        ) from None
    except MemoryError:
        raise UnreadableImage(
            f"{name}: needs more memory than there is; wanted a smaller image: read one frame of it"
        ) from None
    except Exception as e:
        raise UnreadableImage(
            f"{name}: the file is damaged or not what it claims to be ({type(e).__name__}); "
            "wanted a readable image: open it in a viewer, and copy or export it again"
        ) from None
    finally:
        _quiet.reset(token)
