"""Models that explain themselves: their own maps, behind the same record as everybody else's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from translucid.errors import InputError, ShapeError
from translucid.explain.engine import place, tolerance
from translucid.explain.heads import checked_labels, evaluating, unwrap
from translucid.tensors import Explanation


@dataclass(frozen=True)
class Native:
    """Takes the maps a model shows of itself, `Prediction.maps` (batch, label, *grid).

    A model that claims logit = bias + sum of its map says so with `Prediction.extra["bias"]`, (label,) or
    (batch, label). `exact` is set where the claim is made and holds for these images.

    Example:
        >>> from translucid.tensors import Prediction
        >>> model = lambda x: Prediction(x.mean((1, 2, 3))[:, None], x / x[0].numel(), {"bias": torch.zeros(1)})
        >>> Native()(model, torch.rand(2, 1, 4, 4), labels=[0]).exact
        True

    Fails when: the model's maps do not take part in its decision; a faithfulness measure tells, the map does not.
    """

    def __call__(self, model: Any, x: Tensor, labels: Sequence[int]) -> Explanation:
        """The asked labels' maps.

        Raises:
            InputError: the model shows no maps.
            ShapeError: maps and logits do not fit together.
        """
        model = unwrap(model)
        with evaluating(model) as was_training, torch.no_grad():
            prediction = model(x.clone() if x.is_inference() else x)
        if getattr(prediction, "maps", None) is None:
            raise InputError(f"{type(model).__name__} shows no maps of itself; use HiResCAM or GradCAM")
        maps, logits = prediction.maps.detach(), prediction.logits.detach()
        asked = checked_labels(labels, logits.shape[1])
        if maps.ndim < 3 or len(maps) != len(logits) or maps.shape[1] not in (1, logits.shape[1]):
            raise ShapeError(f"maps {tuple(maps.shape)} do not fit logits {tuple(logits.shape)}")
        picked = logits[:, list(asked)].float() if logits.dtype != torch.float64 else logits[:, list(asked)]
        shared = maps.shape[1] == 1 and logits.shape[1] > 1
        shown = (maps.expand(-1, logits.shape[1], *maps.shape[2:]) if shared else maps)[:, list(asked)].to(picked.dtype)
        bias, claimed = _bias(prediction.extra.get("bias"), picked, asked, logits.shape[1])
        residual = picked - bias - shown.flatten(2).sum(2)
        scale = picked.abs() + bias.abs() + shown.flatten(2).abs().sum(2)
        exact = claimed and bool((residual.abs() <= tolerance(logits) * scale + 1e-30).all())
        placement, said = place(model, x, tuple(shown.shape[2:]), None)
        remarks = [*said, *_remarks(was_training, shared, claimed, exact)]
        return Explanation(shown, asked, "Native", exact, residual, bias, placement, tuple(remarks))


def _bias(given: Tensor | None, picked: Tensor, asked: tuple[int, ...], count: int) -> tuple[Tensor, bool]:
    if given is None:
        return torch.zeros_like(picked), False
    if given.shape[-1] != count:
        raise ShapeError(
            f'extra["bias"] has shape {tuple(given.shape)}, wanted (label,) or (batch, label) with {count}'
        )
    return given.detach()[..., list(asked)].to(picked.dtype).expand_as(picked), True


def _remarks(was_training: bool, shared: bool, claimed: bool, exact: bool) -> list[str]:
    said = ["the map is the model's own, computed in its forward pass"]
    if was_training:
        said.append("the model was in training mode; it was explained in evaluation mode")
    if shared:
        said.append("the model shows one map for all labels")
    if exact:
        said.append("each map sums to its logit less the model's bias")
    elif claimed:
        said.append("the model claims that its map adds up, but for these images it does not; see residual")
    else:
        said.append("the model does not claim that its map sums to the logit")
    return said
