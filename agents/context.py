"""Whose code is running: set around every entry into an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from durable import aclose, is_stream

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.connection import Connection
    from durable import Request

T = TypeVar("T")


class CurrentAgent(NamedTuple):
    """The agent, and the connection or request that its code runs for, if any."""

    agent: Agent[Any, Any] | None = None
    connection: Connection | None = None
    request: Request | None = None


_NOBODY = CurrentAgent()
current: ContextVar[CurrentAgent] = ContextVar("current_agent", default=_NOBODY)


async def awaited_as(who: CurrentAgent, work: Awaitable[Any]) -> Any:
    """Await something with ``who`` as the one whose code runs."""
    token = current.set(who)
    try:
        result = await work
    finally:
        current.reset(token)
    return iterated_as(who, result) if is_stream(result) else result


async def iterated_as(who: CurrentAgent, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """Iterate with ``who`` as the one whose code runs."""
    try:
        while True:
            token = current.set(who)
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            finally:
                current.reset(token)
            yield item
    finally:
        await aclose(items)


def get_current_agent() -> CurrentAgent:
    """The agent whose code calls this, also from functions deep below it.

    All three members are None outside of agents.
    """
    return current.get()
