"""Where agents work: the run's directory, or an isolated copy of it.

Owns each place's file tree and sandbox, and the making, merging and removing of isolated copies. An agent's `place`
is the agent whose copy it works in; None is the run's own directory. Invariants: a copy is made before its agent's
first turn, and again if a crash left half of one; merges into one place happen one at a time; the commands of a run
all run on one system, also after it was resumed. Does not know why anybody forks.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from agents.host import Agent, Reply, ToolRefused
from workspace import BranchFailed, FileTree, Limits, RunLayout, Sandbox, System, branches, note_system, noted_system

__all__ = ["Places"]


class Places:
    """The places of one run. Raises BranchFailed, in one line, where a copy cannot be made or read."""

    def __init__(
        self, layout: RunLayout, *, unsandboxed: bool, limits: Limits | None = None, system: System | None = None
    ) -> None:
        """`system`: on which commands run, if not the machine's own; a run that had one before has it again.

        Raises CommandRefused where that is gone.
        """
        self._layout = layout
        if system is None:
            system = noted_system(layout)
        else:
            note_system(layout, system)
        self._sandbox = partial(Sandbox.of_run, layout, limits=limits, unsandboxed=unsandboxed, system=system)
        self._files: dict[str | None, FileTree] = {None: FileTree.of_run(layout)}
        self._sandboxes: dict[str | None, Sandbox] = {None: self._sandbox()}
        self._locks: defaultdict[str | None, anyio.Lock] = defaultdict(anyio.Lock)

    def files(self, agent: Agent) -> FileTree:
        """The files it works on."""
        return self._files[agent.place]

    def sandbox(self, agent: Agent) -> Sandbox:
        """Where its commands run."""
        return self._sandboxes[agent.place]

    async def settle(self, agent: Agent, parent: Agent | None) -> str:
        """Make the agent's place if it is not there yet; returns how, in words, "" for the run's own directory."""
        if agent.place is None:
            return ""
        async with self._locks[agent.place]:
            source = self._directory(parent.place if parent else None) if agent.place == agent.id else Path()
            if agent.place == agent.id:
                made = await to_thread.run_sync(partial(branches.branch, self._layout, agent.id, source))
            else:
                made = await to_thread.run_sync(partial(branches.open_branch, self._layout, agent.place))
            if agent.place not in self._files:
                self._files[agent.place] = FileTree.of_run(self._layout, directory=made.directory)
                self._sandboxes[agent.place] = self._sandbox(directory=made.directory, readable=made.readable)
            return str(made.how)

    async def changes(self, agent: Agent) -> str:
        """What the agent changed in its own copy, in a line; "" where it has none."""
        if agent.place != agent.id:
            return ""
        branch = await to_thread.run_sync(partial(branches.open_branch, self._layout, agent.id))
        return (await to_thread.run_sync(branches.changes, branch)).summary

    async def merge(self, child: Agent, into: Agent) -> Reply:
        """Apply what `child` changed in its copy to the place of `into`. Raises ToolRefused."""
        if child.place != child.id:
            raise ToolRefused(f"merge: {child.id} has no copy of the files: it worked on yours")
        if child.outcome is None:
            raise ToolRefused(f"merge: {child.id} is still at work: wait for it first")
        try:
            async with self._locks[into.place]:
                branch = await to_thread.run_sync(partial(branches.open_branch, self._layout, child.id))
                merge = partial(branches.merge, branch, self._directory(into.place))
                done = await to_thread.run_sync(merge)
        except BranchFailed as error:
            raise ToolRefused(f"merge: {error}") from error
        shown = "\n".join([done.summary, *(conflict.text for conflict in done.conflicts if conflict.text)])
        return Reply(text=shown, did=f"merged {child.id}: {', '.join(done.applied[:20]) or 'nothing'}")

    async def clear(self) -> None:
        """Remove the copies; what was changed in them stays as patches in the run's record."""
        for place in self._files:
            if place is not None:
                await to_thread.run_sync(partial(branches.remove, self._layout, place))

    def _directory(self, place: str | None) -> Path:
        return self._layout.directory if place is None else self._layout.work(place)
