"""Whatever the bytes, only `UnreadableImage` comes out, and no memory is taken for what a header merely claims."""

from __future__ import annotations

import gzip
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless

from io_phantoms import dataset, dicom_bytes, encapsulated, ramp
from translucid.errors import ConfigError, UnreadableImage
from translucid.io.limits import ReadPolicy, inflate
from translucid.io.raster import read_mask
from translucid.io.readers import read_image
from translucid.io.streams import jpeg2000_size, jpeg_size

SMALL = ReadPolicy(max_samples=1 << 20, max_inflated_bytes=1 << 22)


def picture(form: str, size: tuple[int, int] = (24, 16)) -> bytes:
    out = BytesIO()
    Pillow.fromarray(ramp(size[::-1], 0, 255, "u1")).save(out, form)
    return out.getvalue()


def seeds() -> list[bytes]:
    grey = ramp((48, 40), 0, 255, "u1")
    files = [dicom_bytes(dataset(grey)), dicom_bytes(dataset(ramp((2, 8, 9), 0, 4095, "u2"), bits=12))]
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        ds = dataset(grey)
        ds.compress(syntax)
        files.append(dicom_bytes(ds))
    files.append(dicom_bytes(encapsulated(dataset(ramp((16, 24), 0, 255, "u1")), JPEGBaseline8Bit, picture("JPEG"))))
    volume = nib.Nifti1Image(ramp((4, 5, 6), -100, 100, "i2"), np.eye(4)).to_bytes()
    files += [picture(form) for form in ("PNG", "JPEG", "TIFF", "BMP")] + [volume, gzip.compress(volume)]
    return files


SEEDS = seeds()


def refusal(read: Callable[[], object]) -> str | None:
    """Why a file was refused; None when it was read. Any other exception fails the test."""
    try:
        read()
    except UnreadableImage as e:
        return str(e)
    return None


@settings(max_examples=400)
@given(st.integers(0, len(SEEDS) - 1), st.data())
def test_mutated_bytes_raise_only_our_error(
    tmp_path_factory: pytest.TempPathFactory, which: int, data: st.DataObject
) -> None:
    whole = bytearray(SEEDS[which])
    spots = st.one_of(st.integers(0, len(whole) - 1), st.integers(0, min(700, len(whole)) - 1))
    for at, value in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), min_size=1, max_size=6)):
        whole[at] = value
    keep = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(whole[:keep])
    for read in (lambda: read_image(path, policy=SMALL), lambda: read_mask(path, SMALL)):
        reason = refusal(read)
        assert reason is None or reason.startswith("fuzz: ")


def test_seeds_are_readable_before_they_are_mutated(tmp_path: Path) -> None:
    for data in SEEDS:
        (tmp_path / "a").write_bytes(data)
        assert read_image(tmp_path / "a", policy=SMALL).pixels.size > 0


def rejected(path: Path, data: bytes, policy: ReadPolicy = SMALL) -> str:
    """The reason for a refusal that must be quick and must not take memory."""
    path.write_bytes(data)
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImage) as caught:
            read_image(path, policy=policy)
        assert tracemalloc.get_traced_memory()[1] < 3 * policy.max_inflated_bytes + 4 * len(data)
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 5
    return str(caught.value)


def test_deflated_bomb(tmp_path: Path) -> None:
    out = dicom_bytes(dataset(ramp((4, 4), 0, 255, "u1")))
    meta = out[: out.index(b"\x08\x00\x16\x00")].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    at = meta.index(b"\x02\x00\x10\x00")
    meta = meta[: at + 6] + struct.pack("<H", 22) + meta[at + 8 :]
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = engine.compress(out[len(meta) :] + bytes(1 << 26)) + engine.flush()
    assert len(bomb) < 1 << 18
    assert "inflates to more than 4194304 bytes" in rejected(tmp_path / "a.dcm", meta + bomb)


def test_inflate_wants_a_whole_stream() -> None:
    packed = zlib.compress(b"abc" * 100)
    with pytest.raises(UnreadableImage, match="stop early"):
        inflate(packed[:-6], SMALL, zlib.MAX_WBITS)


def test_gzipped_volume_that_claims_too_much(tmp_path: Path) -> None:
    volume = bytearray(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).to_bytes())
    struct.pack_into("<4h", volume, 40, 3, 2000, 2000, 2000)
    assert "wanted at most" in rejected(tmp_path / "a.nii.gz", gzip.compress(bytes(volume) + bytes(1 << 24)))
    struct.pack_into("<4h", volume, 40, 3, 2, 2, 2)
    struct.pack_into("<f", volume, 108, 1e9)
    assert "voxels that begin at byte" in rejected(tmp_path / "b.nii.gz", gzip.compress(bytes(volume)))


def test_header_that_claims_too_much(tmp_path: Path) -> None:
    ds = dataset(ramp((4, 4), 0, 255, "u1"))
    ds.Rows = ds.Columns = 65535
    assert "wanted at most 1048576" in rejected(tmp_path / "a.dcm", dicom_bytes(ds))
    ds = dataset(ramp((4, 4), 0, 255, "u1"))
    ds.NumberOfFrames = 2_000_000_000
    assert "wanted at most 1048576" in rejected(tmp_path / "b.dcm", dicom_bytes(ds))


def test_stream_that_claims_more_than_the_header(tmp_path: Path) -> None:
    grey = ramp((64, 64), 0, 255, "u1")
    for k, (syntax, at) in enumerate(((JPEG2000Lossless, 8), (JPEGLSLossless, None))):
        ds = dataset(grey)
        ds.compress(syntax)
        data = bytearray(dicom_bytes(ds))
        if at:
            start = data.index(b"\xff\x4f\xff\x51")
            struct.pack_into(">LL", data, start + at, 30000, 30000)
        else:
            start = data.index(b"\xff\xf7")
            struct.pack_into(">HH", data, start + 5, 30000, 30000)
        assert "30000 × 30000 × 1, the header says 64 × 64 × 1" in rejected(tmp_path / f"{k}.dcm", bytes(data))


def test_box_of_no_length_does_not_turn_in_circles(tmp_path: Path) -> None:
    jp2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x00ftyp" + bytes(64)
    ds = encapsulated(dataset(ramp((8, 8), 0, 255, "u1")), JPEG2000, jp2)
    assert "no code stream" in rejected(tmp_path / "a.dcm", dicom_bytes(ds))


def test_runs_longer_than_the_image(tmp_path: Path) -> None:
    """The Rust decoder panics on these, with an exception that is no `Exception`."""
    runs = b"\x81\x05"  # 128 times the byte 5, for 100 pixels
    stream = struct.pack("<16L", 2, 64, 66, *[0] * 13) + runs * 2
    ds = encapsulated(dataset(np.zeros((10, 10), np.uint16)), RLELossless, stream)
    assert "RLE Lossless data cannot be decoded" in rejected(tmp_path / "a.dcm", dicom_bytes(ds))


def test_nested_sequences(tmp_path: Path) -> None:
    depth = 3000
    opening = struct.pack("<HHL", 0x5200, 0x9229, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    data = bytes(128) + b"DICM" + meta + opening * depth + closing * depth
    assert "nested too deeply" in rejected(tmp_path / "a.dcm", data)


def test_picture_bombs(tmp_path: Path) -> None:
    png = bytearray(picture("PNG"))
    struct.pack_into(">LL", png, 16, 50000, 50000)
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    assert rejected(tmp_path / "a.png", bytes(png)).startswith("a.png: ")
    struct.pack_into(">LL", png, 16, 2000, 2000)
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    assert "wanted at most 1048576" in rejected(tmp_path / "b.png", bytes(png))


def test_files_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "big.png").write_bytes(bytes(100))
    for name, reason in (
        ("empty", "is empty"),
        ("none", "not there"),
        ("", "not a regular"),
        ("text.png", "like none"),
    ):
        with pytest.raises(UnreadableImage, match=reason):
            read_image(tmp_path / name)
    with pytest.raises(UnreadableImage, match="wanted at most 99"):
        read_image(tmp_path / "big.png", policy=ReadPolicy(max_file_bytes=99))
    with pytest.raises(ConfigError, match="max_samples"):
        ReadPolicy(max_samples=0)


def test_stream_headers_that_stop_or_loop() -> None:
    for data in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00", b"\xff\xd8\xff\xe0\x00\x00", b"\xff\xd8\xff\xda\x00\x08"):
        with pytest.raises(UnreadableImage):
            jpeg_size(data)
    for data in (b"", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n\x00\x00\x00\x07ftyp"):
        with pytest.raises(UnreadableImage):
            jpeg2000_size(data)
