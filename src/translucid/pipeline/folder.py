"""A run folder: where each thing lies, and the record that tells whether it still fits what lies to its left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from translucid.config import build, fingerprint, override, read_json, to_plain, versions, write_json
from translucid.errors import InputError, StaleRun
from translucid.study import Study, public_record, store_name


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder, and its `run.json`.

    >>> RunFolder(Path("runs/x")).codes("plain").as_posix()
    'runs/x/codes/plain'
    """

    path: Path

    def codes(self, store: str) -> Path:
        """The folder of one compressor's codes."""
        return self.path / "codes" / store

    def model(self, variant: str) -> Path:
        """The folder of one variant's model, history and predictions."""
        return self.path / "models" / variant

    def maps(self, variant: str) -> Path:
        """The folder of one variant's explanations."""
        return self.path / "maps" / variant

    @property
    def record_file(self) -> Path:
        """Where the run's record stands."""
        return self.path / "run.json"

    def record(self) -> dict[str, Any]:
        """The run's record; an `InputError` where this is no run folder."""
        if not self.record_file.is_file():
            raise InputError(f"{self.path} is no run folder (no run.json): start with `translucid compress` or `study`")
        return read_json(self.record_file)

    def study(self, settings: tuple[str, ...] = ()) -> Study:
        """The recipe this folder was made with, changed by `--set`."""
        return build(Study, override(self.record()["recipe"], settings))

    def begin(self, study: Study) -> None:
        """Write or renew the record's recipe; what later steps recorded stays."""
        old = read_json(self.record_file) if self.record_file.is_file() else {}
        rows = study.rows
        record = {
            "recipe": public_record(study),
            "versions": versions(),
            "warnings": old.get("warnings", []),
            "stores": to_plain(study.stores),
            "variants": {name: {"store": store_name(row.compress)} | to_plain(row) for name, row in rows.items()},
            "steps": old.get("steps", {}),
            "fingerprints": old.get("fingerprints", {}),
        }
        write_json(self.record_file, record)

    def note(self, *keys: str, value: Any) -> None:
        """Set one entry of the record, addressed by its keys."""
        record = self.record()
        node = record
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = to_plain(value)
        write_json(self.record_file, record)

    def warn(self, step: str, lines: list[str]) -> None:
        """Replace the warnings of one step."""
        record = self.record()
        kept = [w for w in record["warnings"] if w["step"] != step]
        record["warnings"] = kept + [{"step": step, "text": line} for line in dict.fromkeys(lines)]
        write_json(self.record_file, record)

    def done(self, *keys: str) -> str | None:
        """The fingerprint a finished step left, or None."""
        node: Any = self.record()["fingerprints"]
        for key in keys:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node if isinstance(node, str) else None

    def need(self, *keys: str) -> str:
        """The fingerprint of a step that must have been finished."""
        found = self.done(*keys)
        if found is None:
            raise InputError(f"{self.path}: {' '.join(keys)} has not been run yet; run `translucid {keys[0]}` first")
        return found

    def need_codes(self) -> str:
        """The fingerprint of the codes, checked against the index that lies there now."""
        found = self.need("compress")
        if self.index_fingerprint() != self.record()["steps"]["compress"].get("index"):
            raise StaleRun(
                f"{self.path / 'index.csv'} has changed since it was written: run `translucid compress` again"
            )
        return found

    def index_fingerprint(self) -> str:
        """What the index holds, as a fingerprint."""
        file = self.path / "index.csv"
        if not file.is_file():
            raise InputError(f"no {file}: run `translucid compress` first")
        return fingerprint(file.read_text("utf-8"))

    @contextmanager
    def timed(self, *keys: str) -> Iterator[dict[str, Any]]:
        """Time a step and record its seconds with whatever the caller adds."""
        entry: dict[str, Any] = {}
        start = perf_counter()
        yield entry
        entry["seconds"] = round(perf_counter() - start, 3)
        self.note("steps", *keys, value=entry)

    def clear(self, path: Path) -> None:
        """Remove a folder of this run that is about to be made anew."""
        if path.is_dir() and path.is_relative_to(self.path):
            shutil.rmtree(path)
