"""What is misspelt in a recipe is refused before its first step, and the result table leaves nothing out."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from translucid.config import build, override, write_json
from translucid.errors import ConfigError, InputError
from translucid.pipeline import audit_run, compress_manifest, evaluate_run, explain_run, recipe_path, study, train_run
from translucid.pipeline.checking import check_study
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.table import result_table
from translucid.study import Study

RECIPES = sorted(path.stem for path in recipe_path("demo").parent.glob("*.toml"))
SMALL: dict[str, Any] = {
    "data": {"layout": "phantom", "labels": ["effusion"]},
    "variants": {"cnn": {"model": {"kind": "small_cnn"}}},
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_come_along_are_in_order(name: str) -> None:
    check_study(build(Study, tomllib.loads(recipe_path(name).read_text("utf-8"))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("variants.cnn.compress.kind=hartspot", "variants.cnn.compress kind 'hartspot': did you mean 'heartspot'"),
        ("variants.cnn.model.kind=smal_cnn", "variants.cnn.model kind 'smal_cnn': did you mean 'small_cnn'"),
        ("train.epochs=0", "epochs must be at least 1"),
        ("variants.cnn.train.epoch=3", "variants.cnn.train.epoch is unknown: did you mean 'epochs'"),
        ("train.loss.kind=gase", "did you mean 'gaze'"),
        ("train.augment.shfit=0.1", "did you mean 'shift'"),
        ('explain.methods=["hirescm"]', "explain.methods 'hirescm': did you mean 'hirescam'"),
        ('variants.cnn.methods=["occlusio"]', "variants.cnn.methods 'occlusio': did you mean 'occlusion'"),
        ("places.truth.efusion=effusion", "places.truth: no label of the study 'efusion': did you mean 'effusion'"),
        ("places.regions.efusion=lungs", "places.regions: no label of the study 'efusion'"),
        ("explain.split=tests", "explain.split = 'tests': did you mean 'test'"),
        ("places.sigma=0", "places.sigma = 0.0: needs pixels above 0"),
        ("places.touched=1.0", "places.touched = 1.0: needs a share"),
        ("trust.options.pair=2", "trust.options.pair is unknown: did you mean 'pairs'"),
        ('trust.variants=["cn"]', "trust.variants: no variant 'cn': did you mean 'cnn'"),
        ('audit.parts=["verificaton"]', "audit.parts: unknown part 'verificaton'"),
        ("audit.budget.epoch=3", "audit.budget.epoch is unknown: did you mean 'epochs'"),
        ('audit.shadowed=["cn"]', "audit.shadowed: no variant 'cn'"),
    ],
)
def test_no_step_is_begun_with_a_wrong_word(tmp_path: Path, change: str, words: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[data]\nlayout = "phantom"\nlabels = ["effusion"]\n[variants.cnn]\nmodel = { kind = "small_cnn" }\n'
    )
    said: list[str] = []
    with pytest.raises(ConfigError) as caught:
        study(recipe, tmp_path / "run", [change], said.append)
    assert words in str(caught.value)
    assert said == [] and not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", [train_run, explain_run, evaluate_run, audit_run])
def test_every_verb_looks_through_its_recipe_before_it_works(tmp_path: Path, verb: Callable[..., str]) -> None:
    folder = RunFolder(tmp_path)
    folder.begin(build(Study, SMALL))
    before = folder.record_file.read_bytes()
    for change, words in (
        ("trust.options.pairs=-1", "pairs"),
        ('explain.methods=["hirescm"]', "did you mean 'hirescam'"),
        ("train.epochs=0", "epochs must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            verb(tmp_path, [change])
    assert folder.record_file.read_bytes() == before


def test_a_compressor_that_does_not_exist_is_named_plainly(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "m.csv").write_text("file,patient\na.png,a\n")
    with pytest.raises(ConfigError, match=r"^unknown compress kind 'hartspot': did you mean 'heartspot'"):
        compress_manifest(tmp_path / "m.csv", tmp_path / "run", changes=["compress.kind=hartspot"])


def test_a_recipe_of_another_layout_compresses_a_manifest(tmp_path: Path) -> None:
    """The recipe's options are those of its own layout; a manifest is read without them."""
    recipe = tmp_path / "r.toml"
    recipe.write_text('[data]\nlayout = "phantom"\noptions = { patients = 9 }\n')
    (tmp_path / "m.csv").write_text("file,patient,effusion\nnone.png,a,1\n")
    with pytest.raises(InputError, match=r"m\.csv row 2: the file is not there"):
        compress_manifest(tmp_path / "m.csv", tmp_path / "run", recipe)


def test_the_table_shows_findings_beside_gaze(tmp_path: Path) -> None:
    """Gaze is pooled over all pairs; what points at the only label is not, and stands in the same table."""
    folder = RunFolder(tmp_path)
    folder.begin(build(Study, override(SMALL, [])))
    head = {"variant": "cnn", "split": "test", "explainer": "native", "subset": "", "low": 0.1, "high": 0.9}
    rows = [
        head | {"measure": "gaze_cc", "label": "pooled", "value": 0.5},
        head | {"measure": "map_average_precision", "label": "effusion", "value": 0.25},
        head | {"measure": "pointing_game", "label": "effusion", "value": 0.1},
        head | {"measure": "pointing_game", "label": "pooled", "value": 0.75},
    ]
    write_json(tmp_path / "metrics.json", rows)
    line = next(x for x in result_table(folder).splitlines() if x.startswith("cnn/native"))
    assert "0.250 (" in line and "0.500 (" in line and "0.750 (" in line and "0.100 (0.1" not in line
