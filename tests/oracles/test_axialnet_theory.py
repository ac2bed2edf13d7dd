"""AxialNet in the paper's notation: groups one by one, evidence cell by cell, sizes and counts in closed form."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tiny_nets import images, seeded
from translucid.explain import HiResCAM
from translucid.explain.native import Native
from translucid.models import CNN3D, AxialNet, CTNet
from translucid.models.trunk import Trunk, cells_of, centres, least_size, trunk_windows

SPEC = AxialNet(slices_per_group=2, trunk="small", tail=(5, 4), norm="frozen")
SHAPE, LABELS = (1, 6, 52, 44), 3
S = 3
HEADS = [("mean", "flatten"), ("mean", "gap"), ("max", "flatten"), ("max", "gap")]


def net(pool: str = "mean", head: str = "flatten", **more: object) -> nn.Module:
    spec = dataclasses.replace(SPEC, pool=pool, head=head, **more)
    return seeded(spec.build(SHAPE, LABELS, 0))


def scan(depth: int = 6, cases: int = 2) -> Tensor:
    return images(cases, 1, depth, *SHAPE[2:])


def paper(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A (group, feature, y, x), w (label, feature, y, x) and b of one scan, each group read by itself."""
    groups = [x[0, 0, 2 * g : 2 * g + 2][None] - 0.449 for g in range(S)]
    a = torch.cat([model.tail(model.trunk(g)) for g in groups])
    w = model.fc.weight
    full = w.view(*w.shape, 1, 1).expand(-1, -1, *a.shape[2:]) / a[0, 0].numel()
    return a, full if model.spec.head == "gap" else w.view(LABELS, *a.shape[1:]), model.fc.bias


@pytest.mark.parametrize(("pool", "head"), HEADS)
def test_logits_and_maps_follow_the_formula(pool: str, head: str) -> None:
    model, x = net(pool, head), scan(cases=1)
    with torch.no_grad():
        said = model(x)
        a, w, b = paper(model, x)
        for m in range(LABELS):
            scores = torch.stack([b[m] + (w[m] * a[g]).sum() for g in range(S)])
            cells = torch.stack([(w[m] * a[g]).sum(0) for g in range(S)])
            if pool == "mean":
                logit, maps = scores.mean(), cells / S
            else:
                logit, maps = scores.max(), torch.where(scores[:, None, None] == scores.max(), cells, 0)
            torch.testing.assert_close(said.logits[0, m], logit, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(said.maps[0, m], maps, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(model.group_scores(model.features(x))[0, :, m], scores, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("pool", "head"), HEADS)
def test_map_and_bias_sum_to_the_logit(pool: str, head: str) -> None:
    model, x = net(pool, head), scan()
    said = model(x)
    torch.testing.assert_close(said.maps.flatten(2).sum(2) + said.extra["bias"], said.logits, rtol=1e-10, atol=1e-12)
    if pool == "mean":
        scores = model.group_scores(model.features(x)).transpose(1, 2)
        torch.testing.assert_close(
            said.extra["bias"][:, None] + S * said.maps.flatten(3).sum(3), scores, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize(("pool", "head"), HEADS)
def test_own_map_is_hirescam_and_both_are_proved_exact(pool: str, head: str) -> None:
    model, x = net(pool, head), scan()
    cam, own = HiResCAM()(model, x, [0, 2]), Native()(model, x, [0, 2])
    torch.testing.assert_close(cam.maps, own.maps, rtol=1e-10, atol=1e-12)
    assert cam.exact and own.exact
    assert cam.placement == own.placement == model.placement((6, 52, 44))


def test_gradient_at_the_seam_is_the_weight_over_groups() -> None:
    model, x = net(), scan()
    a = model.features(x).detach().requires_grad_()
    for m in range(LABELS):
        (g,) = torch.autograd.grad(model.head(a)[:, m].sum(), a)
        w = model.fc.weight[m].view(1, a.shape[1], 1, *a.shape[3:])
        assert torch.allclose(g, (w / S).expand_as(g), rtol=1e-14, atol=0)
        attention = (w * a).sum(1)
        torch.testing.assert_close(S * model(x).maps[:, m], attention, rtol=1e-12, atol=1e-14)
    assert model(x).extra["groups"].item() == S


def test_maximum_leaves_one_group_per_label() -> None:
    maps = net("max")(scan()).maps
    assert torch.equal((maps.flatten(3).abs().sum(3) > 0).sum(2), torch.ones(2, LABELS, dtype=torch.int64))


@given(st.integers(0, 2), st.integers(0, 2), st.integers(0, 1))
def test_hiding_cells_takes_just_their_evidence(m: int, g: int, y: int) -> None:
    model = WHOLE
    with torch.no_grad():
        a = model.features(WHOLE_X)
        hidden = a.clone()
        hidden[:, :, g, y] = 0
        change = model.head(hidden)[:, m] - model.head(a)[:, m]
        torch.testing.assert_close(change, -model.evidence(a)[:, m, g, y].sum(1), rtol=1e-9, atol=1e-12)


WHOLE, WHOLE_X = net(), scan(cases=1)


# -- depth ------------------------------------------------------------------------------------------------------------


def test_slices_that_fill_no_group() -> None:
    x = scan(depth=5)
    filled = torch.cat([x, x[:, :, -1:]], 2)
    assert torch.equal(net()(x).logits, net()(filled).logits)
    dropping = net(rest="drop")
    assert torch.equal(dropping(x).logits, dropping(x[:, :, :4]).logits)


def test_a_scan_twice_in_a_row_says_the_same() -> None:
    x = scan()
    torch.testing.assert_close(net()(torch.cat([x, x], 2)).logits, net()(x).logits, rtol=1e-12, atol=1e-12)


# -- sizes ------------------------------------------------------------------------------------------------------------


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_published_number_of_parameters(norm: str) -> None:
    with torch.device("meta"):
        model = AxialNet(norm=norm).build((1, 405, 420, 420), 80, 0)
    tail = sum(9 * a * b + b for a, b in ((512, 64), (64, 32), (32, 16), (16, 16)))
    assert [parameters(m) for m in (model.trunk, model.tail, model.fc)] == [11_176_512, tail, 80 * 16 * 36 + 80]
    assert tail == 320_384
    assert parameters(model) == 11_543_056


def test_published_shapes() -> None:
    x = torch.empty(1, 1, 405, 420, 420, device="meta")
    with torch.device("meta"):
        axial = AxialNet(norm="group", chunk=27).build((1, 405, 420, 420), 80, 0)
        said = axial(x)
        ct, body, plain = (s.build((1, 405, 420, 420), 83, 0) for s in (CTNet(), CTNet(slices="depth"), CNN3D()))
        assert axial.features(x).shape == (1, 16, 135, 6, 6)
        assert said.maps.shape == (1, 80, 135, 6, 6)
        cells = torch.empty(1, 135, 512, 14, 14)
        assert ct.mix(cells).shape == (1, 16, 18, 5, 5)
        assert body.mix(cells.transpose(1, 2)).shape == (1, 16, 5, 5, 5)
        assert plain.features(x).shape == (1, 64, 5, 5, 5)
    assert [n.readout[1].in_features for n in (ct, body, plain)] == [7200, 2000, 8000]
    assert [m.out_features for m in ct.readout if isinstance(m, nn.Linear)] == [128, 96, 83]


@given(st.integers(1, 12), st.sampled_from(["resnet18", "small"]), st.integers(0, 4))
def test_least_size_is_the_least(cells: int, trunk: str, tail: int) -> None:
    windows = [*trunk_windows(trunk), *[(3, 1, 0)] * tail]
    least = least_size(cells, windows)
    assert cells_of(least, windows) == cells
    assert cells_of(least - 1, windows) == cells - 1


@pytest.mark.parametrize(("name", "size"), [("small", 40), ("small", 33), ("resnet18", 65)])
def test_counted_cells_are_those_of_the_trunk(name: str, size: int) -> None:
    with torch.device("meta"):
        a = Trunk(name, 3, "group")(torch.empty(1, 3, size, size + 9))
    assert a.shape[2:] == (cells_of(size, trunk_windows(name)), cells_of(size + 9, trunk_windows(name)))


# -- places -----------------------------------------------------------------------------------------------------------


def test_published_centres() -> None:
    with torch.device("meta"):
        where = AxialNet().build((1, 405, 420, 420), 1, 0).placement((405, 420, 420))
    for axis in (1, 2):
        assert [where.start[axis] + i * where.step[axis] for i in range(6)] == [128 + 32 * i for i in range(6)]
    assert [where.start[0] + i * where.step[0] for i in range(3)] == [1, 4, 7]


def influence(model: nn.Module, x: Tensor, cell: tuple[int, ...]) -> list[float]:
    """Middle of the voxels that a cell listens to, when no weight is negative and none is zero."""
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.1)
    x = x.requires_grad_()
    a = model.features(x)[0].sum(0)[cell]
    (g,) = torch.autograd.grad(a, x)
    heard = (g[0, 0] != 0).nonzero().double()
    return ((heard.amin(0) + heard.amax(0)) / 2).tolist()


@pytest.mark.parametrize(
    ("spec", "shape", "cell"),
    [
        (AxialNet(trunk="small", slices_per_group=3, tail=(2, 2), norm="frozen"), (1, 6, 140, 132), (1, 5, 4)),
        (CTNet(trunk="small", slices="depth", widths=(2, 2, 2), norm="frozen"), (1, 18, 140, 132), (0, 2, 2)),
        (CNN3D(widths=(2, 2), cells=4), (1, 48, 40, 41), (1, 2, 1)),
    ],
    ids=["axialnet", "bodyconv", "cnn3d"],
)
def test_centres_are_where_the_cells_listen(spec, shape: tuple[int, ...], cell: tuple[int, ...]) -> None:
    model = spec.build(shape, 1, 0).double().eval()
    if isinstance(spec, CNN3D):
        model.body = nn.Sequential(*[m for m in model.body if not isinstance(m, nn.GroupNorm)])
    where = model.placement(shape[1:])
    expected = [s + t * i for s, t, i in zip(where.start, where.step, cell, strict=True)]
    assert influence(model, torch.full((1, *shape), 0.5 + 0.449, dtype=torch.float64), cell) == expected


def test_residual_paths_share_their_centres() -> None:
    assert centres([(3, 2, 1), (3, 1, 1)]) == centres([(1, 2, 0)])
