"""Checkpoints without pickle: tensors and a JSON text in one safetensors file, renamed into place as one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from translucid.config import whole_file
from translucid.errors import InputError, StaleRun

CHECKPOINT = "checkpoint.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors by name and a JSON object, whole or not at all."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with whole_file(path) as temporary:
        save_file(plain, temporary, metadata={"facts": json.dumps(facts)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote; a damaged file is an `InputError`."""
    try:
        with safe_open(path, framework="pt") as f:
            return {k: f.get_tensor(k) for k in f.keys()}, json.loads((f.metadata() or {})["facts"])  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as e:
        raise InputError(f"{path} is no checkpoint of ours ({e}): delete it to start over") from None


def under(tensors: Mapping[str, Tensor], room: str) -> dict[str, Tensor]:
    """The tensors whose name starts with `room/`, without that.

    Example:
        >>> under({"model/w": torch.zeros(1), "best/w": torch.ones(1)}, "best")
        {'w': tensor([1.])}
    """
    return {k.removeprefix(f"{room}/"): v for k, v in tensors.items() if k.startswith(f"{room}/")}


def pack(model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split the state of both into tensors by name and plain numbers."""
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    numbers: dict[str, Any] = {}
    for position, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{position}/{key}"] = value
            elif value is not None:
                numbers[f"{position}/{key}"] = value
    return tensors, numbers


def unpack(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Put back what `pack` took apart; the optimiser's tensors get the memory order of their weights."""
    load_weights(model, under(tensors, "model"))
    weights = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**under(tensors, "optimiser"), **numbers}.items():
        position, _, key = name.partition("/")
        like = weights[int(position)]
        if isinstance(value, Tensor) and value.shape == like.shape:
            value = torch.empty_like(like).copy_(value)
        state.setdefault(int(position), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def best_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the best epoch; where that is the last one, they are written only once."""
    return under(tensors, "best") or under(tensors, "model")


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a network, or say that the checkpoint is of another one."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as e:
        raise StaleRun(f"the checkpoint is of another network ({e}): choose another folder, or delete it") from None


def clear_checkpoints(folder: Path) -> None:
    """Delete what only an interrupted training needs.

    Example:
        >>> clear_checkpoints(Path("no/such/folder"))

    Fails when: the training is to be continued later; it then starts over.
    """
    (Path(folder) / CHECKPOINT).unlink(missing_ok=True)
