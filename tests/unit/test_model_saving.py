"""A saved network is loaded whole, or an error says what is wrong with the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from translucid.errors import InputError
from translucid.models import HeartspotMLP, SmallCNN, load_model, save_model

SPEC = HeartspotMLP(widths=(4, 3))


def save(folder: Path, seed: int = 0) -> None:
    save_model(SPEC.build((1, 6), 2, seed), SPEC, (1, 6), ("a", "b"), folder)


def test_description_is_plain_json(tmp_path: Path) -> None:
    save(tmp_path)
    told = json.loads((tmp_path / "model.json").read_text("utf-8"))
    assert told["model"] == {"kind": "heartspot_mlp", "widths": [4, 3]}
    assert (told["shape"], told["labels"], told["format"]) == ([1, 6], ["a", "b"], 1)


def test_weights_of_another_network_are_found_out(tmp_path: Path) -> None:
    save(tmp_path / "one", 1)
    save(tmp_path / "two", 2)
    (tmp_path / "one" / "model.safetensors").replace(tmp_path / "two" / "model.safetensors")
    with pytest.raises(InputError, match=r"is not the file that model\.json describes"):
        load_model(tmp_path / "two")
    with pytest.raises(InputError, match="is not there"):
        load_model(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 1"),
        ({"model": {"kind": "heartspot_mpl"}}, "did you mean 'heartspot_mlp'"),
        ({"labels": ["a"]}, "does not fit"),
        ({"shape": "wide"}, "shape needs"),
    ],
)
def test_a_wrong_description_says_so(change: dict[str, object], message: str, tmp_path: Path) -> None:
    save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_a_failed_write_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("translucid.models.saving.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, 1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_memory_order_does_not_matter(tmp_path: Path) -> None:
    spec = SmallCNN(widths=(4, 8))
    model = spec.build((1, 32, 32), 1, 0).eval().to(memory_format=torch.channels_last)
    save_model(model, spec, (1, 32, 32), ("a",), tmp_path)
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_model(tmp_path)[0](x).logits, model(x).logits)
