"""Files of a cohort: whole, readable, split by patient, without more than was meant."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from translucid.config import from_kind, read_json
from translucid.errors import ConfigError
from translucid.io.manifest import read_manifest
from translucid.phantom import COHORTS, LABELS, ChestCohort, radiographs, split_of, write_cohort

COHORT = ChestCohort(patients=14, visits=(1, 2), size=64, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cohort")
    write_cohort(COHORT, where)
    return where


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_images_and_masks_come_back(folder: Path) -> None:
    films = radiographs(COHORT.draw())
    for k, row in enumerate(table(folder)):
        stored = np.asarray(Image.open(folder / row["file"]))
        np.testing.assert_array_equal(stored, np.round(films.images[k, 0] * 255).astype(np.uint8))
        masks = dict(part.split("=") for part in row["masks"].split(";"))
        assert {"heart", "left_lung", "right_lung"} <= set(masks)
        for name, path in masks.items():
            picture = Image.open(folder / path)
            assert picture.mode == "1"
            np.testing.assert_array_equal(np.asarray(picture), films.masks[name][k])


def test_manifest_is_one_the_package_reads(folder: Path) -> None:
    manifest = read_manifest(folder / "manifest.csv")
    plan = COHORT.draw()
    assert manifest.labels == LABELS
    assert len(manifest.cases) == len(plan)
    for k, case in enumerate(manifest.cases):
        assert [case.labels[name] for name in LABELS] == plan.labels[k].astype(float).tolist()
        assert case.attributes["sex"] == plan.sex[k]
        assert {b.label for b in case.boxes} == {name for name, t in zip(LABELS, plan.truth[k], strict=True) if t}


def test_no_patient_stands_in_two_splits() -> None:
    plan = ChestCohort(patients=100, seed=1).draw()
    splits = split_of(plan)
    parts = {s: set(plan.patient[splits == s].tolist()) for s in ("train", "val", "test")}
    assert [len(p) for p in parts.values()] == [60, 15, 25]
    assert sum(map(len, parts.values())) == 100


def test_truth_holds_options_and_ratios(folder: Path) -> None:
    truth = read_json(folder / "truth.json")
    assert from_kind(COHORTS, truth["options"], "cohort") == COHORT
    for line in truth["images"]:
        assert line["truth"]["cardiomegaly"] == int(line["ctr"] > 0.5)
        assert line["ctr_measured"] == pytest.approx(line["ctr"], abs=0.06)


def test_sixteen_bits(tmp_path: Path) -> None:
    write_cohort(ChestCohort(patients=1, visits=(1, 1), size=32), tmp_path, bits=16)
    pixels = np.asarray(Image.open(tmp_path / "images" / "000000.png"))
    assert pixels.max() > 255


def test_dicom_objects_are_read(tmp_path: Path) -> None:
    small = ChestCohort(patients=2, visits=(2, 2), size=48, seed=2)
    write_cohort(small, tmp_path, bits=16, format="dicom")
    files = sorted((tmp_path / "images").iterdir())
    sets = [pydicom.dcmread(f) for f in files]
    assert len({d.SOPInstanceUID for d in sets}) == 4
    assert sets[0].PatientID == sets[1].PatientID != sets[2].PatientID
    assert all(d.SOPInstanceUID.is_valid for d in sets)
    images = radiographs(small.draw()).images
    np.testing.assert_array_equal(sets[3].pixel_array, np.round(images[3, 0] * 65535).astype(np.uint16))


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bits"):
        write_cohort(COHORT, tmp_path, bits=12)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> dict[str, str]:
        raise OSError("no space left")

    monkeypatch.setattr("translucid.phantom.write._write_masks", full)
    with pytest.raises(OSError, match="space"):
        write_cohort(COHORT, tmp_path)
    assert not (tmp_path / "manifest.csv").exists()
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp")]
