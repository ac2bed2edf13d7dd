"""RAD-ChestCT's tables and archives, on a tiny tree of that layout."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from translucid.errors import ConfigError, ManifestError, UnreadableImage
from translucid.io.layouts import import_layout
from translucid.io.layouts.rad_chestct import read_extrema, scan_locations, sides_of
from translucid.io.limits import ReadPolicy
from translucid.io.manifest import read_manifest, write_manifest
from translucid.io.npz import read_npz_volume
from translucid.io.readers import read_image
from translucid.io.volume import orientation_of

HEADER = "NoteAcc_DEID,nodule*left_lower,nodule*right_upper,nodule*lung,mass*left_lung,cardiomegaly*heart"
LABELS = "_Abnormality_and_Location_Labels.csv"
CT = np.random.default_rng(0).integers(-1000, 1000, (5, 4, 6), np.int16)


def tree(root: Path) -> Path:
    tables = {
        "imgtrain": ["trn00001,1,0,0,0,1", "trn00002,0,0,1,0,0", "trn00003,0,0,0,0,0"],
        "imgvalid": ["val00001,0,1,0,1,0"],
        "imgtest": ["tst00001,0,0,0,,"],
    }
    for name, rows in tables.items():
        (root / f"{name}{LABELS}").write_text("\n".join([HEADER, *rows]) + "\n")
    (root / "CT_Scan_Metadata_Complete_35747.csv").write_text(
        "NoteAcc_DEID,MRN_DEID,PatientSex,PatientAge,note\n"
        "trn00001,p1,M,061Y,x\ntrn00002,p1,M,062Y,x\nval00001,p2,F,,x\n"
    )
    (root / "Extrema_5747.csv").write_text(
        "NoteAcc_DEID,sup_axis0min,inf_axis0max,ant_axis1min,pos_axis1max,rig_axis2min,lef_axis2max,shape0\n"
        "trn00001,1,4,0,3,1,5,5\ntrn00002,,,,,,,\n"
    )
    (root / "images").mkdir()
    for scan in ("trn00001", "trn00002", "val00001", "tst00001"):
        np.savez_compressed(root / "images" / f"{scan}.npz", ct=CT)
    return root


def test_cases_labels_patients_and_sets(tmp_path: Path) -> None:
    manifest = import_layout("rad_chestct", tree(tmp_path))
    assert manifest.labels == ("cardiomegaly", "mass", "nodule")
    rows = [(c.file, c.patient, c.split, *c.labels.values()) for c in manifest.cases]
    assert rows == [
        ("images/trn00001.npz", "p1", "train", 1.0, 0.0, 1.0),
        ("images/trn00002.npz", "p1", "train", 0.0, 0.0, 1.0),
        ("images/val00001.npz", "p2", "val", 0.0, 1.0, 1.0),
        ("images/tst00001.npz", "tst00001", "test", None, None, 0.0),
    ]
    assert manifest.cases[0].attributes == {"sex": "M", "age": "61"}
    assert manifest.rejects == ((f"imgtrain{LABELS} row 4", "the file is not there"),)
    assert manifest.warnings == (
        "1 scans have no MRN_DEID in a table of metadata: each counts as a patient of its own",
    )
    image = read_image(manifest.path(manifest.cases[0]))
    np.testing.assert_array_equal(image.pixels[0], CT)
    write_manifest(manifest, tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv", manifest.labels).cases == manifest.cases


def test_chosen_labels_and_places(tmp_path: Path) -> None:
    root = tree(tmp_path)
    manifest = import_layout("rad_chestct", root, labels=["nodule*left_lower", "nodule"])
    assert [tuple(c.labels.values()) for c in manifest.cases] == [(1, 1), (0, 1), (0, 1), (0, 0)]
    with pytest.raises(ConfigError, match="unknown label 'nodul': did you mean 'nodule'"):
        import_layout("rad_chestct", root, labels="nodul")
    places = scan_locations(root)
    assert places["val00001"] == {"nodule": ("right_upper",), "mass": ("left_lung",)}
    assert sides_of(places["val00001"]) == {"nodule": ("right",), "mass": ("left",)}
    assert sides_of(places["trn00002"]) == {} and places["trn00003"] == {}
    assert read_extrema(root) == {"trn00001": ((1, 4), (0, 3), (1, 5))}
    assert read_extrema(tmp_path / "images") == {}


def test_tables_that_contradict_themselves(tmp_path: Path) -> None:
    root = tree(tmp_path)
    table = root / f"imgvalid{LABELS}"
    text = table.read_text()
    table.write_text(text + "trn00001,0,0,0,0,0\n")
    with pytest.raises(ManifestError, match=r"imgvalid.* row 3 names the scan of imgtrain.* row 2: remove one") as e:
        import_layout("rad_chestct", root)
    assert "trn00001" not in str(e.value)
    table.write_text(text.replace("00001,0", "00001,7"))
    with pytest.raises(ManifestError, match=r"imgvalid.* row 2: the label 'nodule' has a cell that is not 0 or 1"):
        import_layout("rad_chestct", root)
    table.write_text(text + "tst\n")
    with pytest.raises(ManifestError, match=r"row 3 has 1 cells, the header 6"):
        import_layout("rad_chestct", root)
    table.write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match=r"imgvalid.* is not a readable CSV"):
        import_layout("rad_chestct", root)
    (root / "Extrema_5747.csv").write_text("NoteAcc_DEID,a\nx,1\n")
    with pytest.raises(ManifestError, match="has no column sup_axis0min"):
        read_extrema(root)


# -- archives -----------------------------------------------------------------------------------------------------


def test_archives_are_read_with_stated_place(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", ct=CT, other=np.asfortranarray(CT.astype(np.float32)))
    image = read_npz_volume(tmp_path / "a.npz")
    np.testing.assert_array_equal(image.pixels[0], CT)
    assert image.affine is not None and orientation_of(image.affine) == "LPI"
    assert (image.affine @ [4, 3, 5, 1]).round(6).tolist() == [-4.0, -2.4, -3.2, 1.0]
    other = read_npz_volume(tmp_path / "a.npz", "other", spacing=1.5, orientation="LPS")
    np.testing.assert_array_equal(other.pixels[0], CT)
    assert other.affine is not None and orientation_of(other.affine) == "LPS" and other.spacing == (1.5,) * 3
    np.testing.assert_array_equal(read_image(tmp_path / "a.npz", frame=2).pixels[0], CT[2])
    with pytest.raises(UnreadableImage, match="slice 5 asked for; wanted 0 to 4"):
        read_image(tmp_path / "a.npz", frame=5)


def test_hostile_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, ct=np.array([{"run": "me"}], object))
    with pytest.raises(UnreadableImage, match=r"^x\.npz: an array of 1 axes of object"):
        read_npz_volume(path)
    np.savez(path, other=CT)
    with pytest.raises(UnreadableImage, match=r"^x\.npz: the archive holds no array 'ct'"):
        read_image(path)
    np.savez_compressed(path, ct=np.zeros((64, 64, 64), np.int16))
    with pytest.raises(UnreadableImage, match="wanted at most 1000"):
        read_npz_volume(path, policy=ReadPolicy(max_samples=1000))
    with pytest.raises(UnreadableImage, match=r"a volume of 524288 bytes; wanted at most 9999"):
        read_npz_volume(path, policy=ReadPolicy(max_inflated_bytes=9999))
    buffer = io.BytesIO()
    np.save(buffer, CT)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ct.npy", buffer.getvalue()[:-10])
    with pytest.raises(UnreadableImage, match="230 bytes of a volume of 240"):
        read_npz_volume(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UnreadableImage, match=r"^x\.npz: the file is damaged"):
        read_npz_volume(path)
    np.savez(path, ct=np.full((2, 2, 2), np.nan))
    with pytest.raises(UnreadableImage, match="not finite"):
        read_npz_volume(path)
