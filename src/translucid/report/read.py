"""Read a run folder for the report; whatever is missing or broken is simply not there."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from translucid.config import read_json
from translucid.errors import InputError
from translucid.report.numbers import MACRO, Figures, finite

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Arrays:
    """A safetensors file that is read one case at a time.

    Attributes:
        path: the file.
        names: arrays it holds, with their shapes.
    """

    path: Path
    names: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @staticmethod
    def open(path: Path) -> Arrays:
        """An unreadable file holds nothing."""
        try:
            with safe_open(path, framework="numpy") as f:
                names = {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            names = {}
        return Arrays(path, names)

    def case(self, name: str, i: int) -> np.ndarray | None:
        """Row `i` of an array, as float32."""
        if name not in self.names or not self.names[name] or not 0 <= i < self.names[name][0]:
            return None
        with safe_open(self.path, framework="numpy") as f:
            found: np.ndarray = f.get_slice(name)[i : i + 1]
        return np.nan_to_num(found[0].astype(np.float32))

    def whole(self, name: str) -> np.ndarray | None:
        """A whole array, as float32."""
        if name not in self.names:
            return None
        with safe_open(self.path, framework="numpy") as f:
            found: np.ndarray = f.get_tensor(name)
        return np.nan_to_num(found.astype(np.float32))


@dataclass(frozen=True)
class Maps:
    """maps.json and maps.safetensors of one variant."""

    told: Table
    arrays: Arrays

    @property
    def cases(self) -> list[str]:
        """Pseudonyms of the shown cases."""
        return [str(c) for c in as_list(self.told.get("cases"))]

    @property
    def labels(self) -> list[str]:
        """Label names."""
        return [str(c) for c in as_list(self.told.get("labels"))]

    @property
    def methods(self) -> dict[str, Table]:
        """What is told of each method."""
        return {str(k): as_table(v) for k, v in as_table(self.told.get("methods")).items()}

    @property
    def depth(self) -> int | None:
        """Slices of a whole volume; None for films."""
        space = as_list(self.told.get("space"))
        return int(space[0]) if len(space) == 3 else None

    def number(self, name: str, case: int, label: int, within: Table | None = None) -> float | None:
        """One entry of a (case × label) list."""
        return entry((self.told if within is None else within).get(name), case, label)


@dataclass(frozen=True)
class Run:
    """Everything a report is made of."""

    path: Path

    @cached_property
    def record(self) -> Table:
        """run.json; without it this is no run folder."""
        if not (self.path / "run.json").is_file():
            raise InputError(f"{self.path} is no run folder (no run.json): start with `translucid compress` or `study`")
        return as_table(read_json(self.path / "run.json"))

    @cached_property
    def recipe(self) -> Table:
        """The recipe as run."""
        return as_table(self.record.get("recipe"))

    @cached_property
    def rows(self) -> list[Table]:
        """What metrics.json tells of the models."""
        return [row for row in self._numbers if not row.get("explainer")]

    @cached_property
    def explained(self) -> list[Table]:
        """What metrics.json tells of the explanations."""
        return [row for row in self._numbers if row.get("explainer")]

    @cached_property
    def _numbers(self) -> list[Table]:
        return [row for row in as_list(_json(self.path / "metrics.json")) if isinstance(row, Mapping)]

    @cached_property
    def figures(self) -> Figures:
        """metrics.json by key."""
        return Figures.of(self.rows)

    @cached_property
    def variants(self) -> list[str]:
        """In the recipe's order."""
        told = [str(v) for v in as_table(self.record.get("variants"))]
        return list(dict.fromkeys([*told, *self.figures.variants]))

    @cached_property
    def baseline(self) -> str:
        """The variant that the others were measured against."""
        against = [str(row["versus"]) for row in self.rows if row.get("versus")]
        wanted = against[0] if against else str(self.recipe.get("baseline") or "")
        return wanted or (self.variants[0] if self.variants else "")

    @cached_property
    def labels(self) -> list[str]:
        """Of the numbers, or else of the index, or else of the recipe."""
        told = [str(x) for x in as_list(as_table(self.recipe.get("data")).get("labels"))]
        listed = [c[6:] for c in (self.index[0] if self.index else {}) if c.startswith("label:")]
        return [x for x in self.figures.labels or listed or told if x != MACRO]

    @cached_property
    def curves(self) -> Table:
        """curves.json."""
        return as_table(_json(self.path / "curves.json"))

    @cached_property
    def trust(self) -> Table:
        """trust.json: rows and verdicts by variant."""
        return as_table(_json(self.path / "trust.json"))

    @cached_property
    def audit(self) -> list[Table]:
        """audit.json."""
        return [row for row in as_list(_json(self.path / "audit.json")) if isinstance(row, Mapping)]

    @cached_property
    def frontier(self) -> Table:
        """frontier.json."""
        return as_table(_json(self.path / "frontier.json"))

    @cached_property
    def headers(self) -> dict[str, Table]:
        """Header of every store of codes, by its folder's name."""
        found = {p.parent.name: as_table(_json(p)) for p in sorted((self.path / "codes").glob("*/header.json"))}
        return {name: table for name, table in found.items() if table}

    @cached_property
    def users(self) -> dict[str, list[str]]:
        """Which variants eat the codes of each store."""
        stores = as_table(self.record.get("stores"))
        return {s: [v for v in self.variants if self.variant(v).get("compress") == told] for s, told in stores.items()}

    def secret(self, variant: str) -> bool:
        """Whether what a variant keeps depends on a secret that a picture would show."""
        told = self.variant(variant)
        header = as_table(self.headers.get(str(told.get("store") or "")))
        return any(_secret(as_table(t)) for t in (told.get("compress"), header.get("compressor")))

    @cached_property
    def index(self) -> list[dict[str, str]]:
        """Rows of index.csv."""
        return _csv(self.path / "index.csv")

    @cached_property
    def rejects(self) -> list[dict[str, str]]:
        """Rows of rejects.csv."""
        return _csv(self.path / "rejects.csv")

    @cached_property
    def regions(self) -> Table:
        """Boxes by case."""
        return as_table(_json(self.path / "regions.json"))

    @cached_property
    def maps(self) -> dict[str, Maps]:
        """Explanations by variant, of those variants that have them."""
        found = {}
        for name in self.variants:
            folder = self._inside("maps", name)
            told = as_table(_json(folder / "maps.json")) if folder else {}
            if folder and told:
                found[name] = Maps(told, Arrays.open(folder / "maps.safetensors"))
        return found

    @cached_property
    def plain(self) -> Arrays:
        """The framed images of the shown cases; empty unless the recipe allowed them."""
        return (
            Arrays.open(self.path / "maps" / "plain.images" / "maps.safetensors")
            if self.shows_plain
            else Arrays(self.path)
        )

    @property
    def shows_plain(self) -> bool:
        """Whether the recipe allows uncompressed images in the report."""
        return as_table(self.recipe.get("report")).get("images") == "plain"

    def history(self, variant: str) -> dict[str, list[float | None]]:
        """Columns of history.csv."""
        folder = self._inside("models", variant)
        rows = _csv(folder / "history.csv") if folder else []
        return {k: [_float(row.get(k)) for row in rows] for k in (rows[0] if rows else {}) if k}

    def fit(self, variant: str) -> Table:
        """fit.json."""
        folder = self._inside("models", variant)
        return as_table(_json(folder / "fit.json")) if folder else {}

    def variant(self, name: str) -> Table:
        """What the record says of a variant."""
        return as_table(as_table(self.record.get("variants")).get(name))

    def _inside(self, part: str, name: str) -> Path | None:
        """A sub-folder; None for a name that would lead out of it."""
        return self.path / part / name if name and name == Path(name).name and name != ".." else None


def as_table(value: Any) -> Table:
    """The mapping itself, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """The list itself, or an empty one."""
    return value if isinstance(value, list) else []


def entry(table: Any, row: int, column: int) -> float | None:
    """One number of a list of lists; None where there is none.

    >>> entry([[1, None]], 0, 0), entry([[1, None]], 0, 1), entry(None, 0, 0)
    (1.0, None, None)
    """
    line = as_list(as_list(table)[row]) if row < len(as_list(table)) else []
    return finite(line[column]) if column < len(line) else None


def _secret(compressor: Table) -> bool:
    """Whether a compressor, or one within it, has a secret."""
    return bool(compressor.get("secret")) or any(_secret(as_table(v)) for v in compressor.values())


def _float(text: Any) -> float | None:
    try:
        return finite(float(text))
    except (TypeError, ValueError):
        return None


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except (InputError, OSError):
        return None


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            return [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in csv.DictReader(f)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
