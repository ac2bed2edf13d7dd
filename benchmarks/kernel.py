"""How fast the compiled wavelet packet is, against the grouped convolutions of the published way, in one run.

    python benchmarks/kernel.py --time            # images per second, medians, both ways alternating
    python benchmarks/kernel.py --time --threads 1 --setting haar:5:5 --seconds 10

Without --time each setting is run once on a small batch and only the agreement of the two ways is checked.
"""

from __future__ import annotations

import argparse
import multiprocessing
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

Way = Callable[[], object]
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


def rates(ways: dict[str, tuple[Way, int]], seconds: float, clock: Callable[[], float]) -> dict[str, float]:
    """Images per second, medians; each way in turn until the time is over, so that all see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for run, _ in ways.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, taken.values())) < 5:
        for name, (run, _) in ways.items():
            start = clock()
            run()
            taken[name].append(clock() - start)
    return {name: n / statistics.median(taken[name]) for name, (_, n) in ways.items()}


def compare(setting: str, seconds: float, threads: int) -> None:
    """Print images per processor second of one thread, both ways, and of the kernel per second with all threads.

    Processor seconds, because they are less disturbed by what else the machine does; small batches on one thread per
    core are the published way at its best.
    """
    wavelet, levels, patches = setting.split(":")[0], *map(int, setting.split(":")[1:])
    system = DeepFixCX(wavelet, levels, patches, "l1", "published", allow_enlarging=True)
    x = images(32)
    bytes_ = (x * 255).to(torch.uint8)

    def slow(batch: int) -> tuple[Way, int]:
        return lambda: grouped(x[:batch], wavelet, levels, patches), batch

    ways: dict[str, tuple[Way, int]] = {"kernel": (lambda: system.encode(x), 32)}
    ways |= {"bytes": (lambda: system.encode(bytes_), 32), "1": slow(1), "4": slow(4), "32": slow(32)}
    with torch.no_grad():
        torch.set_num_threads(1)
        r = rates(ways, seconds, time.thread_time)
        torch.set_num_threads(threads)
        wall = rates({k: ways[k] for k in ("kernel", "bytes")}, seconds / 4, time.perf_counter)
    best = max(r["1"], r["4"], r["32"])
    parts = [
        f"{setting:13} per CPU-s: kernel {r['kernel']:6.0f}  uint8 {r['bytes']:6.0f} (x{r['bytes'] / r['kernel']:.2f})",
        f"grouped best {best:5.0f} (x{r['kernel'] / best:.1f})  batch 32 {r['32']:5.0f} (x{r['kernel'] / r['32']:.1f})",
        f"| {threads} threads, per s: kernel {wall['kernel']:6.0f}  uint8 {wall['bytes']:6.0f}",
    ]
    print("  ".join(parts), flush=True)


def memory(setting: str, batch: int = 128) -> float:
    """How far the peak memory of this process rises above the batch itself, as a part of the batch."""
    wavelet, levels, patches = setting.split(":")[0], *map(int, setting.split(":")[1:])
    system = DeepFixCX(wavelet, levels, patches, "l1", "published", allow_enlarging=True)
    x = images(batch)
    system.encode(x[:2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    system.encode(x)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / x.nbytes


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
    if options.time:  # a fresh process, which has no higher peak behind it
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            for setting in ("haar:2:19", "coif2:2:19"):
                extra = pool.submit(memory, setting).result()
                print(f"{setting:14} peak memory above the batch: {extra:.2f} of the batch")


if __name__ == "__main__":
    main()
