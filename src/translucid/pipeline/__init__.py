"""The verbs, each run folder → run folder; a command is the twin of one function here and prints what it returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from translucid.config import build, override, read_toml
from translucid.errors import ConfigError, did_you_mean, lookup
from translucid.jobs import Progress
from translucid.pipeline.compress_step import How, compress, compress_share
from translucid.pipeline.folder import RunFolder
from translucid.pipeline.table import result_table
from translucid.study import Study, read_study

if TYPE_CHECKING:
    from translucid.pipeline.evaluate_step import evaluate
    from translucid.pipeline.explain_step import explain
    from translucid.pipeline.foreign import explain_files
    from translucid.pipeline.train_step import train

__all__ = [
    "How",
    "RunFolder",
    "audit_run",
    "compress",
    "compress_manifest",
    "compress_share",
    "evaluate",
    "evaluate_run",
    "explain",
    "explain_files",
    "explain_run",
    "frontier_run",
    "import_dataset",
    "phantom",
    "recipe_path",
    "report_run",
    "result_table",
    "study",
    "train",
    "train_run",
]

Echo = Callable[[str], None]
_LATE = {"evaluate": "evaluate_step", "explain": "explain_step", "explain_files": "foreign", "train": "train_step"}
"""Verbs whose imports take longer than a small run of `compress`, and where they stand."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)


def quiet(line: str) -> None:
    """Say nothing."""


def study(recipe: Path, run: Path, changes: Sequence[str] = (), echo: Echo = quiet) -> str:
    """Run a whole recipe: compress, train, explain, evaluate, report. Finished steps with the same settings are kept.

    Args:
        recipe: a TOML file.
        run: the run folder, made if absent.
        changes: `key=value` in place of single keys of the recipe.
        echo: told what is being done.

    Returns:
        The result table and the path of the report.

    Raises:
        TranslucidError: one of its kinds, with what came, what was wanted and what to do.

    Fails when: two studies run in the same folder at once.
    """
    from translucid.pipeline.checking import check_study
    from translucid.pipeline.evaluate_step import evaluate
    from translucid.pipeline.explain_step import explain
    from translucid.pipeline.train_step import train

    settings = read_study(recipe, tuple(changes))
    check_study(settings)
    echo(f"compress: {len(settings.stores)} stores for {len(settings.rows)} variants")
    folder = compress(settings, run, _progress("compress"), for_training=True)
    train(settings, run, echo)
    explain(settings, run, echo)
    evaluate(settings, run)
    tables = [result_table(folder), *([_audit(settings, run, echo)] if settings.audit.wanted else [])]
    return "\n\n".join([*tables, report_run(run)])


def recipe_path(name: str) -> Path:
    """The recipe of that path, or the one of that name that comes with the package."""
    given = Path(name)
    if given.suffix == ".toml" or given.exists():
        return given
    homes = [Path(__file__).resolve().parents[3] / "recipes", Path(sys.prefix) / "share" / "translucid" / "recipes"]
    known = {file.stem: file for home in homes if home.is_dir() for file in sorted(home.glob("*.toml"))}
    if name not in known:
        raise ConfigError(f"no recipe {name!r}: {did_you_mean(name, known)}")
    return known[name]


def phantom(folder: Path, changes: Sequence[str] = (), file_format: Literal["png", "dicom"] = "png") -> str:
    """Draw a cohort of synthetic patients with a manifest; `changes` set the fields of `ChestCohort`."""
    from translucid.phantom import ChestCohort, write_cohort

    cohort = build(ChestCohort, override({}, changes), "phantom")
    write_cohort(cohort, folder, format=file_format)
    lines = (folder / "manifest.csv").read_text("utf-8").count("\n") - 1
    return f"{lines} images of {cohort.patients} synthetic patients: {folder / 'manifest.csv'}"


def import_dataset(layout: str, root: Path, out: Path | None = None, changes: Sequence[str] = ()) -> str:
    """Read a dataset's own layout and write a manifest beside its files (or to `out`)."""
    from translucid.io.layouts import import_layout
    from translucid.io.manifest import write_manifest

    manifest = import_layout(layout, root, **override({}, changes))
    target = out or (root if root.is_dir() else root.parent) / "translucid.csv"
    write_manifest(manifest, target)
    lines = [f"{len(manifest.cases)} images of {len(manifest.patients)} patients: {target}"]
    lines += [f"  {warning}" for warning in manifest.warnings]
    if manifest.rejects:
        where, why = manifest.rejects[0]
        lines.append(f"  {len(manifest.rejects)} left out; the first: {where}: {why}")
    return "\n".join(lines)


def compress_manifest(
    manifest: Path,
    out: Path,
    recipe: Path | None = None,
    changes: Sequence[str] = (),
    *,
    key: Path | None = None,
    workers: int | None = None,
    shard: str = "",
    how: How | None = None,
) -> str:
    """Compress every image of a manifest (or of a folder with manifest.csv) with one compressor or a recipe's.

    Args:
        manifest: a CSV file, or a folder that holds one.
        out: the run folder.
        recipe: a TOML file whose settings are taken.
        changes: `key=value` in place of single keys.
        key: file with the key of the pseudonyms.
        workers: processes on this machine; 0 means all cores.
        shard: "i/n" to run only the share of task i of n and to merge nothing; empty to run what is absent and merge.
        how: where the shards are run, how large they are, or that nothing but the merge is wanted.

    Returns:
        What was done, in a few lines.

    Raises:
        TranslucidError: one of its kinds, with what came, what was wanted and what to do.

    Fails when: two calls without `shard` write the same run folder at once.
    """
    settings = build(Study, override(read_toml(recipe) if recipe else {}, changes))
    # what another layout's options mean, a manifest does not know
    own = settings.data.options if settings.data.layout == "manifest" else {}
    data = replace(settings.data, layout="manifest", root=manifest, options=own, key=key or settings.data.key)
    settings = replace(settings, data=data, workers=settings.workers if workers is None else workers)
    if shard:
        if how is not None and how.merge_only:
            raise ConfigError("a task with --shard merges nothing: leave out --shard or --merge")
        return compress_share(settings, out, shard, _progress("compress"), how)
    folder = compress(settings, out, _progress("compress"), how=how)
    done = folder.record()["steps"]["compress"]
    lines = [f"{done['cases']} images compressed, {done['rejects']} rejected ({out / 'rejects.csv'})"]
    for name, weight in done["stores"].items():
        share, size = weight["share_of_values"], weight["bytes_per_image"]
        lines.append(f"  {name}: {share:.2%} of the values, {size:,.0f} bytes an image")
    return "\n".join(lines)


def train_run(run: Path, changes: Sequence[str] = (), echo: Echo = quiet) -> str:
    """Train the variants of a run folder."""
    from translucid.pipeline.train_step import train

    folder, settings = _settings(run, changes)
    train(settings, run, echo)
    return f"{len(settings.rows)} variants trained: {folder.path / 'models'}"


def explain_run(run: Path, changes: Sequence[str] = (), echo: Echo = quiet) -> str:
    """Explain shown cases of a run folder."""
    from translucid.pipeline.explain_step import explain

    folder, settings = _settings(run, changes)
    explain(settings, run, echo)
    return f"explanations written: {folder.path / 'maps'}"


def evaluate_run(run: Path, changes: Sequence[str] = (), echo: Echo = quiet, protocol: str = "") -> str:
    """Compute the numbers of a run folder; with protocol "trust" judge its maps instead, into `trust.json`."""
    folder, settings = _settings(run, changes)
    if protocol:
        from translucid.pipeline.trust_step import judge_maps, verdict_lines

        lookup({"trust": ""}, protocol, "protocol")
        told = judge_maps(settings, folder, echo, _progress("trust"))
        return "\n".join([*verdict_lines(told), f"{run / 'trust.json'}"])
    from translucid.pipeline.evaluate_step import evaluate

    evaluate(settings, run)
    return result_table(folder)


def audit_run(run: Path, changes: Sequence[str] = (), echo: Echo = quiet) -> str:
    """Audit the codes and models of a run folder."""
    _, settings = _settings(run, changes)
    return _audit(settings, run, echo)


def frontier_run(
    run: Path, changes: Sequence[str] = (), echo: Echo = quiet, *, recipe: str = "", max_auc_loss: float = 0.02
) -> str:
    """Join utility, privacy and size of a run folder; with a recipe the study is run first where that is open."""
    from translucid.pipeline.frontier_step import frontier, frontier_table

    if recipe and not (run / "audit.json").is_file():
        echo(study(recipe_path(recipe), run, changes, echo))
    settings = RunFolder(run).study(tuple(changes))
    return frontier_table(frontier(settings, run, max_auc_loss))


def _audit(settings: Study, run: Path, echo: Echo) -> str:
    """What attackers found, and, where the models were evaluated, what each compressor trades for it."""
    from translucid.pipeline.audit_step import audit, audit_table
    from translucid.pipeline.frontier_step import frontier, frontier_table

    tables = [audit_table(audit(settings, run, echo, _progress("audit")))]
    if (run / "metrics.json").is_file():
        tables.append(frontier_table(frontier(settings, run)))
    return "\n\n".join(tables)


def report_run(run: Path, changes: Sequence[str] = (), echo: Echo = quiet) -> str:
    """Write the report of a run folder."""
    from translucid.report import write_report

    if changes:
        folder, settings = _settings(run, changes)
        folder.begin(settings)
    return f"report: {write_report(run)}"


def _settings(run: Path, changes: Sequence[str]) -> tuple[RunFolder, Study]:
    """The recipe of a run folder, changed and looked through; what decides the codes cannot be changed here."""
    from translucid.pipeline.checking import check_study

    folder = RunFolder(run)
    settings = folder.study(tuple(changes))
    fixed = {"data", "framing", "compress"}
    for change in changes:
        if change.partition(".")[0] in fixed:
            raise ConfigError(f"--set {change}: the codes are made already; run `translucid compress` or `study` anew")
    check_study(settings)
    folder.begin(settings)
    return folder, settings


def _progress(title: str) -> Progress:
    """A bar on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return lambda done, total: None
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(title, total=None)

    def show(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total:
            bar.stop()

    return show
