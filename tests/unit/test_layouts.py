"""Small trees in exactly the layout of each public data set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from translucid.errors import ConfigError, ManifestError
from translucid.io.layouts import LAYOUTS, import_layout
from translucid.io.layouts.chexpert import CHEXPERT_LABELS
from translucid.io.layouts.nih14 import NIH_LABELS
from translucid.io.manifest import read_manifest, write_manifest
from translucid.io.splits import assign_splits
from translucid.types import Box


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def put(root: Path, name: str, *lines: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n", "utf-8")


# -- every layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrong_places_are_named(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ManifestError, match="there is nothing at"):
        import_layout(layout, tmp_path / "none")
    with pytest.raises(ManifestError, match="is empty"):
        import_layout(layout, tmp_path)
    with pytest.raises(ConfigError, match="has no option 'allow_outsid': did you mean 'allow_outside'"):
        import_layout(layout, tmp_path, allow_outsid=True)
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ManifestError, match=r"looked for|there is no file|no images"):
        import_layout(layout, tmp_path)
    if layout != "manifest":
        with pytest.raises(ManifestError, match=rf"is a file: the layout {layout} needs the folder"):
            import_layout(layout, tmp_path / "readme.txt")


def test_an_unknown_layout() -> None:
    with pytest.raises(ConfigError, match="unknown layout 'chexprt': did you mean 'chexpert'"):
        import_layout("chexprt", Path("."))


# -- manifest -----------------------------------------------------------------------------------------------------


def test_manifest_leaves_out_what_is_absent(tmp_path: Path) -> None:
    put(tmp_path, "manifest.csv", "file,patient,m,masks", "a,1,1,x=a;y=b", "b,2,0,", "c,3,0,")
    touch(tmp_path, "a", "c")
    manifest = import_layout("manifest", tmp_path)
    assert [c.file for c in manifest.cases] == ["a", "c"]
    assert manifest.cases[0].masks == {"x": "a"}
    gone = "the file is not there"
    beside = f"the file of the mask 'y' cannot be used, the image's own can: {gone}"
    assert manifest.rejects == (("manifest.csv row 2, mask y", beside), ("manifest.csv row 3", gone))
    (tmp_path / "manifest.csv").rename(tmp_path / "other.csv")
    assert import_layout("manifest", tmp_path / "other.csv", labels="m").cases == manifest.cases


def test_manifest_with_nothing_there(tmp_path: Path) -> None:
    put(tmp_path, "manifest.csv", "file,patient", "Patient-1.png,Patient-1", "Patient-2.png,Patient-2")
    with pytest.raises(
        ManifestError, match=r"none of the 2 images .*manifest\.csv row 2: the file is not there"
    ) as caught:
        import_layout("manifest", tmp_path)
    assert "Patient-" not in str(caught.value)


# -- folders ------------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "normal/p1_a.png", "pneumonia/p2_a.PNG", "pneumonia/deep/p2_b.nii.gz", "pneumonia/notes.txt")
    touch(tmp_path, "normal/.hidden.png", ".cache/x.png")
    manifest = import_layout("folders", tmp_path, patient_pattern=r"^(p\d+)_")
    assert {c.file: (c.patient, c.labels["pneumonia"], c.labels["normal"]) for c in manifest.cases} == {
        "normal/p1_a.png": ("p1", 0.0, 1.0),
        "pneumonia/p2_a.PNG": ("p2", 1.0, 0.0),
        "pneumonia/deep/p2_b.nii.gz": ("p2", 1.0, 0.0),
    }
    assert manifest.warnings == ()
    assert import_layout("folders", tmp_path, negative="normal").labels == ("pneumonia",)
    with pytest.raises(ManifestError, match="did you mean 'normal'"):
        import_layout("folders", tmp_path, negative="norml")


def test_class_folders_below_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/normal/a.png", "VALID/normal/b.png", "test/mass/c.png", "train/d.png")
    manifest = import_layout("folders", tmp_path)
    assert {c.file: c.split for c in manifest.cases} == {
        "train/normal/a.png": "train",
        "VALID/normal/b.png": "val",
        "test/mass/c.png": "test",
        "train/d.png": "train",
    }
    assert {c.file: c.labels["mass"] for c in manifest.cases}["train/d.png"] is None
    assert len(manifest.patients) == 4
    assert "each of the 4 files counts as a patient" in manifest.warnings[0]
    assert "1 images lie in no class folder" in manifest.warnings[1]


def test_mixed_dicom_without_classes(tmp_path: Path) -> None:
    touch(tmp_path, "a.dcm", "study/b.dcm", "study/IM0002")
    (tmp_path / "study" / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(9))
    manifest = import_layout("folders", tmp_path, classes=())
    assert manifest.labels == ()
    assert [c.file for c in manifest.cases] == ["a.dcm", "study/IM0001", "study/b.dcm"]


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"study{i}/normal/a.png" for i in range(51)))
    with pytest.raises(ManifestError, match=r"51 folders under .* if they are not classes"):
        import_layout("folders", tmp_path)
    assert import_layout("folders", tmp_path, classes="normal").labels == ("normal",)
    with pytest.raises(ManifestError, match="no images of the classes mass"):
        import_layout("folders", tmp_path, classes=["normal", "mass"])


def test_a_folder_with_a_manifest_is_told_from_classes(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(ManifestError, match="cannot be named 'masks': a manifest has a column of that name"):
        import_layout("folders", tmp_path)
    put(tmp_path, "manifest.csv", "file,patient", "images/a.png,1")
    with pytest.raises(ManifestError, match=r"'masks' cannot be a class, and .*manifest\.csv is there: use that"):
        import_layout("folders", tmp_path)
    assert import_layout("folders", tmp_path, classes=["images"]).labels == ("images",)


def test_a_folder_without_manifest_says_what_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "normal/a.png")
    with pytest.raises(ManifestError, match=r"there is no file .*manifest\.csv: .*study folder .*import folders"):
        import_layout("manifest", tmp_path)


def test_patterns_are_checked(tmp_path: Path) -> None:
    touch(tmp_path, "normal/Patient-1.png", "normal/other.png")
    with pytest.raises(ConfigError, match="no regular expression"):
        import_layout("folders", tmp_path, patient_pattern="(")
    with pytest.raises(ConfigError, match="exactly one group, it has 0"):
        import_layout("folders", tmp_path, patient_pattern="Patient")
    with pytest.raises(ManifestError, match="finds no patient in 1 of 2 file names") as caught:
        import_layout("folders", tmp_path, patient_pattern=r"Patient-(\d)")
    assert "Patient-1" not in str(caught.value)


def test_links_out_of_the_folder_are_rejected(tmp_path: Path) -> None:
    touch(tmp_path, "secret.png", "data/normal/a.png")
    (tmp_path / "data" / "normal" / "b.png").symlink_to(tmp_path / "secret.png")
    manifest = import_layout("folders", tmp_path / "data")
    assert len(manifest.cases) == 1
    assert "a link leads out" in manifest.rejects[0][1]
    assert len(import_layout("folders", tmp_path / "data", allow_outside=True).cases) == 2


def test_linked_folders_are_told_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "far/mass/c.png", "data/normal/a.png")
    (tmp_path / "data" / "mass").symlink_to(tmp_path / "far" / "mass")
    (tmp_path / "data" / "normal" / "round").symlink_to(tmp_path / "data")
    manifest = import_layout("folders", tmp_path / "data")
    assert [c.file for c in manifest.cases] == ["normal/a.png"]
    assert [why[:16] for _, why in manifest.rejects] == ["a link leads out"]
    followed = import_layout("folders", tmp_path / "data", allow_outside=True)
    assert [c.file for c in followed.cases] == ["mass/c.png", "normal/a.png"]


# -- CheXpert -----------------------------------------------------------------------------------------------------


def chexpert(root: Path, name: str = "CheXpert-v1.0-small") -> Path:
    home = root / name
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_LABELS)
    rows = {
        "train.csv": [
            (
                "train/patient00001/study1/view1_frontal.jpg",
                "Female,68,Frontal,AP",
                "1.0" + "," * 9 + "-1.0" + "," * 4 + "0.0",
            ),
            ("train/patient00001/study2/view2_lateral.jpg", "Female,69,Lateral,", "," * 13),
            ("train/patient00002/study1/view1_frontal.jpg", "Unknown,0,Frontal,PA", ",1.0" + "," * 12),
        ],
        "valid.csv": [
            ("valid/patient64541/study1/view1_frontal.jpg", "Male,73,Frontal,AP", ",".join(["0.0"] * 13 + ["1.0"])),
        ],
    }
    for table, lines in rows.items():
        put(home, table, header, *(f"{name}/{path},{facts},{labels}" for path, facts, labels in lines))
        touch(home, *(path for path, _, _ in lines))
    return home


@pytest.mark.parametrize("name", ["CheXpert-v1.0-small", "CheXpert-v1.0"])
def test_chexpert(tmp_path: Path, name: str) -> None:
    home = chexpert(tmp_path, name)
    manifest = import_layout("chexpert", home)
    assert manifest == import_layout("chexpert", tmp_path)
    assert manifest.root == home
    first, lateral, second, valid = manifest.cases
    assert first.file == "train/patient00001/study1/view1_frontal.jpg"
    assert (first.patient, first.view, first.split) == ("patient00001", "AP", "")
    assert first.attributes == {"sex": "F", "age": "68", "visit": "1"}
    assert (lateral.patient, lateral.view, lateral.attributes["visit"]) == ("patient00001", "lateral", "2")
    assert (second.view, second.attributes) == ("PA", {"age": "0", "visit": "1"})
    assert (valid.split, valid.patient) == ("test", "patient64541")
    assert first.labels["No Finding"] == 1.0
    assert first.labels["Pneumothorax"] is None
    assert (first.labels["Edema"], first.labels["Support Devices"]) == (0.0, 0.0)
    assert second.labels["Enlarged Cardiomediastinum"] == 1.0
    done = assign_splits(manifest, {"train": 0.5, "val": 0.5})
    assert Counter(c.split for c in done.cases if c.patient != valid.patient).keys() == {"train", "val"}


def test_chexpert_options(tmp_path: Path) -> None:
    home = chexpert(tmp_path)
    unknown = import_layout(
        "chexpert", home, blank="unknown", uncertain="ones", views="frontal", labels=["Pneumothorax"]
    )
    assert [c.labels for c in unknown.cases] == [{"Pneumothorax": v} for v in (1.0, None, 0.0)]
    assert [c.view for c in import_layout("chexpert", home, views=["lateral"]).cases] == ["lateral"]
    for option, value, hint in [
        ("blank", "negativ", "negative"),
        ("uncertain", "one", "ones"),
        ("views", ["frontl"], "frontal"),
        ("labels", ["Oedema"], "Edema"),
    ]:
        with pytest.raises(ConfigError, match=f"did you mean '{hint}'"):
            import_layout("chexpert", home, **{option: value})
    with pytest.raises(ConfigError, match="views is empty"):
        import_layout("chexpert", home, views=())


def test_chexpert_with_parts_missing(tmp_path: Path) -> None:
    home = chexpert(tmp_path)
    (home / "train/patient00002/study1/view1_frontal.jpg").unlink()
    manifest = import_layout("chexpert", home)
    assert manifest.rejects == (("train.csv row 4", "the file is not there"),)
    put(home, "valid.csv", "Path,Sex,Age,Frontal/Lateral,AP/PA", "a,b,c,d,e")
    with pytest.raises(ManifestError, match=r"valid\.csv is not CheXpert's: it has no column No Finding"):
        import_layout("chexpert", home)
    (home / "valid.csv").unlink()
    assert len(import_layout("chexpert", home).cases) == 2
    text = (home / "train.csv").read_text()
    (home / "train.csv").write_text(text.replace("train/patient00002", "train/who00002"))
    with pytest.raises(ManifestError, match=r"train\.csv row 4: the path is not of the form") as caught:
        import_layout("chexpert", home)
    assert "00002" not in str(caught.value)


# -- ChestX-ray14 -------------------------------------------------------------------------------------------------

OLD = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
NEW = OLD.replace("Gender", "Sex")
TAIL = ",OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"


def nih(root: Path, header: str, end: str, age: str, folders: tuple[str, str]) -> None:
    table = "Data_Entry_2017.csv" if "Gender" in header else "Data_Entry_2017_v2020.csv"
    facts = ",2682,2749,0.143,0.143" + end
    put(
        root,
        table,
        header + TAIL + end,
        f"00000001_000.png,Cardiomegaly|Emphysema,0,1,{age},M,PA{facts}",
        f"00000001_001.png,No Finding,1,1,{age},M,AP{facts}",
        f"00000002_000.png,Infiltration,0,2,{age},F,PA{facts}",
        f"00000003_000.png,Pleural_Thickening,0,3,{age},F,PA{facts}",
    )
    put(
        root,
        "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000002_000.png,Infiltrate,100.5,200,300,400,,,",
        "00000002_000.png,Mass,1,2,3,4,,,",
    )
    put(root, "train_val_list.txt", "00000001_000.png", "00000001_001.png")
    put(root, "test_list.txt", "00000002_000.png", "00000003_000.png")
    touch(root, *(f"{folders[0]}/00000001_00{i}.png" for i in range(2)))
    (root / folders[1]).mkdir(parents=True, exist_ok=True)
    Picture.fromarray(np.zeros((256, 512), np.uint8)).save(root / folders[1] / "00000002_000.png")


@pytest.mark.parametrize(
    ("header", "end", "age", "folders"),
    [(OLD, ",", "058Y", ("images_001/images", "images_012/images")), (NEW, "", "58", ("images", "images"))],
)
def test_nih14(tmp_path: Path, header: str, end: str, age: str, folders: tuple[str, str]) -> None:
    nih(tmp_path, header, end, age, folders)
    manifest = import_layout("nih14", tmp_path)
    assert manifest.labels == NIH_LABELS
    one, two, three = manifest.cases
    assert one.file == f"{folders[0]}/00000001_000.png"
    assert three.file == f"{folders[1]}/00000002_000.png"
    assert {n for n, v in one.labels.items() if v} == {"Cardiomegaly", "Emphysema"}
    assert {n for n, v in two.labels.items() if v} == {"No Finding"}
    assert [c.patient for c in manifest.cases] == ["1", "1", "2"]
    assert [c.split for c in manifest.cases] == ["", "", "test"]
    assert (two.view, two.attributes) == ("AP", {"sex": "M", "age": "58", "visit": "1"})
    # drawn on 1024 × 1024; the file is 512 wide and 256 high
    assert three.boxes == (Box("Infiltration", 50.25, 50, 150, 100), Box("Mass", 0.5, 0.5, 1.5, 1))
    row = "Data_Entry_2017.csv" if "Gender" in header else "Data_Entry_2017_v2020.csv"
    assert manifest.rejects == ((f"{row} row 5", "the file is not there"),)


def test_nih14_broken(tmp_path: Path) -> None:
    nih(tmp_path, NEW, "", "58", ("images", "images"))
    table = tmp_path / "Data_Entry_2017_v2020.csv"
    text = table.read_text()
    table.write_text(text.replace("Emphysema", "Emphysem"))
    with pytest.raises(ManifestError, match="row 2: unknown finding 'Emphysem': did you mean 'Emphysema'"):
        import_layout("nih14", tmp_path)
    table.write_text(text.replace("View Position", "View"))
    with pytest.raises(ManifestError, match="no column View Position"):
        import_layout("nih14", tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'Mass'"):
        import_layout("nih14", tmp_path, labels="mass")
    table.write_text(text)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match=r"no images .* looked in images/ and images_001/images/"):
        import_layout("nih14", tmp_path)


# -- pack ---------------------------------------------------------------------------------------------------------


def test_pack(tmp_path: Path) -> None:
    put(
        tmp_path,
        "manifest.csv",
        "file,patient_id,label,labels,mask,disc_mask,mask_heart,mask_area,outline,split,sex,age,manufacturer",
        "a.png,7,mass,round|large,m.png,d.png,h.nii.gz,0.5,o.png,train,F,048Y,ACME",
        "b.png,,none,,,,,0.1,,dev,,,",
        "c.json,8,mass,large,,,,0.1,,test,,,",
    )
    put(
        tmp_path,
        "boxes.csv",
        "file,finding,x_1024,y_1024,w_1024,h_1024,x_512,y_512,w_512,h_512",
        "a.png,Infiltrate,2,4,6,8,1,2,3,4",
    )
    put(tmp_path, "lung_boxes.csv", "file,structure,x,y,w,h", "b.png,left_lung,1,2,3,4")
    touch(tmp_path, "a.png", "b.png", "c.json", "m.png", "d.png", "h.nii.gz")
    manifest = import_layout("pack", tmp_path)
    one, two = manifest.cases
    assert one.masks == {"mask": "m.png", "disc": "d.png", "heart": "h.nii.gz"}
    assert one.boxes == (Box("Infiltration", 1, 2, 3, 4),)
    assert two.boxes == (Box("left_lung", 1, 2, 3, 4),)
    assert (one.labels, two.labels) == ({"mass": 1.0}, {"mass": None})
    assert one.attributes == {"sex": "F", "age": "48", "device": "ACME"}
    assert (two.patient, two.split) == ("b.png", "")
    assert set(manifest.rejects) == {
        ("manifest.csv row 4", "the file is not an image"),
        (
            "manifest.csv row 2, mask outline",
            "the file of the mask 'outline' cannot be used, the image's own can: the file is not there",
        ),
    }
    assert "1 rows name no patient" in manifest.warnings[0]
    assert "dev" in manifest.warnings[1]
    fine = import_layout("pack", tmp_path, column="labels", negative="round")
    assert [c.labels for c in fine.cases] == [{"large": 1.0}, {"large": None}]
    with pytest.raises(ConfigError, match="did you mean 'labels'"):
        import_layout("pack", tmp_path, column="lables")


# -- and back -----------------------------------------------------------------------------------------------------


def test_imported_written_and_read(tmp_path: Path) -> None:
    chexpert(tmp_path / "data")
    manifest = assign_splits(import_layout("chexpert", tmp_path / "data"), {"train": 1.0})
    write_manifest(manifest, manifest.root / "translucid.csv")
    assert read_manifest(manifest.root / "translucid.csv", manifest.labels).cases == manifest.cases
    write_manifest(manifest, tmp_path / "run" / "manifest.csv")
    back = read_manifest(tmp_path / "run" / "manifest.csv", manifest.labels, allow_outside=True)
    assert all(back.path(case).is_file() for case in back.cases)
