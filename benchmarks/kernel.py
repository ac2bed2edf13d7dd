"""How fast the compiled wavelet packet is, against the grouped convolutions of the published way, in one run.

    python benchmarks/kernel.py --time            # images per second, medians, both ways alternating
    python benchmarks/kernel.py --time --threads 1 --setting haar:5:5

Without --time each setting is run once on a small batch and only the agreement of the two ways is checked.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import pywt
import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.compress.deepfixcx import DeepFixCX

SETTINGS = ["haar:1:79", "haar:2:19", "haar:4:5", "haar:5:5", "haar:6:5", "db2:2:19", "bior2.2:2:19", "coif2:2:19"]


def grouped(images: Tensor, wavelet: str, levels: int, patches: int) -> Tensor:
    """Every level a strided convolution with one group per band, then windows, magnitudes and sums as whole tensors."""
    w = pywt.Wavelet(wavelet)
    pair = torch.tensor([w.dec_lo, w.dec_hi], dtype=images.dtype)
    kernels = torch.einsum("ai,bj->abij", pair, pair).flatten(0, 1)[:, None]
    x, channels = images, images.shape[1]
    for _ in range(levels):
        x = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
        x = F.conv2d(x, kernels.repeat(x.shape[1], 1, 1, 1), stride=2, padding=(w.dec_len - 1) // 2, groups=x.shape[1])
    pads = [(-n % patches) for n in x.shape[-2:]]
    x = F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
    steps = [n // patches for n in x.shape[-2:]]
    cells = x.unfold(2, steps[0], steps[0]).unfold(3, steps[1], steps[1])
    return cells.abs().sum((-1, -2)).reshape(len(images), channels, -1)


def images(batch: int, size: int = 320) -> Tensor:
    """Uniform noise; the time does not depend on the values."""
    return torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))


def rates(ways: dict[str, tuple[Callable[[], object], int]], seconds: float) -> dict[str, float]:
    """Images per second of wall clock, each way in turn until the time is over, so that both see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for run, _ in ways.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, taken.values())) < 5:
        for name, (run, _) in ways.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: n / statistics.median(taken[name]) for name, (_, n) in ways.items()}


def _work(wavelet: str, levels: int, patches: int, batch: int, seconds: float) -> float:
    """One process with one thread, small batches: the published way at its best."""
    torch.set_num_threads(1)
    x = images(batch)
    with torch.no_grad():
        return rates({"": (lambda: grouped(x, wavelet, levels, patches), batch)}, seconds)[""]


def best_grouped(wavelet: str, levels: int, patches: int, processes: int, seconds: float) -> float:
    """The sum over processes at the better of two small batches."""
    found = []
    with ProcessPoolExecutor(processes) as pool:
        for batch in (1, 4):
            jobs = [pool.submit(_work, wavelet, levels, patches, batch, seconds) for _ in range(processes)]
            found.append(sum(j.result() for j in jobs))
    return max(found)


def compare(setting: str, seconds: float, threads: int) -> None:
    """Print one line of figures and ratios."""
    wavelet, levels, patches = setting.split(":")[0], *map(int, setting.split(":")[1:])
    system = DeepFixCX(wavelet, levels, patches, "l1", "published", allow_enlarging=True)
    x = images(32)
    bytes_ = (x * 255).to(torch.uint8)
    ways = {
        "kernel": (lambda: system.encode(x), 32),
        "bytes": (lambda: system.encode(bytes_), 32),
        "grouped32": (lambda: grouped(x, wavelet, levels, patches), 32),
    }
    with torch.no_grad():
        r = rates(ways, seconds)
    best = best_grouped(wavelet, levels, patches, threads, seconds / 4)
    print(
        f"{setting:14} kernel {r['kernel']:7.0f}  uint8 {r['bytes']:7.0f} (x{r['bytes'] / r['kernel']:.2f})  "
        f"grouped, batch 32 {r['grouped32']:6.0f} (x{r['kernel'] / r['grouped32']:.1f})  "
        f"best {best:6.0f} (x{r['kernel'] / best:.1f})",
        flush=True,
    )


def memory(setting: str, batch: int = 128) -> None:
    """Print how far the peak memory rises above the batch itself."""
    wavelet, levels, patches = setting.split(":")[0], *map(int, setting.split(":")[1:])
    system = DeepFixCX(wavelet, levels, patches, "l1", "published", allow_enlarging=True)
    x = images(batch)
    system.encode(x[:2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    system.encode(x)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{setting:14} peak memory above the batch: {(after - before) / (x.nbytes / 1024):.2f} of the batch")


def agree(setting: str) -> float:
    """Largest difference of the two ways on a small batch, relative to the largest code."""
    wavelet, levels, patches = setting.split(":")[0], *map(int, setting.split(":")[1:])
    x = images(2)
    system = DeepFixCX(wavelet, levels, patches, "l1", "published", allow_enlarging=True)
    slow = grouped(x, wavelet, levels, patches)
    return float((system.encode(x) - slow).abs().max() / slow.abs().max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, then check or time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--seconds", type=float, default=4.0, help="per setting")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--setting", action="append", help="wavelet:levels:patches")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    for setting in options.setting or SETTINGS:
        if options.time:
            compare(setting, options.seconds, options.threads)
        else:
            print(f"{setting:14} agrees to {agree(setting):.1e}")
    if options.time:
        memory("haar:2:19")


if __name__ == "__main__":
    main()
