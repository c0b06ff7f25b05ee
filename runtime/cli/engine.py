"""`ramet engine`: SGLang on this machine, installed into an environment of its own, served, looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli._options import Json

if TYPE_CHECKING:
    from runtime.engine.server import Server

__all__ = ["app"]

app = typer.Typer(rich_markup_mode=None, no_args_is_help=False, help="The SGLang engine of this machine.")

# A server that does not answer for so long is gone. It may be busy: a prefill of a large model takes seconds.
LOOK_EVERY_S = 5.0
MISSES = 6


@app.callback(invoke_without_command=True)
def _engine(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("install")
def install(as_json: Json = False) -> int:
    """Install SGLang, once, into an environment of its own: minutes, and about 3 GB."""
    from runtime.cli._engine import reporting
    from runtime.cli._signals import run_until_signal
    from runtime.engine import environment

    report, close = reporting(as_json=as_json)
    try:
        run_until_signal(lambda: environment.install(report))
    finally:
        close()
    return status(as_json=as_json)


@app.command("status")
def status(as_json: Json = False) -> int:
    """Show where the engine is, or would be. Exits with 1 if it is not installed."""
    import msgspec

    from runtime.engine import environment

    now = environment.status()
    if as_json:
        print(msgspec.json.encode(now, enc_hook=str).decode())
    else:
        what = "installed" if now.installed else "not installed: run `ramet engine install`"
        print(f"SGLang {now.sglang} ({now.kind}), {now.directory}: {what}")
    return 0 if now.installed else 1


@app.command("serve")
def serve(
    model: Annotated[str, typer.Option(help="seedling, a model directory, or a hub name.")] = "seedling",
    as_json: Json = False,
    flags: Annotated[list[str] | None, typer.Argument(metavar="[-- FLAGS]", help="More of SGLang's own flags.")] = None,
) -> int:
    """Serve a model until interrupted; other commands use it with --url."""
    from runtime.cli._engine import reporting
    from runtime.cli._signals import run_until_signal
    from runtime.engine.server import ServerOptions, managed_server, resolve_model
    from runtime.errors import Interrupted

    name = resolve_model(model)
    report, close = reporting(as_json=as_json)
    ready: list[Server] = []

    async def work() -> None:
        async with managed_server(name, ServerOptions(flags=tuple(flags or ())), progress=report) as server:
            close()
            ready.append(server)
            _announce(server, as_json=as_json)
            await _until_it_dies(server)

    try:
        run_until_signal(work)
    except Interrupted:
        if not ready:
            raise
        # The way to end a server is to interrupt it: nothing has gone wrong.
    finally:
        close()
    return 0


def _announce(server: Server, *, as_json: bool) -> None:
    import msgspec

    from runtime.cli._engine import API_KEY

    if as_json:
        event = {"event": "serving", "url": server.url, "api_key": server.api_key, "model": server.model}
        print(msgspec.json.encode(event).decode(), flush=True)
        return
    print(f"serving {server.model}; its log is {server.log}")
    print("In another terminal:\n")
    print(f"    export {API_KEY}={server.api_key}")
    print(f"    ramet run TASK --url {server.url}\n", flush=True)


async def _until_it_dies(server: Server) -> None:
    import anyio

    from runtime.engine.base import EngineUnavailable
    from runtime.engine.sglang import SGLang

    misses = 0
    async with SGLang.connect(server.url, api_key=server.api_key) as engine:
        while misses < MISSES:
            await anyio.sleep(LOOK_EVERY_S)
            misses = 0 if await engine.healthy() else misses + 1
    raise EngineUnavailable(f"{server.url} does not answer any more; its log is {server.log}")
