"""The clock of the client, as a port: an event loop is one, tests bring another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Timer(Protocol):
    """A planned call."""

    def cancel(self) -> None:
        """Call it off."""


class Timers(Protocol):
    """Plans calls; what the client needs of an event loop's clock."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call back after that many seconds."""


class _EventLoopTimers:
    """The clock of whatever loop runs when a call is planned."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


event_loop_timers: Timers = _EventLoopTimers()


async def pause(timers: Timers, delay: float) -> None:
    """Sleep by the given clock."""
    elapsed = asyncio.Event()
    timer = timers.call_later(delay, elapsed.set)
    try:
        await elapsed.wait()
    finally:
        timer.cancel()


@asynccontextmanager
async def time_limit(timers: Timers, delay: float) -> AsyncIterator[None]:
    """Raise TimeoutError in the body once the delay is over by the given clock."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = timers.call_later(delay, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()
