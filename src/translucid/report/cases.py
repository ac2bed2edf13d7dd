"""The shown cases: what each variant lets through, what it predicts, and where its evidence lies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from translucid.report.numbers import amount, finite, fixed
from translucid.report.outlines import on_slice, outlines, shown_slices, slice_number
from translucid.report.pictures import common_scale, grey, overlay, plane, slice_of
from translucid.report.plots import Style
from translucid.report.read import Maps, Run, Table, as_list, as_table, entry
from translucid.report.twins import coarse, coinciding

LABELS = 3
METHODS = {
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "gradient_times_code": "Gradient × code",
    "gradient": "Gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated gradients",
    "smooth_ig": "Smooth integrated gradients",
    "guided_backprop": "Guided backpropagation",
    "guided_gradcam": "Guided Grad-CAM",
    "occlusion": "Occlusion",
    "xrai": "XRAI",
    "native": "The model's own map",
}


@dataclass(frozen=True)
class Limits:
    """How much is drawn: cases, variants per case, and pixels per side of images and maps."""

    cases: int = 16
    variants: int = 12
    side: int = 320
    map_side: int = 160


@dataclass(frozen=True)
class Image:
    """A picture that several tiles share: its id in the page, its data, the grid it stands for."""

    id: str
    uri: str
    width: int
    height: int
    crisp: bool


@dataclass(frozen=True)
class Tile:
    """One picture with its caption; `note` stands in place of the picture where there is none."""

    title: str
    alt: str
    base: Image | None = None
    over: str = ""
    lines: tuple[str, ...] = ()
    boxes: tuple[tuple[str, float, float, float, float], ...] = ()
    outlines: tuple[tuple[str, str], ...] = ()
    note: str = ""
    width: int = 1
    height: int = 1


@dataclass(frozen=True)
class Scale:
    """The common scale of one method's maps in one variant."""

    method: str
    full: str
    strongest: str


@dataclass(frozen=True)
class Row:
    """What one variant shows for one case."""

    style: Style
    tiles: list[Tile]
    scales: list[Scale]


@dataclass(frozen=True)
class Shown:
    """One case."""

    number: int
    name: str
    truth: list[tuple[str, str]]
    predictions: list[tuple[Style, list[tuple[str, str, float]]]]
    plain: Tile | None
    rows: list[Row]

    @property
    def narrow(self) -> bool:
        """Whether two variants fit side by side."""
        return all(len(row.tiles) <= 3 for row in self.rows)


@dataclass
class Album:
    """All cases, and the pictures that their tiles share."""

    cases: list[Shown] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    left_out: int = 0
    variants_left_out: int = 0
    remarks: list[tuple[str, str, list[str]]] = field(default_factory=list)
    scales: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def outlined(self) -> bool:
        """Whether any picture has an outline."""
        return any(tile.outlines for case in self.cases for row in case.rows for tile in row.tiles)


def album(run: Run, styles: dict[str, Style], limits: Limits) -> Album:
    """Lay out every shown case for every variant that has maps."""
    names = list(run.maps)[: limits.variants]
    found = Album(variants_left_out=len(run.maps) - len(names))
    everyone = list(dict.fromkeys(case for name in names for case in run.maps[name].cases))
    found.left_out = max(0, len(everyone) - limits.cases)
    found.labels = list(dict.fromkeys(x for name in names for x in run.maps[name].labels))
    same = {name: coinciding(run.maps[name]) for name in names}
    found.scales = {(n, m): _scale(run.maps[n], m) for n in names for m in run.maps[n].methods if m not in same[n]}
    for number, case in enumerate(everyone[: limits.cases], 1):
        rows = [_row(run, name, case, styles[name], same[name], limits, found) for name in names]
        told = [(styles[n], _predictions(run.maps[n], case)) for n in names if case in run.maps[n].cases]
        truth = _truth(run.maps[names[0]], case)
        plain = _plain(run, run.maps[names[0]], case, limits, found)
        found.cases.append(Shown(number, case, truth, told, plain, [r for r in rows if r is not None]))
    found.remarks = [(n, method_name(m), _remarks(t)) for n in names for m, t in run.maps[n].methods.items()]
    return found


def method_name(method: str) -> str:
    """A method as its authors write it."""
    return METHODS.get(method, method)


def _remarks(told: Table) -> list[str]:
    """Given once per method, whether as a list or as one sentence."""
    said = told.get("remarks")
    return [said] if isinstance(said, str) else [str(r) for r in as_list(said)]


# -- truth and predictions -----------------------------------------------------------------------------------------


def _truth(maps: Maps, case: str) -> list[tuple[str, str]]:
    if case not in maps.cases:
        return []
    i, words = maps.cases.index(case), {1.0: "present", 0.0: "absent"}
    values = [maps.number("truth", i, k) for k in range(len(maps.labels))]
    return [
        (x, words.get(v, "unknown") if v is not None else "unknown") for x, v in zip(maps.labels, values, strict=True)
    ]


def _predictions(maps: Maps, case: str) -> list[tuple[str, str, float]]:
    """(probability, logit, share of the bar) per label."""
    i = maps.cases.index(case)
    found = []
    for k in range(len(maps.labels)):
        logit = maps.number("logits", i, k)
        found.append(
            ("n/a", "", 0.0) if logit is None else (fixed(sigmoid(logit), 2), fixed(logit, 2, True), sigmoid(logit))
        )
    return found


def sigmoid(x: float) -> float:
    """A logit's probability.

    >>> sigmoid(0.0), sigmoid(-800.0)
    (0.5, 0.0)
    """
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _chosen(maps: Maps, i: int) -> list[int]:
    """Labels whose maps are shown: present, then predicted, else the likeliest."""
    everyone = range(len(maps.labels))
    truth = [maps.number("truth", i, k) for k in everyone]
    logits = [maps.number("logits", i, k) for k in everyone]
    order = [k for k in everyone if truth[k] == 1] + [k for k in everyone if truth[k] != 1 and (logits[k] or -1) >= 0]
    if not order and len(maps.labels):
        order = [max(everyone, key=lambda k: -math.inf if logits[k] is None else float(logits[k] or 0.0))]
    return order[:LABELS]


# -- one variant's tiles -------------------------------------------------------------------------------------------


def _row(
    run: Run, name: str, case: str, style: Style, same: dict[str, str], limits: Limits, found: Album
) -> Row | None:
    maps = run.maps[name]
    if case not in maps.cases:
        return None
    i = maps.cases.index(case)
    labels = _chosen(maps, i)
    slices = {k: shown_slices(maps, i, k) for k in labels}
    first = slices[labels[0]][0] if labels else None
    bases = {
        at: _kept(run, name, i, at, limits, found) for at in {first, *(s for some in slices.values() for s in some)}
    }
    secret = run.secret(name)
    tiles = [_kept_tile(run, name, bases[first])]
    if bases[first] is not None:
        tiles += _fed(maps, i, first, limits, found, name)
    shown = [m for m in maps.methods if m not in same and (coarse(maps, m) or not secret)]
    for k in labels:
        tiles += [
            t
            for at in slices[k]
            for m in shown
            if (t := _map_tile(maps, m, i, k, at, bases[at], same, limits, found.scales[name, m])) is not None
        ]
    tiles += _gaze(maps, i, first, bases[first], limits)
    there = [m for m in shown if f"placed/{m}" in maps.arrays.names]
    scales = [_told_scale(maps, m, found.scales[name, m], same) for m in there]
    return Row(style, tiles, scales)


def largest(maps: Maps, method: str) -> float:
    """The largest magnitude of a method's maps, in logits."""
    return finite(maps.methods[method].get("largest")) or 1e-12


def _scale(maps: Maps, method: str) -> float:
    """The common scale of a method's maps, over all shown cases and labels."""
    placed = (maps.arrays.case(f"placed/{method}", i) for i in range(len(maps.cases)))
    return common_scale((p for p in placed if p is not None), largest(maps, method))


def _told_scale(maps: Maps, method: str, full: float, same: dict[str, str]) -> Scale:
    top = largest(maps, method)
    return Scale(_joined(method, same), amount(full), amount(top) if full < top else "")


def _joined(method: str, same: dict[str, str]) -> str:
    twins = [method_name(m) for m, other in same.items() if other == method]
    return " = ".join([method_name(method), *twins])


WHOLE = "Not shown: this variant keeps the whole image, and the recipe does not allow whole images in the report."
HIDDEN = "Not shown: the picture would give away which pixels a secret chose."


def withheld(run: Run, name: str) -> str:
    """Why a kept image is not shown: it is the image itself, or it shows a secret mask; "" where it may be."""
    if run.secret(name):
        return HIDDEN
    plain = as_table(run.variant(name).get("compress")).get("kind") == "plain"
    return WHOLE if plain and not run.shows_plain else ""


def _kept(run: Run, name: str, i: int, at: int | None, limits: Limits, found: Album) -> Image | None:
    kept = None if withheld(run, name) else run.maps[name].arrays.case("kept", i)
    return None if kept is None or not kept.size else _image(plane(kept, at), limits.side, found)


def _image(flat: np.ndarray, side: int, found: Album) -> Image:
    height, width = flat.shape
    image = Image(f"i{len(found.images)}", grey(flat, side), width, height, max(flat.shape) <= 160)
    found.images.append(image)
    return image


def _kept_tile(run: Run, name: str, base: Image | None) -> Tile:
    if base is None:
        return Tile("Kept", "", note=withheld(run, name) or "Not shown: the maps hold no kept image.")
    return Tile("Kept", f"what {name} keeps of the image", base, width=base.width, height=base.height)


def _gaze(maps: Maps, i: int, at: int | None, base: Image | None, limits: Limits) -> list[Tile]:
    """Where a reader looked, on its own scale; none where nobody's gaze is known."""
    gaze = maps.arrays.case("gaze", i)
    if gaze is None or gaze.ndim < 3 or not gaze.max(initial=0) > 0:
        return []
    flat = on_slice(maps, i, gaze[0], at)
    height, width = (base.height, base.width) if base else flat.shape
    drawn, lines = overlay(flat, float(gaze.max()), limits.map_side), ("share of the time, strongest where longest",)
    return [Tile("Gaze of a reader", "where a reader looked", base, drawn, lines, width=width, height=height)]


def _fed(maps: Maps, i: int, at: int | None, limits: Limits, found: Album, name: str) -> list[Tile]:
    """The image a CNN sees, where it is not the kept one."""
    fed, kept = maps.arrays.case("fed", i), maps.arrays.case("kept", i)
    if (
        fed is None
        or not fed.size
        or (kept is not None and fed.shape == kept.shape and np.allclose(fed, kept, atol=1e-4))
    ):
        return []
    base = _image(plane(fed, at), limits.side, found)
    size = "×".join(map(str, fed.shape[1:]))
    lines = (f"{size} pixels" + (f", mean of {fed.shape[0]} channels" if fed.shape[0] > 1 else ""),)
    return [
        Tile(
            "Fed to the network",
            f"what the network of {name} is fed",
            base,
            lines=lines,
            width=base.width,
            height=base.height,
        )
    ]


def _map_tile(
    maps: Maps,
    method: str,
    i: int,
    k: int,
    at: int | None,
    base: Image | None,
    same: dict[str, str],
    limits: Limits,
    full: float,
) -> Tile | None:
    placed = maps.arrays.case(f"placed/{method}", i)
    if placed is None or k >= len(placed):
        return None
    flat = slice_of(placed[k], at)
    label, logit = maps.labels[k], maps.number("logits", i, k)
    height, width = (base.height, base.width) if base else flat.shape
    lines = [_joined(method, same), sum_line(maps.methods[method], i, k, logit)]
    if at is not None:
        lines.append(f"slice {slice_number(maps, i, at) + 1}")
    alt = f"evidence for {label} by {method_name(method)}"
    return Tile(
        label,
        alt,
        base,
        overlay(flat, full, limits.map_side),
        tuple(lines),
        outlines=outlines(maps, i, k, at, (width, height)),
        width=width,
        height=height,
    )


def sum_line(told: Table, i: int, k: int, logit: float | None) -> str:
    """Whether the map accounts for the logit.

    >>> sum_line({"exact": True, "residual": [[1e-7]], "bias": [[-0.5]]}, 0, 0, 1.25)
    'sum +1.75, bias −0.50, logit +1.25: exact'
    >>> sum_line({"exact": False, "residual": [[0.31]], "bias": [[-0.5]]}, 0, 0, 1.25)
    'sum +1.44, bias −0.50, logit +1.25: +0.31 unexplained'
    """
    residual, bias = (entry(told.get(name), i, k) for name in ("residual", "bias"))
    if logit is None or bias is None or residual is None:
        return "whether it sums to the logit is not known"
    total = f"sum {fixed(logit - bias - residual, 2, True)}, bias {fixed(bias, 2, True)}, logit {fixed(logit, 2, True)}"
    if told.get("exact") is True:
        return f"{total}: exact"
    if abs(residual) < 0.005:
        return f"{total}: to within 0.005"
    return f"{total}: {fixed(residual, 2, True)} unexplained"


def _plain(run: Run, maps: Maps, case: str, limits: Limits, found: Album) -> Tile | None:
    if case not in maps.cases:
        return None
    pixels = run.plain.case("plain", maps.cases.index(case))
    if pixels is None or not pixels.size:
        return None
    base = _image(plane(pixels), limits.side, found)
    told = _boxes(run.regions.get(case)) if pixels.ndim == 3 else ()
    words = ", ".join(dict.fromkeys(box[0] for box in told))
    alt = "the uncompressed image" + (f" with boxes around: {words}" if words else "")
    lines = (f"boxes: {words}",) if words else ("no boxes for this case",)
    return Tile("Uncompressed", alt, base, lines=lines, boxes=told, width=base.width, height=base.height)


def _boxes(regions: object) -> tuple[tuple[str, float, float, float, float], ...]:
    """Boxes of one case, (label, x, y, width, height) each; what is none is left out."""
    found = []
    for box in as_list(regions):
        if isinstance(box, list) and len(box) == 5:
            x, y, width, height = (finite(v) or 0.0 for v in box[1:])
            found.append((str(box[0]), x, y, width, height))
    return tuple(found)
