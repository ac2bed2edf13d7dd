"""What a run watches of places: every file that decides them, each for its own case, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from translucid.config import build
from translucid.io.codes import CodeStore
from translucid.io.gaze import read_gaze
from translucid.io.manifest import Manifest
from translucid.jobs import Processes
from translucid.pipeline.compress_step import How, _begin, _fingerprint, compress
from translucid.pipeline.compressing import States
from translucid.pipeline.places import watched
from translucid.study import PlacesSettings, Study
from translucid.types import Box, Case

SIZE = 12
SCREENED = "DICOM_ID,FPOGX,FPOGY,FPOGD\na,0.5,0.5,0.2\nb,0.4,0.5,0.2\n"
SHEET = "dicom_id,image_top_pad,image_bottom_pad,image_left_pad,image_right_pad\na,0,0,420,420\nb,0,0,420,420\n"
METADATA = "id,dicom_id,eye_tracking_data_discarded\nr1,a,False\nr2,a,True\nr3,a,False\nr4,b,False\n"
READING = "timestamp_start_fixation,timestamp_end_fixation,x_position,y_position\n0,1,3,4\n"


def picture(path: Path, seed: int = 0) -> None:
    values = np.random.default_rng(seed).integers(0, 2, (SIZE, SIZE), dtype=np.uint8) * 255
    Picture.fromarray(values).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """One of every kind of truth, organ and gaze."""
    root = tmp_path / "data"
    for name in ("r1", "r2", "r3", "r4", "egd"):
        (root / name).mkdir(parents=True)
    for k, name in enumerate(("a.png", "b.png", "heart.png", "no#7.png")):
        picture(root / name, k)
    (root / "rle.csv").write_text("ImageId,EncodedPixels\na,1 5\nb,9 5\n")
    table = {"a": {"mass": {"size": [SIZE, SIZE], "counts": [3, 5, SIZE * SIZE - 8]}}}
    (root / "val.json").write_text(json.dumps(table))
    (root / "looks.csv").write_text("image,x,y,seconds\na,3,4,0.2\nb,1,1,0.3\n")
    (root / "looks.json").write_text(json.dumps([{"image_id": "a", "gaze_x": [0.5], "gaze_y": [0.5], "time": [1.0]}]))
    (root / "egd" / "fixations.csv").write_text(SCREENED)
    (root / "egd" / "master_sheet.csv").write_text(SHEET)
    (root / "metadata.csv").write_text(METADATA)
    for name in ("r1", "r2", "r3", "r4"):
        (root / name / "fixations.csv").write_text(READING)
    return root


SETTINGS = PlacesSettings(truth={"mass": "drawn"}, regions={"mass": "heart"}, gaze=True, sigma=2.0, grid=(3, 3))
STUDY = Study(places=SETTINGS, framing={"kind": "resize", "size": SIZE})
BARE = Case("a.png", "p", {"mass": 1.0}, split="train")

KINDS: dict[str, tuple[Case, tuple[str, ...]]] = {
    "picture": (replace(BARE, masks={"drawn": "no#7.png"}), ("no#7.png",)),
    "organ": (replace(BARE, masks={"heart": "heart.png"}), ("heart.png",)),
    "runs in CSV": (replace(BARE, masks={"drawn": "rle.csv#a"}), ("rle.csv",)),
    "runs in JSON": (replace(BARE, masks={"drawn": "val.json#a/mass"}), ("val.json",)),
    "fixations": (replace(BARE, gaze="looks.csv#a"), ("looks.csv",)),
    "fixations in JSON": (replace(BARE, gaze="looks.json#a"), ("looks.json",)),
    "on a screen": (replace(BARE, gaze="egd/fixations.csv#a"), ("egd/fixations.csv", "egd/master_sheet.csv")),
    "one reading": (replace(BARE, gaze="r1/fixations.csv"), ("r1/fixations.csv",)),
    "readings": (replace(BARE, gaze="metadata.csv#a"), ("metadata.csv", "r1/fixations.csv", "r3/fixations.csv")),
}


def signs(root: Path, *cases: Case, study: Study = STUDY) -> tuple[str, str]:
    """What tells a finished run, and what tells a finished shard, that nothing has changed."""
    manifest = Manifest(root, cases, ("mass",))
    keyed = replace(study, data=replace(study.data, layout="phantom"))  # a fixed key
    job = _begin(keyed, manifest, root.parent / "run", How(), States())
    return _fingerprint(study, manifest, States()), job.part(0).name


def later(path: Path) -> None:
    state = path.stat()
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_file_that_decides_is_watched_and_no_other(tree: Path, kind: str) -> None:
    case, files = KINDS[kind]
    found = watched(SETTINGS, Manifest(tree, (case,), ("mass",)), case)
    assert [path.relative_to(tree).as_posix() for _, path in found] == list(files)
    before = signs(tree, case)
    assert signs(tree, case) == before
    for path in sorted(p for p in tree.rglob("*") if p.is_file()):
        name = path.relative_to(tree).as_posix()
        later(path)
        after = signs(tree, case)
        changed = name in (*files, "a.png")
        assert (after[0] != before[0], after[1] != before[1]) == (changed, changed), name
        before = after


@pytest.mark.parametrize("kind", ["fixations", "fixations in JSON", "on a screen", "one reading", "readings"])
def test_all_files_that_are_read_are_watched(tree: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, files = KINDS[kind]
    opened: set[str] = set()
    for name in ("open", "read_text"):
        real: Callable[..., object] = getattr(Path, name)

        def told(path: Path, *rest: object, real: Callable[..., object] = real, **more: object) -> object:
            opened.add(path.relative_to(tree).as_posix())
            return real(path, *rest, **more)

        monkeypatch.setattr(Path, name, told)
    assert len(read_gaze(Manifest(tree, (case,), ("mass",)), case, (SIZE, SIZE)))
    assert opened == set(files)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (replace(BARE, masks={"drawn": "rle.csv#a"}), replace(BARE, masks={"drawn": "rle.csv#b"})),
        (replace(BARE, gaze="looks.csv#a"), replace(BARE, gaze="looks.csv#b")),
        (replace(BARE, masks={"drawn": "rle.csv#a"}), replace(BARE, masks={"heart": "rle.csv#a"})),
        (replace(BARE, boxes=(Box("drawn", 1, 1, 4, 4),)), replace(BARE, boxes=(Box("drawn", 1, 1, 4, 5),))),
        (replace(BARE, gaze="looks.csv#a"), BARE),
    ],
)
def test_another_entry_of_the_same_table_is_another_mask(tree: Path, one: Case, other: Case) -> None:
    first, second = signs(tree, one), signs(tree, other)
    assert first[0] != second[0] and first[1] != second[1]


def test_what_the_recipe_does_not_ask_for_is_not_watched(tree: Path) -> None:
    case = replace(BARE, masks={"drawn": "rle.csv#a", "heart": "heart.png", "bone": "b.png"}, gaze="looks.csv#a")
    manifest = Manifest(tree, (case,), ("mass",))
    assert watched(PlacesSettings(), manifest, case) == []
    found = watched(replace(SETTINGS, organs="threshold", gaze=False), manifest, case)
    assert found == [("truth:mass rle.csv#a", tree / "rle.csv")]


def test_a_table_that_cannot_be_read_is_watched_itself(tree: Path) -> None:
    (tree / "metadata.csv").write_text("id,dicom_id,eye_tracking_data_discarded\nr1,a\n")
    case = KINDS["readings"][0]
    for gaze, file in (("metadata.csv#a", "metadata.csv"), ("gone.csv#a", "gone.csv")):
        found = watched(SETTINGS, Manifest(tree, (case,), ("mass",)), replace(case, gaze=gaze))
        assert [path for _, path in found] == [tree / file]


def test_a_redrawn_mask_comes_into_the_store(tree: Path, tmp_path: Path) -> None:
    lines = ["file,patient,split,masks,mass", "a.png,p1,train,drawn=heart.png,1", "b.png,p2,train,drawn=rle.csv#b,0"]
    (tree / "manifest.csv").write_text("\n".join(lines) + "\n")
    table = {
        "data": {"layout": "manifest", "root": str(tree / "manifest.csv")},
        "framing": {"kind": "resize", "size": SIZE},
        "places": {"truth": {"mass": "drawn"}, "grid": [SIZE, SIZE]},
    }

    def kept() -> list[np.ndarray]:
        compress(build(Study, table), tmp_path / "run", how=How(Processes(1)))
        found = CodeStore.open(tmp_path / "run" / "codes" / "places").read(np.arange(2))
        return sorted(found.reshape(2, -1), key=lambda row: int(row.sum()))

    first = kept()
    picture(tree / "heart.png", 9)
    later(tree / "heart.png")
    second = kept()
    assert sum(not np.array_equal(a, b) for a, b in zip(first, second, strict=True)) == 1
    (tree / "rle.csv").write_text("ImageId,EncodedPixels\na,1 5\nb,9 6\n")
    later(tree / "rle.csv")
    third = kept()
    assert third[0].sum() * 5 == second[0].sum() * 6
