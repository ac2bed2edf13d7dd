"""The two published perceptrons written again as matrix formulas, and their published sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from translucid.errors import ConfigError, InputError
from translucid.models import DeepfixcxMLP, HeartspotMLP, code_statistics
from translucid.tensors import Batch


def parts(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().double().numpy() for k, v in net.state_dict().items()}


def batches(x: torch.Tensor, size: int) -> list[Batch]:
    return [Batch(c, torch.zeros(len(c), 1), torch.arange(len(c))) for c in x.split(size)]


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("codes", "millions"), [(5776, 1.74), (25600, 7.7)])
def test_deepfixcx_has_the_published_size(codes: int, millions: float) -> None:
    assert count(DeepfixcxMLP().build((1, codes), 14, 0)) / 1e6 == pytest.approx(millions, abs=0.02)


def test_heartspot_has_the_published_size() -> None:
    net = HeartspotMLP().build((1, 6400), 1, 0)
    assert count(net) / 1e6 == pytest.approx(21.5, abs=0.1)


@pytest.mark.parametrize("normalise", ["mean", "whiten", "none"])
def test_deepfixcx_equals_its_formula(normalise: str) -> None:
    rng = torch.Generator().manual_seed(0)
    train, x = torch.rand(11, 2, 6, generator=rng) * 5, torch.rand(4, 2, 6, generator=rng)
    train[:, 0, 0] = 3.0  # an entry that never changes must not be divided by 0
    net = DeepfixcxMLP(width=5, normalise=normalise).build((2, 6), 3, 1)  # type: ignore[arg-type]
    assert net.needs_statistics() == (normalise != "none")
    net.fit_statistics(batches(train, 4))
    assert not net.needs_statistics()
    w = parts(net)
    data = train.double().numpy()
    centre = data.mean(0) if normalise != "none" else 0
    scale = np.where(data.std(0) > 0, data.std(0), 1) if normalise == "whiten" else 1
    for case, logits in zip(x.double().numpy(), net(x).logits.detach().numpy(), strict=True):
        entries = ((case - centre) / scale * w["attention"][None, :]).reshape(-1)
        hidden = w["hidden.weight"] @ entries + w["hidden.bias"]
        hidden = np.where(hidden > 0, hidden, np.exp(np.minimum(hidden, 0)) - 1)
        np.testing.assert_allclose(logits, w["out.weight"] @ hidden + w["out.bias"], rtol=1e-4, atol=1e-5)


def test_deepfixcx_penalty_and_first_weights() -> None:
    net = DeepfixcxMLP(width=300, penalty=0.1).build((1, 4000), 2, 0)
    w = parts(net)
    assert w["attention"].min() >= 0 and w["attention"].max() < 1
    assert w["attention"].mean() == pytest.approx(0.5, abs=0.02)
    assert w["hidden.weight"].std() == pytest.approx((2 / 4000) ** 0.5, rel=0.01)
    assert net(torch.zeros(1, 1, 4000)).extra["penalty"].item() == pytest.approx(0.1 * np.abs(w["attention"]).mean())


def test_heartspot_equals_its_formula() -> None:
    net = HeartspotMLP(widths=(5, 4)).build((2, 6), 3, 1)
    net(torch.rand(9, 2, 6, generator=torch.Generator().manual_seed(0)))
    net.eval()
    w = parts(net)
    x = torch.rand(4, 2, 6, generator=torch.Generator().manual_seed(1))
    h = x.double().numpy().reshape(4, -1)
    for linear, norm in ((1, 2), (4, 5)):
        h = h @ w[f"layers.{linear}.weight"].T
        mean, variance = w[f"layers.{norm}.running_mean"], w[f"layers.{norm}.running_var"]
        h = (h - mean) / np.sqrt(variance + 1e-5) * w[f"layers.{norm}.weight"] + w[f"layers.{norm}.bias"]
        h = 1.0507009873554805 * np.where(h > 0, h, 1.6732632423543772 * (np.exp(np.minimum(h, 0)) - 1))
    logits = h @ w["layers.7.weight"].T + w["layers.7.bias"]
    np.testing.assert_allclose(net(x).logits.detach().numpy(), logits, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.floats(-1e4, 1e4))
def test_statistics_do_not_depend_on_the_cuts(sizes: list[int], offset: float) -> None:
    rng = np.random.default_rng(len(sizes))
    data = rng.normal(offset, 1, (sum(sizes), 2, 3))
    chunks = np.split(data, np.cumsum(sizes)[:-1])
    if len(data) == 0:
        with pytest.raises(InputError, match="no case"):
            code_statistics(map(torch.from_numpy, chunks))
        return
    mean, variance, cases = code_statistics(map(torch.from_numpy, chunks))
    assert cases == len(data)
    np.testing.assert_allclose(mean.numpy(), data.mean(0), rtol=1e-9)
    np.testing.assert_allclose(variance.numpy(), data.var(0), rtol=1e-6, atol=1e-9)


def test_options_are_checked_at_birth() -> None:
    for make in (
        lambda: HeartspotMLP(widths=(0, 3)),
        lambda: DeepfixcxMLP(width=0),
        lambda: DeepfixcxMLP(penalty=-1.0),
        lambda: DeepfixcxMLP(penalty=float("nan")),
    ):
        with pytest.raises(ConfigError):
            make()
