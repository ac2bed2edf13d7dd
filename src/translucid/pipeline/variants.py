"""What a variant of the study is at work: its compressor, its model, and batches of what the model eats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from translucid.compress import COMPRESSORS
from translucid.config import build, from_kind
from translucid.data import Loader
from translucid.errors import InputError
from translucid.io.codes import CodeStore
from translucid.io.index import IndexRow, label_matrix, read_index
from translucid.models import MODELS
from translucid.pipeline.compress_step import open_store
from translucid.pipeline.folder import RunFolder
from translucid.study import Study, Variant, store_name
from translucid.tensors import Compressor
from translucid.train import TrainSettings
from translucid.types import Space


@dataclass(frozen=True)
class Rows:
    """Some rows of a store, as a loader wants them."""

    store: CodeStore
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        return self.store.read(self.rows[chosen])


@dataclass(frozen=True)
class Work:
    """One variant of a run folder, ready to train, predict and explain."""

    folder: RunFolder
    study: Study
    name: str
    variant: Variant
    index: Sequence[IndexRow]

    @cached_property
    def store(self) -> CodeStore:
        """The codes this variant eats."""
        return open_store(self.folder, store_name(self.variant.compress))

    @cached_property
    def compressor(self) -> Compressor:
        """The compressor that made the codes, from the store's own header."""
        made: Compressor = from_kind(COMPRESSORS, self.store.header["compressor"], "compressor")
        return made

    @cached_property
    def spec(self) -> Any:
        """The model's description."""
        return from_kind(MODELS, self.variant.model, f"variants.{self.name}.model")

    @cached_property
    def settings(self) -> TrainSettings:
        """The training settings, seeded by the study unless they name a seed."""
        return build(TrainSettings, {"seed": self.study.seed, **self.variant.train}, f"variants.{self.name}.train")

    @property
    def space(self) -> Space:
        """Size of the framed images."""
        return tuple(self.store.header["space"])

    @property
    def eats(self) -> str:
        """What the model is fed: "codes", "image" or "lift"."""
        return self.spec.eats if self.variant.input == "auto" else self.variant.input

    @property
    def transform(self) -> Callable[[Tensor], Tensor] | None:
        """Codes → what the model is fed."""
        if self.eats == "codes":
            return None
        compressor, space = self.compressor, self.space
        if self.eats == "lift":
            return lambda codes: compressor.lift(codes, space)
        return lambda codes: compressor.to_image(codes, space)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the logits."""
        return tuple(dict.fromkeys(name for row in self.index for name in row.labels))

    def rows(self, split: str) -> np.ndarray:
        """Rows of the index that belong to a split."""
        return np.array([i for i, row in enumerate(self.index) if row.split == split], dtype=np.int64)

    def loader(self, rows: np.ndarray) -> Loader:
        """Batches of these rows, in order."""
        y = label_matrix(self.index, self.labels)[rows]
        return Loader(Rows(self.store, rows), y, self.settings.batch, transform=self.transform, index=rows)

    def shape(self) -> tuple[int, ...]:
        """Shape of one case as the model is fed it."""
        return tuple(next(iter(self.loader(np.zeros(1, np.int64)))).x.shape[1:])


def works(folder: RunFolder, study: Study) -> list[Work]:
    """The study's variants over one run folder."""
    index = read_index(folder.path / "index.csv")
    if not index:
        raise InputError(f"{folder.path / 'index.csv'} lists no case: run `translucid compress` again")
    return [Work(folder, study, name, variant, index) for name, variant in study.rows.items()]
