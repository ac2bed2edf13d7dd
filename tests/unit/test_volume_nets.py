"""Volume networks in use: memory, starting weights, sizes they refuse."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tiny_nets import images, seeded
from translucid.config import from_kind
from translucid.errors import ConfigError, InputError, ShapeError
from translucid.losses import BCE, OutsideMask, PublishedMask
from translucid.models import CNN3D, MODELS, AxialNet, CTNet, load_model, save_model
from translucid.models.trunk import Trunk
from translucid.tensors import Batch

SMALL = AxialNet(slices_per_group=2, trunk="small", tail=(4,), norm="frozen")
SHAPE = (1, 7, 40, 36)


def batch() -> Batch:
    y = torch.tensor([[1.0, 0.0]])
    regions = torch.zeros(1, 2, 4, 3, 3, dtype=torch.bool)
    return Batch(images(1, *SHAPE), y, torch.arange(1), {"regions": regions})


def learn(model: nn.Module, loss: object) -> list[torch.Tensor]:
    model.train()
    model.zero_grad()
    data = batch()
    loss(model(data.x), data).backward()  # type: ignore[operator]
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("norm", ["frozen", "group"])
@pytest.mark.parametrize("chunk", [1, 3, 9])
def test_parts_give_the_gradients_of_the_whole(norm: str, chunk: int) -> None:
    whole = seeded(dataclasses.replace(SMALL, norm=norm).build(SHAPE, 2, 0))
    parts = copy.deepcopy(whole)
    parts.spec = dataclasses.replace(whole.spec, chunk=chunk)
    for loss in (BCE(), PublishedMask()):
        for a, b in zip(learn(whole, loss), learn(parts, loss), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7 if isinstance(loss, BCE) else 1e-6, atol=1e-9)


def kept_numbers(model: nn.Module, x: torch.Tensor) -> int:
    """Numbers that the graph of a forward pass holds on to, weights aside."""
    weights = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    held: dict[int, int] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        memory = t.untyped_storage()  # views of one memory count once
        if memory.data_ptr() not in weights:
            held[memory.data_ptr()] = memory.nbytes() // t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model.train()(x).logits.sum()
    return sum(held.values())


def test_parts_hold_less_in_memory() -> None:
    x = torch.rand(1, 1, 24, 40, 40)
    whole = SMALL.build((1, 24, 40, 40), 2, 0)
    parts = dataclasses.replace(SMALL, chunk=2).build((1, 24, 40, 40), 2, 0)
    assert kept_numbers(parts, x) < kept_numbers(whole, x) / 10


def test_a_long_scan_is_read_in_parts_with_the_same_result() -> None:
    x = images(1, 1, 37, 40, 40)
    model = seeded(dataclasses.replace(SMALL, slices_per_group=1).build((1, 37, 40, 40), 2, 0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x).maps, model.train()(x).maps, rtol=1e-10, atol=1e-12)
    with pytest.raises(ShapeError, match="1 channel, got 3"):
        SMALL.build((3, 6, 40, 40), 1, 0)


def test_batch_statistics_of_a_part_are_refused() -> None:
    with pytest.raises(ConfigError, match='"frozen" or "group"'):
        AxialNet(chunk=4)


@pytest.mark.parametrize("kind", [AxialNet(norm="batch"), AxialNet(norm="frozen")], ids=["batch", "frozen"])
def test_only_batch_norm_moves_its_statistics(kind: AxialNet) -> None:
    model = dataclasses.replace(SMALL, norm=kind.norm).build((1, 4, 40, 40), 1, 0).train()
    before = {k: v.clone() for k, v in model.named_buffers()}
    model(torch.rand(1, 1, 4, 40, 40))
    moved = any(not torch.equal(v, before[k]) for k, v in model.named_buffers())
    assert moved == (kind.norm == "batch")


def test_mask_loss_reaches_every_weight_of_axialnet() -> None:
    model = SMALL.build((1, 7, 40, 36), 2, 0)
    data = batch()
    said = model(data.x.float())
    regions = torch.zeros(said.maps.shape, dtype=torch.bool)
    loss = OutsideMask(weight=1.0)(said, Batch(data.x, data.y, data.index, {"regions": regions}))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


# -- starting weights -------------------------------------------------------------------------------------------------


def stored(path: Path, norm: str = "frozen", **more: torch.Tensor) -> Trunk:
    trunk = Trunk("small", 2, norm)  # type: ignore[arg-type]
    seeded(trunk, 3).float()
    save_file({k: v.contiguous() for k, v in trunk.state_dict().items()} | more, path)
    return trunk


@pytest.mark.parametrize("spec", [SMALL, CTNet(slices_per_group=2, trunk="small", norm="frozen")])
def test_trunk_starts_from_a_file_and_the_model_forgets_where(spec, tmp_path: Path) -> None:
    file = tmp_path / "trunk.safetensors"
    trunk = stored(file, "batch", **{"fc.weight": torch.zeros(3, 2)})
    spec = dataclasses.replace(spec, weights=str(file))
    model = spec.build((1, 6, 48, 48), 2, 0).eval()
    for name, value in model.trunk.state_dict().items():
        assert torch.equal(value, trunk.state_dict()[name]), name
    save_model(model, spec, (1, 6, 48, 48), ("a", "b"), tmp_path / "run")
    file.unlink()
    assert str(tmp_path) not in (tmp_path / "run" / "model.json").read_text()
    again, info = load_model(tmp_path / "run")
    assert info.spec == dataclasses.replace(spec, weights=None)
    x = torch.rand(1, 1, 6, 48, 48)
    assert torch.equal(again(x).logits, model(x).logits)


def test_other_files_are_refused(tmp_path: Path) -> None:
    def start(spec: AxialNet) -> nn.Module:
        return dataclasses.replace(spec, weights=str(file)).build((1, 6, 48, 48), 1, 0)

    file = tmp_path / "trunk.safetensors"
    with pytest.raises(InputError, match="no such file"):
        start(SMALL)
    file.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no safetensors"):
        start(SMALL)
    stored(file)
    with pytest.raises(InputError, match=r"another network.*conv1\.weight"):
        start(dataclasses.replace(SMALL, slices_per_group=3))
    with pytest.raises(InputError, match="running_mean"):
        start(dataclasses.replace(SMALL, norm="group"))


def test_resnet_names_are_the_usual_ones() -> None:
    with torch.device("meta"):
        names = set(Trunk("resnet18", 3, "batch").state_dict())
    assert len(names) == 120
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer2.0.downsample.1.bias"} <= names
    assert {"layer4.1.bn2.num_batches_tracked", "layer4.0.downsample.0.weight"} <= names


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_too_small_slices_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match="at least 257 × 257"):
        AxialNet().build((1, 9, 420, 256), 1, 0)
    with torch.device("meta"):
        AxialNet().build((1, 9, 257, 257), 1, 0)
    with pytest.raises(ShapeError, match="at least 41 × 41"):
        CTNet(trunk="small").build((1, 9, 40, 64), 1, 0)
    CTNet(trunk="small", widths=(2, 2, 2)).build((1, 9, 41, 41), 1, 0)


def test_too_few_slices_are_refused_where_the_rest_is_dropped() -> None:
    model = dataclasses.replace(SMALL, rest="drop", slices_per_group=3).build((1, 6, 40, 40), 1, 0).eval()
    with pytest.raises(ShapeError, match="2 slices make no group of 3"):
        model(torch.zeros(1, 1, 2, 40, 40))
    with pytest.raises(ShapeError, match="make no group"):
        CTNet(trunk="small", rest="drop").build((1, 2, 48, 48), 1, 0)


def test_a_head_that_averages_takes_any_slice() -> None:
    model = dataclasses.replace(SMALL, head="gap").build((1, 6, 40, 40), 1, 0).eval()
    with torch.no_grad():
        said = model(torch.rand(1, 1, 4, 64, 48))
    assert said.maps.shape == (1, 1, 2, 6, 4)
    torch.testing.assert_close(said.maps.sum() + said.extra["bias"], said.logits[0])
    with pytest.raises(ShapeError, match="at least 17 × 17"):
        model(torch.rand(1, 1, 4, 16, 48))


@pytest.mark.parametrize("size", [1, 7, 40])
@pytest.mark.parametrize("slices", ["channels", "depth"])
def test_comparators_take_short_and_long_scans(size: int, slices: str) -> None:
    for spec, shape in (
        (CTNet(trunk="small", slices=slices, widths=(2, 2, 2)), (1, size, 41, 41)),  # type: ignore[arg-type]
        (CNN3D(widths=(2, 2), cells=3), (1, size, 9, 1)),
    ):
        model = spec.build(shape, 2, 0).eval()  # type: ignore[attr-defined]
        with torch.no_grad():
            assert torch.isfinite(model(torch.rand(1, *shape)).logits).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("axialnet", {"slices_per_group": 0}),
        ("axialnet", {"tail": [4, 0]}),
        ("axialnet", {"pool": "sum"}),
        ("axialnet", {"trunk": "resnet81"}),
        ("axialnet", {"chunk": 0, "norm": "group"}),
        ("ctnet", {"widths": [4, 4]}),
        ("ctnet", {"slices": "rows"}),
        ("ctnet", {"hidden": [0]}),
        ("cnn3d", {"widths": []}),
        ("cnn3d", {"cells": 0}),
    ],
)
def test_options_out_of_range(kind: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        from_kind(MODELS, {"kind": kind} | options, "model")
