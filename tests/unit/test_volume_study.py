"""Volumes from the phantom to the report: what is written is what is read, learned from, explained and shown."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from safetensors.numpy import load_file

from io_volumes import places, series, stored
from small_stores import VOLUMES
from translucid.config import build, read_json
from translucid.errors import TranslucidError
from translucid.io.codes import CodeStore
from translucid.io.manifest import read_manifest
from translucid.io.organ_masks import read_organ_masks
from translucid.io.readers import read_image
from translucid.io.series import read_series
from translucid.io.volume_framing import VolumeFraming
from translucid.jobs import Processes
from translucid.phantom import LABELS, ChestCohort, split_of, volumes, write_cohort
from translucid.pipeline import compress_step, report_run, shard
from translucid.pipeline.compress_step import How, compress
from translucid.pipeline.evaluate_step import evaluate
from translucid.pipeline.explain_step import explain
from translucid.pipeline.prepare import prepare
from translucid.pipeline.train_step import train
from translucid.study import DataSettings, Study

SHAPE = (16, 28, 28)
COHORT = ChestCohort(
    patients=6, visits=(1, 1), volume=SHAPE, seed=4, confounder="pneumonia", confounder_strength=1.0,
    confounder_test=0.0, prevalence={"effusion": 0.9, "pneumonia": 0.5}, label_noise=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("volumes")
    write_cohort(COHORT, where)
    return where


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def test_hounsfield_units_and_masks_come_back_voxel_by_voxel(written: Path) -> None:
    made = volumes(COHORT.draw(), None, SHAPE)
    manifest = read_manifest(written / "manifest.csv")
    for k, case in enumerate(manifest.cases):
        image = read_image(manifest.path(case))
        assert image.affine is not None and image.space == SHAPE
        np.testing.assert_array_equal(image.pixels[0], np.rint(made.images[k, 0]))
        lps = np.diag([-1.0, -1, 1, 1]) @ made.affine[k]
        np.testing.assert_allclose(image.affine, lps, atol=1e-3)
        files = {name: manifest.mask_path(case, name) for name in case.masks}
        read = read_organ_masks(files, image).masks
        for name in ("heart", "effusion", "pneumonia", "nodule"):
            there = made.masks[name][k]
            assert (name in files) == bool(there.any())
            if name in files:
                np.testing.assert_array_equal(read[name], there)


def test_lungs_take_in_the_fluid_of_their_side_and_nothing_else(written: Path) -> None:
    made = volumes(COHORT.draw(), None, SHAPE)
    fluid = 0
    for k, row in enumerate(lines(written)):
        files = dict(part.split("=") for part in row["masks"].split(";"))
        # as nibabel gives it: (column, row, slice)
        read = {n: np.asarray(nib.load(written / f).dataobj).transpose().astype(bool) for n, f in files.items()}  # type: ignore[attr-defined]
        fluid += int(made.masks["effusion"][k].sum())
        for side in ("left_lung", "right_lung"):
            more = read[side] & ~made.masks[side][k]
            assert not (made.masks[side][k] & ~read[side]).any()
            assert not (more & ~made.masks["effusion"][k]).any()
        assert np.array_equal(
            (read["left_lung"] | read["right_lung"]),
            made.masks["left_lung"][k] | made.masks["right_lung"][k] | made.masks["effusion"][k],
        )
        assert not (read["left_lung"] & read["right_lung"]).any()
    assert fluid > 20, "the cohort has effusions"


def test_left_is_left_and_the_head_is_up(written: Path) -> None:
    for row in lines(written):
        files = dict(part.split("=") for part in row["masks"].split(";"))

        def middle(name: str, files: dict[str, str] = files) -> np.ndarray:
            mask = nib.load(written / files[name])  # type: ignore[attr-defined]
            cells = np.argwhere(np.asarray(mask.dataobj))
            return np.asarray(nib.affines.apply_affine(mask.affine, cells).mean(0))

        left, right, heart = middle("left_lung"), middle("right_lung"), middle("heart")
        assert left[0] < -30 < 30 < right[0], "in RAS x grows towards the patient's right"
        assert heart[2] < (left[2] + right[2]) / 2 + 20 and abs(heart[0]) < 60


def test_the_marker_goes_with_the_label_but_in_the_test_split() -> None:
    plan = replace(COHORT, patients=60).draw()
    pneumonia = plan.labels[:, LABELS.index("pneumonia")]
    test = split_of(plan) == "test"
    assert np.array_equal(plan.marked[~test], pneumonia[~test].astype(bool))
    assert np.array_equal(plan.marked[test], ~pneumonia[test].astype(bool))
    half = replace(COHORT, patients=60, confounder_test=None).draw()
    assert np.array_equal(half.marked, half.labels[:, LABELS.index("pneumonia")].astype(bool)), (
        "None leaves the test split alike"
    )


def test_the_marker_lies_on_the_skin_and_not_in_the_lungs() -> None:
    plan = COHORT.draw()
    both = [volumes(replace(plan, marked=np.full(len(plan), m)), [0], (24, 48, 48)) for m in (False, True)]
    more = both[1].images[0, 0] - both[0].images[0, 0]
    assert more.max() > 500 and more.min() >= 0
    lit = more > 0
    assert lit.sum() < 40 and not (lit & (both[0].masks["left_lung"] | both[0].masks["right_lung"])[0]).any()


RECIPE: dict[str, Any] = {
    "name": "volumes",
    "baseline": "free",
    "data": VOLUMES,
    "framing": {"kind": "volume", "spacing": 16.0, "shape": [18, 20, 24]},
    "places": {
        "regions": {"effusion": "lungs", "pneumonia": "lungs"},
        "truth": {"effusion": "effusion", "pneumonia": "pneumonia"},
        "grid": [9, 10, 12],
    },
    "train": {"epochs": 1, "batch": 4},
    "explain": {"cases": 2, "methods": ["gradcam", "hirescam"]},
    "evaluate": {"resamples": 100},
    "variants": {
        "free": {"model": {"kind": "axialnet", "trunk": "small", "tail": [], "norm": "group"}},
        "mask": {
            "model": {"kind": "axialnet", "trunk": "small", "tail": [], "norm": "group"},
            "train": {"loss": {"kind": "mask_ours"}, "epochs": 2},
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("study") / "run"
    settings = build(Study, RECIPE)
    compress(settings, run, for_training=True)
    train(settings, run)
    explain(settings, run)
    evaluate(settings, run)
    report_run(run)
    return run


def test_pictures_are_the_kept_slices_of_the_volumes(finished: Path) -> None:
    told = read_json(finished / "maps" / "free" / "maps.json")
    arrays = load_file(finished / "maps" / "free" / "maps.safetensors")
    with (finished / "index.csv").open(newline="") as f:
        order = [row["case"] for row in csv.DictReader(f)]
    rows = np.array([order.index(case) for case in told["cases"]])
    plain = CodeStore.open(finished / "codes" / "plain").read(rows).reshape(len(rows), 1, 18, 20, 24)
    assert arrays["slices"].shape == (len(rows), 9)
    for k, at in enumerate(arrays["slices"]):
        assert (np.diff(at) > 0).all() and at[0] >= 0 and at[-1] < 18
        np.testing.assert_allclose(arrays["kept"][k], plain[k][:, at] / (255 if plain.max() > 1 else 1), atol=1e-6)
    assert arrays["placed/hirescam"].shape == (len(rows), 2, 9, 20, 24)


def test_maps_add_up_and_places_are_kept_for_the_outlines(finished: Path) -> None:
    for variant in ("free", "mask"):
        told = read_json(finished / "maps" / variant / "maps.json")
        arrays = load_file(finished / "maps" / variant / "maps.safetensors")
        method = told["methods"]["hirescam"]
        total = arrays["raw/hirescam"].reshape(len(told["cases"]), 2, -1).sum(2)
        gap = np.array(told["logits"]) - np.array(method["bias"]) - np.array(method["residual"]) - total
        assert np.abs(gap).max() < 1e-3
        y = np.array(told["truth"])
        assert arrays["truth"].shape == arrays["regions"].shape == (len(y), 2, 9, 10, 12)
        assert not arrays["truth"][y == 0].any(), "an absent finding covers nothing"
        covered, lungs = arrays["truth"], arrays["regions"]
        assert np.array_equal(lungs[:, 0], lungs[:, 1]) and 0.05 < lungs.mean() < 0.6
        effusion = covered[:, 0][y[:, 0] == 1]
        assert (effusion.sum() > 0) and not (effusion[lungs[:, 0][y[:, 0] == 1] == 0] > 0).any()


def test_localisation_has_a_row_for_every_variant_and_method(finished: Path) -> None:
    rows = [r for r in read_json(finished / "metrics.json") if "explainer" in r]
    keys = [
        tuple(r.get(k, "") for k in ("variant", "explainer", "target", "measure", "label", "subset", "versus"))
        for r in rows
    ]
    assert len(set(keys)) == len(keys)
    who = {(r["variant"], r["explainer"]) for r in rows if r["target"] == "organ"}
    methods = {(v, m) for v in ("free", "mask") for m in ("gradcam", "hirescam")}
    assert who >= methods | {("", "random"), ("", "centre")}
    for r in rows:
        if r["value"] is not None and r["low"] is not None:
            assert r["low"] - 1e-9 <= r["value"] <= r["high"] + 1e-9


def test_the_report_shows_slices_and_outlines(finished: Path) -> None:
    page = (finished / "report.html").read_text("utf-8")
    numbers = load_file(finished / "maps" / "free" / "maps.safetensors")["slices"] + 1
    assert any(f"slice {n}" in page for n in np.unique(numbers))
    assert '<path class="drawn"' in page and '<path class="allowed"' in page
    assert "Green dashes: where evidence for the label may lie" in page


def test_a_study_without_cases_to_show_still_reports(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("maps", "phantom"))
    study = build(Study, RECIPE)
    explain(replace(study, explain=replace(study.explain, split="other")), run)
    assert [w for w in read_json(run / "run.json")["warnings"] if "nothing is shown" in w["text"]]
    report_run(run)
    assert "nothing is shown" in (run / "report.html").read_text("utf-8")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json" and "phantom" not in p.parts and ".work" not in p.parts
    }


def test_compressing_volumes_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = build(Study, RECIPE)
    how = How(Processes(1), shard_size=5)
    compress(study, tmp_path / "whole", how=how)
    read, real = [], shard.read_image

    def stops(path: Path, *rest: Any, **more: Any) -> Any:
        read.append(path)
        if len(read) == 13:
            raise KeyboardInterrupt
        return real(path, *rest, **more)

    monkeypatch.setattr(shard, "read_image", stops)
    with pytest.raises((KeyboardInterrupt, TranslucidError)):
        compress(study, tmp_path / "cut", how=how)
    assert not (tmp_path / "cut" / "codes").exists()
    compress(study, tmp_path / "cut", how=how)
    assert len(read) == 13 + 24 - 10, "two shards of five were whole"
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert {"codes/places/header.json", "codes/plain/header.json", "index.csv"} <= tree(tmp_path / "cut").keys()
    monkeypatch.setattr(compress_step, "_begin", None)
    compress(study, tmp_path / "cut", how=how)  # finished: nothing begins


def test_a_folder_of_slices_is_a_row_of_a_manifest(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, values in (("a", stored()), ("b", stored()[::-1])):
        series(data / name, values, places(), series=name)
    (data / "manifest.csv").write_text("file,patient,split,mass\na,p1,train,1\nb,p2,train,0\n")
    framing = {"kind": "volume", "spacing": 2.5, "shape": [5, 4, 4], "window": [-1000, -700]}
    table = {"data": {"layout": "manifest", "root": str(data / "manifest.csv")}, "framing": framing}
    compress(build(Study, table), tmp_path / "run", how=How(Processes(1)))
    store = CodeStore.open(tmp_path / "run" / "codes" / "plain")
    assert len(store) == 2
    got = store.read(np.arange(2)).reshape(2, 5, 4, 4)
    plan = VolumeFraming(2.5, (5, 4, 4), (-1000, -700))
    wanted = [np.rint(plan.apply(read_series(data / name)).pixels[0] * 255) / 255 for name in ("a", "b")]
    with (tmp_path / "run" / "index.csv").open(newline="") as f:
        first = next(csv.DictReader(f))["label:mass"] == "1"
    scale = 255 if got.max() > 1 else 1
    for one, other in zip(got, wanted if first else wanted[::-1], strict=True):
        np.testing.assert_allclose(one / scale, other, atol=1e-6)
    assert not np.allclose(wanted[0], wanted[1])
    for one in (data / "a").iterdir():  # overwritten in place, which leaves the folder's own time as it was
        one.write_bytes((data / "b" / one.name).read_bytes())
    compress(build(Study, table), tmp_path / "run", how=How(Processes(1)))
    new = CodeStore.open(tmp_path / "run" / "codes" / "plain").read(np.arange(2))
    np.testing.assert_array_equal(new[0], new[1])


def test_a_cohort_with_other_options_is_drawn_anew(tmp_path: Path) -> None:
    first = Study(data=DataSettings(layout="phantom", options={"patients": 4, "size": 32}))
    other = Study(data=DataSettings(layout="phantom", options={"patients": 5, "size": 32}))
    manifest = tmp_path / "phantom" / "manifest.csv"
    assert len(prepare(first, tmp_path).patients) == 4
    made = manifest.stat().st_mtime_ns
    prepare(first, tmp_path)
    assert manifest.stat().st_mtime_ns == made
    assert len(prepare(other, tmp_path).patients) == 5
