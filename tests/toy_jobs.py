"""A job of empty files whose tasks fail in chosen ways; importable by worker processes."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Failure = Literal["", "kill", "full", "memory"]


@dataclass(frozen=True)
class ToyTask:
    part: Path
    failure: Failure = ""

    def __call__(self) -> None:
        if self.failure == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.failure == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.failure == "memory":
            raise MemoryError
        self.part.write_text(str(os.getpid()))


@dataclass(frozen=True)
class ToyJob:
    folder: Path
    number: int = 6
    failure: Failure = ""
    failing: int = -1

    def shards(self) -> int:
        return self.number

    def part(self, shard: int) -> Path:
        return self.folder / f"part-{shard}"

    def done(self, shard: int) -> bool:
        return self.part(shard).is_file()

    def task(self, shard: int) -> ToyTask:
        return ToyTask(self.part(shard), self.failure if shard == self.failing else "")

    def merge(self) -> None:
        (self.folder / "merged").write_text("".join(str(i) for i in range(self.number) if self.done(i)))
