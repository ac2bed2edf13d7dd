"""Shards on a Dask cluster that is running already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from translucid.errors import ConfigError, MissingExtra
from translucid.jobs.plan import ShardJob, Task, WorkerLost

PATIENCE = 30.0


@dataclass(frozen=True)
class Dask:
    """Run shards on the workers of a Dask scheduler; a lost worker's shards are given to others by the scheduler.

    All workers must see the images and the run folder under the same paths, and have the same version of this package.

    Args:
        scheduler: its address, such as tcp://host:8786, or tls://host:8786 with the three files.
        tls_ca: certificate of the authority that signed all others.
        tls_cert: this side's certificate.
        tls_key: the key that belongs to it.

    Raises:
        ConfigError: no address, or TLS with one of its parts missing.

    Example:
        >>> Dask("tcp://localhost:8786").scheduler
        'tcp://localhost:8786'

    Fails when: the scheduler has no TLS; whoever reaches its port can run any code as its workers' user.
    """

    scheduler: str = ""
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def __post_init__(self) -> None:
        if not self.scheduler:
            raise ConfigError("the executor dask needs --scheduler ADDRESS, such as tcp://host:8786")
        files = {"--tls-ca": self.tls_ca, "--tls-cert": self.tls_cert, "--tls-key": self.tls_key}
        absent = [name for name, path in files.items() if path is None]
        secure = self.scheduler.startswith("tls://")
        if secure and absent:
            raise ConfigError(f"a scheduler at tls:// also needs {', '.join(absent)}")
        if not secure and len(absent) < len(files):
            raise ConfigError(f"TLS files are given but the scheduler is {self.scheduler}: wanted tls://host:port")
        for name, path in files.items():
            if path is not None and not path.is_file():
                raise ConfigError(f"{name} {path} is no file: give the PEM file")

    def run(self, job: ShardJob, todo: Sequence[int]) -> Iterator[int]:
        """Run these shards, at most two for each thread of the cluster under way."""
        with self._client() as client, _in_our_words():
            yield from _spread(client, job, todo)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from distributed import Client

        try:
            client = Client(self.scheduler, security=self._security(), timeout=PATIENCE, set_as_default=False)
        except OSError:  # a time-out is one, too
            raise WorkerLost(f"no Dask scheduler answers at {self.scheduler} (waited {PATIENCE:.0f} s)") from None
        with client:
            yield client

    def _security(self) -> Any:
        if self.tls_ca is None:
            return None
        from distributed.security import Security

        return Security(
            tls_ca_file=str(self.tls_ca),
            tls_client_cert=str(self.tls_cert),
            tls_client_key=str(self.tls_key),
            require_encryption=True,
        )


def need_distributed() -> None:
    """Raise `MissingExtra` where Dask is not installed, without importing it."""
    if find_spec("distributed") is None:
        raise MissingExtra("distributed", "dask")


@contextmanager
def _in_our_words() -> Iterator[None]:
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import KilledWorker

    try:
        yield
    except KilledWorker:
        raise WorkerLost(
            "several Dask workers died at the same shard (out of memory, or crashed by a broken file)"
        ) from None
    except TimeoutError:
        raise WorkerLost(f"the Dask scheduler has no worker (waited {PATIENCE:.0f} s)") from None
    except (CommClosedError, ConnectionError, FutureCancelledError) as e:
        raise WorkerLost(f"the Dask scheduler is gone ({type(e).__name__})") from None


def _spread(client: Any, job: ShardJob, todo: Sequence[int]) -> Iterator[int]:
    from distributed import as_completed

    client.wait_for_workers(1, timeout=PATIENCE)
    waiting, run = iter(todo), uuid4().hex[:8]
    under_way: dict[Any, int] = {}
    finished = as_completed(loop=client.loop)

    def fill() -> None:
        most = 2 * max(1, sum(client.nthreads().values()))
        while len(under_way) < most and (shard := next(waiting, None)) is not None:
            future = client.submit(_alone, job.task(shard), key=f"shard-{run}-{shard}", pure=False)
            under_way[future] = shard
            finished.add(future)

    fill()
    for future in finished:
        future.result()
        yield under_way.pop(future)
        fill()


def _alone(task: Task) -> None:
    """One thread for each shard, as everywhere, so that the bytes are the same."""
    import torch

    torch.set_num_threads(1)
    task()
