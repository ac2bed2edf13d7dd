"""A trained network on disk: the weights as safetensors, everything needed to build it again as JSON. No pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from translucid.config import build, file_fingerprint, from_kind, read_json, whole_file, with_kind, write_json
from translucid.errors import ConfigError, InputError
from translucid.models.spec import as_trained
from translucid.models.table import MODELS

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class ModelInfo:
    """What a saved network is: its description, the shape of one case, and its labels in the order of the logits."""

    spec: Any
    shape: tuple[int, ...]
    labels: tuple[str, ...]


def save_model(model: nn.Module, spec: Any, shape: tuple[int, ...], labels: tuple[str, ...], folder: Path) -> None:
    """Write `model.safetensors` and `model.json`, each whole or not at all.

    The description holds the fingerprint of the weights, so a pair that does not belong together is found out.

    Args:
        model: the network; it may lie on any device and is not changed.
        spec: its description from `MODELS`.
        shape: (channel, *space) or (channel, code) of one case.
        labels: names in the order of the logits.
        folder: made if absent.

    Example:
        >>> import tempfile, torch
        >>> from translucid.models import HeartspotMLP
        >>> spec = HeartspotMLP(widths=(4, 4))
        >>> net = spec.build((1, 6), labels=1, seed=0).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(net, spec, (1, 6), ("cardiomegaly",), Path(folder))
        ...     again, info = load_model(Path(folder))
        >>> info.labels, bool((again(torch.ones(1, 1, 6)).logits == net(torch.ones(1, 1, 6)).logits).all())
        (('cardiomegaly',), True)

    Fails when: the network was changed by hand after it was built, so that its description no longer builds it.
    """
    folder = Path(folder)
    with whole_file(folder / WEIGHTS) as temporary:
        save_file(plain_state(model), temporary)
    description = {
        "format": 1,
        "model": with_kind(MODELS, as_trained(spec)),
        "shape": shape,
        "labels": labels,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": file_fingerprint(folder / WEIGHTS),
    }
    write_json(folder / DESCRIPTION, description)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, on the CPU, in plain memory order, each with its own memory."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}


def load_model(folder: Path) -> tuple[nn.Module, ModelInfo]:
    """Build the network that `save_model` wrote, in eval mode, with the same outputs.

    Raises:
        InputError: a file is missing or damaged, or weights and description do not belong together.

    Example:
        >>> load_model(Path("no/such/run"))
        Traceback (most recent call last):
        ...
        translucid.errors.InputError: no/such/run/model.json is not there: ...

    Fails when: the files were written by a later version that builds a network of this kind differently.
    """
    folder = Path(folder)
    description = read_json(folder / DESCRIPTION)
    info = _info(description, folder / DESCRIPTION)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise InputError(f"{weights} is not there: copy it along with {DESCRIPTION}, or train again")
    if file_fingerprint(weights) != description.get("weights"):
        raise InputError(f"{weights} is not the file that {DESCRIPTION} describes: copy both again, or train again")
    model = info.spec.build(info.shape, len(info.labels), 0)
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as e:
        raise InputError(f"{weights} does not fit the network in {DESCRIPTION}: {e}") from None
    return model.eval(), info


def _info(description: Any, path: Path) -> ModelInfo:
    if not isinstance(description, dict) or description.get("format") != 1:
        raise InputError(f"{path} is not a model description of format 1: was it written by save_model?")
    try:
        spec = from_kind(MODELS, description["model"], "model")
        return build(ModelInfo, {"spec": spec, "shape": description["shape"], "labels": description["labels"]})
    except (KeyError, TypeError, ConfigError) as e:
        raise InputError(f"{path} does not describe a known network: {e}") from None
