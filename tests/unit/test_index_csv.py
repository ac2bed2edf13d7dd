"""index.csv and rejects.csv: round trip, strictness, and nothing a spreadsheet would run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.errors import ManifestError
from translucid.io.index import IndexRow, label_matrix, read_index, read_rejects, write_index, write_rejects

words = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=8)
labels = st.dictionaries(words.filter(bool), st.sampled_from([0.0, 1.0, None]), max_size=3)


@given(st.lists(st.tuples(words, words, labels, st.dictionaries(words.filter(bool), words, max_size=2)), max_size=4))
def test_index_comes_back(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple]) -> None:
    path = tmp_path_factory.mktemp("index") / "index.csv"
    rows = [IndexRow(f"c{i}", p, "train", v, dict(la), dict(at)) for i, (p, v, la, at) in enumerate(drawn)]
    write_index(path, rows)
    for row, back in zip(rows, read_index(path), strict=True):
        assert (back.case, back.patient, back.split, back.view) == (row.case, row.patient, row.split, row.view)
        assert {k: v for k, v in back.labels.items() if v is not None} == {
            k: v for k, v in row.labels.items() if v is not None
        }
        assert back.attributes == {k: v for k, v in row.attributes.items() if v}


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    row = IndexRow("=1+1", "@p", "", "+x", {"=cmd": 1.0}, {"device": "-2+3"})
    write_index(path, [row])
    cells = [c.strip('"') for line in path.read_text().splitlines() for c in line.split(",")]
    assert not [c for c in cells if c[:1] in ("=", "@", "+", "-")]
    assert read_index(path) == [row]
    write_rejects(tmp_path / "r.csv", [{"row": 2, "reason": '=HYPERLINK("x")\nnext'}])
    assert ",\"'=" in (tmp_path / "r.csv").read_text()
    assert read_rejects(tmp_path / "r.csv") == [{"row": 2, "reason": '=HYPERLINK("x") next'}]


def test_labels_keep_the_order_asked_and_unknown_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    rows = [IndexRow("a", "p", labels={"x": 1.0, "y": None}), IndexRow("b", "p", labels={"y": 0.0})]
    write_index(path, rows, ["y", "x"])
    assert path.read_text().splitlines() == ["case,patient,split,view,label:y,label:x", "a,p,,,,1", "b,p,,,0,"]
    np.testing.assert_array_equal(label_matrix(read_index(path), ["x", "y"]), [[1, np.nan], [np.nan, 0]])
    assert label_matrix([], ["x"]).shape == (0, 1)


def test_extra_fields_never_enter() -> None:
    row = IndexRow.from_json({"case": "c", "patient": "p", "file": "secret.dcm", "boxes": []})
    assert row == IndexRow("c", "p")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case,patient,split\na,p,\n", "no column view"),
        ("case,patient,split,view,file\na,p,,,x\n", "unknown columns file"),
        ("case,patient,split,view,label:x\na,p,,,2\n", "row 2, label:x: must be 1, 0 or empty"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(ManifestError, match=words):
        read_index(tmp_path / "index.csv")


def test_writing_refuses_doubled_cases_and_half_labels(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="same case"):
        write_index(tmp_path / "i.csv", [IndexRow("a", "p"), IndexRow("a", "q")])
    with pytest.raises(ManifestError, match=r"not 0\.5"):
        write_index(tmp_path / "i.csv", [IndexRow("a", "p", labels={"x": 0.5})])
    assert not (tmp_path / "i.csv").exists()
