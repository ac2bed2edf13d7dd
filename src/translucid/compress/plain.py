"""The compressor that keeps everything: the baseline every other one is measured against."""

from __future__ import annotations

import math
from dataclasses import dataclass

from translucid.errors import ShapeError
from translucid.tensors import Codes, Images
from translucid.types import Space


@dataclass(frozen=True)
class Plain:
    """Keep every pixel: the code is the image in row-major order, c = vec(x).

    The codes share the memory of the images; nothing is copied. It is the only compressor that may leave the size
    as it was, and the only one that hides nothing.

    Example:
        >>> import torch
        >>> x = torch.arange(4.0).view(1, 1, 2, 2)
        >>> Plain().encode(x)
        tensor([[[0., 1., 2., 3.]]])
        >>> torch.equal(Plain().lift(Plain().encode(x), (2, 2)), x)
        True

    Fails when: it is taken for a privatised release; it is the image itself.
    """

    @property
    def linear(self) -> bool:
        """Whether `encode` is a linear map."""
        return True

    def encode(self, images: Images) -> Codes:
        """Images (batch, channel, *space) → (batch, channel, pixels)."""
        return images.flatten(2)

    def lift(self, codes: Codes, space: Space) -> Images:
        """The image itself.

        Raises:
            ShapeError: the codes have another length than `space` has pixels.
        """
        if codes.shape[-1] != math.prod(space):
            raise ShapeError(f"codes of length {codes.shape[-1]} do not fill an image of {space}: pass its own size")
        return codes.unflatten(-1, space)

    def adjoint(self, codes: Codes, space: Space) -> Images:
        """Transpose of the identity: the same as `lift`."""
        return self.lift(codes, space)

    def to_image(self, codes: Codes, space: Space) -> Images:
        """The image itself."""
        return self.lift(codes, space)

    def code_length(self, space: Space) -> int:
        """The number of pixels."""
        return math.prod(space)
