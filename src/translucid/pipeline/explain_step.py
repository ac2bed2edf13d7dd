"""The verb `explain`: what a compressor lets through and what the logits rest on, for the same few cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from translucid import maps
from translucid.compress import DeepFixCX
from translucid.config import fingerprint, whole_file, write_json
from translucid.errors import lookup
from translucid.explain import EXPLAINERS, average, code_gradients, edge_bias, explain_codes, spatial_bias
from translucid.io.codes import CodeStore
from translucid.io.index import label_matrix
from translucid.models import load_model
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.train_step import read_predictions
from translucid.pipeline.variants import Work, works
from translucid.study import Study
from translucid.tensors import Explanation, Placement

Arrays = dict[str, np.ndarray]
CHUNK = 16
PLAIN = "plain.images"
"""Folder of the framed images; no variant can have this name."""
SLICES = 9
"""Slices of a volume that are kept for the pictures."""


def explain(study: Study, run: Path, echo: Callable[[str], None] = lambda line: None) -> None:
    """Write `maps/<variant>/` for the shown cases, from the compressed data alone.

    CNNs get the asked CAM methods; models on codes get gradient × code, integrated from the average training codes so
    that contributions add up, and carried back to the image; DeepFixCX also its spatial and edge bias.

    Raises:
        InputError: a variant has not been trained.

    Fails when: a shown case is taken for the typical one; the cases are picked by how right or wrong the baseline was.
    """
    folder = RunFolder(run)
    folder.need_codes()
    everyone = works(folder, study)
    shown = choose_cases(next(w for w in everyone if w.name == (study.baseline or everyone[0].name)))
    folder.warn("explain", [] if len(shown) else [f"no case of {study.explain.split!r} has a label: nothing is shown"])
    if not len(shown):
        return
    for number, work in enumerate(everyone, 1):
        trained = folder.need("train", work.name)
        wanted = fingerprint([trained, study.explain, [int(i) for i in shown]])
        if folder.done("explain", work.name) == wanted and (folder.maps(work.name) / "maps.json").is_file():
            continue
        echo(f"explain {number}/{len(everyone)}: {work.name}")
        with folder.timed("explain", work.name):
            _explain_one(work, shown)
        work.store.forget()
        folder.note("fingerprints", "explain", work.name, value=wanted)
    _show_plain(folder, everyone[0], shown)


def choose_cases(work: Work) -> np.ndarray:
    """Rows of the most telling cases: for each label the surest hit, miss, false alarm and correct rejection."""
    settings = work.study.explain
    rows, logits = work.rows(settings.split), read_predictions(work)
    y = label_matrix(work.index, work.labels)
    chosen: list[int] = []
    for k in range(len(work.labels)):
        score, truth = logits[rows, k], y[rows, k]
        order = [rows[np.flatnonzero(truth == t)][np.argsort(s * score[truth == t])] for t, s in _QUARTERS]
        ranked = [int(i) for rank in range(settings.cases) for group in order for i in group[rank : rank + 1]]
        chosen += [i for i in ranked if i not in chosen][: settings.cases]
    return np.array(chosen, dtype=np.int64)


_QUARTERS = ((1, -1), (1, 1), (0, -1), (0, 1))
"""(truth, sign of the sorting): sure hits, misses, false alarms, sure rejections."""


def _explain_one(work: Work, shown: np.ndarray) -> None:
    model, _ = load_model(work.folder.model(work.name))
    model.requires_grad_(False)
    each = 1 if len(work.space) == 3 else max(1, len(shown))
    parts = [_explained(work, model, shown[k : k + each]) for k in range(0, len(shown), each)]
    found = {name: _joined([part[0][name] for part in parts]) for name in parts[0][0]}
    arrays = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
    arrays |= {f"raw/{name}": _array(one.maps) for name, one in found.items()}
    methods = {name: _told(one) for name, one in found.items()}
    arrays |= _known_places(work, shown)
    names = _biases(work, model, shown, arrays)
    _write(work, shown, arrays, methods, names)


def _explained(work: Work, model: torch.nn.Module, shown: np.ndarray) -> tuple[dict[str, Explanation], Arrays]:
    """Explanations of some cases, and their pictures: of volumes only the slices that tell most."""
    codes = torch.from_numpy(work.store.read(shown))
    x = next(iter(work.loader(shown).with_(batch=len(shown)))).x
    found = _by_codes(work, model, codes) if work.eats == "codes" else by_image(work, model, x)
    seen = work.space if work.eats == "codes" else tuple(x.shape[2:])
    arrays: Arrays = {"kept": _array(work.compressor.lift(codes, work.space))}
    if work.eats != "codes":
        arrays["fed"] = _array(x)
    at: np.ndarray | None = None
    if len(work.space) == 3 and found:
        at = telling_slices(next(iter(found.values())), seen[0], work.space[0])
        arrays = {name: values[:, :, at * values.shape[2] // work.space[0]] for name, values in arrays.items()}
        arrays["slices"] = at[None]
    for name, one in found.items():
        labels = one.maps.split(1, 1) if at is not None else [one.maps]
        placed = [_array(maps.resize(maps.resize(m, seen, one.placement), work.space)) for m in labels]
        arrays[f"placed/{name}"] = np.concatenate([p if at is None else p[:, :, at] for p in placed], 1)
    return found, arrays


def telling_slices(found: Explanation, seen: int, depth: int) -> np.ndarray:
    """Slices of one volume where the labels' positive evidence is largest, each label on its own scale; in order.

    `seen` is how many slices the network was fed, `depth` how many the framed volume has.
    """
    along = maps.resize(found.maps.clamp(min=0).flatten(3).sum(3), (seen,), _along(found.placement))
    along = maps.resize(along, (depth,))[0]
    share = along / along.amax(1, keepdim=True).clamp(min=1e-12)
    best = torch.argsort(share.amax(0), descending=True, stable=True)[: min(SLICES, depth)]
    return np.sort(best.numpy())


def _along(placement: Placement) -> Placement:
    return Placement(placement.start[:1], placement.step[:1])


def _known_places(work: Work, shown: np.ndarray) -> Arrays:
    """Where findings are and where each label may lie, for the outlines in the pictures."""
    if work.places is None:
        return {}
    y = label_matrix(work.index, work.labels)[shown]
    arrays = {"truth": np.nan_to_num(work.places.truth(shown, y))} if work.study.places.truth else {}
    if work.study.places.regions:
        arrays["regions"] = work.places.regions(shown, np.ones_like(y)).astype(np.float32)
    if work.study.places.gaze:
        arrays["gaze"] = np.nan_to_num(work.places.read(shown)["gaze"][:, None])
    return arrays


def by_image(work: Work, model: torch.nn.Module, x: Tensor) -> dict[str, Explanation]:
    """Every asked method that fits a network on images."""
    labels = list(range(len(work.labels)))
    return {name: lookup(EXPLAINERS, name, "explain.methods")()(model, x, labels) for name in methods_of(work, model)}


def methods_of(work: Work, model: torch.nn.Module) -> list[str]:
    """The methods that apply to a variant; "native" where the network shows maps of its own."""
    if work.eats == "codes":
        return ["gradient_times_code"]
    with torch.no_grad():
        one = next(iter(work.loader(np.zeros(1, np.int64)))).x
        shows = model(one).maps is not None
    return [name for name in work.methods if name != "native" or shows]


def _by_codes(work: Work, model: torch.nn.Module, codes: Tensor) -> dict[str, Explanation]:
    labels, how = list(range(len(work.labels))), path_of(work)
    parts = [explain_codes(model, some, labels, work.compressor, work.space, **how) for some in codes.split(CHUNK)]
    return {"gradient_times_code": _joined(parts)}


def path_of(work: Work) -> dict[str, Any]:
    """Where the integration begins: the mean of the training codes (the average patient), or nothing at all."""
    settings = work.study.explain
    if settings.baseline == "zero":
        return {"steps": settings.steps}
    rows = work.rows("train")
    total = np.zeros(work.store.shape[1:])
    for some in np.array_split(rows, max(1, len(rows) // 512)):
        total += work.store.read(some).sum(0)
    return {"steps": settings.steps, "baseline": torch.from_numpy((total / len(rows)).astype(np.float32))}


def _joined(parts: list[Explanation]) -> Explanation:
    first = parts[0]
    cat = {name: torch.cat([getattr(p, name) for p in parts]) for name in ("maps", "residual", "bias")}
    exact = all(p.exact for p in parts)
    return Explanation(
        cat["maps"], first.labels, first.method, exact, cat["residual"], cat["bias"], first.placement, first.remarks
    )


def _biases(work: Work, model: torch.nn.Module, shown: np.ndarray, arrays: Arrays) -> list[str]:
    """DeepFixCX: where (cell) and at which scale and orientation (band) the evidence lies; per case and on average."""
    compressor = work.compressor
    if work.eats != "codes" or not isinstance(compressor, DeepFixCX):
        return []
    rows = work.rows(work.study.explain.split)
    everyone = np.unique(np.concatenate([rows, shown]))
    labels, how = list(range(len(work.labels))), path_of(work)
    cells, edges = [], []
    for some in np.array_split(everyone, max(1, len(everyone) // (4 * CHUNK))):
        codes = torch.from_numpy(work.store.read(some))
        contributions = code_gradients(model, codes, labels, **how).contributions
        cells.append(spatial_bias(contributions, compressor.split))
        edges.append(edge_bias(contributions, compressor.split))
    place = {int(row): i for i, row in enumerate(everyone)}
    here = torch.tensor([place[int(i)] for i in shown])
    there = torch.tensor([place[int(i)] for i in rows])
    positive = torch.from_numpy(label_matrix(work.index, work.labels)[rows] == 1)
    patients = [work.index[i].patient for i in rows]
    for name, parts in (("spatial_bias", cells), ("edge_bias", edges)):
        values = torch.cat(parts)
        arrays[f"case_{name}"] = _array(values[here])
        arrays[name] = _array(average(values[there], positive, patients).mean)
    return list(compressor.band_names(len(work.space)))


def _told(explanation: Explanation) -> dict[str, Any]:
    return {
        "exact": explanation.exact,
        "remarks": explanation.remarks,
        "residual": _array(explanation.residual),
        "bias": _array(explanation.bias),
        "grid": list(explanation.maps.shape[2:]),
        "largest": float(explanation.maps.abs().max()),
    }


def _write(work: Work, shown: np.ndarray, arrays: Arrays, methods: dict[str, Any], bands: list[str]) -> None:
    target = work.folder.maps(work.name)
    y = label_matrix(work.index, work.labels)
    with whole_file(target / "maps.safetensors") as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
    told = {
        "cases": [work.index[i].case for i in shown],
        "labels": work.labels,
        "truth": y[shown],
        "logits": read_predictions(work)[shown],
        "methods": methods,
        "bands": bands,
        "space": work.space,
        "remarks": [],
    }
    write_json(target / "maps.json", told)


def _show_plain(folder: RunFolder, work: Work, shown: np.ndarray) -> None:
    """The framed images of the shown cases, only where the recipe says that the report may show them."""
    if work.study.report.images != "plain" or len(work.space) == 3:  # of volumes the kept slices are shown
        folder.clear(folder.maps(PLAIN))
        return
    wanted = fingerprint([folder.done("compress"), [int(i) for i in shown]])
    if folder.done("explain", PLAIN) == wanted and (folder.maps(PLAIN) / "maps.safetensors").is_file():
        return
    pixels = CodeStore.open(folder.codes("plain")).read(shown)
    with whole_file(folder.maps(PLAIN) / "maps.safetensors") as temporary:
        save_file({"plain": pixels.reshape(len(shown), -1, *work.space)}, temporary)
    folder.note("fingerprints", "explain", PLAIN, value=wanted)


def _array(values: Tensor) -> np.ndarray:
    """Detached float32 numpy."""
    return values.detach().float().cpu().numpy()
