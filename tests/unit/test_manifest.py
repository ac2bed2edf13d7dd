"""What a manifest reads, writes and gives back."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.errors import ConfigError, ManifestError
from translucid.io.cells import SPLITS
from translucid.io.columns import reserved_name
from translucid.io.manifest import Manifest, check_labels, read_manifest, relocate, require_labels, write_manifest
from translucid.types import Box, Case


def put(folder: Path, *lines: str) -> Path:
    path = folder / "cases.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_all_columns_are_read(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "file,patient,view,split,frame,boxes,masks,sex,age,device,visit,mass,note",
        'a/b.dcm,007,PA,train,3,"Mass:1,2,30.5,40;Left: lower:5,6,7,8",heart=m/h.png;lungs=m/l.png,F,57,X1,2,1.0,free',
    )
    manifest = read_manifest(path)
    assert manifest.cases == (
        Case(
            file="a/b.dcm",
            patient="007",
            labels={"mass": 1.0},
            view="PA",
            split="train",
            boxes=(Box("Mass", 1, 2, 30.5, 40), Box("Left: lower", 5, 6, 7, 8)),
            masks={"heart": "m/h.png", "lungs": "m/l.png"},
            frame=3,
            attributes={"sex": "F", "age": "57", "device": "X1", "visit": "2"},
        ),
    )
    assert manifest.labels == ("mass",)
    assert manifest.ignored == ("note",)
    assert manifest.path(manifest.cases[0]) == tmp_path / "a/b.dcm"
    assert manifest.mask_path(manifest.cases[0], "heart") == tmp_path / "m/h.png"
    with pytest.raises(ManifestError, match="did you mean 'heart'"):
        manifest.mask_path(manifest.cases[0], "hart")


@pytest.mark.parametrize("header", ["file,patient", "Path,Patient_ID", "IMAGE,patient id", "path,PATIENT"])
def test_aliases_in_any_case(tmp_path: Path, header: str) -> None:
    manifest = read_manifest(put(tmp_path, header + ",Sex,Age", "a.png,7,M,50"))
    assert (manifest.cases[0].file, manifest.cases[0].patient) == ("a.png", "7")
    assert manifest.cases[0].attributes == {"sex": "M", "age": "50"}


def test_exact_name_wins_over_alias(tmp_path: Path) -> None:
    manifest = read_manifest(put(tmp_path, "image,file,patient", "other.png,a.png,7"))
    assert manifest.cases[0].file == "a.png"
    assert manifest.ignored == ("image",)


def test_labels_are_told_from_other_columns(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "file,patient,flag,unsure,letters,empty,score,words",
        "a,1,1,-1.0,u,,2,x",
        "b,2,0.0,1,U,,1,y",
        "c,3,,0,1.0,,0,",
    )
    manifest = read_manifest(path)
    assert manifest.labels == ("flag", "unsure", "letters")
    assert manifest.ignored == ("empty", "score", "words")
    nan = np.nan
    np.testing.assert_array_equal(manifest.label_array(), [[1, nan, nan], [0, 1, nan], [nan, 0, 1]])
    assert read_manifest(path, labels=["empty", "flag"]).labels == ("empty", "flag")


@pytest.mark.parametrize(("policy", "value"), [("ignore", None), ("ones", 1.0), ("zeros", 0.0)])
def test_uncertain_follows_the_policy(tmp_path: Path, policy: str, value: float | None) -> None:
    path = put(tmp_path, "file,patient,mass", "a,1,-1", "b,2,u", "c,3,0", "d,4,")
    cases = read_manifest(path, uncertain=policy).cases
    assert [case.labels["mass"] for case in cases] == [value, value, 0.0, None]


def test_a_list_of_names_becomes_labels(tmp_path: Path) -> None:
    path = put(tmp_path, "file,patient,labels,label", "a,1,Mass|No Finding,x", "b,2,Edema,y", "c,3,,z")
    manifest = read_manifest(path)
    assert manifest.labels == ("Edema", "Mass", "No Finding")
    np.testing.assert_array_equal(manifest.label_array(), [[0, 1, 1], [1, 0, 0], [np.nan] * 3])
    assert manifest.ignored == ("label",)
    only = read_manifest(path, labels=["Mass"])
    assert only.labels == ("Mass",)
    assert [case.labels["Mass"] for case in only.cases] == [1.0, 0.0, None]


def test_a_column_named_label_may_hold_numbers(tmp_path: Path) -> None:
    assert read_manifest(put(tmp_path, "file,patient,label", "a,1,1", "b,2,0")).labels == ("label",)


def test_flags_beside_a_list_are_told(tmp_path: Path) -> None:
    path = put(tmp_path, "file,patient,labels,has_box", "a,1,Mass,0", "b,2,Edema,1")
    manifest = read_manifest(path)
    assert manifest.labels == ("has_box", "Edema", "Mass")
    assert "has_box" in manifest.warnings[0]
    assert read_manifest(path, labels=["Mass"]).warnings == ()


def test_each_file_its_own_patient(tmp_path: Path) -> None:
    manifest = read_manifest(put(tmp_path, "file,frame", "a.dcm,0", "a.dcm,1", "b.dcm,"), patient="file")
    assert manifest.patients == ("a.dcm", "b.dcm")
    assert "3 rows name no patient" in manifest.warnings[0]
    mixed = read_manifest(put(tmp_path, "file,patient", "a,7", "b,"), patient="file")
    assert mixed.patients == ("7", "b")


def test_blanks_and_byte_order_mark_do_not_make_two_patients(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefffile, patient\r\na.png, 7\r\n./x//b.png,7 \r\n,\r\n\r\n".encode())
    manifest = read_manifest(path)
    assert manifest.patients == ("7",)
    assert [case.file for case in manifest.cases] == ["a.png", "x/b.png"]


def test_subset_and_replacement() -> None:
    manifest = Manifest(Path("."), (Case("a", "p", split="train"), Case("b", "q")), ())
    assert [c.file for c in manifest.subset("train").cases] == ["a"]
    assert [c.file for c in manifest.subset("").cases] == ["b"]
    assert manifest.subset("val").label_array().shape == (0, 0)
    assert manifest.with_cases([manifest.cases[1]]).patients == ("q",)
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        manifest.subset("trian")


def test_what_cannot_be_learnt_is_listed() -> None:
    cases = (
        Case("a", "p", {"good": 1.0, "one": 0.0, "none": None}, split="train"),
        Case("b", "q", {"good": 0.0, "one": None, "none": None}, split="train"),
        Case("c", "r", {"good": 0.0, "one": 1.0, "none": 1.0}, split="test"),
    )
    manifest = Manifest(Path("."), cases, ("good", "one", "none"))
    assert [f.title for f in check_labels(manifest, "train")] == [
        "label 'one' is 0 in every known case",
        "label 'none' is unknown in every case",
    ]
    assert [f.title for f in check_labels(manifest)] == ["label 'none' is 1 in every known case"]
    assert [f.title for f in check_labels(manifest, "val")] == ["the split 'val' has no cases"]
    with pytest.raises(ManifestError, match=r"'one' is 0 .*'none' is unknown"):
        require_labels(manifest, "train")
    require_labels(_only_good(cases))


def _only_good(cases: tuple[Case, ...]) -> Manifest:
    return Manifest(Path("."), tuple(replace(c, labels={"good": c.labels["good"]}) for c in cases), ("good",))


# -- writing ------------------------------------------------------------------------------------------------------

plain = st.text(st.characters(exclude_categories=("C",)), min_size=1, max_size=12).map(str.strip).filter(bool)
risky = st.builds(lambda a, b: (a + b).rstrip(" "), st.sampled_from([*"=+-@'", "\t", "'=", "''-", "-1", "+2.5"]), plain)
texts = plain | risky.filter(lambda t: t.startswith(("\t", *"=+-@'")))
names = texts.filter(lambda t: t == t.strip() and not reserved_name(t))
parts = names.filter(lambda t: not set(t) & {";", "="})
paths = (
    plain.filter(
        lambda t: (
            "\\" not in t and ":" not in t[1:2] and not t.startswith("/") and ".." not in t and set(t) - {"/", "."}
        )
    )
    .map(lambda t: "/".join(p for p in t.split("/") if p not in ("", ".")).strip())
    .filter(lambda t: t not in ("", "."))
)
numbers = st.floats(-1e6, 1e6, allow_nan=False)
sizes = st.floats(1e-6, 1e6)


@st.composite
def manifests(draw: st.DrawFn) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    labels = tuple(draw(st.lists(names.filter(lambda t: t not in ("label", "labels")), unique=True, max_size=3)))
    files = draw(st.lists(st.tuples(paths, st.none() | st.integers(0, 99)), unique=True, min_size=1, max_size=5))
    masks = st.dictionaries(parts, paths.filter(lambda t: ";" not in t and t == t.strip()), max_size=2)
    boxes = st.lists(st.builds(Box, parts, numbers, numbers, sizes, sizes), max_size=2).map(tuple)
    cases = [
        Case(
            file=file,
            patient=draw(texts),
            labels={name: draw(st.sampled_from([None, 0.0, 1.0])) for name in labels},
            view=draw(st.just("") | texts),
            split=draw(st.sampled_from(["", *SPLITS])),
            boxes=draw(boxes),
            masks=draw(masks),
            frame=frame,
            attributes=draw(st.dictionaries(st.sampled_from(["sex", "age", "device", "visit"]), texts)),
        )
        for file, frame in files
    ]
    return tuple(cases), labels


@given(manifests())
def test_written_and_read_back_is_the_same(drawn: tuple[tuple[Case, ...], tuple[str, ...]]) -> None:
    cases, labels = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.csv")
        manifest = Manifest(Path(folder), cases, labels)
        write_manifest(manifest, path)
        assert read_manifest(path, labels=labels) == manifest
        first = path.read_bytes()
        write_manifest(read_manifest(path, labels=labels), path)
        assert path.read_bytes() == first


@given(manifests())
def test_no_cell_runs_in_a_spreadsheet(drawn: tuple[tuple[Case, ...], tuple[str, ...]]) -> None:
    cases, labels = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.csv")
        write_manifest(Manifest(Path(folder), cases, labels), path)
        with path.open(encoding="utf-8", newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row if cell[:1] in {*"=+-@\t\r"} - {""}):
                float(cell)


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    case = Case("a.png", "-7", {"m": 1.0}, attributes={"age": "+50", "device": "-x"})
    write_manifest(Manifest(tmp_path, (case,), ("m",)), tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text().splitlines()[1] == "a.png,-7,,+50,'-x,1"


@pytest.mark.parametrize("text", ["a\rb", "a\nb", "\r=x", 'say "so", twice', "a,b", "'", "''"])
def test_line_ends_and_quotes_come_back(tmp_path: Path, text: str) -> None:
    case = Case("a.png", "p", attributes={"device": text})
    write_manifest(Manifest(tmp_path, (case,), ()), tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").cases == (case,)


def test_links_that_were_allowed_stay_allowed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "far.png").touch()
    (tmp_path / "data" / "a.png").symlink_to(tmp_path / "far.png")
    manifest = Manifest(tmp_path / "data", (Case("a.png", "p"),), (), outside=True)
    moved = relocate(manifest, tmp_path)
    assert moved.path(moved.cases[0]) == tmp_path / "data" / "a.png"
    with pytest.raises(ManifestError, match="a link leads out"):
        replace(manifest, outside=False).path(manifest.cases[0])


def test_writing_elsewhere_keeps_the_files_in_reach(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "runs" / "one"
    (data / "images").mkdir(parents=True)
    (data / "images" / "a.png").write_bytes(b"A")
    manifest = Manifest(data, (Case("images/a.png", "p", masks={"m": "images/a.png"}),), ())
    write_manifest(manifest, run / "m.csv")
    with pytest.raises(ManifestError, match=r"m\.csv row 2: the path leaves the folder"):
        read_manifest(run / "m.csv")
    back = read_manifest(run / "m.csv", allow_outside=True)
    assert back.path(back.cases[0]).read_bytes() == b"A"
    assert back.mask_path(back.cases[0], "m").read_bytes() == b"A"
    write_manifest(manifest, tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").cases[0].file == "data/images/a.png"
    assert relocate(back, data).cases == manifest.cases


def test_writing_through_a_link_keeps_the_files_in_reach(tmp_path: Path) -> None:
    (tmp_path / "deep" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    (tmp_path / "a.png").write_bytes(b"A")
    write_manifest(Manifest(tmp_path, (Case("a.png", "p"),), ()), tmp_path / "link" / "m.csv")
    back = read_manifest(tmp_path / "link" / "m.csv", allow_outside=True)
    assert back.path(back.cases[0]).read_bytes() == b"A"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_manifest(Manifest(tmp_path, (Case("a.png", "p"),), ()), path)
    before = path.read_bytes()
    with pytest.raises(ManifestError, match="no text"):
        write_manifest(Manifest(tmp_path, (Case("b\udce9.png", "p"),), ()), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


def test_no_torch_is_loaded() -> None:
    names = "sys, translucid.io.layouts, translucid.io.splits, translucid.io.pseudonym"
    code = f"import {names}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
