from __future__ import annotations

import importlib.util
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.pixels import convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from io_phantoms import SECRET, dataset, encapsulated, ramp, write
from translucid.errors import UnreadableImage
from translucid.io import decoders
from translucid.io.dicom import stored_values
from translucid.io.readers import read_image

DEPTHS = [
    ("u1", 8, 0, 255),
    ("u1", 5, 0, 31),
    ("i1", 8, -128, 127),
    ("u2", 16, 0, 65535),
    ("u2", 12, 0, 4095),
    ("u2", 10, 3, 900),
    ("i2", 16, -32768, 32767),
    ("i2", 12, -2048, 2047),
]


@pytest.mark.parametrize(("dtype", "bits", "bottom", "top"), DEPTHS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_grey_of_every_depth(tmp_path: Path, dtype: str, bits: int, bottom: int, top: int, photometric: str) -> None:
    stored = ramp((7, 9), bottom, top, dtype)
    path = write(tmp_path / "a", dataset(stored, photometric, bits))
    image = read_image(path)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype[0] == "i" else (0, 2**bits - 1)
    assert (image.low, image.high) == (low, high)
    wanted = stored.astype(float) if photometric == "MONOCHROME2" else low + high - stored.astype(float)
    np.testing.assert_array_equal(image.pixels[0], wanted)
    np.testing.assert_array_equal(stored_values(path), stored)
    assert image.spacing == (0.5, 0.25)
    assert image.modality == "DX"


def test_unused_bits_are_ignored(tmp_path: Path) -> None:
    stored = ramp((4, 4), 0, 4095, "u2")
    overlay = stored | np.uint16(0xF000)
    image = read_image(write(tmp_path / "a.dcm", dataset(overlay, bits=12)))
    np.testing.assert_array_equal(image.pixels[0], stored)


@pytest.mark.parametrize("slope", [2.5, -2.0])
def test_rescale_moves_values_and_range(tmp_path: Path, slope: float) -> None:
    stored = ramp((3, 5), 0, 4095, "u2")
    image = read_image(write(tmp_path / "a.dcm", dataset(stored, bits=12, RescaleSlope=slope, RescaleIntercept=-1024)))
    np.testing.assert_allclose(image.pixels[0], stored * slope - 1024)
    assert (image.low, image.high) == tuple(sorted((-1024.0, 4095 * slope - 1024)))


def test_rescale_and_monochrome1_together_stay_in_the_declared_range(tmp_path: Path) -> None:
    stored = ramp((3, 5), 0, 1023, "u2")
    ds = dataset(stored, "MONOCHROME1", bits=10, RescaleSlope=2, RescaleIntercept=-100)
    image = read_image(write(tmp_path / "a.dcm", ds))
    assert (image.pixels.min(), image.pixels.max()) == (image.low, image.high) == (-100, 1946)
    assert image.pixels[0, 0, 0] == 1946


@pytest.mark.parametrize(("first", "dtype"), [(2, "u1"), (0, "u1"), (-3, "i2")])
def test_modality_table_clamps_at_its_ends(tmp_path: Path, first: int, dtype: str) -> None:
    entries = np.array([10, 20, 40, 80], np.uint16)
    item = Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", [4, first, 8])
    item.add_new("LUTData", "OW", entries.tobytes())
    stored = np.array([[-5, -3, 0, 1], [2, 3, 5, 9]]).clip(0 if dtype == "u1" else -5).astype(dtype)
    image = read_image(write(tmp_path / "a.dcm", dataset(stored, ModalityLUTSequence=Sequence([item]))))
    slow = [[entries[min(max(int(v) - first, 0), 3)] for v in row] for row in stored]
    np.testing.assert_array_equal(image.pixels[0], slow)
    assert (image.low, image.high) == (10, 80)


def frames_with(per_frame: list[float] | None, shared: float | None) -> dict[str, Any]:
    def group(slope: float) -> Dataset:
        values, outer = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, 1
        outer.PixelValueTransformationSequence = Sequence([values])
        return outer

    out: dict[str, Any] = {}
    if per_frame:
        out["PerFrameFunctionalGroupsSequence"] = Sequence([group(s) for s in per_frame])
    if shared:
        out["SharedFunctionalGroupsSequence"] = Sequence([group(shared)])
    return out


def test_frames_one_by_one_and_all(tmp_path: Path) -> None:
    stored = ramp((3, 4, 5), 0, 250, "u1")
    path = write(tmp_path / "a.dcm", dataset(stored))
    np.testing.assert_array_equal(read_image(path).pixels[0], stored)
    for k in range(3):
        np.testing.assert_array_equal(read_image(path, frame=k).pixels[0], stored[k])
    with pytest.raises(UnreadableImage, match="frame 3 asked for; wanted 0 to 2"):
        read_image(path, frame=3)


def test_rescale_per_frame_and_shared(tmp_path: Path) -> None:
    stored = ramp((3, 4, 5), 0, 250, "u1")
    path = write(tmp_path / "a.dcm", dataset(stored, **frames_with([1, 2, 4], None)))
    image = read_image(path)
    np.testing.assert_allclose(image.pixels[0], stored * np.array([1, 2, 4])[:, None, None] + 1.0)
    assert (image.low, image.high) == (1, 1021)
    np.testing.assert_allclose(read_image(path, frame=2).pixels[0], stored[2] * 4.0 + 1)
    image = read_image(write(tmp_path / "b.dcm", dataset(stored, **frames_with(None, 3))))
    np.testing.assert_allclose(image.pixels[0], stored * 3.0 + 1)


def test_rgb_ybr_and_colour_by_plane(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    wanted = np.moveaxis(rgb, -1, 0)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a", dataset(rgb, "RGB"))).pixels, wanted)
    planar = dataset(rgb, "RGB", PlanarConfiguration=1, PixelData=np.ascontiguousarray(wanted).tobytes())
    np.testing.assert_array_equal(read_image(write(tmp_path / "b", planar)).pixels, wanted)
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    image = read_image(write(tmp_path / "c", dataset(ybr, "YBR_FULL")))
    np.testing.assert_allclose(image.pixels, wanted, atol=2)
    assert (image.low, image.high) == (0, 255)


@pytest.mark.parametrize("wide", [False, True])
def test_palette_becomes_rgb(tmp_path: Path, wide: bool) -> None:
    tables = np.random.default_rng(1).integers(0, 65536 if wide else 256, (3, 16)).astype("u2" if wide else "u1")
    stored = ramp((4, 4), 0, 15, "u1")
    ds = dataset(stored, "PALETTE COLOR")
    for colour, entries in zip(("Red", "Green", "Blue"), tables, strict=True):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [16, 0, 16 if wide else 8])
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", entries.tobytes())
    image = read_image(write(tmp_path / "a.dcm", ds))
    np.testing.assert_array_equal(image.pixels, tables[:, stored])
    assert image.high == (65535 if wide else 255)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize(("dtype", "bits", "bottom", "top"), [DEPTHS[0], DEPTHS[4], DEPTHS[6]])
def test_lossless_syntaxes(tmp_path: Path, syntax: str, dtype: str, bits: int, bottom: int, top: int) -> None:
    stored = ramp((64, 48), bottom, top, dtype)
    ds = dataset(stored, bits=bits)
    ds.compress(syntax)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.dcm", ds)).pixels[0], stored)


def test_other_byte_orders_and_deflated(tmp_path: Path) -> None:
    stored = ramp((5, 6), 0, 4095, "u2")
    for k, syntax in enumerate((ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)):
        ds = dataset(stored.astype(">u2") if syntax == ExplicitVRBigEndian else stored, bits=12)
        ds["PixelData"].VR = "OW"
        ds.file_meta.TransferSyntaxUID = syntax
        np.testing.assert_array_equal(read_image(write(tmp_path / str(k), ds)).pixels[0], stored)


def test_without_preamble_and_meta_information(tmp_path: Path) -> None:
    stored = ramp((5, 6), 0, 4095, "u2")
    out = BytesIO()
    ds = dataset(stored, bits=12)
    del ds.file_meta
    ds.save_as(out, implicit_vr=True, little_endian=True)
    (tmp_path / "old").write_bytes(out.getvalue())
    assert out.getvalue()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(read_image(tmp_path / "old").pixels[0], stored)


def test_baseline_jpeg(tmp_path: Path) -> None:
    grey = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    out = BytesIO()
    Pillow.fromarray(grey).save(out, "JPEG", quality=95)
    image = read_image(write(tmp_path / "a.dcm", encapsulated(dataset(grey), JPEGBaseline8Bit, out.getvalue())))
    np.testing.assert_allclose(image.pixels[0], grey, atol=6)


needs_codecs = pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is None, reason="imagecodecs is optional")


def lossless_jpeg(stored: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.ljpeg_encode(stored.view(f"u{stored.dtype.itemsize}")))


@needs_codecs
@pytest.mark.parametrize(("dtype", "bits", "bottom", "top"), [DEPTHS[4], DEPTHS[6]])
def test_lossless_jpeg_keeps_its_sign(tmp_path: Path, dtype: str, bits: int, bottom: int, top: int) -> None:
    stored = ramp((16, 12), bottom, top, dtype)
    ds = encapsulated(dataset(stored, bits=bits), JPEGLosslessSV1, lossless_jpeg(stored))
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.dcm", ds)).pixels[0], stored)


@needs_codecs
def test_extended_jpeg_of_12_bits(tmp_path: Path) -> None:
    import imagecodecs

    stored = ramp((32, 32), 0, 4095, "u2")
    stream = imagecodecs.jpeg_encode(stored, level=98, bitspersample=12)
    image = read_image(
        write(tmp_path / "a.dcm", encapsulated(dataset(stored, bits=12), JPEGExtended12Bit, bytes(stream)))
    )
    np.testing.assert_allclose(image.pixels[0], stored, atol=40)


@needs_codecs
def test_missing_optional_codec_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ramp((16, 12), 0, 4095, "u2")
    ds = encapsulated(dataset(stored, bits=12), JPEGLosslessSV1, lossless_jpeg(stored))
    path = write(tmp_path / "a.dcm", ds)
    monkeypatch.setattr(decoders, "is_available", lambda syntax: False)
    decoders.decoder_for.cache_clear()
    try:
        with pytest.raises(UnreadableImage, match=r"a\.dcm.*pip install 'translucid\[codecs\]'"):
            read_image(path)
    finally:
        decoders.decoder_for.cache_clear()


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_nothing_of_the_patient_passes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ds = dataset(ramp((4, 4), 0, 255, "u1"))
    ds.Modality = "ASMITH"
    image = read_image(write(tmp_path / "a.dcm", ds))
    assert image.modality == ""
    assert set(image.source) == {
        *("format", "transfer_syntax", "photometric", "bits_allocated", "bits_stored", "signed", "frames", "frame"),
        *("view", "modality_lut", "inverted"),
    }
    ds.PhotometricInterpretation, ds.ViewPosition = SECRET, SECRET
    with pytest.raises(UnreadableImage) as caught:
        read_image(write(tmp_path / "b.dcm", ds))
    assert "DOE" not in str(caught.value) + "".join(capfd.readouterr())
    assert caught.value.__cause__ is None


def test_float_samples_declare_no_range(tmp_path: Path) -> None:
    ds = dataset(ramp((4, 4), 0, 255, "u1"))
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated = 32
    ds.FloatPixelData = np.linspace(0, 1, 16, dtype=np.float32).tobytes()
    image = read_image(write(tmp_path / "a.dcm", ds))
    assert np.isnan([image.low, image.high]).all()
    np.testing.assert_allclose(image.pixels.ravel(), np.linspace(0, 1, 16))


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"Rows": 70}, r"64 bytes of pixel data; wanted 630"),
    ({"SamplesPerPixel": None}, "SamplesPerPixel is missing"),
    ({"BitsStored": 9}, "9 bits stored of 8"),
    ({"RescaleSlope": 0, "RescaleIntercept": 0}, "rescale slope"),
    ({"PhotometricInterpretation": "YBR_FULL"}, "colour space"),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_broken_headers_are_rejected_by_name(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    ds = dataset(ramp((7, 9), 0, 255, "u1"))
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    with pytest.raises(UnreadableImage, match=rf"^bad\.dcm: .*({reason})"):
        read_image(write(tmp_path / "bad.dcm", ds))


def test_stream_and_header_must_agree(tmp_path: Path) -> None:
    ds = dataset(ramp((64, 48), 0, 255, "u1"))
    ds.compress(JPEG2000Lossless)
    ds.Rows = 65
    with pytest.raises(UnreadableImage, match="64 × 48 × 1, the header says 65 × 48 × 1"):
        read_image(write(tmp_path / "a.dcm", ds))


def test_high_throughput_jpeg2000_has_a_decoder() -> None:
    assert decoders.decoder_for(HTJ2KLossless).is_available
