"""A model of the user's own on files of the user's own: maps on each file's grid, refusals that name the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from torch import nn

from translucid.errors import ConfigError, InputError
from translucid.pipeline import explain_files
from translucid.pipeline.foreign import load_subject

MODULE = """
import torch
from torch import nn

def volume():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 6 * 8, 2))

def film():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 5 * 5, 2))

def sure():
    return nn.Sequential(film(), nn.Sigmoid())

number = lambda: 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(-1000, 400, (16, 12, 8)).astype(np.int16)
    affine = np.diag([-2.0, -2.0, 2.5, 1.0])
    affine[:3, 3] = [10, 20, -30]
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_the_map_of_a_scan_lies_on_the_scan(own: str, ct: Path, tmp_path: Path) -> None:
    said: list[str] = []
    explain_files(f"{own}:volume", [ct], tmp_path / "out", changes=["kind=volume"], echo=said.append)
    scan, shown = nib.load(ct), nib.load(tmp_path / "out" / "0001-logit1.nii.gz")
    assert shown.shape == scan.shape
    assert np.allclose(shown.affine, scan.affine, atol=1e-5)
    assert any("is the last with a grid" in line for line in said)
    told = json.loads((tmp_path / "out" / "explained.json").read_text())["cases"][0]
    raw = load_file(tmp_path / "out" / "raw.safetensors")["0001"]
    assert told["exact"] is True
    total = raw[1].sum().item() + told["bias"][1] + told["residual"][1]
    assert total == pytest.approx(told["logits"][1], abs=1e-5)


def test_a_film_gets_a_picture_of_its_own_size(own: str, tmp_path: Path) -> None:
    Pillow.new("L", (40, 30), 90).save(tmp_path / "film.png")
    changes = ["kind=centre_crop", "size=20"]
    explain_files(f"{own}:film", [tmp_path / "film.png"], tmp_path / "out", changes=changes, labels=[0])
    assert Pillow.open(tmp_path / "out" / "0001-logit0.png").size == (40, 30)
    assert not (tmp_path / "out" / "0001-logit1.png").exists()


def test_weights_are_taken_and_wrong_ones_refused(own: str, tmp_path: Path) -> None:
    good = {k: torch.ones_like(v) for k, v in load_subject(f"{own}:film").model.state_dict().items()}
    save_file(good, tmp_path / "good.safetensors")
    loaded = load_subject(f"{own}:film", tmp_path / "good.safetensors").model
    assert all(bool((p == 1).all()) for p in loaded.parameters())
    save_file({"other": torch.ones(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="does not fit"):
        load_subject(f"{own}:film", tmp_path / "bad.safetensors")
    with pytest.raises(ConfigError, match="has its own; leave it out"):
        load_subject(str(tmp_path), tmp_path / "good.safetensors")


def test_a_bad_file_is_listed_and_the_others_go_on(own: str, tmp_path: Path) -> None:
    Pillow.new("L", (20, 20), 90).save(tmp_path / "film.png")
    (tmp_path / "junk.png").write_bytes(b"junk")
    files = [tmp_path / "junk.png", tmp_path / "film.png"]
    assert explain_files(f"{own}:film", files, tmp_path / "out").startswith("1 of 2 explained")
    cases = json.loads((tmp_path / "out" / "explained.json").read_text())["cases"]
    assert [c["number"] for c in cases] == [1, 2]
    assert "reason" in cases[0]


@pytest.mark.parametrize(
    ("name", "why"), [("{}:number", "gave a int"), ("{}:nothing", "has no attribute"), ("nowhere", "wanted package")]
)
def test_what_is_no_model_is_refused(own: str, name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load_subject(name.format(own))


def test_probabilities_are_refused_with_the_reason(own: str, tmp_path: Path) -> None:
    Pillow.new("L", (20, 20), 90).save(tmp_path / "film.png")
    with pytest.raises(InputError, match="probabilit"):
        explain_files(f"{own}:sure", [tmp_path / "film.png"], tmp_path / "out")


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"changes": ["sise=3"]}, "framing.sise is unknown: did you mean 'size'"),
        ({"changes": ["kind=volume", "spacin=3"]}, "framing.spacin is unknown: did you mean 'spacing'"),
        ({"layer": "9"}, "no layer '9' in Sequential"),
        ({"layer": "1", "method": "occlusion"}, "occlusion takes none: leave it out, or take hirescam, gradcam"),
    ],
)
def test_wrong_options_are_refused_once_before_any_file(own: str, tmp_path: Path, how: Any, why: str) -> None:
    said: list[str] = []
    with pytest.raises(ConfigError) as caught:
        explain_files(f"{own}:film", [tmp_path / "film.png"], tmp_path / "out", echo=said.append, **how)
    assert why in str(caught.value)
    assert said == [] and not (tmp_path / "out").exists()


def test_an_empty_folder_is_called_so(own: str, tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    with pytest.raises(InputError, match=r"the first: .*series: the folder is empty: name image files"):
        explain_files(f"{own}:film", [tmp_path / "series"], tmp_path / "out")


def test_the_asked_layer_holds_after_a_bad_first_file(own: str, tmp_path: Path) -> None:
    Pillow.new("L", (20, 20), 90).save(tmp_path / "film.png")
    (tmp_path / "junk.png").write_bytes(b"junk")
    alone, after = tmp_path / "alone", tmp_path / "after"
    explain_files(f"{own}:film", [tmp_path / "film.png"], alone, layer="0")
    explain_files(f"{own}:film", [tmp_path / "junk.png", tmp_path / "film.png"], after, layer="0")
    first, second = load_file(alone / "raw.safetensors")["0001"], load_file(after / "raw.safetensors")["0002"]
    assert torch.equal(first, second)


def test_all_models_made_here_are_networks(own: str) -> None:
    assert isinstance(load_subject(f"{own}:volume").model, nn.Module)
