"""Explain a model of the user's own on files of the user's own: maps on the grid of each file, ready to lay over it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from translucid import maps
from translucid.config import override, read_json, whole_file, write_json
from translucid.errors import ConfigError, InputError, TranslucidError, UnreadableImage, lookup
from translucid.explain import EXPLAINERS, resolve
from translucid.explain.cam import Cam
from translucid.explain.split import find_layer
from translucid.export import save_nifti
from translucid.export.picture import save_overlay
from translucid.io.placing import to_source
from translucid.io.readers import read_image
from translucid.io.series import read_series
from translucid.io.volume_framing import FramedVolume
from translucid.models import load_model
from translucid.pipeline.compress_step import read_framing
from translucid.tensors import Explanation, SplitModel
from translucid.types import Image

MOST = 20


@dataclass(frozen=True)
class Subject:
    """The model that is explained.

    Attributes:
        model: in eval mode.
        names: of the logits; empty where nobody has told.
        framing: how its images were framed, where that is known.
    """

    model: nn.Module
    names: tuple[str, ...] = ()
    framing: Mapping[str, Any] | None = None


def load_subject(model: str, weights: Path | None = None) -> Subject:
    """A model by "package.module:factory", or by the folder of a trained variant (RUN/models/NAME).

    The factory is called without arguments and gives a `torch.nn.Module`; `weights` is a safetensors file of its
    state. Modules are looked for on the Python path and in the current folder.

    Raises:
        ConfigError: no such module or factory, or it gives no network.
        InputError: the weights are no safetensors, or do not fit.

    Example:
        >>> load_subject("no_such_package:make")
        Traceback (most recent call last):
        ...
        translucid.errors.ConfigError: --model no_such_package:make: No module named 'no_such_package'; ...

    Fails when: the code behind the name is not trusted; it is run.
    """
    folder = Path(model)
    if ":" not in model:
        if not folder.is_dir():
            raise ConfigError(f"--model {model}: wanted package.module:factory, or a folder RUN/models/NAME")
        if weights is not None:
            raise ConfigError(f"--weights {weights}: {model} has its own; leave it out, or name package.module:factory")
        loaded, info = load_model(folder)
        record = folder.parent.parent / "run.json"
        framing = read_json(record)["recipe"].get("framing") if record.is_file() else None
        return Subject(loaded, info.labels, framing)
    built = _call(model)
    if weights is not None:
        try:
            built.load_state_dict(load_file(weights))
        except (RuntimeError, SafetensorError, OSError) as e:
            raise InputError(
                f"{weights} does not fit the network of {model}: {e}; wanted safetensors of its state_dict"
            ) from None
    return Subject(built.eval())


def _call(name: str) -> nn.Module:
    module, _, factory = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        made = getattr(importlib.import_module(module), factory)()
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"--model {name}: {e}; wanted package.module:factory on the Python path") from None
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(made, nn.Module):
        raise ConfigError(f"--model {name}: the factory gave a {type(made).__name__}; wanted a torch.nn.Module")
    return made


def explain_files(
    model: str,
    files: Sequence[Path],
    out: Path,
    *,
    weights: Path | None = None,
    method: str = "hirescam",
    layer: str | None = None,
    labels: Sequence[int] = (),
    changes: Sequence[str] = (),
    echo: Callable[[str], None] = lambda line: None,
) -> str:
    """Explain some files and write each map on the grid of its file: NIfTI for volumes, PNG overlays for films.

    Args:
        model: see `load_subject`.
        files: images, or folders that hold one DICOM series each. They are numbered in this order.
        out: folder for `explained.json`, `raw.safetensors` (signed, on the model's grid) and the placed maps.
        weights: safetensors of a factory's network.
        method: one of `EXPLAINERS`.
        layer: where to look; None takes the model's own seam, or what `resolve` finds.
        labels: which logits; empty means all.
        changes: `key=value` of the framing, such as `kind=volume` or `size=224`.
        echo: told what was chosen and why.

    Returns:
        What was done, in a line; what could not be used is listed with its reason in `explained.json`.

    Raises:
        ConfigError, InputError: the model, the method or all files cannot be used.

    Fails when: the model was trained on images framed otherwise; only its logits would show it.
    """
    subject = load_subject(model, weights)
    explainer = _at(lookup(EXPLAINERS, method, "method")(), method, subject.model, layer)
    _check_framing(subject, files, changes)
    told: list[dict[str, Any]] = []
    raw: dict[str, Tensor] = {}
    open_question = layer is None and isinstance(explainer, Cam)
    for number, file in enumerate(files, 1):
        try:
            image = _read(file)
            framed = _framed(subject, image, changes)
            x = torch.from_numpy(np.ascontiguousarray(framed.pixels))[None]
            if open_question:
                explainer, open_question = _looking(explainer, subject.model, x, echo), False
            found, logits, asked = _explained(subject, explainer, x, labels)
            raw[f"{number:04d}"] = found.maps[0]
            told.append(_record(number, found, logits, _names(subject, asked)))
            _place(out, number, image, framed, found, _names(subject, asked))
            echo(f"{file}: {out / f'{number:04d}'}-*, {_verdict(found)}")
        except TranslucidError as e:
            told.append({"number": number, "reason": str(e)})
            echo(f"{file}: left out: {e}")
    if not raw:
        first = f"{files[0]}: {told[0]['reason']}" if told else "no file was given"
        raise InputError(f"none of {len(files)} files could be explained; the first: {first}")
    with whole_file(out / "raw.safetensors") as temporary:
        save_file({name: values.contiguous() for name, values in raw.items()}, temporary)
    write_json(out / "explained.json", {"method": method, "cases": told})
    return f"{len(raw)} of {len(files)} explained: {out}"


def _at(explainer: Any, method: str, model: nn.Module, layer: str | None) -> Any:
    """The explainer at the asked layer, if one is asked for; refused where there is none of that name."""
    if layer is None:
        return explainer
    if not isinstance(explainer, Cam):
        cams = ", ".join(name for name, kind in EXPLAINERS.items() if issubclass(kind, Cam))
        raise ConfigError(f"--layer {layer}: {method} takes none: leave it out, or take {cams}")
    find_layer(model, layer)
    return replace(explainer, layer=layer)


def _check_framing(subject: Subject, files: Sequence[Path], changes: Sequence[str]) -> None:
    """Refuse options that fit neither films nor volumes before any file is read."""
    volumes_first = any(file.is_dir() or file.name.endswith((".nii", ".nii.gz")) for file in files)
    error: ConfigError | None = None
    for volume in (volumes_first, not volumes_first):
        try:
            read_framing(_framing_table(subject, volume, changes))
        except ConfigError as e:
            error = error or e
        else:
            return
    assert error is not None
    raise error


def _read(file: Path) -> Image:
    if not file.is_dir():
        return read_image(file)
    if not any(file.iterdir()):
        raise UnreadableImage("the folder is empty: name image files, or folders that hold one DICOM series each")
    return read_series(file)


def _framing_table(subject: Subject, volume: bool, changes: Sequence[str]) -> dict[str, Any]:
    """The model's own framing, else the image as it is; single keys can be set."""
    plain: dict[str, Any] = {"kind": "volume", "spacing": None, "shape": None} if volume else {"kind": "none"}
    return override(dict(subject.framing) if subject.framing else plain, changes)


def _framed(subject: Subject, image: Image, changes: Sequence[str]) -> Any:
    framing, _ = read_framing(_framing_table(subject, image.affine is not None and len(image.space) == 3, changes))
    return framing.apply(image)


def _looking(explainer: Cam, model: nn.Module, x: Tensor, echo: Callable[[str], None]) -> Cam:
    """The explainer at the model's own seam, or at the one that the dry run picks."""
    if isinstance(model, SplitModel):
        return explainer
    choice = resolve(model, x)
    echo(choice.why)
    for candidate in choice.candidates:
        grid = "×".join(map(str, candidate.grid))
        echo(f"  {candidate.layer} ({candidate.kind}): {grid} cells, exact: {'yes' if candidate.exact else 'no'}")
    return replace(explainer, layer=choice.layer, tokens=choice.tokens)


def _explained(
    subject: Subject, explainer: Any, x: Tensor, labels: Sequence[int]
) -> tuple[Explanation, Tensor, tuple[int, ...]]:
    if not labels:
        with torch.no_grad():
            answer = subject.model(x)
        logits = getattr(answer, "logits", answer)
        count = logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else 1
        if count > MOST:
            raise ConfigError(f"the model has {count} logits: name those to explain with --label, at most {MOST}")
        labels = range(count)
    found = explainer(subject.model, x, list(labels))
    return found, found.residual + found.bias + found.maps.flatten(2).sum(2), tuple(labels)


def _names(subject: Subject, asked: Sequence[int]) -> list[str]:
    return [subject.names[k] if k < len(subject.names) else f"logit{k}" for k in asked]


def _record(number: int, found: Explanation, logits: Tensor, names: Sequence[str]) -> dict[str, Any]:
    return {
        "number": number,
        "labels": list(names),
        "logits": logits[0].tolist(),
        "bias": found.bias[0].tolist(),
        "residual": found.residual[0].tolist(),
        "exact": found.exact,
        "placement": {"start": found.placement.start, "step": found.placement.step},
        "remarks": found.remarks,
    }


def _place(out: Path, number: int, image: Image, framed: Any, found: Explanation, names: Sequence[str]) -> None:
    """One file per label, on the grid of the file that was read."""
    values = found.maps[0].detach().float().cpu().numpy()
    if isinstance(framed, FramedVolume):
        assert image.affine is not None
        for name, one in zip(names, values, strict=True):
            placed = framed.to_source(one, found.placement.start, found.placement.step)
            save_nifti(placed, image.affine, out / f"{number:04d}-{_plain(name)}.nii.gz")
        return
    full = maps.resize(found.maps, tuple(framed.pixels.shape[1:]), found.placement)[0].detach().float().cpu().numpy()
    scale = float(np.abs(values).max()) or 1.0
    film = to_film(image)
    for name, one in zip(names, full, strict=True):
        save_overlay(film, to_source(one, framed.transform), scale, out / f"{number:04d}-{_plain(name)}.png")


def to_film(image: Image) -> np.ndarray:
    """The image as it was stored, grey, from black 0 to white 1.

    >>> to_film(Image(np.full((3, 1, 1), 51.0, np.float32), 0.0, 255.0)).tolist()
    [[0.20000000298023224]]
    """
    span = image.high - image.low
    return np.asarray((image.pixels.mean(0) - np.float32(image.low)) / np.float32(span if span > 0 else 1))


def _plain(name: str) -> str:
    """A label as part of a file name."""
    return "".join(c if c.isalnum() else "_" for c in name)


def _verdict(found: Explanation) -> str:
    if found.exact:
        return "exact: the map sums to the logit less its bias"
    return f"not exact, residual up to {float(found.residual.abs().max()):.3g}"
