"""Small networks of the attackers, and the one loop that trains them; everything is drawn from a generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from translucid.audit.picture import ssim


def drawn(net: nn.Module, seed: int) -> nn.Module:
    """Weights N(0, 2/fan-in) from a generator of their own, biases 0."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=draw) * math.sqrt(2 / fan))
                if module.bias is not None:
                    module.bias.zero_()
    return net


class _Quick(nn.Module):
    """The same numbers laid out pixel by pixel, as convolutions and pooling on a CPU are quickest (a quarter less)."""

    def forward(self, x: Tensor) -> Tensor:
        """Changes nothing but the order in memory."""
        return x.contiguous(memory_format=torch.channels_last)


def _step(inside: int, outside: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, size, stride, size // 2), nn.GroupNorm(min(8, outside), outside), nn.ReLU()]


def picture_net(channels: int, space: tuple[int, ...], width: int, dims: int, seed: int) -> nn.Module:
    """Four convolutions with halving between, then a linear map to points: (n, channels, h, w) → (n, dims)."""
    with torch.random.fork_rng(devices=[]):
        layers: list[nn.Module] = [_Quick(), *_step(channels, width, 5, 2)]
        inside = width
        for outside in (2 * width, 4 * width, 4 * width):
            layers += [*_step(inside, outside), nn.MaxPool2d(2)]
            inside = outside
        left = inside * math.prod((n + 1) // 16 for n in space)
        net = drawn(nn.Sequential(*layers, nn.Flatten(), nn.Linear(left, dims)), seed)
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def code_net(numbers: int, hidden: int, dims: int, seed: int, calm: bool = False) -> nn.Module:
    """A linear map and a hidden layer beside it: (n, numbers) → (n, dims); `calm` starts with the answer 0."""
    with torch.random.fork_rng(devices=[]):
        net = _Skip(numbers, hidden, dims)
        drawn(net, seed)
    if calm:
        with torch.no_grad():
            for last in (net.straight, net.last):
                last.weight.zero_()
    return net


class _Skip(nn.Module):
    """x → A x + MLP(x): no worse than a linear map, and able to bend."""

    def __init__(self, numbers: int, hidden: int, dims: int) -> None:
        super().__init__()
        self.straight = nn.Linear(numbers, dims)
        self.bent = nn.Linear(numbers, hidden)
        self.last = nn.Linear(hidden, dims)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.straight(x) + self.last(F.relu(self.bent(x)))
        return out


class Unet(nn.Module):
    """Three scales with skips; adds its answer to the first channel group of what it is given.

    Args:
        inside: channels of the input; the first `outside` of them are the picture to be improved.
        outside: channels of the output.
        width: of the finest scale.
    """

    def __init__(self, inside: int, outside: int, width: int) -> None:
        super().__init__()
        self.outside = outside
        self.fine = nn.Sequential(_Quick(), *_step(inside, width), *_step(width, width))
        self.middle = nn.Sequential(nn.MaxPool2d(2), *_step(width, 2 * width), *_step(2 * width, 2 * width))
        self.coarse = nn.Sequential(nn.MaxPool2d(2), *_step(2 * width, 4 * width), *_step(4 * width, 2 * width))
        self.up = nn.Sequential(*_step(4 * width, width))
        self.last = nn.Sequential(*_step(2 * width, width))
        self.answer = nn.Conv2d(width, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) → (n, outside, h, w); sides must be multiples of 4."""
        fine = self.fine(x)
        middle = self.middle(fine)
        up = self.up(torch.cat([middle, F.interpolate(self.coarse(middle), scale_factor=2.0)], 1))
        change: Tensor = self.answer(self.last(torch.cat([fine, F.interpolate(up, scale_factor=2.0)], 1)))
        return x[:, : self.outside] + change


def unet(inside: int, outside: int, width: int, seed: int) -> nn.Module:
    """A `Unet` whose first answer is no change."""
    with torch.random.fork_rng(devices=[]):
        net = Unet(inside, outside, width)
        drawn(net, seed)
    with torch.no_grad():
        net.answer.weight.zero_()
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def train(
    net: nn.Module, batches: Iterable[tuple[Tensor, ...]], loss: Callable[..., Tensor], steps: int, rate: float
) -> int:
    """AdamW with one warm rise and a cosine fall; stops after `steps` or when the batches end.

    Returns:
        How many steps were taken.
    """
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-2)
    rise = max(1, steps // 10)
    done = 0
    net.train()
    for batch in batches:
        if done >= steps:
            break
        share = (done + 1) / rise if done < rise else 0.5 * (1 + math.cos(math.pi * (done - rise) / (steps - rise + 1)))
        for group in optimiser.param_groups:
            group["lr"] = rate * share
        optimiser.zero_grad()
        loss(*batch).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        done += 1
    net.eval()
    return done


def run(net: nn.Module, x: Tensor, at_once: int = 256) -> Tensor:
    """Forward in blocks, without gradients."""
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(at_once)])


# -- losses ------------------------------------------------------------------------------------------------------


def contrastive_loss(left: Tensor, right: Tensor, left_who: Tensor, right_who: Tensor, heat: float) -> Tensor:
    """Supervised contrast: each point should be nearest to all others of its person.

    −mean over i of (1/|P(i)|) Σ_{p in P(i)} log softmax_p(z_i·z_p/τ); where left and right are the same points, a
    point is not its own mate.

    Source: Khosla et al., Supervised contrastive learning, NeurIPS 2020, arXiv:2004.11362.
    """
    a, b = F.normalize(left, dim=1), F.normalize(right, dim=1)
    logits = a @ b.T / heat
    same = left_who[:, None] == right_who[None]
    if left is right:
        own = torch.eye(len(a), dtype=torch.bool)
        logits, same = logits.masked_fill(own, -1e9), same & ~own
    logs = logits - torch.logsumexp(logits, 1, keepdim=True)
    mates = same.sum(1)
    each = -(logs * same).sum(1) / mates.clamp(min=1)
    return each[mates > 0].mean() if bool((mates > 0).any()) else logits.sum() * 0


def siamese_loss(logits: Tensor, who: Tensor) -> Tensor:
    """Cross-entropy of all pairs of a batch; mated and non-mated pairs weigh the same in sum."""
    i, j = torch.triu_indices(len(who), len(who), 1)
    same = (who[i] == who[j]).float()
    each = F.binary_cross_entropy_with_logits(logits[i, j], same, reduction="none")
    sides = [(each * side).sum() / side.sum().clamp(min=1) for side in (same, 1 - same)]
    return (sides[0] + sides[1]) / 2


def picture_loss(made: Tensor, film: Tensor) -> Tensor:
    """L1 + 1 − SSIM."""
    return (made - film).abs().mean() + 1 - ssim(made, film).mean()
