"""The loss written again with Python's own mathematics, entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from translucid.config import from_kind, with_kind
from translucid.errors import ConfigError, ShapeError
from translucid.losses import BCE, LOSSES, balanced_weights
from translucid.tensors import Batch, Prediction

NAN = float("nan")
ENTRY = st.tuples(st.floats(-20, 20), st.sampled_from([0.0, 1.0, NAN]))
TABLE = st.lists(st.tuples(ENTRY, ENTRY), min_size=1, max_size=6)


def batch(y: torch.Tensor) -> Batch:
    return Batch(torch.zeros(len(y), 1, 1), y, torch.arange(len(y)))


def slow(logits: torch.Tensor, y: torch.Tensor, w: tuple[float, ...]) -> float:
    total, known = 0.0, 0
    for z_row, y_row in zip(logits.tolist(), y.tolist(), strict=True):
        for z, truth, weight in zip(z_row, y_row, w, strict=True):
            if not math.isnan(truth):
                p = 1 / (1 + math.exp(-z))
                total -= weight * truth * math.log(p) + (1 - truth) * math.log(1 / (1 + math.exp(z)))
                known += 1
    return total / known if known else 0.0


@given(TABLE, st.sampled_from([(), (2.0, 0.5)]))
def test_bce_equals_the_formula(table: list[tuple[tuple[float, float], ...]], positive: tuple[float, ...]) -> None:
    logits = torch.tensor([[entry[0] for entry in row] for row in table])
    y = torch.tensor([[entry[1] for entry in row] for row in table])
    got = BCE(positive)(Prediction(logits), batch(y)).item()
    assert got == pytest.approx(slow(logits, y, positive or (1.0, 1.0)), rel=1e-4, abs=1e-5)


def test_unknown_labels_pull_at_nothing() -> None:
    logits = torch.tensor([[3.0, -2.0], [1.0, 4.0]], requires_grad=True)
    y = torch.tensor([[1.0, NAN], [NAN, 0.0]])
    BCE()(Prediction(logits), batch(y)).backward()
    sigma = torch.sigmoid(logits.detach())
    expected = torch.tensor([[(sigma[0, 0] - 1) / 2, 0], [0, sigma[1, 1] / 2]])
    torch.testing.assert_close(logits.grad, expected)


def test_nothing_known_gives_zero_with_a_gradient() -> None:
    logits = torch.ones(2, 1, requires_grad=True)
    loss = BCE()(Prediction(logits), batch(torch.full((2, 1), NAN)))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 1))


def test_penalty_is_added() -> None:
    prediction = Prediction(torch.zeros(1, 1), extra={"penalty": torch.tensor(0.25)})
    assert BCE()(prediction, batch(torch.ones(1, 1))).item() == pytest.approx(math.log(2) + 0.25)


def test_weights_make_both_classes_count_alike() -> None:
    y = np.array([[1.0, NAN, 1], [0, 0, 1], [0, 1, NAN], [0, 0, 1]])
    weights = balanced_weights(y)
    assert weights == (3.0, 2.0, 1.0)
    for label, weight in enumerate(weights[:2]):
        assert weight * np.nansum(y[:, label]) == np.nansum(1 - y[:, label])
    assert balanced_weights(np.array([[1.0]] + [[0.0]] * 500)) == (100.0,)


def test_wrong_shapes_and_weights_are_refused() -> None:
    with pytest.raises(ShapeError, match="differ in shape"):
        BCE()(Prediction(torch.zeros(2, 1)), batch(torch.zeros(2, 2)))
    with pytest.raises(ShapeError, match="give one each"):
        BCE((1.0, 2.0, 3.0))(Prediction(torch.zeros(2, 2)), batch(torch.zeros(2, 2)))
    with pytest.raises(ConfigError, match="above 0"):
        BCE((0.0,))


def test_loss_survives_json() -> None:
    assert from_kind(LOSSES, with_kind(LOSSES, BCE((2.0,))), "loss") == BCE((2.0,))
