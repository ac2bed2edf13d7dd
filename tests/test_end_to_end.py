"""From files to a report, as a user runs it: small phantoms, every verb, and what must never leave."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from translucid.cli import main
from translucid.config import read_json
from translucid.io.codes import CodeStore

RECIPE = """
name = "small"
baseline = "plain-cnn"
workers = 1
[data]
layout = "manifest"
labels = ["cardiomegaly", "pneumonia"]
[framing]
kind = "resize"
size = 64
[train]
epochs = 3
batch = 16
[variants.plain-cnn]
model = { kind = "small_cnn" }
[variants.hline-mlp]
compress = { kind = "heartspot", prior = "hline" }
model = { kind = "heartspot_mlp", widths = [32, 16] }
[variants.median-hline-cnn]
compress = { kind = "heartspot", prior = "median+hline" }
model = { kind = "small_cnn", head = "flatten" }
[variants.deepfixcx-mlp]
compress = { kind = "deepfixcx", levels = 2, patches = 6 }
model = { kind = "deepfixcx_mlp" }
[explain]
cases = 2
[evaluate]
resamples = 200
[report]
images = "plain"
"""


def run(*args: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "chests"
    run("phantom", folder, "--set", "patients=40", "--set", "size=64", "--set", "seed=3")
    return folder


@pytest.fixture(scope="module")
def finished(chests: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("runs")
    (home / "small.toml").write_text(RECIPE)
    return home / "run", run("study", home / "small.toml", home / "run", "--set", f"data.root={chests}")


def test_a_study_writes_everything_it_promises(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    for name in ("run.json", "index.csv", "rejects.csv", "metrics.json", "curves.json", "report.html", "regions.json"):
        assert (folder / name).is_file(), name
    for variant in ("plain-cnn", "hline-mlp", "median-hline-cnn", "deepfixcx-mlp"):
        assert (folder / "models" / variant / "model.safetensors").is_file()
        assert (folder / "maps" / variant / "maps.safetensors").is_file()
        assert variant in printed
    assert not (folder / ".work").exists()
    assert not list(folder.rglob("*.tmp"))


def test_every_number_has_its_interval(finished: tuple[Path, str]) -> None:
    rows = read_json(finished[0] / "metrics.json")
    assert {"auc", "average_precision", "sensitivity", "auc_difference", "seconds_per_15000"} <= {
        r["measure"] for r in rows
    }
    for row in rows:
        assert {"measure", "variant", "label", "split", "value", "low", "high", "n", "level"} <= set(row)
        # seven validation cases allow no interval; the number then stands as "no interval"
        if row["measure"] in ("auc", "auc_difference") and row["split"] == "test" and row["value"] is not None:
            assert row["low"] <= row["value"] <= row["high"]


def test_nothing_of_the_source_leaves(finished: tuple[Path, str], chests: Path) -> None:
    with (chests / "manifest.csv").open() as f:
        rows = list(csv.DictReader(f))
    secrets = {r["patient"] for r in rows} | {Path(r["file"]).name for r in rows} | {str(chests), chests.parent.name}
    for path in finished[0].rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found = [s for s in secrets if s.encode() in data]
            assert not found, (path, found)


def test_patients_stay_in_one_split_and_rows_in_the_order_of_pseudonyms(finished: tuple[Path, str]) -> None:
    with (finished[0] / "index.csv").open() as f:
        rows = list(csv.DictReader(f))
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(s) == 1 for s in splits.values())
    assert [r["case"] for r in rows] == sorted(r["case"] for r in rows)


def test_maps_add_up_to_the_logits(finished: tuple[Path, str]) -> None:
    from safetensors.numpy import load_file

    for variant in ("plain-cnn", "median-hline-cnn", "deepfixcx-mlp"):
        folder = finished[0] / "maps" / variant
        told = read_json(folder / "maps.json")
        arrays = load_file(folder / "maps.safetensors")
        name = "hirescam" if "cnn" in variant else "gradient_times_code"
        total = arrays[f"raw/{name}"].reshape(len(told["cases"]), len(told["labels"]), -1).sum(2)
        method = told["methods"][name]
        gap = np.array(told["logits"]) - np.array(method["bias"]) - np.array(method["residual"]) - total
        assert np.abs(gap).max() < 1e-3 * max(1.0, np.abs(told["logits"]).max())
        if method["exact"]:
            assert np.abs(method["residual"]).max() < 1e-3


def test_a_second_run_keeps_what_is_finished(finished: tuple[Path, str], chests: Path) -> None:
    folder = finished[0]
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    run("study", folder.parent / "small.toml", folder, "--set", f"data.root={chests}")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")} == before


def test_a_changed_index_is_noticed(finished: tuple[Path, str], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    (copy / "index.csv").write_text((copy / "index.csv").read_text() + "\n")
    result = CliRunner().invoke(main, ["train", str(copy)])
    assert result.exit_code == 2
    assert "has changed since it was written" in result.output


def test_compress_alone_lists_rejects_and_goes_on(chests: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(chests, data)
    with (data / "manifest.csv").open() as f:
        names = [r["file"] for r in csv.DictReader(f)]
    (data / names[0]).write_bytes(b"no image")
    Pillow.new("L", (3, 3)).save(data / names[2])
    out = tmp_path / "out"
    options = [
        "compress.kind=deepfixcx",
        "compress.levels=2",
        "compress.patches=6",
        "framing.kind=crop",
        "framing.size=64",
    ]
    printed = run("compress", data / "manifest.csv", out, "--workers", 1, *(x for o in options for x in ("--set", o)))
    with (out / "rejects.csv").open() as f:
        rejects = list(csv.DictReader(f))
    assert [r["row"] for r in rejects] == ["2", "4"]
    assert "2 rejected" in printed
    assert not any(Path(names[0]).name in r["reason"] for r in rejects)
    store = CodeStore.open(next((out / "codes").iterdir()))
    assert len(store) == len(names) - 2
    assert store.header["compressor"]["kind"] == "deepfixcx"


def test_one_and_two_workers_write_the_same_bytes(chests: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(bytes(range(32)) * 2)
    options = [
        "--key",
        key,
        "--set",
        "compress.kind=heartspot",
        "--set",
        "framing.kind=resize",
        "--set",
        "framing.size=64",
    ]
    for workers in (1, 2):
        run("compress", chests / "manifest.csv", tmp_path / f"out{workers}", "--workers", workers, *options)
    first, second = (
        {p.relative_to(tmp_path / f"out{w}"): p.read_bytes() for p in (tmp_path / f"out{w}").rglob("*") if p.is_file()}
        for w in (1, 2)
    )
    assert first.keys() == second.keys()
    assert [p for p in first if first[p] != second[p] and p.name != "run.json"] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.root=nowhere"], "there is nothing at nowhere"),
        (['data.labels=["cardiomegly"]'], "did you mean 'cardiomegaly'"),
        (["compress.kind=deepfix"], "did you mean 'deepfixcx'"),
        (["trian.epochs=3"], "did you mean 'train'"),
        (["compress.kind=deepfixcx", "compress.levels=3", "compress.patches=30"], "levels"),
        (["framing.sise=3"], "did you mean 'size'"),
        (['data.views=["LATERAL"]'], "no image has the view"),
    ],
)
def test_bad_input_is_one_clear_line(chests: Path, tmp_path: Path, changes: list[str], words: str) -> None:
    (tmp_path / "r.toml").write_text('[framing]\nkind = "resize"\nsize = 64\n')
    options = [x for c in [f"data.root={chests}", *changes] for x in ("--set", c)]
    result = CliRunner().invoke(main, ["study", str(tmp_path / "r.toml"), str(tmp_path / "run"), *options])
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("header", "cell", "words"),
    [
        ("file,mass", "1", "patient"),
        ("file,patient,mass", "", "label 'mass' is unknown in every case"),
        ("file,patient,mass", "1", "1 in every known case"),
        ("file,patient,lump", "1", "has no label 'mass'"),
    ],
)
def test_manifests_that_cannot_be_learned_from(
    chests: Path, tmp_path: Path, header: str, cell: str, words: str
) -> None:
    lines = [header]
    for i, path in enumerate(sorted((chests / "images").iterdir())[:12]):
        shutil.copy(path, tmp_path / path.name)
        lines.append(",".join([path.name, *([f"p{i}"] if "patient" in header else []), cell]))
    (tmp_path / "m.csv").write_text("\n".join(lines))
    options = ["--set", f"data.root={tmp_path / 'm.csv'}", "--set", 'data.labels=["mass"]']
    (tmp_path / "r.toml").write_text('[framing]\nkind = "resize"\nsize = 64\n')
    result = CliRunner().invoke(main, ["study", str(tmp_path / "r.toml"), str(tmp_path / "run"), *options])
    assert result.exit_code == 2
    assert words in result.output


def test_the_record_tells_the_recipe_but_no_path(finished: tuple[Path, str]) -> None:
    record = json.loads((finished[0] / "run.json").read_text())
    assert record["recipe"]["data"]["root"] == ""
    assert record["recipe"]["framing"] == {"kind": "resize", "size": 64}
    assert record["versions"]["torch"]
