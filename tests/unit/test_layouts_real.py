"""Real samples: what a layout finds, counted against the sample's own table."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image as Picture

from translucid.errors import ManifestError
from translucid.io.layouts import import_layout
from translucid.io.manifest import read_manifest, write_manifest
from translucid.io.splits import check_splits

IMAGES = [
    "cervix-colposcopy",
    "ct-chest-pneumonia",
    "ct-heart-crop",
    "cxr-covid-collection",
    "cxr-nih14",
    "cxr-pediatric-pneumonia",
    "dicom-variety",
    "fundus-glaucoma",
]
MASKS = {
    "cervix-colposcopy": {"mask": "mask", "outline": "outline"},
    "ct-heart-crop": {"heart": "mask_heart", "pulmonary_artery": "mask_pulmonary_artery"},
    "cxr-covid-collection": {"mask": "mask"},
    "cxr-pediatric-pneumonia": {"mask": "mask"},
    "fundus-glaucoma": {"disc": "disc_mask", "vessel": "vessel_mask"},
}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", IMAGES)
def test_packs(real_data: Path, tmp_path: Path, name: str) -> None:
    rows = table(real_data / name / "manifest.csv")
    manifest = import_layout("pack", real_data / name)
    check_splits(manifest)
    once = [row for row in rows if sum(r["file"] == row["file"] for r in rows) == 1]
    assert len(manifest.cases) == len({row["file"] for row in rows})
    assert len(manifest.rejects) == len(rows) - len(manifest.cases)
    assert len(manifest.patients) == len({row["patient_id"] or row["file"] for row in rows})
    cases = {case.file: case for case in manifest.cases}
    for row in once:
        case = cases[row["file"]]
        assert case.split == (row["split"] if row["split"] != "dev" else "")
        assert [n for n, v in case.labels.items() if v] == [row["label"]] * (row["label"] not in ("", "none"))
        assert case.masks == {k: row[c] for k, c in MASKS.get(name, {}).items() if row[c]}
        assert all(manifest.mask_path(case, mask).is_file() for mask in case.masks)
    write_manifest(manifest, tmp_path / "m.csv")
    back = read_manifest(tmp_path / "m.csv", manifest.labels, allow_outside=True)
    assert [c.labels for c in back.cases] == [c.labels for c in manifest.cases]
    assert all(back.path(case).is_file() for case in back.cases)


def test_the_packed_chest_films(real_data: Path) -> None:
    root = real_data / "cxr-nih14"
    rows = table(root / "manifest.csv")
    manifest = import_layout("nih14", root)
    check_splits(manifest)
    assert [c.file for c in manifest.cases] == [r["file"] for r in rows]
    assert [c.patient for c in manifest.cases] == [r["patient_id"] for r in rows]
    assert [c.split for c in manifest.cases] == [r["split"] for r in rows]
    positives = {name: sum(c.labels[name] == 1 for c in manifest.cases) for name in manifest.labels}
    assert positives == Counter(name for r in rows for name in r["labels"].split("|"))
    turned = {r["file"] for r in table(root / "rotated.csv")}
    assert not turned & {c.file for c in manifest.cases}


def test_boxes_lie_inside_their_films(real_data: Path) -> None:
    root = real_data / "cxr-nih14"
    manifest = import_layout("nih14", root)
    boxes = table(root / "boxes.csv")
    boxed = [c for c in manifest.cases if c.boxes]
    assert len(boxed) == sum(r["has_box"] == "1" for r in table(root / "manifest.csv"))
    assert sum(len(c.boxes) for c in boxed) == len(boxes)
    for case in boxed:
        with Picture.open(manifest.path(case)) as picture:
            for box in case.boxes:
                assert 0 <= box.x < box.x + box.width <= picture.width
                assert 0 <= box.y < box.y + box.height <= picture.height
                assert case.labels[box.label] == 1.0


def test_one_file_under_four_rows_goes_to_the_row_whose_checksum_it_has(real_data: Path) -> None:
    manifest = import_layout("pack", real_data / "cxr-covid-collection")
    assert {why for _, why in manifest.rejects} == {"another row has the same file, and its checksum"}
    assert len(manifest.rejects) == 3
    unboxed = [c for c in manifest.cases if not c.boxes]
    assert len(unboxed) == 1
    assert not unboxed[0].masks


def test_nameless_patients_are_told(real_data: Path) -> None:
    manifest = import_layout("pack", real_data / "dicom-variety")
    assert "107 rows name no patient" in manifest.warnings[0]
    assert sum("device" in c.attributes for c in manifest.cases) == 107 - 40


def test_a_pack_without_images(real_data: Path) -> None:
    with pytest.raises(ManifestError, match="row 2: the file is not an image"):
        import_layout("pack", real_data / "gaze-cxr-pneumothorax")


def test_a_folder_of_films(real_data: Path) -> None:
    manifest = import_layout("folders", real_data / "cxr-pediatric-pneumonia" / "images", patient_pattern=r"(\w+)")
    assert len(manifest.cases) == 255
    assert manifest.labels == ()
