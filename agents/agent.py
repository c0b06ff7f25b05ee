"""The loop of one agent: sample a turn, carry out its calls, say what came of them, until it ends.

Owns the order of things within a turn. It keeps no state of its own: where it stands follows from the agent's head
(after `given` tokens a turn is due, after `sampled` ones its calls are), so a resumed agent simply goes on.

Invariant: a call that had begun before a crash and may have had effects is never run again.
"""

from __future__ import annotations

from agents.chat import Call
from agents.context import Origin
from agents.host import Agent, Host, Reply, ToolRefused
from agents.tools.base import Tool, read_call
from workspace import CommandRefused, FileError

__all__ = ["live"]

NO_CALL = "You called no tool. Call one, or finish(result) when you are done."
INTERRUPTED = "interrupted, outcome unknown: the run stopped while this call was under way. Look before you repeat it."
NOT_BEGUN = "you have not begun: ask(questions), or begin(understanding)"
ALONE = "{name} must be the only call of its turn. Nothing of this turn was done."


async def live(agent: Agent, host: Host) -> None:
    """Run `agent` until it has an outcome. Cancellation leaves it as it is, to be resumed."""
    while agent.outcome is None:
        if agent.head.origin is Origin.GIVEN or agent.interrupted:
            await host.sample(agent)
        else:
            await act(agent, host)


async def act(agent: Agent, host: Host) -> None:
    """Carry out the calls of the agent's last turn, one after the other, and tell it what came of them."""
    head = agent.head
    calls = host.chat.parse(head).calls
    if not calls:
        await host.give(agent, [NO_CALL])
        return
    tools = [host.tools.get(call.name) for call in calls]
    alone = next((tool.name for tool in tools if tool is not None and issubclass(tool, Tool) and tool.alone), None)
    texts = []
    for index, call in enumerate(calls):
        if index in agent.replies:
            reply = agent.replies[index]
        elif alone and len(calls) > 1:
            reply = Reply(text=ALONE.format(name=alone), error=True)
        else:
            reply = await carry_out(agent, host, index, call)
        if agent.outcome is not None or agent.head is not head:
            return  # it finished, or it is its past self now
        said = "\n".join(part for part in (reply.text, reply.note) if part)
        texts.append(f"error: {said}" if reply.error else said)
    await host.give(agent, texts)


async def carry_out(agent: Agent, host: Host, index: int, call: Call) -> Reply:
    """Run one call; whatever is wrong with it or happens to it becomes a reply that the model can act on."""
    try:
        tool = read_call(call, host.tools)
        if not agent.begun and not tool.onboarding:
            raise ToolRefused(NOT_BEGUN)
    except ToolRefused as refusal:
        return Reply(text=str(refusal), error=True)
    if index in agent.started and not tool.repeatable:
        reply = Reply(text=INTERRUPTED, error=True, did=f"{agent.started[index]}: outcome unknown")
    else:
        head = agent.head
        if index not in agent.started:
            await host.call_started(agent, index, tool.summary(), effects=not tool.repeatable)
        try:
            reply = await tool.run(agent, host)
        except (ToolRefused, FileError, CommandRefused) as refusal:
            reply = Reply(text=str(refusal), error=True)
        if agent.head is not head:
            return reply
    if agent.outcome is None:
        await host.call_ended(agent, index, reply)
    return reply
