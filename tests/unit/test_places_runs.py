"""Places through a whole `compress`: what cannot be is refused or told, and what is lost is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from translucid.config import build
from translucid.errors import ConfigError
from translucid.io.codes import CodeStore
from translucid.io.index import read_rejects
from translucid.jobs import Processes
from translucid.pipeline.compress_step import How, compress
from translucid.pipeline.folder import RunFolder
from translucid.study import Study

SIZE = 32
HEADER = "file,patient,split,boxes,masks,gaze,mass"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Four films, an outline and a table of fixations."""
    root = tmp_path / "films"
    root.mkdir()
    for k, name in enumerate("abcd"):
        values = np.random.default_rng(k).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
        Picture.fromarray(values).save(root / f"{name}.png")
    Picture.fromarray(np.eye(SIZE, dtype=np.uint8) * 255).save(root / "outline.png")
    (root / "looks.csv").write_text("x,y,seconds\n3,4,0.2\n")
    return root


def run(root: Path, rows: list[str], framing: str = "resize", **places: object) -> RunFolder:
    (root / "manifest.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    table = {
        "data": {"layout": "manifest", "root": str(root / "manifest.csv")},
        "framing": {"kind": framing, "size": SIZE},
        "places": places,
    }
    return compress(build(Study, table), root.parent / "run", how=How(Processes(1)))


def said(folder: RunFolder) -> list[str]:
    return [warning["text"] for warning in folder.record()["warnings"]]


BOXED = [
    '"a.png",p1,train,"mass:3,3,9,9",,,1',
    '"b.png",p2,train,"mass:100,100,9,9",,,1',
    '"c.png",p3,test,"mass:28,3,9,9",,,1',
    '"d.png",p4,test,,,,0',
]


@pytest.mark.parametrize("places", [{}, {"truth": {"mass": "mass"}}])
@pytest.mark.parametrize("framing", ["resize", "centre_crop"])
def test_boxes_outside_are_rejects_and_cut_ones_are_counted(
    films: Path, framing: str, places: dict[str, object]
) -> None:
    folder = run(films, BOXED, framing, **places)
    (reject,) = read_rejects(folder.path / "rejects.csv")
    assert reject["row"] == 3
    told = "the box 'mass' at x = 100, y = 100, 9 wide and 9 high lies outside the image, which is 32 wide and 32 high"
    assert told in reject["reason"] and "b.png" not in reject["reason"]
    assert folder.record()["steps"]["compress"]["boxes_cut"] == 1
    assert "boxes that stick out of their images and were cut at the rim: 1" in said(folder)
    assert folder.record()["steps"]["compress"]["cases"] == 3


def test_a_shard_of_nothing_but_bad_boxes_harms_no_other(films: Path) -> None:
    (films / "manifest.csv").write_text("\n".join([HEADER, *BOXED]) + "\n")
    table = {
        "data": {"layout": "manifest", "root": str(films / "manifest.csv")},
        "framing": {"kind": "resize", "size": SIZE},
        "places": {"truth": {"mass": "mass"}},
    }
    folder = compress(build(Study, table), films.parent / "run", how=How(Processes(1), shard_size=1))
    assert len(CodeStore.open(folder.codes("places"))) == 3


def test_names_that_nobody_has_are_refused_before_any_work(films: Path) -> None:
    with pytest.raises(ConfigError, match=r"places\.truth\.mass = 'mas': .*did you mean 'mass'"):
        run(films, BOXED, truth={"mass": "mas"})
    with pytest.raises(ConfigError, match=r"places\.regions = 'heart': .*none at all"):
        run(films, BOXED, regions={"mass": "heart"})
    with pytest.raises(ConfigError, match=r"places\.gaze"):
        run(films, BOXED, gaze=True)
    assert not (films.parent / "run" / "codes").exists()


def test_names_that_some_have_are_told(films: Path) -> None:
    folder = run(films, [BOXED[0], '"c.png",p3,test,,,,1', BOXED[3]], truth={"mass": "mass"})
    assert "places.truth.mass: 1 of 2 cases with 'mass' have no mask or box 'mass'" in said(folder)


@pytest.mark.parametrize(
    ("cells", "places", "kind"),
    [
        (",drawn=bad.png,", {"truth": {"mass": "drawn"}}, "mask 'drawn'"),
        (",heart=bad.png,", {"regions": {"mass": "heart"}}, "organ mask 'heart'"),
        (",,bad.png", {"gaze": True}, "gaze"),
    ],
)
def test_a_damaged_file_of_places_is_not_taken_for_the_image(
    films: Path, cells: str, places: dict[str, object], kind: str
) -> None:
    (films / "bad.png").write_bytes(b"junk")
    good = cells.replace("bad.png", "looks.csv" if kind == "gaze" else "outline.png")
    folder = run(films, [f"a.png,p1,train,{good},1", f"b.png,p2,test,{cells},0"], **places)
    (reject,) = read_rejects(folder.path / "rejects.csv")
    assert reject["row"] == 3
    assert reject["reason"].startswith(f"the file of the {kind} cannot be used, the image's own can: ")
    assert "bad.png" not in reject["reason"]
