"""Learning rates that change with the epoch."""

from __future__ import annotations

import pytest
from torch import nn, optim

from translucid.errors import ConfigError
from translucid.train import TrainSettings
from translucid.train.schedules import cosine, triangular2

LR, STEP = 0.0090552, 2


def test_published_numbers() -> None:
    assert triangular2(0, LR, STEP) == pytest.approx(LR**2, abs=1e-15)
    assert triangular2(0, LR, STEP) == pytest.approx(8.2e-5, abs=1e-6)
    assert triangular2(STEP, LR, STEP) == pytest.approx(LR, abs=1e-15)
    assert triangular2(3 * STEP, LR, STEP) == pytest.approx(LR * (LR + (1 - LR) / 2), abs=1e-15)
    assert round(triangular2(3 * STEP, LR, STEP), 5) == 0.00457


@pytest.mark.parametrize(("lr", "step"), [(LR, STEP), (0.006486, 8), (0.5, 3)])
def test_agrees_with_the_scheduler_of_torch(lr: float, step: int) -> None:
    """Peaks halve there as well, once the valley is taken away: CyclicLR with base lr² and top lr."""
    optimiser = optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    peer = optim.lr_scheduler.CyclicLR(
        optimiser, base_lr=lr**2, max_lr=lr, step_size_up=step, mode="triangular2", cycle_momentum=False
    )
    for epoch in range(6 * step):
        assert triangular2(epoch, lr, step) == pytest.approx(peer.get_last_lr()[0], abs=1e-12)
        optimiser.step()
        peer.step()


@pytest.mark.parametrize("odd", [(-1, LR, 2), (0, 0.0, 2), (0, 1.5, 2), (0, LR, 0), (float("nan"), LR, 2)])
def test_what_cannot_be_is_refused(odd: tuple[float, float, int]) -> None:
    with pytest.raises(ConfigError, match="triangular2 needs"):
        triangular2(*odd)


@pytest.mark.parametrize(("lr", "epochs"), [(0.1, 7), (1e-3, 30), (2.0, 1)])
def test_cosine_agrees_with_the_scheduler_of_torch(lr: float, epochs: int) -> None:
    optimiser = optim.SGD(nn.Linear(1, 1).parameters(), lr=lr)
    peer = optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    settings = TrainSettings(lr=lr, epochs=epochs, schedule="cosine")
    for epoch in range(epochs):
        assert cosine(epoch, lr, epochs) == pytest.approx(peer.get_last_lr()[0], rel=1e-9)
        assert settings.rate(epoch + 1) == cosine(epoch, lr, epochs)
        optimiser.step()
        peer.step()


@pytest.mark.parametrize("odd", [(-1, 0.1, 4), (5, 0.1, 4), (0, 0.0, 4), (float("nan"), 0.1, 4)])
def test_cosine_refuses_what_cannot_be(odd: tuple[float, float, int]) -> None:
    with pytest.raises(ConfigError, match="cosine needs"):
        cosine(*odd)


def test_a_planned_end_marks_the_training() -> None:
    """A run of ten epochs cannot be taken up as one of twenty where the rate was planned to end."""
    marks = {s: {TrainSettings(epochs=e, schedule=s).mark() for e in (10, 20)} for s in ("constant", "cosine")}  # type: ignore[arg-type]
    assert len(marks["constant"]) == 1
    assert len(marks["cosine"]) == 2
