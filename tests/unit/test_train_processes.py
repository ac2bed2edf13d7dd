"""Two processes on one CPU learn what one process learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from translucid.data import Loader
from translucid.models import DeepfixcxMLP
from translucid.train import TrainSettings, fit, macro_auc, predict

rng = np.random.default_rng(0)
y = rng.integers(0, 2, (16, 1)).astype(np.float32)
x = rng.normal(0, 1, (16, 1, 6)).astype(np.float32) + y[:, :, None]
train, val = Loader(x, y, 4), Loader(x[:7] / 2, y[:7], 4)
told = {}
for devices in (1, 2):
    model = DeepfixcxMLP(width=4).build((1, 6), 1, 0)
    settings = TrainSettings(
        epochs=3, batch=8 // devices, optimiser="sgd", lr=0.1, select="loss", threads=1,
        accelerator="cpu", devices=devices, strategy="auto" if devices == 1 else "ddp_fork",
    )
    fitted = fit(model, train, val, settings, Path(sys.argv[1]) / str(devices))
    told[devices] = {
        "weights": model.hidden.weight.flatten().tolist(),
        "losses": [[row["train_loss"], row["val_loss"]] for row in fitted.history],
        "auc": [fitted.history[fitted.best_epoch - 1]["val_auc"], macro_auc(np.asarray(val.y), predict(model, val))],
    }
print(json.dumps(told))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout).values()
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-6)
    for a, b in zip(one["losses"], two["losses"], strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    for epoch, prediction in (one["auc"], two["auc"]):
        assert epoch == pytest.approx(prediction)
