"""Training on codes against training on pixels: time per epoch and peak memory, each in a process of its own.

    python -m benchmarks.training [--size 320] [--cases 64]

Prints seconds per 15,000 images of DenseNet121 on raw images (batch 10) and of the DeepFixCX perceptron on its codes
(batch 1000), their ratio, and how much memory each process needed at most. The data are random: speed does not see it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

DENSENET, PERCEPTRON = 10, 1000


def one(kind: str, size: int, cases: int, batch: int) -> dict[str, float]:
    """Train two epochs and tell the faster one's seconds per 15,000 images, and this process's peak memory."""
    import numpy as np
    import torch

    from translucid.compress import DeepFixCX
    from translucid.data import Loader
    from translucid.models import MODELS
    from translucid.train import TrainSettings, fit

    torch.set_num_threads(2)
    generator = np.random.default_rng(0)
    y = (np.arange(cases) % 2)[:, None].repeat(14, 1).astype(np.float32)
    if kind == "densenet121":
        x = generator.integers(0, 256, (cases, 1, size, size), dtype=np.uint8)
    else:
        x = generator.random((cases, 1, DeepFixCX(levels=2, patches=19).code_length((size, size))), dtype=np.float32)
    model = MODELS[kind]().build(x.shape[1:], 14, 0)
    few = Loader(x[:8], y[:8], 8)
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainSettings(epochs=2, batch=batch, checkpoint_every=2)
        fitted = fit(model, Loader(x, y, batch), few, settings, Path(folder), progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"seconds": fitted.seconds_per_15000, "peak_mb": peak, "total": perf_counter() - start}


def main() -> None:
    """Run both in processes of their own and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "CASES", "BATCH"))
    options = parser.parse_args()
    if options.one:
        kind, cases, batch = options.one
        print(json.dumps(one(kind, options.size, int(cases), int(batch))))
        return
    runs = {"densenet121": (options.cases, DENSENET), "deepfixcx_mlp": (15000, PERCEPTRON)}
    found = {}
    for kind, (cases, batch) in runs.items():
        words = [sys.executable, "-m", "benchmarks.training", "--size", str(options.size)]
        out = subprocess.run(
            [*words, "--one", kind, str(cases), str(batch)], capture_output=True, text=True, check=True
        )
        found[kind] = json.loads(out.stdout.splitlines()[-1])
        print(
            f"{kind:14s} batch {batch:5d}  {found[kind]['seconds']:9.1f} s per 15,000  {found[kind]['peak_mb']:7.0f} MB"
        )
    ratio = found["densenet121"]["seconds"] / found["deepfixcx_mlp"]["seconds"]
    memory = found["densenet121"]["peak_mb"] / found["deepfixcx_mlp"]["peak_mb"]
    print(f"the perceptron is {ratio:.0f}× faster (target 70×), with {PERCEPTRON // DENSENET}× the batch,")
    print(f"and needs 1/{memory:.1f} of the memory (target: no more)")


if __name__ == "__main__":
    main()
