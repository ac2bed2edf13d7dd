"""Jobs survive kills, lost workers, full disks and racing tasks, here and on a cluster; the bytes stay the same."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from kill_driver import content
from toy_jobs import Failure, ToyJob
from translucid.cli import main
from translucid.config import build, read_json
from translucid.errors import ConfigError, TranslucidError
from translucid.jobs import Dask, Processes, absent_shards, make_executor, run_job, run_shards
from translucid.pipeline import How, compress
from translucid.study import Study

FILES = 44
OPTIONS = [
    "--shard-size=4",
    *(f"--set={s}" for s in ("compress.kind=plain", "framing.kind=resize", "framing.size=32")),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images with a manifest and a key; one is broken, one a volume that no square can hold."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = ["file,patient,mass"]
    for i in range(FILES):
        name = f"secretname{i:03d}.{'tif' if i == 7 else 'png'}"
        pages = [Pillow.fromarray(rng.integers(0, 256, (40, 36), np.uint8)) for _ in range(3)]
        if i == 7:
            pages[0].save(folder / name, save_all=True, append_images=pages[1:])
        else:
            pages[0].save(folder / name)
        lines.append(f"{name},secretpatient{i // 2},{i % 2}")
    (folder / "secretname003.png").write_bytes(b"no image at all")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "key").touch(mode=0o600)
    (folder / "key").write_bytes(bytes(range(64)))
    return folder


def command(data: Path, out: Path, *more: object, key: bool = True) -> list[str]:
    given = ["--key", str(data / "key")] if key else []
    return ["compress", str(data / "manifest.csv"), str(out), *given, *OPTIONS, *map(str, more)]


def call(data: Path, out: Path, *more: object, key: bool = True, status: int = 0) -> str:
    result = CliRunner().invoke(main, command(data, out, "--workers", 1, *more, key=key), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    call(data, out)
    assert not (out / ".work").exists()
    return content(out)


def driver(*words: object) -> str:
    script = Path(__file__).with_name("kill_driver.py")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kills_at_random_moments_and_tasks_that_start_at_once(data: Path, tmp_path: Path) -> None:
    (tmp_path / "race").mkdir()
    call(data, tmp_path / "race" / "out", "--set=framing.size=16")
    told = driver(data / "manifest.csv", tmp_path, data / "key")
    assert "kills survived" in told
    assert "no race" in told


def test_killed_with_its_workers_and_resumed(data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "translucid", *command(data, out, "--workers", 2)]
    process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while len(list(out.glob(".work/*/part-*"))) < 2 and process.poll() is None:
        time.sleep(0.001)
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive  # no worker outlives its parent
    call(data, out)
    assert content(out) == whole


@pytest.mark.parametrize(
    "settings", ["kind=deepfixcx compress.levels=2 compress.patches=6", "kind=heartspot compress.prior=median+hline"]
)
def test_codes_do_not_depend_on_how_many_images_are_compressed_at_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str
) -> None:
    words = [part for s in f"compress.{settings}".split() for part in ("--set", s)]
    for images in (1, 3, 64):
        monkeypatch.setattr("translucid.pipeline.gathering.BLOCK", images * 32 * 32)
        call(data, tmp_path / str(images), *words)
    once, thrice, all_at_once = (content(tmp_path / str(images)) for images in (1, 3, 64))
    assert once == thrice == all_at_once


def test_shares_and_merge_are_the_plain_run(data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    assert "6 of its 6 shards run" in call(data, out, "--shard", "0/2")
    told = call(data, out, "--merge", status=2)
    assert "5 of 11 shards are absent (1, 3, 5, 7, 9)" in told
    assert not (out / "run.json").exists()
    call(data, out, "--shard", "1/2")
    assert "0 of its 5 shards run, 5 found finished" in call(data, out, "--shard", "1/2")
    call(data, out, "--merge")
    assert content(out) == whole
    assert "nothing to do" in call(data, out, "--shard", "0/2")
    assert not (out / ".work").exists()
    assert read_json(out / "run.json")["steps"]["compress"]["shard_size"] == 4


def test_a_plain_call_after_shares_runs_the_rest(data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    call(data, tmp_path / "out", "--shard", "0/3")
    call(data, tmp_path / "out")
    assert content(tmp_path / "out") == whole


def test_bad_files_cost_one_line_each(whole: dict[str, bytes]) -> None:
    rows = list(csv.DictReader(whole["rejects.csv"].decode().splitlines()))
    assert [r["row"] for r in rows] == ["5", "9"]
    assert "wanted 2" in rows[1]["reason"]
    assert "secretname" not in whole["rejects.csv"].decode()


def test_rejects_name_the_rows_of_the_table_though_views_and_absent_files_leave_some_out(tmp_path: Path) -> None:
    lines = ["file,patient,view"]
    for i in range(12):
        name = f"{i}.png"
        if i in (2, 7):
            (tmp_path / name).write_bytes(b"no image at all")
        elif i != 4:
            Pillow.fromarray(np.full((40, 40), i, np.uint8)).save(tmp_path / name)
        lines.append(f"{name},p{i},{'PA' if i % 3 else 'LL'}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    settings = {"data": {"root": str(tmp_path), "views": ["PA"]}, "framing": {"kind": "resize", "size": 32}}
    compress(build(Study, settings | {"workers": 1}), tmp_path / "out")
    rows = csv.DictReader((tmp_path / "out" / "rejects.csv").read_text().splitlines())
    assert sorted(int(r["row"]) for r in rows) == [4, 6, 9]  # broken, absent, broken


def copied(data: Path, target: Path) -> Path:
    return Path(shutil.copytree(data, target))


def test_a_file_that_vanishes_in_mid_run_is_a_reject(data: Path, tmp_path: Path) -> None:
    copy = copied(data, tmp_path / "data")
    settings = {"data": {"root": str(copy), "key": str(copy / "key")}, "framing": {"kind": "resize", "size": 32}}
    (copy / "gone").mkdir()

    def vanish(done: int, total: int) -> None:
        if done == 10:
            for path in copy.glob("*.png"):
                path.rename(copy / "gone" / path.name)

    folder = compress(build(Study, settings | {"workers": 1}), tmp_path / "out", vanish, how=How(shard_size=4))
    assert folder.record()["steps"]["compress"]["rejects"] >= 4
    assert "is not there" in (tmp_path / "out" / "rejects.csv").read_text()


def test_changed_files_are_read_again_when_a_run_goes_on(data: Path, tmp_path: Path) -> None:
    copy = copied(data, tmp_path / "data")
    call(copy, tmp_path / "out", "--shard", "0/2")
    shutil.copy(copy / "secretname011.png", copy / "secretname012.png")
    call(copy, tmp_path / "out")
    call(copy, tmp_path / "fresh")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_a_merge_with_other_settings_says_so_and_removes_nothing(data: Path, tmp_path: Path) -> None:
    call(data, tmp_path / "out", "--shard", "0/1")
    told = call(data, tmp_path / "out", "--merge", "--set=framing.size=16", status=2)
    assert "11 of 11 shards are absent (0–10)" in told
    assert "made with other files, another key or other settings" in told
    call(data, tmp_path / "out", "--merge")


def test_a_full_disk_loses_nothing(
    data: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from translucid.pipeline import shard

    plain, left = shard.write_shard, 3

    def full(*args: Any) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shard, "write_shard", full)
        told = call(data, tmp_path / "out", status=2)
    assert "the disk is full" in told
    assert "3 of 11 shards are finished and kept: free some space and run the same command again" in told
    call(data, tmp_path / "out")
    assert content(tmp_path / "out") == whole


def test_without_a_key_a_stopped_run_goes_on_with_the_one_it_drew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from translucid.pipeline import compressing

    def stop(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(compressing, "write_index", stop)
        assert "writing failed" in call(data, tmp_path / "out", key=False, status=2)
    drawn = (tmp_path / "out" / ".work" / "key").read_bytes()
    call(data, tmp_path / "out", key=False)
    assert len(drawn) == 32
    assert not (tmp_path / "out" / ".work").exists()


def test_a_damaged_finished_run_is_made_anew(data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    call(data, tmp_path / "out")
    next((tmp_path / "out").rglob("shard-00002*")).unlink()
    call(data, tmp_path / "out")
    assert content(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "0/2"], "need one key"),
        (["--merge"], "needs the key"),
        (["--shard", "2/2"], "wanted i/n"),
        (["--shard", "1/2", "--merge"], "merges nothing"),
        (["--shard-size", "0"], "at least one image"),
        (["--executor", "dusk"], "did you mean 'dask'"),
        (["--scheduler", "tcp://x:1"], "belong to --executor dask"),
        (["--workers", "-1"], "workers = -1"),
    ],
)
def test_options_that_make_no_sense(data: Path, tmp_path: Path, options: list[str], words: str) -> None:
    assert words in call(data, tmp_path / "out", *options, key=False, status=2)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.parametrize(
    ("failure", "words"), [("kill", "a worker process died"), ("full", "disk is full"), ("memory", "memory was short")]
)
def test_a_failing_worker_stops_with_what_is_kept(tmp_path: Path, failure: Failure, words: str) -> None:
    job = ToyJob(tmp_path, 6, failure, failing=3)
    with pytest.raises(TranslucidError, match=rf"{words}.* of 6 shards are finished and kept.*again to go on"):
        run_job(job, Processes(2))
    assert 3 in absent_shards(job)
    assert not (tmp_path / "merged").exists()
    run_job(ToyJob(tmp_path), Processes(1))
    assert (tmp_path / "merged").read_text() == "012345"


def test_workers_compile_where_numba_was_there_before_them() -> None:
    """The server that workers are forked from may have loaded it, with as many threads as there are cores."""
    words = "numba.njit(lambda x: 2 * x)(21)"
    script = f"import numba; from translucid.jobs.processes import _start_worker; _start_worker(); print({words})"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "42"), done.stderr


def test_progress_counts_what_was_there(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run_shards(ToyJob(tmp_path), [0, 1], Processes(1))
    run_shards(ToyJob(tmp_path), range(4), Processes(1), lambda done, total: seen.append((done, total)))
    assert seen == [(2, 4), (3, 4), (4, 4)]


# -- Dask ---------------------------------------------------------------------------------------------------------


def test_dask_needs_an_address_and_whole_tls(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pem = tmp_path / "a.pem"
    pem.write_text("")
    for scheduler, tls, words in (
        ("", (None, None, None), "needs --scheduler"),
        ("tls://h:1", (pem, None, None), "--tls-cert, --tls-key"),
        ("tcp://h:1", (pem, pem, pem), "wanted tls://"),
        ("tls://h:1", (pem, pem, tmp_path / "no.pem"), "is no file"),
    ):
        with pytest.raises(ConfigError, match=words):
            make_executor("dask", scheduler, tls)


def test_a_dask_worker_is_killed_in_mid_run(data: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    distributed = pytest.importorskip("distributed")
    data_table = {"root": str(data / "manifest.csv"), "key": str(data / "key")}
    framing = {"kind": "resize", "size": 32}
    study = build(Study, {"data": data_table, "framing": framing})
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
    ) as cluster:
        victims = [w.pid for w in cluster.workers.values()][:1]

        def kill(done: int, total: int) -> None:
            if done >= 2 and victims:
                os.kill(victims.pop(), signal.SIGKILL)

        compress(study, tmp_path / "out", kill, how=How(Dask(cluster.scheduler_address), shard_size=4))
        assert not victims
        assert content(tmp_path / "out") == whole
        with pytest.raises(TranslucidError, match=r"disk is full.* of 6 shards are finished and kept"):
            run_shards(ToyJob(tmp_path, 6, "full", failing=2), range(6), Dask(cluster.scheduler_address))


def test_no_scheduler_is_said_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("translucid.jobs.cluster.PATIENCE", 0.5)
    with pytest.raises(TranslucidError, match="no Dask scheduler answers at"):
        run_job(ToyJob(tmp_path), Dask("tcp://127.0.0.1:1"))


def test_no_usable_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,patient,mass\na.png,p,1\nb.png,q,0\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"nothing")
    result = CliRunner().invoke(main, ["compress", str(tmp_path / "manifest.csv"), str(tmp_path / "out"), *OPTIONS])
    assert result.exit_code == 2
    assert "none of 2 files could be used" in result.output
