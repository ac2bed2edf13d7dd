"""The command: every subcommand parses, calls one function, prints. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from translucid.errors import TranslucidError, did_you_mean

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
ANY = click.Path(path_type=Path)


class Commands(click.Group):
    """A group that names the nearest command or option, and prints our errors without a traceback."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand or say which ones there are."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}: {did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; an error of ours becomes one line and exit status 2."""
        try:
            return super().invoke(ctx)
        except TranslucidError as e:
            click.echo(f"error: {e}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("\nstopped; what was finished is kept: run the same command again to go on", err=True)
            sys.exit(130)


def settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--set key=value`, which every verb has."""
    text = "Change any key of the recipe, e.g. --set train.epochs=5. May be repeated."
    return click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help=text)(function)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="translucid")
def main() -> None:
    """Medical image classification that explains itself and does not give the patient away.

    read → compress → train → explain → evaluate → audit → frontier → report. Every verb works on a run folder; `study`
    runs them all from one recipe (audit and frontier where the recipe names parts to audit).
    """


@main.command()
@click.argument("run", type=FOLDER, default=Path("runs/demo"))
@settings
def demo(run: Path, changes: tuple[str, ...]) -> None:
    """A whole study on synthetic patients, into RUN (default runs/demo)."""
    from translucid.pipeline import recipe_path, study

    click.echo(study(recipe_path("demo"), run, changes, echo=click.echo))


@main.command()
@click.argument("recipe", type=ANY)
@click.argument("run", type=FOLDER)
@settings
def study(recipe: Path, run: Path, changes: tuple[str, ...]) -> None:
    """Run a whole RECIPE (a TOML file, or the name of one that comes with the package) into RUN."""
    from translucid.pipeline import recipe_path, study

    click.echo(study(recipe_path(str(recipe)), run, changes, echo=click.echo))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--dicom", is_flag=True, help="Write DICOM files in place of PNG.")
@settings
def phantom(folder: Path, dicom: bool, changes: tuple[str, ...]) -> None:
    """Draw synthetic patients with known truth into FOLDER, with a manifest."""
    from translucid.pipeline import phantom

    click.echo(phantom(folder, changes, file_format="dicom" if dicom else "png"))


@main.command("import")
@click.argument("layout")
@click.argument("root", type=ANY)
@click.option("-o", "--out", type=FILE, help="Manifest to write (default: translucid.csv inside ROOT).")
@settings
def import_(layout: str, root: Path, out: Path | None, changes: tuple[str, ...]) -> None:
    """Read a public dataset's own LAYOUT under ROOT and write a manifest.

    Layouts: manifest, folders, pack, chexpert, nih14, rad_chestct, rsna, siim, chexlocalize, egd_cxr, reflacx, vindr.
    Options of a layout: --set views=[\"frontal\"].
    """
    from translucid.pipeline import import_dataset

    click.echo(import_dataset(layout, root, out, changes))


def where(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where shards are run; none of them changes what comes out, but --shard-size."""
    for option in (
        click.option("--workers", type=int, help="Processes on this machine; 0 means all cores."),
        click.option("--shard-size", type=int, default=128, show_default=True, help="Images in a shard."),
        click.option("--shard", default="", metavar="I/N", help="Only the share of task I (from 0) of N; no merge."),
        click.option("--merge", is_flag=True, help="Run nothing; join what the tasks have finished."),
        click.option("--executor", default="processes", show_default=True, help="processes, or dask."),
        click.option("--scheduler", default="", metavar="ADDRESS", help="Address of the Dask scheduler."),
        click.option("--tls-ca", type=FILE, help="Certificate of the authority, for tls://."),
        click.option("--tls-cert", type=FILE, help="Own certificate."),
        click.option("--tls-key", type=FILE, help="Key of the own certificate."),
    ):
        function = option(function)
    return function


@main.command()
@click.argument("manifest", type=ANY)
@click.argument("out", type=FOLDER)
@click.option("--recipe", type=FILE, help="Take the settings of a recipe.")
@click.option("--key", type=FILE, help="File with the key of the pseudonyms (mode 0600).")
@where
@settings
def compress(manifest: Path, out: Path, recipe: Path | None, key: Path | None, changes: Any, **at: Any) -> None:
    """Compress every image of MANIFEST into OUT/codes, e.g. --set compress.kind=deepfixcx --set compress.levels=2.

    A stopped call goes on where it was. See docs/how-to/cluster.md for many machines.
    """
    from translucid.jobs import make_executor
    from translucid.pipeline import How, compress_manifest

    executor = make_executor(at["executor"], at["scheduler"], (at["tls_ca"], at["tls_cert"], at["tls_key"]))
    how = How(executor, at["shard_size"], at["merge"])
    click.echo(
        compress_manifest(manifest, out, recipe, changes, key=key, workers=at["workers"], shard=at["shard"], how=how)
    )


@main.command()
@click.argument("paths", type=ANY, nargs=-1, required=True, metavar="RUN | FILES...")
@click.option("--model", default="", metavar="NAME", help="package.module:factory, or RUN/models/VARIANT.")
@click.option("--weights", type=FILE, help="Weights of a factory's network, as safetensors.")
@click.option("-o", "--out", type=FOLDER, default="explained", show_default=True, help="Where maps of files go.")
@click.option("--method", default="hirescam", show_default=True, help="How files are explained.")
@click.option("--layer", help="Layer to look at, in place of the one that is found.")
@click.option("--label", "labels", type=int, multiple=True, help="Number of a logit; may be repeated.")
@settings
def explain(paths: tuple[Path, ...], model: str, changes: tuple[str, ...], **how: Any) -> None:
    """Explain shown cases of a RUN with every method that fits; or, with --model, a model of your own on FILES.

    FILES are images or folders with one DICOM series each. The maps lie on each file's own grid: NIfTI for volumes,
    PNG for films. --set changes the framing, e.g. --set size=224 or --set kind=volume --set spacing=2.
    """
    from translucid.errors import ConfigError
    from translucid.pipeline import explain_files, explain_run

    if model:
        click.echo(explain_files(model, paths, changes=changes, echo=click.echo, **how))
    elif len(paths) == 1:
        click.echo(explain_run(paths[0], changes, click.echo))
    else:
        raise ConfigError(f"{len(paths)} paths: wanted one run folder, or --model for files of your own")


def _verb(name: str, twin: str, help_text: str) -> None:
    """Register a verb that takes a run folder and nothing else."""

    @click.argument("run", type=FOLDER)
    @settings
    def command(run: Path, changes: tuple[str, ...]) -> None:
        import translucid.pipeline

        click.echo(getattr(translucid.pipeline, twin)(run, changes, click.echo))

    main.command(name, help=help_text)(command)


_verb("train", "train_run", "Train the variants of RUN on its codes; goes on where it was stopped.")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--protocol", default="", metavar="NAME", help="trust: judge the maps by every criterion.")
@settings
def evaluate(run: Path, protocol: str, changes: tuple[str, ...]) -> None:
    """Compute the numbers of RUN, each with its interval; or, with --protocol trust, judge its maps."""
    from translucid.pipeline import evaluate_run

    click.echo(evaluate_run(run, changes, click.echo, protocol))


_verb("audit", "audit_run", "Let trained attackers try the codes of RUN; every number with its budget and controls.")


@main.command()
@click.argument("run", type=FOLDER)
@click.option("--recipe", default="", metavar="RECIPE", help="Run this recipe first where RUN is not audited yet.")
@click.option("--max-auc-loss", type=float, default=0.02, show_default=True, help="Constraint of the recommendation.")
@settings
def frontier(run: Path, recipe: str, max_auc_loss: float, changes: tuple[str, ...]) -> None:
    """Set utility, privacy, size and explanations of RUN's compressors side by side, and recommend one."""
    from translucid.pipeline import frontier_run

    click.echo(frontier_run(run, changes, click.echo, recipe=recipe, max_auc_loss=max_auc_loss))


_verb("report", "report_run", "Write RUN/report.html, one self-contained page.")
