"""A clock that stands still until a test moves it: Python's and the database's."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agents import work_clock
from durable.domain.clock import wall
from durable.objects.activation import current_activation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import asyncpg

    from durable.objects.activation import Activation

START = datetime(2026, 1, 1, tzinfo=UTC)

_STOP = "UPDATE durable.cluster SET test_time = to_timestamp($1)"
_GO_ON = "UPDATE durable.cluster SET test_time = NULL"
_NEXT = """
SELECT extract(epoch FROM min(due))::float8 FROM durable.alarm
WHERE due > (SELECT test_time FROM durable.cluster)
"""


class VirtualClock:
    """Moved with ``advance``; what falls due on the way is done, in its order.

    It is the clock of alarms, schedules, queues, retries and of ``durable.now()``.
    Leases, drains and the time limits of handlers keep to real time.
    """

    def __init__(self, start: datetime = START, *, seed: int = 0) -> None:
        if start.tzinfo is None:
            # It would be another moment on another machine.
            raise ValueError("the start needs a time zone: datetime(…, tzinfo=UTC)")
        self._time = start.timestamp()
        self._random = random.Random(seed)
        self._sleepers: list[tuple[float, asyncio.Future[None], Activation | None]] = []
        self._connection: asyncpg.Connection[Any]
        self._before = (work_clock.clock, wall.now, wall.elapsed, wall.chance)
        # Begin what is due now, and return when nothing goes on any more.
        self.poll: Callable[[], Awaitable[None]]
        # When nodes begin what they have in mind, as an alarm whose commit failed.
        self.planned: Callable[[], Iterable[float]]

    # --- what agents ask (WorkClock)

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._time

    def chance(self) -> float:
        """From 0 to 1; the same series in each run with the same seed."""
        return self._random.random()

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was moved so far."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._time + seconds, woken, current_activation.get()))
        await woken

    # --- what tests ask

    async def advance(
        self,
        duration: timedelta | None = None,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Move on; alarms and schedules fire at their times, one after another.

        Returns when all that they began has ended, but for what sleeps on this clock.
        A handler that isn't done after a second of real time (a stream, a long poll) is
        taken to wait for the clock, and goes on by itself.

        Raises:
            ValueError: time doesn't go back.
            TimeoutError: something else went on for 30 s of real time.
        """
        more = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        distance = (duration or timedelta()) + more
        if distance < timedelta():
            raise ValueError(f"time doesn't go back: {distance}")
        end = self._time + distance.total_seconds()
        await self.poll()
        while (moment := await self._next()) is not None and moment <= end:
            await self._move(moment)
        await self._move(end)

    @property
    def sleeping(self) -> set[Activation]:
        """The activations in which something waits for this clock."""
        self._sleepers = [entry for entry in self._sleepers if not entry[1].done()]
        return {activation for _, _, activation in self._sleepers if activation}

    # --- the fleet's

    async def start(self, connection: asyncpg.Connection[Any]) -> None:
        """Stop time, here and in the database."""
        self._connection = connection
        await connection.execute(_STOP, self._time)
        work_clock.clock, wall.now, wall.elapsed = self, self.now, self.now
        wall.chance = self.chance

    async def stop(self) -> None:
        """Let time go on."""
        work_clock.clock, wall.now, wall.elapsed, wall.chance = self._before
        await self._connection.execute(_GO_ON)

    async def _next(self) -> float | None:
        moments = [due for due, woken, _ in self._sleepers if not woken.done()]
        moments += [moment for moment in self.planned() if moment > self._time]
        due = await self._connection.fetchval(_NEXT)
        if due is not None:
            moments.append(due)
        return min(moments, default=None)

    async def _move(self, moment: float) -> None:
        self._time = max(self._time, moment)
        await self._connection.execute(_STOP, self._time)
        for due, woken, _ in self._sleepers:
            if due <= self._time and not woken.done():
                woken.set_result(None)
        await self.poll()
