"""`ramet resume`: go on with a run that stopped, from its journal."""

from __future__ import annotations

import shlex
from pathlib import Path

from runtime.cli._options import Json, Model, Place, Url, read_task

__all__ = ["resume"]


def resume(place: Place = Path(), url: Url = None, model: Model = None, as_json: Json = False) -> int:
    """Go on with a run that stopped; of one that has ended, show how. Exit codes are those of `ramet run`."""
    from runtime.cli._engine import choose
    from runtime.cli._logs import to_stderr
    from runtime.cli._session import EXIT_CODES, Session, choose_view, say_why
    from runtime.recorder import load, records
    from runtime.stats import count
    from runtime.swarm import Swarm
    from runtime.view import Times
    from workspace import RunLayout

    to_stderr()
    layout = RunLayout.open(place)
    state = load(layout)
    times = Times.replay(records(layout))
    view = choose_view(as_json=as_json, times=times)
    if state.outcome is not None:
        view.end(state.outcome, state.result, layout.root, count(state))
        say_why(state)
        return EXIT_CODES[state.outcome]
    engine = choose(url, model or (None if url else state.settings.model))
    session = Session(
        engine,
        lambda opened, observers: Swarm(opened, layout.directory, observers=observers, resume=layout, attended=True),
        view,
        task="" if state.agents else read_task(str(layout.task)),  # it stopped before its first agent began
        resumed=True,
        hint=f" --url {shlex.quote(url)}" if url else "",
    )
    return session.run()
