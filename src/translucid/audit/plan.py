"""An audit as a list of independent tasks, and what joins their answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from translucid.audit import judging
from translucid.audit.lettering import judge_text, written_stage
from translucid.audit.records import Budget, Codec, Cohort, to_grid
from translucid.audit.rows import Row, bound_rows, control, row, validation
from translucid.audit.staging import Stage, stage
from translucid.audit.table import AGAINST_NOISE, ATTACKS, LADDERS, PARTS
from translucid.errors import ConfigError, did_you_mean
from translucid.types import Estimate

Progress = Callable[[int, int], None]
PLAIN, NOISE, CONSTANT, BEST = "plain", "noise", "constant", "best"
ADDED = (PLAIN, NOISE, CONSTANT)
REKEYED, WRITTEN = " under two keys", " with letters"
GENTLE = 8
"""The control on constant codes gets this part of the epochs: there is nothing to learn, and none to find."""


@dataclass(frozen=True)
class Task:
    """One attack on one compressor; independent of all others.

    Attributes:
        attack: a name in `ATTACKS`, or "bounds".
        codec: the compressor's name, or "plain", "noise", "constant"; with " under two keys" or " with letters" after
            it where its records are made for that part.
    """

    attack: str
    codec: str


@dataclass(frozen=True)
class Audit:
    """What is to be audited, on whom, and at which budget.

    Attributes:
        cohort: films and patients.
        codecs: name → compressor; "plain", "noise" and "constant" are added.
        parts: which parts of `PARTS`.
        budget: what attackers may spend.
        seed: of everything drawn.
        rekeyed: name → the same compressor under another key, for unlinkability.
        letters: name → picture (high, wide) of the letters burnt in for the part "text"; without any it is left out.
        leave_out: attacks not run.

    Raises:
        ConfigError: an unknown part or attack, or a compressor with a reserved name.
    """

    cohort: Cohort
    codecs: Mapping[str, Codec]
    parts: Sequence[str] = PARTS
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    rekeyed: Mapping[str, Codec] = field(default_factory=dict)
    letters: Mapping[str, np.ndarray] = field(default_factory=dict)
    leave_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ConfigError(f"unknown part {part!r}: {did_you_mean(part, PARTS)}")
        for attack in self.leave_out:
            if attack not in ATTACKS:
                raise ConfigError(f"unknown attack {attack!r}: {did_you_mean(attack, ATTACKS)}")
        for name in (*self.codecs, *self.rekeyed):
            if name in ADDED or (name in self.rekeyed and name not in self.codecs):
                raise ConfigError(f"the name {name!r} is reserved or belongs to no compressor: take another")

    def rungs(self, codec: str) -> dict[str, tuple[str, ...]]:
        """The parts and attacks that apply to one compressor."""
        held = self.codecs.get(bare(codec))
        barred = set(self.leave_out)
        if held is not None and held.lift is None:
            barred.add("inverse")
        noisy = [held] if held is not None else list(self.codecs.values())
        if not any(c.clean is not None for c in noisy):
            barred |= set(AGAINST_NOISE)
        return {p: tuple(a for a in LADDERS[p] if a not in barred) for p in self._parts(codec, held)}

    def _parts(self, codec: str, held: Codec | None) -> list[str]:
        """The parts of one stage: letters and second keys have stages of their own."""
        asked = [p for p in self.parts if p in LADDERS]
        if codec.endswith(WRITTEN):
            return [p for p in asked if p == "text"]
        if codec.endswith(REKEYED):
            return [p for p in asked if p == "unlinkability"]
        barred = {"text"} | (set() if held is None and self.rekeyed else {"unlinkability"})
        if held is not None and held.encode is None:
            barred |= {"linkage_same", "linkage_other"}
        if not self.cohort.attributes:
            barred.add("attributes")
        return [p for p in asked if p not in barred]

    def stages(self) -> list[str]:
        """Every compressor under each of its names, the added ones first."""
        names = [*ADDED, *self.codecs]
        if "unlinkability" in self.parts:
            names += [n + REKEYED for n in self.rekeyed]
        if "text" in self.parts and self.letters:
            names += [n + WRITTEN for n in (*ADDED, *(k for k, c in self.codecs.items() if c.encode is not None))]
        return names


def bare(codec: str) -> str:
    """A compressor's name without what its records were made for.

    Example:
        >>> bare("hline under two keys")
        'hline'
    """
    return codec.removesuffix(REKEYED).removesuffix(WRITTEN)


def plain_codec(budget: Budget, space: tuple[int, ...]) -> Codec:
    """The upper row: the image itself, averaged down to `budget.plain_side`."""
    side = min(budget.plain_side, *space)

    def lift(codes: Tensor) -> Tensor:
        return codes.unflatten(-1, (side, side))

    return Codec(PLAIN, lambda x: to_grid(x, side).flatten(2), lift, lift)


def noise_codec(numbers: int, channels: int, images: int, seed: int) -> Codec:
    """The lower row: independent normal numbers that know nothing of the image."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randn(images, channels, numbers, generator=draw)
    return Codec(NOISE, lambda x: torch.randn(len(x), channels, numbers, generator=draw), None, _first, codes)


def constant_codec(channels: int) -> Codec:
    """The control: every image has the same code."""
    return Codec(CONSTANT, lambda x: torch.full((len(x), channels, 64), 0.5), None, _first)


def _first(codes: Tensor) -> Tensor:
    """Something to call an inverse where there is none: the first numbers as a picture."""
    side = min(16, math.isqrt(codes.shape[-1]))
    return codes[..., : side * side].unflatten(-1, (side, side))


def _length(audit: Audit) -> int:
    """Numbers in the longest code: noise has the most room to mislead there."""
    one = audit.cohort.images[:1]
    sizes = [c.codes.shape[-1] if c.codes is not None else c.encode(one).shape[-1] for c in _usable(audit)]
    return max(sizes, default=1024)


def _usable(audit: Audit) -> list[Any]:
    return [c for c in audit.codecs.values() if c.codes is not None or c.encode is not None]


def set_up(audit: Audit, codec: str) -> Stage:
    """The stage of one compressor by name, the added ones included.

    Raises:
        ConfigError: no such compressor.
    """
    name, budget = bare(codec), audit.budget
    if name == CONSTANT:
        budget = replace(budget, epochs=max(1, budget.epochs // GENTLE), copies=min(budget.copies, 1))
    if codec.endswith(WRITTEN):
        return written_stage(audit.cohort, _codec(audit, name), audit.letters, budget, audit.seed)
    other = audit.rekeyed[name] if codec.endswith(REKEYED) else None
    return stage(audit.cohort, _codec(audit, name), budget, audit.seed, other)


def _codec(audit: Audit, name: str) -> Codec:
    channels, space = audit.cohort.images.shape[1], tuple(audit.cohort.images.shape[2:])
    if name == CONSTANT:
        return constant_codec(channels)
    if name == PLAIN:
        return plain_codec(audit.budget, space)
    if name == NOISE:
        return noise_codec(_length(audit), channels, len(audit.cohort.images), audit.seed + 1)
    if name not in audit.codecs:
        raise ConfigError(f"no compressor {name!r}: {did_you_mean(name, audit.codecs)}")
    return audit.codecs[name]


def tasks(audit: Audit) -> list[Task]:
    """All tasks, those of one compressor together, so that its stage can be kept.

    Fails when: nothing; but the whole ladder is always in it, so leave out rungs only to test.
    """
    out = []
    for name in audit.stages():
        rungs = audit.rungs(name)
        out += [Task(a, name) for a in dict.fromkeys(a for ladder in rungs.values() for a in ladder)]
        if "bounds" in audit.parts and name in audit.codecs:
            out.append(Task("bounds", name))
    return out


def run_task(audit: Audit, task: Task, staged: Stage | None = None) -> list[Row]:
    """Train one attack on one compressor's records and score it.

    Args:
        audit: the whole.
        task: from `tasks`.
        staged: `set_up(audit, task.codec)`, where it is at hand.

    Returns:
        Rows of audit.json, without the plain column and before controls are looked at; rows of controls have the
        measure "control" and a key "holds".

    Raises:
        ConfigError: an unknown attack or compressor.
    """
    ready = staged or set_up(audit, task.codec)
    if task.attack == "bounds":
        return bound_rows(audit.codecs[task.codec], ready, task.codec)
    if task.attack not in ATTACKS:
        raise ConfigError(f"unknown attack {task.attack!r}: {did_you_mean(task.attack, ATTACKS)}")
    attack, start = ATTACKS[task.attack], time.process_time()
    seen = replace(ready.release, probe=None)
    if task.codec.endswith(REKEYED) and not _comparable(task.attack, ready):
        return []
    fitted = attack.fit(seen, ready.public, audit.seed)
    budget = dict(fitted.spent) | {"seconds": round(time.process_time() - start, 2)}
    if not math.isnan(ready.secret.gap):
        budget["follow_up"] = ready.secret.gap
    rows = []
    for part, ladder in audit.rungs(task.codec).items():
        if task.attack in ladder:
            rows += _part_rows(audit, task, part, attack, fitted, ready, budget)
    return rows


def _comparable(attack: str, ready: Stage) -> bool:
    """Records under two keys can be compared number by number only where they are as long."""
    assert ready.again is not None
    return attack in ("values", "cross") or ready.again.codes.shape[1:] == ready.release.codes.shape[1:]


def _part_rows(
    audit: Audit, task: Task, part: str, attack: Any, fitted: Any, ready: Stage, budget: Mapping[str, Any]
) -> list[Row]:
    pools = getattr(attack, "pools", False)
    found, codec = _measure(audit, part, fitted, ready, pools), bare(task.codec)
    rows = [row(part, task.attack, k, codec, v, chance, budget) for k, (v, chance) in found.items()]
    own = fitted.linked if part.startswith(("linkage", "unlinkability")) else fitted.validation
    if not math.isnan(own):
        rows.append(validation(part, task.attack, codec, own, budget))
    if task.attack == "mean_image":
        return rows
    if codec == PLAIN:
        how = judging.Control(part, pools, audit.budget.resamples, audit.seed)
        reached = how.shown(fitted, attack, ready, found)
        rows.append(control(part, task.attack, "nothing hidden", reached, reached.value >= judging.SUCCEEDS[part]))
    if codec == CONSTANT:
        rows.append(control(part, task.attack, CONSTANT, *_at_chance(part, found)))
    return rows


def _measure(audit: Audit, part: str, fitted: Any, ready: Stage, pools: bool) -> judging.Measured:
    how = (audit.budget.resamples, audit.seed)
    if part == "verification":
        return judging.judge_verification(fitted, ready, *how)
    if part.startswith("linkage"):
        return judging.judge_linkage(fitted, ready, *how, same=part == "linkage_same", pools=pools)
    if part == "unlinkability":
        return judging.judge_unlinkability(fitted, ready, *how)
    if part == "attributes":
        return judging.judge_attributes(fitted, ready, *how)
    if part == "text":
        return judge_text(fitted, ready, *how)
    return judging.judge_reconstruction(fitted, ready, *how, pools=pools)


DECIDES = {"reconstruction": ("own_minus_other",), "attributes": (".auc", ".r2"), "text": (".letters_read",)}
"""Measures (their ends) in which constant codes must be at chance; elsewhere the AUC."""
BELOW = (".r2", ".letters_read")
"""Measures that may fall below chance where nothing is known: an unreadable letter is no guess."""


def _at_chance(part: str, found: judging.Measured) -> tuple[Estimate, bool]:
    """(the largest value, holds): no better than chance within the interval, in the measures that decide."""
    named = [found[k] for k in found if k.endswith(BELOW) and k.endswith(DECIDES.get(part, ("auc",)))]
    exact = [found[k] for k in found if not k.endswith(BELOW) and k.endswith(DECIDES.get(part, ("auc",)))]
    holds = all(v.low <= chance for v, chance in named) and all(v.low <= chance <= v.high for v, chance in exact)
    each = [v for v, _ in (*named, *exact)]
    worst = max(each, key=lambda v: v.value) if each else Estimate(math.nan, math.nan, math.nan, 0)
    return worst, bool(holds)


def run(audit: Audit, progress: Progress | None = None) -> Iterable[tuple[Task, list[Row]]]:
    """All tasks in turn, each compressor set up once."""
    todo = tasks(audit)
    name, staged = "", None
    for k, task in enumerate(todo):
        if task.codec != name:
            staged = None
            name, staged = task.codec, set_up(audit, task.codec)
        yield task, run_task(audit, task, staged)
        if progress:
            progress(k + 1, len(todo))
