"""Whether work is done: a command decides, then somebody who looks from another context.

Owns what an author's `finish` is answered with where a run has `check` or `review` set. A reviewer is a fresh agent
that sees the task, the result and the working directory, and never the author's reasoning; it may read, run
commands and fork, and ends with a verdict. Invariants: a result is accepted only by the command and the reviewer that
were asked for; each round is one `Returned` record, so a crash does not ask twice; after `review_rounds` of them the
author is done, rejected, its last result kept, and the last reason stands in its history. Starts no task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from agents.context import Segment
from agents.host import Agent, ToolRefused
from agents.told import cut_text, exit_text, review_text, revise_text
from runtime.family import Family
from runtime.recorder import Recorder
from runtime.records import Judged, Returned, Started
from workspace import CommandRefused, Sandbox

__all__ = ["Review"]

CHECK_S = 600.0  # the most that a check may take: as long as the longest command of an agent
SHOWN_CHARS = 4_000  # of a check's output (its end, where failures are told), of a task, of a result


class Review:
    """Of one run. `begin(message)` makes a fresh context's tokens, `status` a status line."""

    def __init__(
        self,
        recorder: Recorder,
        family: Family,
        begin: Callable[[str], list[int]],
        status: Callable[[str, Agent | None, Segment | None], str],
    ) -> None:
        self._recorder = recorder
        self._family = family
        self._begin = begin
        self._status = status

    async def examine(
        self, author: Agent, result: str, sandbox: Sandbox, see_out: Callable[[Agent], Awaitable[object]]
    ) -> str:
        """What is wrong with a result, in words, "" if nothing is; recorded, so that a crash does not ask twice.

        `see_out` lets a reviewer live, and waits until it has ended. Raises ToolRefused past a limit.
        """
        head = author.head.id
        if not self._wanted(author):
            return ""
        if head in author.returned:
            return author.returned[head]
        author.activity = "being reviewed"
        objection = await self._check(author, sandbox)
        reviewer = None if objection else self._reviewer(author, result)
        if reviewer is not None:
            await see_out(reviewer)
            objection = self._objection(reviewer)
        if objection:
            self._recorder.commit(Returned(agent=author.id, segment=head, reason=objection))
        return objection

    def over(self, author: Agent) -> bool:
        """Whether the author's results were sent back as often as they may be."""
        return len(author.returned) >= self._recorder.state.settings.review_rounds

    def judge(self, reviewer: Agent, *, accepted: bool, comments: str) -> None:
        """Record a verdict. Raises ToolRefused for one who is no reviewer."""
        if not reviewer.reviews:
            raise ToolRefused("verdict is for reviewers: call finish(result) when you are done")
        self._recorder.commit(Judged(agent=reviewer.id, accepted=accepted, comments=comments))

    def _wanted(self, agent: Agent) -> bool:
        """Whether the agent's result is examined: a root's is, parts of the work are for whoever asked for them."""
        settings = self._recorder.state.settings
        return agent.parent is None and (settings.review or bool(settings.check))

    async def _check(self, agent: Agent, sandbox: Sandbox) -> str:
        """Run the check command; returns what is wrong, in words, "" if it passed."""
        command = self._recorder.state.settings.check
        if not command:
            return ""
        try:
            path = self._recorder.layout.output(agent.id, f"check-s{agent.head.id}")
            done = await sandbox.run(command, timeout_s=CHECK_S, output_path=path)
        except CommandRefused as refusal:
            return f"The check could not be run: {refusal}"
        if done.exit_code == 0:
            return ""
        late = f"did not end in {CHECK_S:g} s"
        how = late if done.exit_code is None else exit_text(done.exit_code, sandbox.limits)
        return f"The check `{command}` failed ({how}):\n{done.output[-SHOWN_CHARS:].strip()}"

    def _reviewer(self, author: Agent, result: str) -> Agent | None:
        """The reviewer of the author's present turn, made if it is not there yet; None where none was asked for.

        Raises ToolRefused past a limit.
        """
        if not self._recorder.state.settings.review:
            return None
        made = self._family.of_this_turn(author)
        if made:
            return made[0]
        self._family.refuse(author, 1)
        state, layout = self._recorder.state, self._recorder.layout
        name = state.next_agent()
        path = layout.relative(layout.task)
        text = review_text(path, cut_text(author.task, SHOWN_CHARS), cut_text(result, SHOWN_CHARS))
        self._recorder.commit(
            Started(
                agent=name,
                segment=state.next_segment,
                tokens=tuple(self._begin(f"{text}\n{self._status(name, author, None)}")),
                task=f"review what {author.id} did",
                parent=author.id,
                called_by=author.head.id,
                reviews=True,
                place=author.place,
            )
        )
        return state.agents[name]

    @staticmethod
    def _objection(reviewer: Agent) -> str:
        """What a reviewer that has ended has against the work, "" if it accepted."""
        if reviewer.accepted:
            return ""
        if reviewer.accepted is None:
            return f"The review by {reviewer.id} came to nothing ({reviewer.outcome}: {reviewer.result}). Finish again."
        return revise_text(reviewer.id, reviewer.result)
