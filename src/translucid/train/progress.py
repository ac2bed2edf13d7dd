"""The bar a user sees while a network learns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """One bar over all steps of all epochs, on stderr; silent where nobody looks.

    Args:
        show: True always, None only on a terminal, False never.
        first: whether this is the process that may speak.
        epochs: at most so many.
        steps: per epoch.
        done: epochs already behind us.
    """

    def __init__(self, show: bool | None, first: bool, epochs: int, steps: int, done: int = 0) -> None:
        console = Console(stderr=True)
        wanted = console.is_terminal if show is None else show
        self.bar: Bar | None = None
        if wanted and first:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Bar(*columns, console=console)
            self.task = self.bar.add_task("training", total=epochs * steps, completed=done * steps)

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def step(self) -> None:
        """One batch is learned."""
        if self.bar:
            self.bar.advance(self.task)

    def epoch(self, row: Mapping[str, float]) -> None:
        """One epoch is judged."""
        if self.bar:
            auc = "" if math.isnan(row["val_auc"]) else f", AUC {row['val_auc']:.3f}"
            text = f"epoch {row['epoch']:.0f}: validation loss {row['val_loss']:.3f}{auc}"
            self.bar.update(self.task, description=text)
