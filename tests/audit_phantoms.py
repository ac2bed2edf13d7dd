"""Films whose identity is a smooth random field, moved and lit a little differently each time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from translucid.audit import Budget, Codec, Cohort
from translucid.audit.staging import moved

SMALL = Budget(grid=16, plain_side=32, copies=1, epochs=12, batch=64, width=8, resamples=100)


def films(people: int, each: int, seed: int = 0, side: int = 32, nuisance: float = 0.3) -> tuple[Tensor, np.ndarray]:
    """(people·each, 1, side, side) in [0, 1], and whose they are."""
    draw = torch.Generator().manual_seed(seed)
    own = torch.randn(people, 1, 6, 6, generator=draw).repeat_interleave(each, 0)
    mood = torch.randn(people * each, 1, 3, 3, generator=draw)
    parts = [F.interpolate(x, size=(side, side), mode="bicubic", align_corners=False) for x in (own, mood)]
    x = moved(parts[0] + nuisance * parts[1], seed + 1, 0.01)
    x = x + 0.02 * torch.randn(x.shape, generator=draw)
    return (0.5 + 0.12 * x).clamp(0, 1), np.repeat(np.arange(people), each)


def cohort(people: int = 80, each: int = 3, seed: int = 0, **more: float) -> Cohort:
    """Half of the people are scored; sex shows in the films, age in their brightness."""
    x, who = films(people, each, seed, **more)
    sex = (who * 7 % 10 < 5).astype(float)
    age = 40.0 + who % 30
    column = (slice(None), None, None, None)
    x = x + 0.1 * torch.from_numpy(sex).float()[column] * torch.linspace(-1, 1, x.shape[-1])
    x = x + 0.01 * torch.from_numpy(age - 55).float()[column]
    attributes = {"sex": np.where(sex > 0, "F", "M"), "age": age}
    return Cohort(x, who, who % 2 == 0, attributes, np.tile(np.arange(each), people))


def keyed(seed: int, noise: float = 0.0) -> Codec:
    """Two hundred random pixels of 32×32, another choice for every seed, with Gaussian noise where asked for."""
    kept = torch.from_numpy(np.random.default_rng(seed).permutation(32 * 32)[:200])
    draw = torch.Generator().manual_seed(seed)

    def clean(x: Tensor) -> Tensor:
        return x.flatten(2)[..., kept]

    def noisy(x: Tensor) -> Tensor:
        codes = clean(x)
        return codes + noise * torch.randn(codes.shape, generator=draw)

    return Codec("spots", noisy, clean=clean) if noise else Codec("spots", clean)


def letters() -> dict[str, np.ndarray]:
    """Ten letters of five by seven dots."""
    rng = np.random.default_rng(0)
    return {name: (rng.random((7, 5)) < 0.5) * 1.0 for name in "0123456789"}
