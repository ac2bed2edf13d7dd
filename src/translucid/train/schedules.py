"""Learning rates as functions of the epoch."""

from __future__ import annotations

import math

from translucid.errors import ConfigError


def triangular2(epoch: float, lr: float, step: int) -> float:
    """A triangle whose height halves each cycle: lr · (lr + (1 − lr) · max(0, 1 − |x|) / 2^(c − 1)).

    c = ⌊1 + epoch/(2·step)⌋ is the cycle and x = epoch/step − 2c + 1 the place in it. So it starts at lr², peaks at lr
    when epoch = step, falls back to lr² at 2·step, and peaks at lr · (lr + (1 − lr)/2) at 3·step.

    Args:
        epoch: counted from 0.
        lr: the highest rate, in (0, 1].
        step: epochs from valley to peak.

    Raises:
        ConfigError: a number is out of range.

    Example:
        >>> [round(triangular2(e, 0.0090552, 2), 6) for e in (0, 2, 4, 6)]
        [8.2e-05, 0.009055, 8.2e-05, 0.004569]

    Source: Smith, WACV 2017, arXiv:1506.01186, "triangular2"; that the valley is lr², because the factor itself starts
    at lr, is what the published code of Karargyris and others (doi:10.1038/s41597-021-00863-5) does.

    Fails when: `lr` is meant as the mean rate; it is the peak of the first cycle only.
    """
    if not (epoch >= 0 and 0 < lr <= 1 and step >= 1):
        raise ConfigError(f"triangular2 needs epoch ≥ 0, 0 < lr ≤ 1 and step ≥ 1, got {epoch}, {lr} and {step}")
    cycle = math.floor(1 + epoch / (2 * step))
    place = epoch / step - 2 * cycle + 1
    return lr * (lr + (1 - lr) * max(0.0, 1 - abs(place)) / 2 ** (cycle - 1))


def cosine(epoch: float, lr: float, epochs: int) -> float:
    """Half a cosine wave from lr down towards 0: lr · (1 + cos(π · epoch / epochs)) / 2.

    Args:
        epoch: counted from 0; the last of a training is epochs − 1.
        lr: the first and highest rate.
        epochs: of the whole training.

    Raises:
        ConfigError: a number is out of range.

    Example:
        >>> [round(cosine(e, 0.1, 4), 4) for e in range(4)]
        [0.1, 0.0854, 0.05, 0.0146]

    Source: Loshchilov & Hutter, ICLR 2017, arXiv:1608.03983, without restarts.

    Fails when: the training is stopped early or prolonged: the rate is planned for `epochs`, no more and no less.
    """
    if not (0 <= epoch <= epochs and lr > 0):
        raise ConfigError(f"cosine needs 0 ≤ epoch ≤ epochs and lr > 0, got {epoch}, {epochs} and {lr}")
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
