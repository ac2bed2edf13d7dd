"""Tiny networks for the explanation tests, with parameters drawn from a generator of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from translucid.tensors import Prediction

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """Normal weights, plausible running statistics, evaluation mode, double precision."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw) / max(p[0].numel(), 1) ** 0.5)
        for name, b in model.named_buffers():
            if "running" in name:
                b.copy_(torch.rand(b.shape, generator=draw) + 0.5)
    return model.double().eval()


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    """Two convolutions to four features, then a head by name: fc, gap, bn, mlp, homogeneous, max."""

    def __init__(self, head: str = "fc", axes: int = 2, labels: int = 3, size: int = 6) -> None:
        super().__init__()
        conv = CONV[axes]
        self.body = nn.Sequential(conv(1, 3, 3, padding=1), nn.ReLU(), conv(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.kind = head
        cells = ((size + 1) // 2) ** axes
        self.norm = NORM[axes](4)
        self.fc = nn.Linear(4 if head in ("gap", "max") else 4 * cells, labels, bias=head not in ("homogeneous", "max"))
        hidden = head in ("mlp", "homogeneous")
        self.hidden = nn.Linear(4 * cells, 4 * cells, bias=head == "mlp") if hidden else nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def head(self, a: Tensor) -> Tensor:
        if self.kind == "gap":
            return self.fc(a.flatten(2).mean(2))
        if self.kind == "max":
            return self.fc(a.flatten(2).transpose(1, 2)).amax(1)
        if self.kind in ("mlp", "homogeneous"):
            return self.fc(self.hidden(a.flatten(1)).relu())
        return self.fc((self.norm(a) if self.kind == "bn" else a).flatten(1))

    def forward(self, x: Tensor) -> Prediction:
        return Prediction(self.head(self.features(x)))


class Axial(nn.Module):
    """The same small network on every slice of a volume, its scores averaged: (batch, 1, slice, y, x)."""

    def __init__(self, labels: int = 2) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        self.classify = nn.Conv2d(4, labels, 3)

    def features(self, x: Tensor) -> Tensor:
        a = self.trunk(x.transpose(1, 2).flatten(0, 1))
        return a.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def slice_scores(self, a: Tensor) -> Tensor:
        return self.classify(a.transpose(1, 2).flatten(0, 1)).flatten(1).unflatten(0, (a.shape[0], a.shape[2]))

    def head(self, a: Tensor) -> Tensor:
        return self.slice_scores(a).mean(1)

    def forward(self, x: Tensor) -> Prediction:
        return Prediction(self.head(self.features(x)))


class Plain(nn.Module):
    """No seam of its own: batch norm, dropout, an in-place ReLU after the last named layer, tuple or dict outputs."""

    def __init__(self, wrap: str = "tensor", labels: int = 3, last: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(5, labels)
        self.last = last or nn.Identity()
        self.wrap = wrap

    def forward(self, x: Tensor) -> object:
        a = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        a = nn.functional.relu(a, inplace=True)
        y = self.last(self.fc(self.drop(a.mean((2, 3)))))
        return {"tensor": y, "tuple": (y, a), "dict": {"aux": a, "out": y}, "squeezed": y[:, 0]}[self.wrap]


class SelfExplaining(nn.Module):
    """Shows its own maps: logit = bias + sum of the map."""

    def __init__(self, axes: int = 2, labels: int = 3) -> None:
        super().__init__()
        self.maps = CONV[axes](1, labels, 3, padding=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, x: Tensor) -> Prediction:
        maps = self.maps(x)
        return Prediction(maps.flatten(2).sum(2) + self.bias, maps, {"bias": self.bias})


class CodeMlp(nn.Module):
    """A multilayer perceptron on codes (batch, channel, code)."""

    def __init__(self, codes: int, labels: int = 3, bias: bool = True, channels: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(channels * codes, 7, bias=bias)
        self.second = nn.Linear(7, labels, bias=bias)

    def forward(self, x: Tensor) -> Prediction:
        return Prediction(self.second(self.first(x.flatten(1)).relu()))
