"""XRAI: integrated gradients told by regions, the regions ranked by what they add for each pixel they add."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from translucid.errors import ConfigError
from translucid.explain.gradients import along_path, check_path
from translucid.explain.pixels import Found, PixelExplainer, output_at
from translucid.explain.segments import Regions, check_scales, grown, segment
from translucid.tensors import Images

SCALES = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
"""k of the paper's six partitions."""
SIDE = 224
"""Side, in pixels, of the image for which the paper's numbers of pixels hold."""
BLUR = 0.8
LEVELS = 255
"""k is meant for intensities whose unit is cut into so many levels."""


@dataclass(frozen=True)
class XRAI(PixelExplainer):
    """Regions ranked by attribution per pixel: each pixel shows the mean over the pixels that were added with it.

    A(d) is the mean of integrated gradients from a black and from a white image, S the segments of six partitions of
    the image, coarse and fine, each grown by a few pixels so that it holds its own edge. Starting from M = ∅, the
    segment of the largest gain Σ_{d ∈ s∖M} A(d) / |s∖M| is added to M until the image is covered; the map is that gain
    on s∖M.

    The map is a ranking of regions, in logit units per pixel. A pixel's value is the mean of its region, not the
    pixel's own contribution, and a sum over anything but whole regions means nothing. Means keep totals, so the whole
    map sums to what integrated gradients sum to: the logit less the mean logit of the plain images (the bias), up to
    the quadrature. Which regions there are depends on the image alone, not on the model.

    Our reading: the image is cut at its own size, and numbers of pixels, k among them, are shares of one of 224 × 224;
    intensities are stretched to [−1, 1] by the image's own range, k is divided by 255, and an image of any number of
    channels counts as three of the same mean square; attributions are summed over channels. Smoothing by 0.8 pixels,
    `least` and `fresh` follow the authors' program. Pixels left when no segment brings `fresh` new ones get their mean.

    Attributes:
        steps: points of the quadrature, for each plain image.
        baselines: intensities of the plain images, black and white.
        scales: k of each partition.
        dilation: radius by which segments grow; in pixels of a side of 224, as are the next two of its area.
        least: pixels of the smallest segment; smaller ones are joined to a neighbour.
        fresh: new pixels that a segment must bring to be added.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 2))
        >>> found = XRAI(steps=2)(net, torch.zeros(3, 1, 16, 16), labels=[1])
        >>> found.exact, found.maps.shape, len(found.maps[0].unique())  # an empty image is one region
        (True, torch.Size([3, 1, 16, 16]), 1)

    Source: Kapishnikov, Bolukbasi, Viégas & Terry 2019, arXiv:1906.02825, of Sundararajan, Taly & Yan 2017,
    arXiv:1703.01365, and Felzenszwalb & Huttenlocher 2004, doi:10.1023/B:VISI.0000022288.19776.77.

    Fails when: the evidence has no border of its own, as a faint shadow in a lung: the map then shows the whole lung;
    and a network that learned nothing still gets maps that look like anatomy, because the regions do.
    """

    steps: int = 16
    baselines: tuple[float, ...] = (0.0, 1.0)
    scales: tuple[float, ...] = SCALES
    dilation: float = 5.0
    least: int = 150
    fresh: int = 50

    def __post_init__(self) -> None:
        if not self.baselines:
            raise ConfigError("baselines = (): at least one intensity, such as 0 for black")
        for baseline in self.baselines:
            check_path(self.steps, baseline)
        check_scales(self.scales)
        if not 0 <= self.dilation < math.inf or self.least < 1 or self.fresh < 1:
            raise ConfigError(
                f"dilation = {self.dilation}, least = {self.least}, fresh = {self.fresh}: pixels of an image of "
                "224 × 224; the first not negative, the others at least 1"
            )

    def find(self, model: Any, x: Tensor, labels: Sequence[int]) -> Found:
        """See `PixelExplainer.find`."""
        paths = [along_path(model, x, labels, self.steps, b, self.output) for b in self.baselines]
        plain = [output_at(model, torch.full_like(x[:1], b), labels, self.output) for b in self.baselines]
        attributions = torch.stack([maps for maps, _ in paths]).mean(0)
        fresh = _share(self.fresh, tuple(x.shape[2:]))
        maps = torch.empty(attributions.shape, dtype=_precise(attributions), device=x.device)
        for image, values, out in zip(x, attributions, maps, strict=True):
            told = ranked(values.double().cpu().numpy(), self.regions(image), fresh)
            out.copy_(torch.from_numpy(told))
        said = [
            "regions ranked by attribution per pixel: a pixel shows the mean of the region it was added with, not its "
            "own contribution",
            f"integrated over {self.steps} points from images of {', '.join(f'{b:g}' for b in self.baselines)}, whose "
            "mean logit is the bias",
        ]
        logits, bias = output_at(model, x, labels, self.output), torch.stack(plain).mean(0)
        return Found(maps, logits, bias, all(proved for _, proved in paths), said)

    def regions(self, image: Tensor) -> Regions:
        """The grown segments of one image (channel, *space), of all scales.

        Example:
            >>> len(XRAI().regions(torch.zeros(1, 8, 8)))
            6
        """
        values = image.detach().double().cpu().numpy()
        space = tuple(values.shape[1:])
        low, high = float(values.min()), float(values.max())
        stretched = (values - low) * (2 / (high - low) if high > low else 0.0)
        stretched *= math.sqrt(3 / len(values))
        share = math.prod(space) / SIDE**2
        cuts = segment(stretched, [k * share / LEVELS for k in self.scales], least=_share(self.least, space), blur=BLUR)
        side = math.prod(space) ** (1 / len(space))
        return grown(cuts, self.dilation * side / SIDE)


def ranked(values: np.ndarray, regions: Regions, fresh: int = 1) -> np.ndarray:
    """Maps (label, *space) of the gain with which each pixel's region was added, from attributions of that shape.

    Args:
        values: attributions.
        regions: that may be added; of equal gains the first is taken.
        fresh: new pixels that a region must bring; what is left in the end gets its mean.

    Example:
        >>> left, both = [0, 1], [0, 1, 2]
        >>> regions = Regions(np.array([0, 2, 5]), np.array([*left, *both], np.int32))
        >>> ranked(np.array([[4.0, 2.0, 0.0]]), regions)
        array([[3., 3., 0.]])

    Source: Kapishnikov et al. 2019, arXiv:1906.02825, algorithm 1.
    """
    from translucid.explain.segment_loops import rank, transpose

    flat = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float64)
    back, owners = transpose(regions.starts, regions.pixels, flat.shape[1])
    maps = np.empty_like(flat)
    for attribution, out in zip(flat, maps, strict=True):
        rank(attribution, regions.starts, regions.pixels, back, owners, fresh, out)
    return maps.reshape(values.shape)


def _share(pixels: int, space: tuple[int, ...]) -> int:
    """A number of pixels of an image of 224 × 224, in one of this size."""
    return max(1, round(pixels * math.prod(space) / SIDE**2))


def _precise(values: Images) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32
