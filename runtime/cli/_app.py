"""The commands, put together. Owns their names and the order in which the help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from runtime.cli import audit, demo, doctor, engine, export, init, resume, rollout, run, send, stats, tree, watch

__all__ = ["app"]

# Plain help and plain tracebacks: rich's take a fifth of a second to import and show local variables, prompts too.
app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Agents that fork into copies of themselves, sharing one KV cache.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"ramet {version('ramet')}")
        except PackageNotFoundError:
            typer.echo("ramet (not installed: run from its source)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _ramet(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("resume")(resume.resume)
app.command("tree")(tree.tree)
app.command("stats")(stats.stats)
app.command("send")(send.send)
app.command("pause")(send.pause)
app.command("continue")(send.proceed)
app.command("cancel")(send.cancel)
app.command("watch")(watch.watch)
app.command("init")(init.init)
app.command("rollout")(rollout.rollout)
app.command("doctor")(doctor.doctor)
app.command("audit")(audit.audit)
app.command("export")(export.export)
app.add_typer(engine.app, name="engine")
