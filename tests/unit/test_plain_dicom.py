"""The short way for plain DICOM files: it gives what the long way gives, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from io_phantoms import dataset, dicom_bytes, ramp, write
from translucid.errors import UnreadableImage
from translucid.io.fence import Fence
from translucid.io.framing import Framing
from translucid.io.plain_dicom import read_plain_dicom
from translucid.io.readers import read_image
from translucid.pipeline.gathering import Gathered
from translucid.types import Case

STORED = ramp((21, 17), 0, 4095, np.uint16)
BYTES = ramp((21, 17), 0, 255, np.uint8)
PLAIN: list[tuple[np.ndarray, dict[str, Any]]] = [
    (STORED, {"bits": 12}),
    (STORED, {"bits": 16}),
    (BYTES, {}),
    (STORED, {"bits": 12, "photometric": "MONOCHROME1"}),
    (STORED, {"bits": 12, "RescaleSlope": "1.25", "RescaleIntercept": "-1024"}),
    (STORED, {"bits": 12, "RescaleSlope": "-0.5", "RescaleIntercept": "3", "photometric": "MONOCHROME1"}),
    (BYTES, {"NumberOfFrames": 1, "WindowCenter": "40", "WindowWidth": "400"}),
    (STORED, {"bits": 12, "RequestAttributesSequence": Sequence([Dataset()])}),
]
OTHERS: list[tuple[np.ndarray, dict[str, Any]]] = [
    (STORED.astype(np.int16), {"bits": 16}),
    (np.stack([STORED, STORED]), {"bits": 12}),
    (np.stack([BYTES] * 3, -1), {"photometric": "RGB"}),
    (STORED, {"bits": 10}),
    (STORED, {"bits": 12, "HighBit": 15}),
    (STORED, {"bits": 12, "RescaleSlope": "0"}),
    (STORED, {"bits": 12, "Rows": 20}),
    (STORED, {"bits": 12, "Rows": 22}),
]


@pytest.mark.parametrize(("stored", "options"), PLAIN)
@pytest.mark.parametrize("framing", [Framing("none"), Framing("crop", 15), Framing("none", window=(-100, 900))])
def test_it_gives_what_the_long_way_gives(
    tmp_path: Path, stored: np.ndarray, options: dict[str, Any], framing: Framing
) -> None:
    write(tmp_path / "a.dcm", dataset(stored, **options))
    taken, added = Gathered(framing, 8, 1), Gathered(framing, 8, 1)
    assert taken.take("a", Case("a.dcm", "p"), Fence(tmp_path))
    added.add("a", Case("a.dcm", "p"), framing.apply(read_image(tmp_path / "a.dcm")), None)
    found, wanted = taken.block(), added.block()
    assert found is not None
    assert wanted is not None
    assert np.array_equal(found, wanted)
    assert found.min() < found.max()


@pytest.mark.parametrize(("stored", "options"), PLAIN)
def test_levels_are_the_values_of_the_long_way(tmp_path: Path, stored: np.ndarray, options: dict[str, Any]) -> None:
    whole = read_image(write(tmp_path / "a.dcm", dataset(stored, **options)))
    found = read_plain_dicom((tmp_path / "a.dcm").read_bytes(), 1 << 20)
    assert found is not None
    levels = found.levels()
    assert (levels.low, levels.high) == (whole.low, whole.high)
    assert np.array_equal(levels.pixels[0, 0][found.stored], whole.pixels[0])


@pytest.mark.parametrize(("stored", "options"), OTHERS)
def test_what_is_not_plain_takes_the_long_way(stored: np.ndarray, options: dict[str, Any]) -> None:
    assert read_plain_dicom(dicom_bytes(dataset(stored, **options)), 1 << 20) is None


def test_other_syntaxes_tables_and_large_images_take_the_long_way() -> None:
    ds = dataset(STORED, bits=12)
    assert read_plain_dicom(dicom_bytes(ds), 100) is None
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 16], bytes(8192)
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    with_table = dataset(STORED, bits=12, ModalityLUTSequence=Sequence([item]))
    assert read_plain_dicom(dicom_bytes(with_table), 1 << 20) is None
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert read_plain_dicom(dicom_bytes(ds), 1 << 20) is None


@given(st.integers(128, 900), st.binary(min_size=1, max_size=8), st.booleans())
def test_damage_gives_nothing_or_what_the_long_way_gives(at: int, junk: bytes, cut: bool) -> None:
    data = dicom_bytes(dataset(STORED, bits=12))
    broken = data[:at] if cut else data[:at] + junk + data[at + len(junk) :]
    found = read_plain_dicom(broken, 1 << 20)
    if found is None:
        return
    from translucid.io.dicom import read_dicom
    from translucid.io.limits import DEFAULT_POLICY, border

    try:
        with border("x"):
            whole = read_dicom(broken, None, DEFAULT_POLICY)
    except UnreadableImage:
        return
    assert np.array_equal(found.levels().pixels[0, 0][found.stored], whole.pixels[0])


def test_real_files_give_the_same(real_data: Path) -> None:
    same = 0
    for path in sorted((real_data / "dicom-variety").rglob("*.dcm")):
        found = read_plain_dicom(path.read_bytes(), 1 << 26)
        if found is not None:
            whole = read_image(path)
            assert np.array_equal(found.levels().pixels[0, 0][found.stored], whole.pixels[0]), path.name
            same += 1
    assert same
