"""Training: exact resume, honest selection, clear errors, and everything left as found."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from translucid.data import Augment, Loader
from translucid.errors import ConfigError, InputError, ShapeError, StaleRun
from translucid.losses import BCE
from translucid.models import DeepfixcxMLP, HeartspotMLP, SmallCNN
from translucid.tensors import Batch, Prediction
from translucid.train import TrainSettings, clear_checkpoints, fit, macro_auc, predict

QUICK = {"epochs": 4, "batch": 8, "threads": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(n: int = 26, seed: int = 0, contrast: float = 0.3) -> Loader:
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 2)[:, None].astype(np.float32)
    x = rng.random((n, 1, 32, 32), dtype=np.float32)
    x[:, 0, 8:20, 8:20] += contrast * y[:, :, None]
    return Loader(x, y, 8)


def codes(n: int = 60, seed: int = 0, noise: float = 1.0, labels: int = 1) -> Loader:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, labels)).astype(np.float32)
    x = rng.normal(0, noise, (n, 1, 12)).astype(np.float32)
    x[:, 0, :labels] += 2 * y - 1
    return Loader(x, y, 8)


def cnn() -> nn.Module:
    return SmallCNN(widths=(4, 8)).build((1, 32, 32), 1, 0)


def mlp(labels: int = 1) -> nn.Module:
    return HeartspotMLP(widths=(16, 8)).build((1, 12), labels, 0)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


LASTING = ("epoch", "train_loss", "val_loss", "val_auc", "lr")


def lasting(history: tuple[dict[str, float], ...]) -> list[list[float]]:
    return [[row[k] for k in LASTING] for row in history]


class Noisy(nn.Module):
    """A network that draws random numbers while it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drop = cnn(), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> Prediction:
        return self.inner(self.drop(x))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_resumed_training_ends_bit_for_bit_like_an_uninterrupted_one(optimiser: Any, tmp_path: Path) -> None:
    more: dict[str, Any] = {**QUICK, "optimiser": optimiser, "select": "loss", "epoch_cases": 20, "clip": 1.0}
    train, val = images().with_(augment=Augment(shift=0.1)), images(10, 1)
    models = [Noisy() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    whole = fit(models[0], train, val, TrainSettings(**more), tmp_path / "whole")

    calls = iter(range(100))

    def power_cut(x: torch.Tensor) -> torch.Tensor:
        if next(calls) == 9:  # in the third epoch; an epoch has 3 batches and the validation 2
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        cut = {"transform": power_cut}
        fit(models[1], train.with_(**cut), val.with_(**cut), TrainSettings(**more), tmp_path / "cut")
    assert len(list(csv.reader((tmp_path / "cut" / "history.csv").open()))) in (2, 3)
    fresh = Noisy()
    resumed = fit(fresh, train, val, TrainSettings(**more), tmp_path / "cut")
    assert lasting(resumed.history) == lasting(whole.history)
    assert same(weights(fresh), weights(models[0]))


def test_longer_training_goes_on_and_a_finished_one_is_not_repeated(tmp_path: Path) -> None:
    model, data = mlp(), codes()
    fit(model, data, data, TrainSettings(**QUICK), tmp_path)
    longer = fit(model, data, data, TrainSettings(**(QUICK | {"epochs": 6})), tmp_path)
    other = mlp()
    straight = fit(other, data, data, TrainSettings(**(QUICK | {"epochs": 6})), tmp_path / "straight")
    assert lasting(longer.history) == lasting(straight.history)
    assert same(weights(model), weights(other))
    third = mlp()
    again = fit(third, data, data, TrainSettings(**(QUICK | {"epochs": 6})), tmp_path)
    assert again.history == longer.history
    assert same(weights(third), weights(model))


def test_checkpoints_may_be_rare(tmp_path: Path) -> None:
    settings = TrainSettings(**QUICK, checkpoint_every=3)
    a, b = mlp(), mlp()
    fit(a, codes(), codes(), settings, tmp_path)
    fit(b, codes(), codes(), TrainSettings(**QUICK), tmp_path / "b")
    assert same(weights(a), weights(b))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "checkpoint.safetensors", "history.csv"]
    clear_checkpoints(tmp_path)
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"seed": 1}, {"batch": 4}])
def test_another_training_in_the_folder_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    fit(mlp(), codes(), codes(), TrainSettings(**QUICK), tmp_path)
    with pytest.raises(StaleRun, match="choose another folder"):
        fit(mlp(), codes(), codes(), TrainSettings(**(QUICK | change)), tmp_path)
    with pytest.raises(StaleRun, match="choose another folder"):
        fit(mlp(), codes(seed=5), codes(), TrainSettings(**QUICK), tmp_path)
    fitted = fit(mlp(), codes(), codes(), TrainSettings(**(QUICK | change)), tmp_path, resume=False)
    assert len(fitted.history) == 4


def test_another_network_or_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(mlp(), codes(), codes(), TrainSettings(**QUICK), tmp_path)
    with pytest.raises(StaleRun, match="another network"):
        wider = HeartspotMLP(widths=(9, 8)).build((1, 12), 1, 0)
        fit(wider, codes(), codes(), TrainSettings(**(QUICK | {"epochs": 5})), tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not this")
    with pytest.raises(InputError, match="delete it to start over"):
        fit(mlp(), codes(), codes(), TrainSettings(**QUICK), tmp_path)


def test_the_best_epoch_on_validation_is_kept(tmp_path: Path) -> None:
    model, val = mlp(), codes(40, 1, noise=3.0)
    settings = TrainSettings(epochs=12, batch=8, lr=0.02, threads=1)
    fitted = fit(model, codes(24, noise=3.0), val, settings, tmp_path)
    areas = [row["val_auc"] for row in fitted.history]
    assert areas[-1] < max(areas), "this test needs a training whose last epoch is not the best"
    assert fitted.best == max(areas) == areas[fitted.best_epoch - 1]
    assert macro_auc(np.asarray(val.y), predict(model, val)) == fitted.best


def test_patience_stops_after_so_many_epochs_without_a_better_one(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=200, batch=8, lr=0.05, patience=3, select="loss", threads=1)
    fitted = fit(mlp(), codes(24, noise=3.0), codes(40, 1, noise=3.0), settings, tmp_path)
    assert len(fitted.history) == fitted.best_epoch + 3 < 200
    assert fitted.best == min(row["val_loss"] for row in fitted.history)


def test_one_class_in_validation_selects_by_loss_and_says_so(tmp_path: Path) -> None:
    val = codes(10, 1).with_(y=np.ones((10, 1)))
    fitted = fit(mlp(), codes(), val, TrainSettings(**QUICK), tmp_path)
    assert fitted.selected_by == "loss"
    assert fitted.notes == ("validation has one class only: selected by loss",)
    assert math.isnan(fitted.history[0]["val_auc"])
    assert [row["val_auc"] for row in csv.DictReader((tmp_path / "history.csv").open())] == [""] * 4


def test_labels_that_cannot_be_judged_or_learned_are_named(tmp_path: Path) -> None:
    train, val = codes(labels=3), codes(30, 1, labels=3)
    train.y[:, 2], val.y[:, 1] = float("nan"), 0.0  # type: ignore[index]
    fitted = fit(mlp(3), train, val, TrainSettings(**QUICK), tmp_path)
    assert fitted.selected_by == "auc"
    assert [note.split(" has ")[0] for note in fitted.notes] == ["training", "validation"]
    assert "label 2" in fitted.notes[0] and "label 1" in fitted.notes[1]


def test_loop_equals_the_plain_one(tmp_path: Path) -> None:
    data, ours, plain = codes(20), mlp(), mlp()
    settings = TrainSettings(epochs=2, batch=8, optimiser="sgd", lr=0.1, momentum=0.9, balance=True, threads=1)
    fitted = fit(ours, data, data, settings, tmp_path)
    y = np.asarray(data.y)
    loss = BCE((float((1 - y).sum() / y.sum()),))
    velocity = [torch.zeros_like(p) for p in plain.parameters()]
    seen = []
    for epoch in (1, 2):
        order = np.random.default_rng([0, epoch]).permutation(20)
        total = 0.0
        for rows in (order[:8], order[8:16], order[16:]):
            batch = Batch(torch.from_numpy(data.x[rows]), torch.from_numpy(y[rows]), torch.from_numpy(rows))
            plain.train()
            value = loss(plain(batch.x), batch)
            gradients = torch.autograd.grad(value, list(plain.parameters()))
            total += value.item() * len(rows)
            with torch.no_grad():
                for p, v, g in zip(plain.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g)
                    p.sub_(0.1 * (g + 0.9 * v))  # Nesterov
        seen.append(total / 20)
    assert [row["train_loss"] for row in fitted.history] == pytest.approx(seen, rel=1e-5)
    if fitted.best_epoch == 2:
        torch.testing.assert_close(dict(ours.named_parameters()), dict(plain.named_parameters()), rtol=1e-4, atol=1e-5)


def test_statistics_come_from_training_alone(tmp_path: Path) -> None:
    model = DeepfixcxMLP(width=8).build((1, 12), 1, 0)
    train, val = codes(), codes(20, 1)
    fit(model, train, val.with_(x=val.x + 100), TrainSettings(**QUICK, epoch_cases=9), tmp_path)
    np.testing.assert_allclose(model.mean.numpy(), train.x.mean(0), atol=1e-5)
    assert int(model.cases_seen) == 60


def test_caller_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = Noisy()
    model.eval()
    model.inner.body[1].train()
    modes = [m.training for m in model.modules()]
    torch.set_num_threads(2)
    before, data = torch.random.get_rng_state(), images()
    kept = data.x.copy()
    fit(model, data, data, TrainSettings(**(QUICK | {"epochs": 1})), tmp_path)
    predict(model, data, TrainSettings(threads=1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [m.training for m in model.modules()] == modes
    assert torch.get_num_threads() == 2
    assert data.epoch == 0 and np.array_equal(data.x, kept)
    assert all(p.is_contiguous() for p in model.parameters())
    assert capfd.readouterr() == ("", "")


def test_bar_is_shown_on_demand(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(mlp(), codes(), codes(), TrainSettings(**QUICK), tmp_path, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "epoch 4: validation loss" in err


def test_history_and_result_can_be_written(tmp_path: Path) -> None:
    fitted = fit(mlp(), codes(), codes(), TrainSettings(**QUICK), tmp_path)
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(float(row["epoch"])) for row in rows] == [1, 2, 3, 4]
    assert all(float(row["images_per_second"]) > 0 and float(row["lr"]) == 1e-3 for row in rows)
    from translucid.config import to_plain

    plain = json.loads(json.dumps(to_plain(fitted)))
    assert plain["seconds_per_15000"] == pytest.approx(plain["seconds_per_epoch"] / 60 * 15000)
    assert plain["parameters"] == sum(p.numel() for p in mlp().parameters())


def test_mixed_precision_keeps_weights_in_full(tmp_path: Path) -> None:
    model, data = cnn(), images()
    settings = TrainSettings(epochs=6, batch=8, lr=1e-2, precision="bf16-mixed", threads=1)
    fitted = fit(model, data, data, settings, tmp_path)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    logits = predict(model, data, settings)
    assert logits.dtype == np.float32
    assert not np.array_equal(logits, predict(model, data)), "autocast had no effect"
    assert fitted.best > 0.9


def test_prediction_follows_the_arrays_and_not_the_loader() -> None:
    model, data = cnn(), images(11)
    restless = data.with_(shuffle=True, augment=Augment(flip=True), drop_last=True, draw=3, batch=4, prefetch=2)
    model.train()
    got = predict(model, restless)
    assert model.training
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(data.x)).logits.numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_a_split_nothing_can_be_learned_from_is_refused(tmp_path: Path) -> None:
    data = codes(10)
    empty = Loader(data.x[:0], np.zeros((0, 1)), 8)
    unknown = data.with_(y=np.full((10, 1), np.nan))
    wanted = [(empty, data, "training split is empty"), (data, empty, "validation split is empty")]
    wanted += [(unknown, data, "training split are unknown"), (data, unknown, "validation split are unknown")]
    wanted += [(codes(1), data, "1 case"), (codes(labels=2), data, "use the same labels")]
    for train, val, message in wanted:
        with pytest.raises(InputError, match=message):
            fit(mlp(), train, val, TrainSettings(**QUICK), tmp_path)
    with pytest.raises(InputError, match="no case"):
        predict(mlp(), empty)
    with pytest.raises(ShapeError, match="1 logits a case, the data has 2 labels"):
        predict(mlp(), codes(labels=2))


def test_a_loss_that_is_no_number_says_where_and_what_to_try(tmp_path: Path) -> None:
    bad = codes()
    bad.x[17, 0, 3] = np.nan
    with pytest.raises(InputError, match="case 17 holds nan"):
        fit(mlp(), bad, codes(), TrainSettings(**QUICK), tmp_path / "a")

    def explodes(prediction: Prediction, batch: Batch) -> torch.Tensor:
        return prediction.logits.sum() * (float("inf") if next(steps) > 12 else 0.1)

    steps = iter(range(99))
    with pytest.raises(ConfigError, match=r"epoch 2: try lr = 0.0001, clip = 1.0"):
        fit(mlp(), codes(), codes(), TrainSettings(**QUICK), tmp_path / "b", loss=explodes)
    assert len(list(csv.DictReader((tmp_path / "b" / "history.csv").open()))) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"lr": 0.0}, {"lr": math.nan}, {"optimiser": "adma"}, {"loss": "mse"}, {"precision": "8"},
     {"clip": -1.0}, {"patience": 0}, {"select": "f1"}, {"seed": -1}],
)  # fmt: skip
def test_wrong_settings_are_refused_at_birth(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainSettings(**wrong)
