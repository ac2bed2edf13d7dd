"""DeepFixCX's compiled kernel against grouped convolutions, PyWavelets and a plain copy, on images in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from benchmarks.rivals import (
    Setting,
    Team,
    decompositions_here,
    grouped,
    grouped_here,
    in_batches,
    noise,
    packets_here,
    team,
)
from benchmarks.table import Part, Row, row
from benchmarks.timing import Plan, Samples, Way, cores, here, measure
from translucid.compress.deepfixcx import DeepFixCX

MAIN = (Setting("haar", 2, 19), Setting("haar", 4, 5), Setting("haar", 5, 5))
OTHERS = (Setting("db2", 2, 19), Setting("coif2", 2, 19), Setting("bior2.2", 2, 19))
BATCHES = (1, 4, 8, 32, 128)


def system(setting: Setting) -> DeepFixCX:
    """The compressor of a setting, in the published geometry."""
    return DeepFixCX(setting.wavelet, setting.levels, setting.patches, "l1", "published", allow_enlarging=True)


def ours(images: Tensor, setting: Setting, batch: int = 32, threads: int = 1) -> Way:
    """Our kernel in this process."""
    encode = system(setting).encode
    return here(len(images), lambda: in_batches(encode, images, batch), threads)


def copying(images: Tensor, threads: int) -> Way:
    """A plain copy of the same images."""
    target = torch.empty_like(images)
    return here(len(images), lambda: target.copy_(images), threads)


def agreement(setting: Setting, size: int = 320) -> float:
    """Largest difference of kernel and grouped convolutions on two images, relative to the largest code."""
    x = noise(2, size)
    slow = grouped(x, setting)
    return float((system(setting).encode(x) - slow).abs().max() / slow.abs().max())


def best_grouped(
    images: Tensor, setting: Setting, teams: dict[int, Team], plan: Plan
) -> tuple[str, Callable[[Setting, int], Way], int]:
    """The fastest of all batch sizes, in this process with all cores and in teams: its name, how to make it, batch."""
    makers: dict[str, Callable[[Setting, int], Way]] = {"1 process": lambda s, b: grouped_here(images, s, b, cores())}
    makers |= {f"{count} processes": members.way for count, members in teams.items()}
    ways = {f"{name}, batches of {b}": (make, b) for name, make in makers.items() for b in _batches(plan)}
    found = measure({n: make(setting, b) for n, (make, b) in ways.items()}, 1 if plan.quick else 2, plan.block / 2)
    name = min(ways, key=lambda n: found.seconds(n).median)
    return name, *ways[name]


def _batches(plan: Plan) -> list[int]:
    return [b for b in ((4, 32) if plan.quick else BATCHES) if b <= plan.images]


def measure_setting(setting: Setting, plan: Plan, teams: dict[int, Team]) -> tuple[Samples, str]:
    """All ways of one main setting in turn, and in words which grouped version was the fastest."""
    floats = noise(plan.images, plan.size)
    name, make, batch = best_grouped(floats, setting, teams, plan)
    ways = {
        "ours": ours(floats, setting, threads=cores()),
        "grouped best": make(setting, batch),
        "grouped 32": grouped_here(floats, setting, 32, cores()),
        "uint8": ours((floats * 255).to(torch.uint8), setting, threads=cores()),
        "copy": copying(floats, cores()),
        "ours, 1 core": ours(floats, setting),
        "uint8, 1 core": ours((floats * 255).to(torch.uint8), setting),
        "grouped best, 1 core": grouped_here(floats, setting, batch, 1),
        "grouped 32, 1 core": grouped_here(floats, setting, 32, 1),
        "copy, 1 core": copying(floats, 1),
        "whole": ours(floats, setting, plan.images, cores()),
        "whole, 1 core": ours(floats, setting, plan.images),
    }
    return measure(ways, plan.repeats, plan.block), name


def main_rows(setting: Setting, found: Samples, best: str, size: int) -> list[Row]:
    """The targets of one main setting; by CPU time all are compared on one core, where no thread waits for another."""

    def by_cpu(name: str, than: str) -> float:
        return found.faster(f"{name}, 1 core", f"{than}, 1 core", "cpu").median

    moved = (1 + system(setting).code_length((size, size)) / size**2) / 2  # of what the copy reads and writes
    per_cpu = {n: found.rate(f"{n}, 1 core", "cpu").median for n in ("ours", "uint8")}
    rows = [
        row(f"{setting} l1, float32", found.rate("ours"), "images/s", cpu=per_cpu["ours"]),
        row(
            f"{setting} over grouped at its best",
            found.faster("ours", "grouped best"),
            least=5,
            cpu=by_cpu("ours", "grouped best"),
            note=best,
        ),
        row(
            f"{setting} over grouped, batches of 32",
            found.faster("ours", "grouped 32"),
            least=15,
            cpu=by_cpu("ours", "grouped 32"),
            note=f"1 process, {cores()} threads",
        ),
        row(f"{setting} l1, uint8", found.rate("uint8"), "images/s", cpu=per_cpu["uint8"]),
        row(f"{setting} uint8 over float32", found.faster("uint8", "ours"), least=1.5, cpu=by_cpu("uint8", "ours")),
        row(
            f"{setting} share of the bandwidth of a copy",
            found.faster("ours", "copy").scaled(100 * moved),
            "%",
            cpu=by_cpu("ours", "copy") * 100 * moved,
        ),
    ]
    if cores() > 1:
        for name, note in (("whole", "one batch"), ("ours", "batches of 32")):
            gain = found.faster(name, f"{name}, 1 core")
            least = 0.9 * cores() if name == "whole" else None
            rows.append(row(f"{setting} {cores()} cores over one, {note}", gain, least=least))
    return rows


def other_rows(setting: Setting, plan: Plan, part: Part) -> list[Row]:
    """A wavelet other than Haar against grouped convolutions in batches of 32."""
    floats = noise(min(plan.images, 64), plan.size)
    ways = {
        "ours": ours(floats, setting, threads=cores()),
        "grouped": grouped_here(floats, setting, 32, cores()),
        "ours, 1 core": ours(floats, setting),
        "grouped, 1 core": grouped_here(floats, setting, 32, 1),
    }
    found = part.keep(str(setting), measure(ways, plan.repeats, plan.block))
    cpu = found.faster("ours, 1 core", "grouped, 1 core", "cpu").median
    ratio = found.faster("ours", "grouped")
    return [
        row(f"{setting} l1, float32", found.rate("ours"), "images/s", cpu=found.rate("ours, 1 core", "cpu").median),
        row(f"{setting} over grouped, batches of 32", ratio, least=5, cpu=cpu),
    ]


def pywt_rows(plan: Plan, part: Part) -> list[Row]:
    """PyWavelets on one core, against ours on one core, which also pools."""
    setting = MAIN[0]
    few = noise(min(plan.images, 16), plan.size)
    ways = {"ours": ours(few, setting), "packet": packets_here(few, setting), "dec": decompositions_here(few, setting)}
    found = part.keep("PyWavelets", measure(ways, plan.repeats, plan.block))
    names = {"packet": "WaveletPacket2D", "dec": "wavedec2"}
    return [
        row(
            f"{setting} over PyWavelets' {label}, one core, without pooling",
            found.faster("ours", name),
            cpu=found.faster("ours", name, "cpu").median,
        )
        for name, label in names.items()
    ]


def part(plan: Plan) -> Part:
    """All targets on images in memory."""
    part = Part()
    with ExitStack() as stack:
        counts = [c for c in (2, cores()) if 1 < c <= cores()]
        teams = {c: stack.enter_context(team(c, plan.images, plan.size)) for c in dict.fromkeys(counts)}
        for setting in MAIN:
            found, best = measure_setting(setting, plan, teams)
            part.rows += main_rows(setting, part.keep(str(setting), found), best, plan.size)
    for setting in OTHERS:
        part.rows += other_rows(setting, plan, part)
    part.rows += pywt_rows(plan, part)
    worst = max(agreement(setting, plan.size) for setting in (*MAIN, *OTHERS))
    part.rows.append(
        Row("kernel and grouped differ, relative to the largest code", worst, "", "≤ 1e-05", worst <= 1e-5)
    )
    return part
