"""Run as a process of its own: kill a run at moments at which it changes names on disk, resume it, compare the bytes.

python kill_driver.py kills MANIFEST OUT KEY
python kill_driver.py race MANIFEST OUT KEY
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from translucid.pipeline import How, compress_manifest

SETTINGS = ("compress.kind=plain", "framing.kind=resize", "framing.size=32")
SHARD = 16
KILLS = 8


def run(manifest: Path, out: Path, key: Path, **options: Any) -> str:
    """One call in this process."""
    how = How(shard_size=SHARD, merge_only=options.pop("merge", False))
    return compress_manifest(manifest, out, None, SETTINGS, key=key, workers=1, how=how, **options)


def in_child(work: Callable[[], object]) -> int:
    """Fork, do the work, and return how the child ended; a fork spares the imports."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as e:
        print(type(e).__name__, e, flush=True)
        os._exit(1)
    os._exit(0)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(moment: int) -> list[str]:
    """From now on, the moment-th change of a name on disk kills this process: odd before, even after the change."""
    seen: list[str] = []

    def deadly(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen.append(plain.__name__)
            if 2 * len(seen) - 1 == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            result = plain(*args, **options)
            if 2 * len(seen) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in ("replace", "rename", "unlink"):
        setattr(Path, name, deadly(getattr(Path, name)))
    os.rmdir = deadly(os.rmdir)
    return seen


def content(out: Path) -> dict[str, bytes]:
    """All files but the record, which holds times."""
    files = (p for p in out.rglob("*") if p.is_file() and p.name != "run.json")
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}


def kills(manifest: Path, home: Path, key: Path) -> None:
    wait(in_child(lambda: run(manifest, home / "whole", key)))
    whole = content(home / "whole")
    secrets = [line.split(",")[i].encode() for line in manifest.read_text().splitlines()[1:] for i in (0, 1)]
    last = moments(manifest, home, key)
    for moment in sorted(random.Random(0).sample(range(1, last + 1), KILLS)):
        out = home / f"killed-{moment}"

        def killed(out: Path = out, moment: int = moment) -> None:
            kill_at(moment)
            run(manifest, out, key)

        ended = wait(in_child(killed))
        assert ended == -signal.SIGKILL, ended
        data = b"".join(content(out).values())
        assert not [s for s in secrets if s in data], moment
        assert wait(in_child(lambda out=out: run(manifest, out, key))) == 0, moment
        again = content(out)
        assert again.keys() == whole.keys(), (moment, again.keys() ^ whole.keys())
        assert again == whole, moment
    print(KILLS, "kills survived, of", last, "moments")


def moments(manifest: Path, home: Path, key: Path) -> int:
    """How many moments there are."""

    def counted() -> None:
        count = kill_at(0)
        run(manifest, home / "counted", key)
        (home / "count").write_text(str(2 * len(count)))

    assert wait(in_child(counted)) == 0
    return int((home / "count").read_text())


def race(manifest: Path, home: Path, key: Path) -> None:
    """Three tasks and one of them twice start at the same instant in a folder that holds an older run."""
    out, start = home / "out", time.time() + 0.5

    def task(i: int) -> None:
        time.sleep(max(0.0, start - time.time()))
        run(manifest, out, key, shard=f"{i}/3")

    children = [in_child(lambda i=i: task(i)) for i in (0, 1, 2, 1)]
    assert [wait(c) for c in children] == [0] * 4
    assert wait(in_child(lambda: run(manifest, out, key, merge=True))) == 0
    wait(in_child(lambda: run(manifest, home / "whole", key)))
    assert content(out) == content(home / "whole")
    print("no race")


if __name__ == "__main__":
    given, folder, secret = (Path(a) for a in sys.argv[1:])
    kills(given, folder, secret)
    race(given, folder / "race", secret)
