"""A saliency element for any backbone: the network says where it looks, and decides by what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from translucid.errors import ConfigError, lookup
from translucid.maps import resize
from translucid.models.levels import (
    Backbone,
    FeaturePyramid,
    Levels,
    backbone_levels,
    level_of_stride,
    named_backbone,
)
from translucid.models.pooling import Over, Pool, balanced_start, check_pool, pooled, shown
from translucid.models.spec import Eats, drawn_from, need_shape
from translucid.tensors import Images, Logits, Maps, Placement, Prediction
from translucid.types import Space

Activations = Float[Tensor, "batch feature *grid"]


@dataclass(frozen=True)
class Saliency:
    """Trainable saliency: a 1 × 1 convolution scores every place for every label, and the scores alone make the logit.

    u_l(d) = w_l · F(d) + b_l with F the activations on the chosen grid, S = σ(u) the saliency in [0, 1], and the logit
    is `pooled(u)`. `Prediction.maps` is (u − b)/n for n cells: logit units, signed; with pool = "mean" over logits it
    sums to the logit less b, exactly. `extra` holds "scores" u, "saliency" S, and "cells", the places of the cells.

    Args:
        backbone: kind of the network below, or {"kind": …, fields}; its own head is not used.
        pool, over, top, sharpness: see `pooled`.
        stride: distance in pixels of the cells; 0 takes the backbone's last activations, a smaller one fuses its
            levels in a feature pyramid on that grid.
        width: features of the pyramid.
        bias: whether u has the offset b.
        reread: "features" adds to each logit a linear reading of F averaged with the weights S; "image" adds a linear
            reading of the backbone's averaged activations for the image times the largest S of all labels.
        target: "classification" (logits) or "regression": the pooled score is the value itself; the loss "saliency"
            must say the same. Regression is for use from Python: a manifest's labels are 0, 1 or unknown, and a study
            measures classification.

    Raises:
        ConfigError: a field is out of range, or fields contradict each other.

    Example:
        >>> net = Saliency(stride=4, pool="mean").build((1, 64, 64), labels=2, seed=0).eval()
        >>> shown = net(torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
        >>> shown.maps.shape
        torch.Size([1, 2, 16, 16])
        >>> torch.allclose(shown.maps.sum((2, 3)) + shown.extra["bias"], shown.logits, atol=1e-6)
        True

    Source: our reading of Aggarwal and others, arXiv:2011.07482 (2020), whose abstract names neither layer, pooling nor
    losses; the element is that of Shen and others, arXiv:2002.07613. The pyramid, the second reading, pooling of scores
    and regression are ours.

    Fails when: the finding is wider than what one cell sees, or labels always come together: the map then shows what
    tells the label, which need not be the finding. With `reread` the map explains the first reading only.
    """

    backbone: Backbone = field(default_factory=lambda: {"kind": "small_cnn"})
    pool: Pool = "lse"
    over: Over = "logit"
    top: float = 0.1
    sharpness: float = 1.0
    stride: int = 0
    width: int = 32
    bias: bool = True
    reread: Literal["none", "features", "image"] = "none"
    target: Literal["classification", "regression"] = "classification"
    eats: ClassVar[Eats] = "image"

    def __post_init__(self) -> None:
        object.__setattr__(self, "backbone", named_backbone(self.backbone))
        check_pool(self.pool, self.over, self.top, self.sharpness)
        lookup(dict.fromkeys(("none", "features", "image")), self.reread, "reread")
        lookup(dict.fromkeys(("classification", "regression")), self.target, "target")
        if self.stride < 0 or self.width < 1:
            raise ConfigError(f"stride must be at least 0 and width at least 1, got {self.stride} and {self.width}")
        if self.pool == "noisy_or" and not self.bias:
            raise ConfigError("pool = 'noisy_or' needs bias = true: without it every logit starts far above 0")
        if self.target == "regression" and (self.over == "saliency" or self.pool == "noisy_or"):
            raise ConfigError("target = 'regression' pools scores: take over = 'logit' and top, lse or mean")

    def build(self, shape: tuple[int, ...], labels: int, seed: int) -> nn.Module:
        """A network for images of `shape` (channel, *space) with weights drawn from `seed`."""
        need_shape(shape, labels, (3, 4), "saliency")
        levels = backbone_levels(self.backbone, shape, labels, seed)  # type: ignore[arg-type]
        with drawn_from(seed):
            net = _Saliency(self, levels, labels)
            return _Rereading(net, labels) if self.reread == "image" else net


class _Saliency(nn.Module):
    def __init__(self, spec: Saliency, levels: Levels, labels: int) -> None:
        super().__init__()
        self.spec, self.backbone = spec, levels
        self.level = level_of_stride(levels.levels, spec.stride)
        used = levels.levels[self.level :]
        self.pyramid = FeaturePyramid(used, spec.width) if len(used) > 1 else nn.Identity()
        features, axes = spec.width if len(used) > 1 else used[0].features, len(used[0].grid)
        self.score = (nn.Conv2d, nn.Conv3d)[axes - 2](features, labels, 1, bias=spec.bias)
        if self.score.bias is not None:
            nn.init.constant_(self.score.bias, balanced_start(spec.pool, torch.Size(used[0].grid).numel()))
        self.again = nn.Linear(features, labels, bias=False) if spec.reread == "features" else None

    def features(self, x: Images) -> Activations:
        """Images → activations on the map's grid, after a ReLU."""
        found = self.backbone(x)[self.level :]
        return self.pyramid(found) if len(found) > 1 else found[0]

    def scores(self, a: Activations) -> Maps:
        """Activations → u, one for each label and place."""
        return self.score(a)

    def head(self, a: Activations) -> Logits:
        """Activations → logits."""
        return self._pooled(a, self.scores(a))

    def forward(self, x: Images) -> Prediction:
        """Logits, their maps, and the saliency they were made of."""
        a = self.features(x)
        u = self.scores(a)
        maps, extra = shown(u, self.score.bias, self.placement(tuple(x.shape[2:])))
        if self.spec.pool == "mean" and self.spec.over == "logit" and self.again is None:
            extra["bias"] = u.new_zeros(u.shape[1]) if self.score.bias is None else self.score.bias
        return Prediction(self._pooled(a, u), maps, extra)

    def placement(self, space: Space) -> Placement:
        """Where the cells of the map lie in an image."""
        return self.backbone.placement(self.level, space)

    def _pooled(self, a: Activations, u: Maps) -> Logits:
        spec = self.spec
        z = pooled(u, spec.pool, spec.over, spec.top, spec.sharpness)
        if self.again is None:
            return z
        s = u.sigmoid().flatten(2)
        read = torch.einsum("bld,bfd->blf", s / s.sum(2, keepdim=True).clamp(min=1e-6), a.flatten(2))
        return z + (read * self.again.weight).sum(2)


class _Rereading(nn.Module):
    """Looks at the image a second time through its saliency; it has no seam, because the image comes in twice."""

    def __init__(self, first: _Saliency, labels: int) -> None:
        super().__init__()
        self.first = first
        self.again = nn.Linear(first.backbone.levels[-1].features, labels, bias=False)

    def forward(self, x: Images) -> Prediction:
        shown = self.first(x)
        extra = {k: v for k, v in shown.extra.items() if k != "bias"}
        space = tuple(x.shape[2:])
        seen = resize(shown.extra["saliency"].amax(1, keepdim=True), space, self.placement(space)).to(x.dtype)
        a = self.first.backbone(x * seen)[-1]
        return Prediction(shown.logits + self.again(a.flatten(2).mean(2)), shown.maps, extra)

    def placement(self, space: Space) -> Placement:
        return self.first.placement(space)
