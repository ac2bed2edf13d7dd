"""What a manifest refuses, and that it says where without saying who."""

from __future__ import annotations

from pathlib import Path

import pytest

from translucid.errors import ConfigError, ManifestError
from translucid.io.manifest import Manifest, read_manifest, write_manifest
from translucid.types import Box, Case

WHO = "Patient-4711"


def put(folder: Path, text: str) -> Path:
    path = folder / "cases.csv"
    path.write_text(text, "utf-8")
    return path


BROKEN = {
    "": r"cases\.csv is empty",
    "\n\n,\n": r"cases\.csv is empty",
    "file,patient\n": r"cases\.csv has a header but no rows",
    f"name,patient\na,{WHO}\n": r"cases\.csv has no column 'file'.*it has name, patient",
    "file,mass\na,1\n": r"no column 'patient'.*patient='file'",
    f"file,patient\na,{WHO}\nb,\n": r"cases\.csv row 3 has no patient \(1 rows\)",
    f"file,patient\n,{WHO}\n": r"cases\.csv row 2: the path is empty",
    f"file,patient\na,{WHO}\nb,{WHO}\na,{WHO}\n": r"cases\.csv: rows 2 and 4 name the same file and frame",
    f"file,patient\na,{WHO}\n./a,{WHO}\n": r"rows 2 and 3 name the same file",
    f"file,patient,frame\na,{WHO},1\na,{WHO},1.0\n": r"rows 2 and 3 name the same file and frame",
    f"file,patient\n../a,{WHO}\n": r"cases\.csv row 2: the path leaves the folder",
    f"file,patient\nx/../../a,{WHO}\n": r"row 2: the path leaves the folder",
    f"file,patient\nx\\..\\a,{WHO}\n": r"row 2: the path leaves the folder",
    f"file,patient\n/etc/passwd,{WHO}\n": r"row 2: the path is absolute",
    f"file,patient\nC:\\a,{WHO}\n": r"row 2: the path is absolute",
    f"file,patient\n\\\\host\\a,{WHO}\n": r"row 2: the path is absolute",
    f"file,patient,masks\na,{WHO},heart=../m\n": r"row 2: the path leaves the folder",
    f"file,patient,masks\na,{WHO},heart\n": r"row 2: masks must be name=path",
    f"file,patient,masks\na,{WHO},m=x;m=y\n": r"row 2: masks must be name=path;name=path, each name once",
    f'file,patient,boxes\na,{WHO},"Mass:1,2,3"\n': r"cases\.csv row 2: a box must be label:x,y,w,h",
    f'file,patient,boxes\na,{WHO},"Mass:1,2,3,x"\n': r"row 2: a box must be",
    f'file,patient,boxes\na,{WHO},"Mass:1,2,0,4"\n': r"w and h above 0",
    f'file,patient,boxes\na,{WHO},"Mass:1,nan,3,4"\n': r"row 2: a box must be",
    f'file,patient,boxes\na,{WHO},"1,2,3,4"\n': r"row 2: a box must be",
    f"file,patient,split\na,{WHO},trian\n": r"row 2: unknown split 'trian': did you mean 'train'",
    f"file,patient,frame\na,{WHO},-1\n": r"row 2: a frame must be a number",
    f"file,patient,frame\na,{WHO},1.5\n": r"row 2: a frame must be a number",
    f"file,patient,mass\na,{WHO}\n": r"cases\.csv row 2 has 2 cells, the header has 3",
    f"file,patient\na,{WHO},1\n": r"row 2 has 3 cells, the header has 2",
    f"file,patient\na,{WHO}\n\nb,{WHO}\n": r"cases\.csv row 3 is empty",
    f"file,patient,x,x\na,{WHO},1,1\n": r"two columns named x",
    f"path,image,patient\na,b,{WHO}\n": r"path and image could both be 'file'",
    f"file;patient\na;{WHO}\n": r"not separated by commas",
    f'file,patient\n"a,{WHO}\n': r"not a readable CSV",
    f"file,patient,labels,Mass\na,{WHO},Mass,1\n": r"gives 'Mass' twice",
}


@pytest.mark.parametrize(("text", "message"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_broken_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(put(tmp_path, text))
    assert WHO not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"there is no file .*no\.csv"):
        read_manifest(tmp_path / "no.csv")
    (tmp_path / "a.csv").write_bytes(b"file,patient\n\xff\xfe,1\n")
    with pytest.raises(ManifestError, match=r"a\.csv is not UTF-8"):
        read_manifest(tmp_path / "a.csv")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path)


def test_options_are_checked(tmp_path: Path) -> None:
    path = put(tmp_path, "file,patient,mass\na,1,1\n")
    with pytest.raises(ConfigError, match="did you mean 'ignore'"):
        read_manifest(path, uncertain="ignored")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'file' to make each file"):
        read_manifest(path, patient="none")


def test_a_label_that_is_not_there(tmp_path: Path) -> None:
    path = put(tmp_path, "file,patient,mass,score,labels\na,1,1,7,Edema\n")
    with pytest.raises(
        ManifestError, match=r"cases\.csv has no label 'mas': did you mean 'mass'\? \(known: Edema, mass"
    ):
        read_manifest(path, labels=["mas"])
    with pytest.raises(ManifestError, match="'score' holds more than 0, 1"):
        read_manifest(path, labels=["score"])
    with pytest.raises(ManifestError, match="stands twice"):
        read_manifest(path, labels=["mass", "mass"])


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside, root / "images"):
        folder.mkdir(parents=True)
    (outside / "secret.png").touch()
    (root / "images" / "real.png").touch()
    (root / "file.png").symlink_to(outside / "secret.png")
    (root / "folder").symlink_to(outside)
    (root / "images" / "hop").symlink_to(root / "folder")
    (root / "inside.png").symlink_to(root / "images" / "real.png")
    for name in ("file.png", "folder/secret.png", "images/hop/secret.png", "folder"):
        path = put(root, f"file,patient\n{name},1\n")
        with pytest.raises(ManifestError, match="row 2: a link leads out"):
            read_manifest(path)
        assert read_manifest(path, allow_outside=True).cases[0].file == name
    fine = read_manifest(put(root, "file,patient\ninside.png,1\nimages/not-there.png,2\n"))
    assert fine.path(fine.cases[0]).exists()


def test_a_link_set_later_does_not_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    manifest = read_manifest(put(root, "file,patient\na.png,1\n"))
    (root / "a.png").symlink_to(tmp_path)
    with pytest.raises(ManifestError, match="a link leads out"):
        manifest.path(manifest.cases[0])


def test_a_neighbour_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    for name in ("data", "data-secret"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "a.png").symlink_to(tmp_path / "data-secret")
    with pytest.raises(ManifestError, match="a link leads out"):
        read_manifest(put(tmp_path / "data", "file,patient\na.png,1\n"))


@pytest.mark.parametrize(
    ("cases", "labels", "message"),
    [
        ((), ("Age",), "cannot be named 'Age': a manifest has a column of that name"),
        ((), ("",), "cannot be named '': the name is empty"),
        ((), (" m",), "cannot be named ' m': it has blanks around it"),
        ((), ("a", "a"), "'a' stands twice"),
        ((Case("a", "p"), Case("a", "q")), (), "rows 2 and 3"),
        ((Case("a", ""),), (), "row 2 has no patient"),
        ((Case("a", "p", split="dev"),), (), "row 2: unknown split"),
        ((Case("a", "p", {"m": 1.0}),), (), "labels that the manifest does not list"),
        ((Case("a", "p", {"m": 0.5}),), ("m",), "must be 0, 1 or None"),
        ((Case("a", "p", {"m": float("nan")}),), ("m",), "must be 0, 1 or None"),
    ],
)
def test_a_manifest_is_sound_from_birth(cases: tuple[Case, ...], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        Manifest(Path("."), cases, labels)


@pytest.mark.parametrize(
    "case",
    [
        Case("a", "p", attributes={"site": "x"}),
        Case("a", "p", masks={"a=b": "x"}),
        Case("a", "p", masks={"a": "x;y"}),
        Case("a", "p", boxes=(Box("a;b", 1, 2, 3, 4),)),
        Case("a", "p", boxes=(Box("", 1, 2, 3, 4),)),
    ],
)
def test_what_the_table_cannot_hold_is_not_written(tmp_path: Path, case: Case) -> None:
    with pytest.raises(ManifestError, match="row 2"):
        write_manifest(Manifest(tmp_path, (case,), ()), tmp_path / "m.csv")
    assert not list(tmp_path.iterdir())
