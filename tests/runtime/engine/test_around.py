"""What is passed on by an engine around an engine."""

from __future__ import annotations

import inspect

import pytest

from agents.context import Origin, Segment
from runtime.engine.around import EngineAround
from runtime.engine.base import Engine, Sampling
from runtime.engine.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio


def _engine() -> ScriptedEngine:
    return ScriptedEngine(lambda context: [7, 8, 9], pool_tokens=4_096)


async def _asked(engine: Engine) -> list[object]:
    """What an engine answers to everything that the contract has."""
    context = Segment(1, None, Origin.GIVEN, list(range(40)))
    answers: list[object] = [await engine.warm(context, session="a")]
    reply = await engine.generate(context, Sampling(max_new_tokens=3, stop_token_ids=(9,)), session="a")
    answers += [reply.tokens, reply.logprobs, reply.finish, reply.prompt_tokens, reply.cached_tokens]
    answers += [await engine.interrupt("a"), await engine.release("a"), await engine.release("nobody")]
    return [*answers, engine.worker(context), await engine.capacity(), await engine.healthy(), engine.trouble()]


async def test_an_engine_around_another_answers_as_that_one_does() -> None:
    """Nested twice, it returns what the innermost returns, whatever it is asked."""
    assert await _asked(EngineAround(EngineAround(_engine()))) == await _asked(_engine())


def test_all_of_the_contract_is_passed_on() -> None:
    """A method that the contract gains has to be passed on too, with the same parameters."""
    promised = {name: one for name, one in vars(Engine).items() if inspect.isfunction(one) and name[0] != "_"}
    passed_on = {name: one for name, one in vars(EngineAround).items() if inspect.isfunction(one) and name[0] != "_"}
    assert {name: inspect.signature(one) for name, one in passed_on.items()} == {
        name: inspect.signature(one) for name, one in promised.items()
    }
