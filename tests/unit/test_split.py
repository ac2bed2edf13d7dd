"""Cutting any network at a named layer: what comes out, and that nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tiny_nets import CONV, Plain, images, seeded
from translucid.errors import ConfigError, InputError, ShapeError
from translucid.explain import HiResCAM, candidates, resolve, split
from translucid.explain.resolve import guess_tokens
from translucid.explain.split import pass_once
from translucid.tensors import SplitModel


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


@pytest.mark.parametrize("layer", ["conv1", "norm1", "act", "conv2", "norm2"])
def test_head_of_features_is_the_forward_pass(layer: str) -> None:
    model, x = seeded(Plain()).train(), images(3, 1, 6, 6)
    cut = split(model, layer, x[:2])
    assert isinstance(cut, SplitModel) and not cut.bound and cut.calls == 1
    a = cut.features(x)
    kept = a.clone()
    model.eval()
    torch.testing.assert_close(cut.head(a), model(x))
    torch.testing.assert_close(cut(x).logits, model(x))
    assert torch.equal(a, kept), "the in-place activation after the layer must not reach the features"
    assert hooks(model) == 0


def test_in_place_activation_does_not_change_what_is_explained() -> None:
    model, x = seeded(Plain()), images(2, 1, 6, 6)
    found = HiResCAM(layer="norm2")(model, x, [0])
    a = model.norm2(model.conv2(model.act(model.norm1(model.conv1(x))))).detach()
    assert a.min() < 0
    g = model.fc.weight[0, :, None, None] / 9 * (a > 0)
    torch.testing.assert_close(found.maps[:, 0], (g * a).sum(1).detach())
    assert found.exact


def test_split_model_is_explained_in_one_pass_with_the_same_map() -> None:
    model, x = seeded(Plain()), images(2, 1, 6, 6)
    cut = split(model, "conv2", x)
    runs = []
    handle = model.conv1.register_forward_hook(lambda *_: runs.append(1))
    found = HiResCAM()(cut, x, [0, 1])
    assert len(runs) == 1
    handle.remove()
    torch.testing.assert_close(found.maps, HiResCAM(layer="conv2")(model, x, [0, 1]).maps)
    a = cut.features(x).requires_grad_(True)
    g = torch.autograd.grad(cut.head(a)[:, 1].sum(), a)[0]
    torch.testing.assert_close(found.maps[:, 1], (a * g).sum(1).detach())


class Twice(nn.Module):
    """One module that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.conv(x))
        return self.fc(self.relu(self.conv(a)).flatten(1))


def test_reused_module_counts_its_last_call() -> None:
    model, x = seeded(Twice()), images(2, 2, 4, 4)
    cut = split(model, "relu", x)
    assert cut.calls == 2 and "2 times" in cut.remarks[0]
    last = model.conv(model.conv(x).relu()).relu()
    torch.testing.assert_close(cut.features(x), last)
    torch.testing.assert_close(cut.head(last), model(x))
    found = HiResCAM(layer="relu")(model, x, [1])
    assert found.exact and any("2 times" in r for r in found.remarks)
    g = model.fc.weight[1].view(2, 4, 4)
    torch.testing.assert_close(found.maps[:, 0], (g * last).sum(1).detach())
    assert HiResCAM()(cut, x, [1]).remarks.count(cut.remarks[0]) <= 1


class Round(nn.Module):
    """A path leads round the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 2, 3, padding=1)
        self.fc = nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.cat([self.inner(x).relu(), x], 1).flatten(1))


def test_a_path_round_the_layer_is_noticed() -> None:
    model, x = seeded(Round()), images(3, 1, 4, 4)
    cut = split(model, "inner", x)
    assert cut.bound and "round" in cut.remarks[0]
    torch.testing.assert_close(cut.head(cut.features(x)), model(x))
    with pytest.raises(ShapeError, match="round"):
        cut.head(cut.features(x)[:2])
    found = HiResCAM(layer="inner")(model, x, [0, 1])
    without = model.fc(torch.cat([torch.zeros(3, 2, 4, 4, dtype=x.dtype), x], 1).flatten(1)).detach()
    torch.testing.assert_close(found.bias, without)
    assert found.exact and found.residual.abs().max() < 1e-10


class BatchWise(nn.Module):
    """Normalises with the batch's own statistics even in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2, track_running_stats=False)
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).flatten(1))


def test_batch_statistics_are_not_disturbed_by_the_row_of_zeros() -> None:
    model, x = seeded(BatchWise()), images(3, 1, 6, 6)
    passed = pass_once(model, "conv", x)
    torch.testing.assert_close(passed.logits, model(x))
    assert not HiResCAM(layer="conv")(model, x, [0]).exact
    assert HiResCAM(layer="norm")(model, x, [0]).exact


class Vision(nn.Module):
    """A small transformer on patches of 2×2 with a class token in front; reads the class token or the patches."""

    def __init__(self, read: str = "patches") -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 2, stride=2)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.last = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 2)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch(x).flatten(2).transpose(1, 2)
        z = self.block(torch.cat([self.token.expand(len(x), -1, -1), p], 1))
        z = self.last(z)
        return self.fc(z[:, 1:].mean(1) if self.read == "patches" else z[:, 0])


def test_token_grid_of_a_transformer() -> None:
    model, x = seeded(Vision()), images(2, 1, 4, 6)
    found = HiResCAM(layer="last", tokens=(2, 3, 1))(model, x, [0, 1])
    z = model.last(
        model.block(torch.cat([model.token.expand(2, -1, -1), model.patch(x).flatten(2).transpose(1, 2)], 1))
    )
    slow = torch.einsum("bpf,mf->bmp", z[:, 1:], model.fc.weight) / 6
    torch.testing.assert_close(found.maps.flatten(2), slow.detach())
    assert found.exact
    cut = split(model, "last", x, tokens=(2, 3, 1))
    torch.testing.assert_close(cut.head(cut.features(x)), model(x))
    assert cut.features(x).shape == (2, 8, 2, 3)
    with pytest.raises(ShapeError, match="tokens"):
        split(model, "last", x, tokens=(2, 2, 1))


def test_resolver_finds_token_grids_and_avoids_dead_ones() -> None:
    x = images(1, 1, 4, 6)
    chosen = resolve(seeded(Vision()), x)
    assert chosen.layer == "last" and chosen.tokens == (2, 3, 1)
    # after the class token is read off, patches have no say: the resolver must go back before the attention
    chosen = resolve(seeded(Vision("token")), x)
    assert chosen.layer not in ("last", "block", "block.norm2")
    listed = {c.layer: c for c in chosen.candidates}
    assert not listed["last"].reached and listed["patch"].reached and not listed["patch"].exact
    assert guess_tokens(50, (224, 224)) == (7, 7, 1) and guess_tokens(13, (224, 224)) is None


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_candidates_in_every_number_of_dimensions(axes: int) -> None:
    conv = CONV[axes]
    net = nn.Sequential(conv(1, 2, 3), nn.ReLU(), conv(2, 3, 3, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.rand(2, 1, *[9] * axes)
    net(x)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    found = candidates(net, x)
    assert [(c.layer, c.grid[0], c.features, c.exact) for c in found] == [
        ("0", 7, 2, False),
        ("1", 7, 2, False),
        ("2", 3, 3, False),
        ("3", 3, 3, True),
    ]
    assert found[-1].field == (5,) * axes and all(len(c.grid) == axes for c in found)
    assert net.training and hooks(net) == 0 and all(p.grad is None for p in net.parameters())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    chosen = resolve(net, x)
    assert chosen.layer == "3" and "affine" in chosen.why
    unnamed = HiResCAM()(net, x, [0])
    assert chosen.why in unnamed.remarks[0]
    torch.testing.assert_close(unnamed.maps, HiResCAM(layer="3")(net, x, [0]).maps)


def test_resolver_on_frozen_plain_network_and_on_one_without_a_grid() -> None:
    model, x = seeded(Plain()).requires_grad_(False), images(2, 1, 6, 6)
    chosen = resolve(model, x)
    assert chosen.layer == "norm2" and chosen.tokens is None
    with pytest.raises(InputError, match="no layer has a grid"):
        resolve(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double(), x)


def test_layers_that_cannot_be_split_are_named() -> None:
    model, x = seeded(Plain()), images(2, 1, 6, 6)
    with pytest.raises(ConfigError, match="did you mean 'conv1'"):
        split(model, "con1", x)
    with pytest.raises(ShapeError, match="choose another layer"):
        split(model, "fc", x)
    model.idle = nn.Conv2d(1, 1, 1)
    with pytest.raises(InputError, match="did not run"):
        split(model, "idle", x)
    with pytest.raises(InputError, match="did not run"):
        HiResCAM(layer="idle")(model, x, [0])
    with pytest.raises(InputError, match="do not depend"):
        HiResCAM(layer="probe")(SideOutput(), x.float(), [0])
    assert hooks(model) == 0


class SideOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.probe = nn.Conv2d(1, 1, 1)
        self.fc = nn.Linear(36, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.probe(x)
        return self.fc(x.flatten(1))
