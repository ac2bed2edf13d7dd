"""What each compressor keeps, in a picture and in words; and where DeepFixCX finds its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from translucid.report.cases import Album, Image, Limits, Tile, _image, withheld
from translucid.report.numbers import amount, finite, fixed, percent, size
from translucid.report.pictures import overlay, plane
from translucid.report.plots import Bar, Style, bars
from translucid.report.read import Maps, Run, Table, as_list, as_table
from translucid.report.svg import el

WORDS = {
    "hline": "horizontal lines",
    "rline": "random lines",
    "rhline": "random and horizontal lines",
    "heart": "only inside a fixed heart region",
    "all": "everywhere",
    "median": "after a sliding median has shrunk the image",
    "quadtree": "after a quadtree has replaced even areas by their mean",
}
POOLS = {"l1": "sum of magnitudes", "l2": "sum of squares", "max": "maximum", "min": "minimum"}
MEANS = {"l1": "mean magnitude", "l2": "mean square", "sum": "mean"}
SMOOTH = 1.5
"""How many times the strongest edge band the smooth band may reach before it is named in place of drawn."""
ORIENTATIONS = {"A": "smooth", "V": "vertical edges", "H": "horizontal edges", "D": "diagonal"}


@dataclass(frozen=True)
class Bias:
    """Spatial and edge bias of one variant that eats DeepFixCX codes."""

    style: Style
    places: list[Tile]
    scale: str
    edges: list[Markup]
    orientations: list[tuple[str, int]]


@dataclass(frozen=True)
class Store:
    """One compressor."""

    name: str
    users: list[Style]
    words: str
    options: str
    weight: list[tuple[str, str]]
    tiles: list[Tile] = field(default_factory=list)


def stores(run: Run, styles: dict[str, Style], limits: Limits, found: Album) -> list[Store]:
    """Every store of the record."""
    weights = as_table(as_table(as_table(run.record.get("steps")).get("compress")).get("stores"))
    told = []
    for name, table in as_table(run.record.get("stores")).items():
        compress = as_table(table)
        users = run.users[name]
        shown = next((v for v in users if v in run.maps), None)
        tiles = _tiles(run, shown, compress, limits, found) if shown else []
        weight = _weight(as_table(weights.get(name)))
        told.append(Store(str(name), [styles[v] for v in users], in_words(compress), _options(compress), weight, tiles))
    return told


def in_words(compress: Table) -> str:
    """A compressor's JSON as a sentence.

    >>> in_words({"kind": "heartspot", "prior": "median+hline"})
    'Keeps fixed pixels: horizontal lines, after a sliding median has shrunk the image. The rest is thrown away.'
    >>> in_words({"kind": "deepfixcx", "levels": 1, "patches": 19})[:62]
    'A 1-level haar wavelet packet splits the image into bands by s'
    """
    kind = compress.get("kind")
    if kind == "plain":
        return "Keeps every pixel; it hides nothing, and is here to compare with."
    if kind == "heartspot":
        words = sorted(str(compress.get("prior", "hline")).split("+"), key=lambda w: w in ("median", "quadtree"))
        return f"Keeps fixed pixels: {', '.join(WORDS.get(w, w) for w in words)}. The rest is thrown away."
    if kind == "deepfixcx":
        pool, cells = compress.get("pool", "l1"), compress.get("patches", 19)
        told = POOLS | (MEANS if compress.get("cells", "balanced") == "balanced" else {})
        pools = " and ".join(told.get(str(p), str(p)) for p in (pool if isinstance(pool, list) else [pool]))
        grid = "×".join(map(str, cells)) if isinstance(cells, list) else f"{cells}×{cells}"
        return (
            f"A {compress.get('levels', 2)}-level {compress.get('wavelet', 'haar')} wavelet packet splits the image "
            f"into bands by scale and direction; of each band only the {pools} in each of {grid} cells is kept."
        )
    if kind == "noise":
        return f"{in_words(as_table(compress.get('inner')))} Noise is added to every number."
    return _rival(compress) or f"A compressor of the kind “{kind}”."


def _rival(compress: Table) -> str:
    """What is usually done instead, as a sentence; "" for other kinds.

    >>> _rival({"kind": "blur", "sigma": 4.0, "stride": 4})
    'Blurs the image by a Gaussian of 4 pixels and keeps one pixel in 4×4.'
    """
    kind, block = compress.get("kind"), compress.get("block", "?")
    blocks = f"Keeps the mean of each block of {block}×{block} pixels"
    if kind == "pixelise":
        return f"{blocks}."
    if kind == "dp_pix":
        return f"{blocks}. Noise is added to every number."
    if kind == "random_projection":
        return f"Keeps random mixtures of all pixels, {percent(finite(compress.get('share')))} as many as pixels."
    if kind == "blur":
        stride = compress.get("stride", 1)
        kept = "all of it" if stride == 1 else f"one pixel in {stride}×{stride}"
        return f"Blurs the image by a Gaussian of {amount(finite(compress.get('sigma')))} pixels and keeps {kept}."
    return ""


def _options(compress: Table) -> str:
    return ", ".join(f"{k} = {v}" for k, v in compress.items())


def _weight(weight: Table) -> list[tuple[str, str]]:
    share, count, total = (weight.get(k) for k in ("share_of_values", "values_per_image", "bytes_per_image"))
    rows = [("of the values", percent(share)) if isinstance(share, float | int) else None]
    rows.append(("numbers per image", amount(float(count))) if isinstance(count, float | int) else None)
    rows.append(("on disk per image", size(float(total))) if isinstance(total, float | int) else None)
    return [r for r in rows if r]


def _tiles(run: Run, name: str, compress: Table, limits: Limits, found: Album) -> list[Tile]:
    if why := withheld(run, name):
        return [Tile("Kept", "", note=why)]
    arrays = run.maps[name].arrays
    kept = arrays.case("kept", 0)
    if kept is None or not kept.size:
        return []
    base = _image(plane(kept), limits.side, found)
    tiles = [
        Tile(
            "Kept of case 1",
            f"what {name} keeps of case 1",
            base,
            lines=_drawn(compress),
            width=base.width,
            height=base.height,
        )
    ]
    if compress.get("kind") == "heartspot":
        every = arrays.whole("kept")
        mask = plane((np.abs(every).max(0) > 0).astype(np.float32)) if every is not None else None
        if mask is not None and 0 < mask.mean() < 1:
            image = _image(mask, limits.side, found)
            note = (f"{percent(float(mask.mean()))} of the image's area",)
            tiles.append(
                Tile(
                    "Where",
                    "mask of the places that are kept",
                    image,
                    lines=note,
                    width=image.width,
                    height=image.height,
                )
            )
    return tiles


def _drawn(compress: Table) -> tuple[str, ...]:
    if compress.get("kind") == "deepfixcx":
        return ("drawn back from the codes",)
    return ()


# -- where DeepFixCX finds its evidence ----------------------------------------------------------------------------


def biases(run: Run, styles: dict[str, Style]) -> list[Bias]:
    """Of every variant whose maps hold them."""
    found = [_bias(maps, styles[name]) for name, maps in run.maps.items()]
    return [b for b in found if b is not None]


def _bias(maps: Maps, style: Style) -> Bias | None:
    places, edges = maps.arrays.whole("spatial_bias"), maps.arrays.whole("edge_bias")
    if places is None or edges is None or not places.size or not edges.size or edges.ndim != 2:
        return None
    names = [str(b) for b in as_list(maps.told.get("bands"))]
    names = names if len(names) == edges.shape[1] else [f"band {i + 1}" for i in range(edges.shape[1])]
    strongest = float(np.abs(places).max())
    tiles = [_place(*pair, strongest) for pair in zip(maps.labels, places, strict=False)]
    kinds = list(dict.fromkeys(orientation(b)[1] for b in names))
    plots = _edges(maps.labels, names, edges, kinds)
    return Bias(style, tiles, amount(strongest), plots, [(ORIENTATIONS.get(k, k), i) for i, k in enumerate(kinds)])


def _place(label: str, cells: np.ndarray, strongest: float) -> Tile:
    flat = plane(cells[None])
    height, width = flat.shape
    alt = f"mean contribution of each cell to {label}"
    return Tile(label, alt, None, overlay(flat, strongest, 512), width=width, height=height)


def _edges(labels: Sequence[str], names: Sequence[str], edges: np.ndarray, kinds: Sequence[str]) -> list[Markup]:
    """One plot a label on a common scale; a smooth band that would dwarf all edges is named, not drawn."""
    smooth = np.array([orientation(b)[0] == 0 for b in names])
    strongest = [float(np.abs(edges[:, part]).max(initial=0)) for part in (smooth, ~smooth)]
    dwarfs = bool(smooth.any() and (~smooth).any() and strongest[0] > SMOOTH * strongest[1])
    top = strongest[1] if dwarfs else max(strongest)
    plots = []
    for label, values in zip(labels, edges, strict=False):
        items = _bars(names, values, kinds)
        left_out = [b for b in items if b.group == "smooth"] if dwarfs else []
        note = ", ".join(f"smooth band {b.name}: {fixed(b.value, 2, signed=True)}, not drawn" for b in left_out)
        plots.append(bars(label, [b for b in items if b not in left_out], top, note))
    return plots


def _bars(names: Sequence[str], values: np.ndarray, kinds: Sequence[str]) -> list[Bar]:
    order = sorted(
        range(len(names)), key=lambda i: (orientation(names[i])[0] or 99, kinds.index(orientation(names[i])[1]))
    )
    items = []
    for i in order:
        scale, direction = orientation(names[i])
        group = f"{2**scale} px" if scale else "smooth"
        items.append(Bar(names[i], group, kinds.index(direction), float(values[i])))
    return items


def orientation(band: str) -> tuple[int, str]:
    """Scale and orientation of a band: those of its finest letter that is not smooth.

    >>> orientation("AV"), orientation("HA"), orientation("AA"), orientation("LLL·LHL")
    ((2, 'V'), (1, 'H'), (0, 'A'), (2, 'LHL'))
    """
    letters = band.split("·") if "·" in band or (set(band) <= {"L", "H"} and "L" in band) else list(band)
    for level, letter in enumerate(letters, 1):
        if set(letter) - {"A", "L"}:
            return level, letter
    return 0, letters[0] if letters else band


def key(kind: int) -> Markup:
    """The colour sample of an orientation."""
    return el(
        "svg",
        el("rect", x=1, y=1, width=10, height=10, class_=f"bar s{1 + kind % 7}"),
        class_="key",
        viewbox="0 0 12 12",
        aria_hidden="true",
    )


__all__ = ["Bias", "Image", "Store", "biases", "in_words", "key", "orientation", "stores"]
