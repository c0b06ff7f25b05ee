"""Rollouts made by hand for the audit's tests, on the tiny model's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from agents.chat import Chat
from agents.host import Outcome
from runtime.rollouts.schema import VERSION, Edge, Head, Leaf, Member, Rollout, Term, Turn
from tests.runtime.rollouts.audit.corpus import Case
from tests.support import call, tiny_chat, tiny_model

Part = tuple[bool, str]


def said(text: str) -> Part:
    """A turn, as the model samples it."""
    return True, f"{text}<|im_end|>"


def begun(text: str) -> Part:
    """The first thing of a context."""
    return False, f"<|im_start|>system\nYou are one of a swarm.<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n{NEXT}"


def told(text: str) -> Part:
    """What an agent is told after a call."""
    return False, f"\n<|im_start|>user\n<tool_response>\n{text}\n</tool_response><|im_end|>\n{NEXT}"


NEXT = "<|im_start|>assistant\n"


def edge(id: int, parent: int | None, agent: str, kind: str, *parts: Part, chat: Chat | None = None) -> Edge:
    """An edge of such parts, on the tokens of `chat`: the tiny model's."""
    tokenizer = (chat or tiny_chat()).tokenizer
    tokens: list[int] = []
    sampled: list[bool] = []
    turns: list[Turn] = []
    for mine, text in parts:
        ids = tokenizer.encode(text)
        if mine:
            turns.append(Turn(start=len(tokens), end=len(tokens) + len(ids), finish="stop"))
        tokens += ids
        sampled += [mine] * len(ids)
    return Edge(
        id=id,
        parent=parent,
        agent=agent,
        kind=kind,
        tokens=tuple(tokens),
        sampled=tuple(sampled),
        logprobs=tuple(-0.5 if mine else None for mine in sampled),
        turns=tuple(turns),
    )


def rollout(
    edges: Sequence[Edge],
    *,
    id: str = "r1",
    task: str = "t",
    prompt: str = "Do it.",
    parents: dict[str, tuple[str, str]] | None = None,
    results: dict[str, str] | None = None,
    terms: tuple[Term, ...] = (),
    leaves: Sequence[Leaf] | None = None,
    info: dict[str, str] | None = None,
) -> Rollout:
    """A rollout whose members are the agents of its edges; `parents`: of each its parent and its kind."""
    parents, results = parents or {}, results or {}
    agents = list(dict.fromkeys(one.agent for one in edges))
    inner = {one.parent for one in edges}
    if leaves is None:
        leaves = [Leaf(edge=one.id, agent=one.agent) for one in edges if one.id not in inner]
    members = tuple(
        Member(
            id=name,
            parent=parents[name][0] if name in parents else None,
            kind=parents[name][1] if name in parents else "root",
            task=f"task of {name}",
            outcome=Outcome.FINISHED,
            result=results.get(name, ""),
        )
        for name in agents
    )
    head = Head(
        v=VERSION,
        id=id,
        task=task,
        group="g",
        run="",
        prompt=prompt,
        outcome=Outcome.FINISHED,
        result="",
        members=members,
        leaves=tuple(leaves),
        terms=terms,
        model=tiny_model(),
        info=info or {},
    )
    return Rollout(head=head, edges=tuple(edges))


def of_case(case: Case) -> Rollout:
    """One agent, which made the case's call after what it had seen."""
    parts: list[Part] = [begun(case.prompt)]
    for command, result in case.seen:
        parts += [said(call("shell", command=command)), told(result)]
    parts += [said(call(case.tool, **case.said)), told(case.result)]
    return rollout([edge(0, None, "a1", "root", *parts)], prompt=case.prompt)
