"""Activations as (batch, feature, *grid): where a graph may start, and a transformer's tokens as a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from translucid.errors import ShapeError

Tokens = tuple[int, int, int]
"""Rows, columns and leading special tokens of a transformer's sequence."""


def to_grid(sequence: Tensor, tokens: Tokens) -> Tensor:
    """A transformer's sequence (batch, token, feature) as (batch, feature, rows, cols), special tokens left out.

    Example:
        >>> to_grid(torch.zeros(2, 7, 16), (2, 3, 1)).shape
        torch.Size([2, 16, 2, 3])
    """
    rows, cols, prefix = tokens
    if sequence.ndim != 3 or sequence.shape[1] != prefix + rows * cols:
        raise ShapeError(
            f"tokens={tokens} wants (batch, {prefix + rows * cols}, feature), the layer gives {tuple(sequence.shape)}"
        )
    return sequence[:, prefix:].transpose(1, 2).unflatten(2, (rows, cols))


def from_grid(grid: Tensor, sequence: Tensor, tokens: Tokens | None) -> Tensor:
    """The inverse of `to_grid`, with the special tokens of `sequence`; without `tokens` the grid itself.

    Example:
        >>> z = torch.rand(2, 7, 16)
        >>> torch.equal(from_grid(to_grid(z, (2, 3, 1)), z, (2, 3, 1)), z)
        True
    """
    if tokens is None:
        return grid
    patches = grid.flatten(2).transpose(1, 2)
    return torch.cat([sequence[:, : tokens[2]], patches], 1) if tokens[2] else patches


def start_graph(a: Tensor, attached: bool) -> Tensor:
    """Activations from which gradients start: a detached leaf, or a node of the existing graph.

    Example:
        >>> start_graph(torch.ones(1, 1, 2), attached=False).is_leaf
        True
    """
    if a.ndim < 3:
        raise ShapeError(
            f"activations have shape {tuple(a.shape)}, wanted (batch, feature, *grid); choose another layer"
        )
    if attached and a.requires_grad:
        return a.clone()
    return a.detach().clone().requires_grad_(True)
