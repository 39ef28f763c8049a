"""Agents with work, on scripted floors and on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from agents import Agent, jobs
from durable import ResetError
from tests.objects.scripted import Place, turns

# Thursday, 1 January 2026, 00:00 UTC.
START = 1767225600.0


class TestClock:
    """Stands still until it is moved; ``sleepers`` wait for a moment."""

    __test__ = False

    def __init__(self) -> None:
        self.time = START
        self.luck = 1.0
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def chance(self) -> float:
        return self.luck

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.time + seconds, woken))
        await woken

    def next_sleeper(self) -> float | None:
        self.sleepers = [
            (due, woken) for due, woken in self.sleepers if not woken.done()
        ]
        return min((due for due, _ in self.sleepers), default=None)

    def wake_due(self) -> None:
        for due, woken in self.sleepers:
            if due <= self.time and not woken.done():
                woken.set_result(None)


class WorkPlace(Place):
    """A place whose alarms fire when the clock is moved past them."""

    def __init__(self, cls: type[Agent[Any, Any]], clock: TestClock) -> None:
        super().__init__(cls)
        self.clock = clock
        self.runs: dict[UUID, asyncio.Task[None]] = {}

    async def act(self, work: Callable[[Any], Awaitable[Any]], name: str = "a") -> Any:
        """Let the agent do something, as an event."""
        Worker.works["act"] = work
        return await self.stub(name).do("act")

    def due(self, name: str = "a") -> float | None:
        """When the agent's alarm is due, in seconds from the start."""
        alarm = self.rows.alarms.get(self.things.id_from_name(name).value)
        return None if alarm is None else round(alarm.due - START, 3)

    async def advance(self, seconds: float) -> None:
        """Move the clock; alarms fire and sleepers wake, each at its time."""
        end = self.clock.time + seconds
        while True:
            await self._settle()
            moments = [alarm.due for _, alarm in self._waiting_alarms()]
            sleeper = self.clock.next_sleeper()
            if sleeper is not None:
                moments.append(sleeper)
            if not moments or min(moments) > end:
                break
            self.clock.time = max(self.clock.time, min(moments))
            self.begin_due()
        self.clock.time = end

    async def _settle(self) -> None:
        """Go on until all that is left waits for the clock."""
        before: tuple[int, int] | None = None
        while before != (seen := (len(self.lane.commits), len(self.rows.reads))):
            before = seen
            await turns(60)

    def begin_due(self) -> None:
        """Begin what is due, without waiting for any of it."""
        self.clock.wake_due()
        for object_id, alarm in self._waiting_alarms():
            if alarm.due <= self.clock.time:
                run = self.dispatcher.alarm(object_id, alarm)
                self.runs[object_id] = asyncio.create_task(run)

    def _waiting_alarms(self) -> list[tuple[UUID, Any]]:
        for object_id, run in [*self.runs.items()]:
            if run.done():
                del self.runs[object_id]
                run.exception()
        return [
            (object_id, alarm)
            for object_id, alarm in self.rows.alarms.items()
            if object_id not in self.runs
        ]

    async def crash(self, name: str = "a") -> None:
        """End the activation as a crash would: what isn't committed is gone."""
        # The next owner is another process.
        jobs._PROCESS = f"{jobs._PROCESS}+"
        await self.reset(name)

    async def reset(self, name: str = "a") -> None:
        """End the activation; the process lives on."""
        object_id = self.things.id_from_name(name).value
        live = self.dispatcher._live[object_id]
        run = self.runs.pop(object_id, None)
        live.reset(ResetError("crash"))
        if run is not None:
            with suppress(ResetError):
                await run
        await turns()


class Worker(Agent):
    """Writes down what it is called for; ``plans`` says what a callback does."""

    works: dict[str, Callable[[Any], Any]] = {}
    calls: list[tuple[str, Any, float]] = []
    plans: dict[str, Callable[[Any], Any]] = {}
    errors: list[str] = []
    clock: TestClock

    async def do(self, what: str) -> Any:
        result = self.works[what](self)
        if asyncio.iscoroutine(result):
            result = await result
        return result if isinstance(result, str | int | bool | list) else None

    async def note(self, payload: Any, told: Any) -> None:
        moment = round(self.clock.time - START, 3)
        self.calls.append((self.name, payload, moment))
        plan = self.plans.get("note")
        if plan is not None:
            result = plan(self)
            if asyncio.iscoroutine(result):
                await result

    def on_start(self) -> None:
        plan = self.plans.get(f"start {self.name}")
        if plan is not None:
            plan(self)

    async def tally(self, number: int) -> None:
        """A message: it is in the storage, or it was rolled back."""
        seen = await self.ctx.storage.get("tally") or []
        self.ctx.storage.put("tally", [*seen, number])
        plan = self.plans.get("tally")
        if plan is not None:
            result = plan(self)
            if asyncio.iscoroutine(result):
                await result

    def plain(self, payload: Any) -> None:
        self.calls.append((self.name, payload, round(self.clock.time - START, 3)))

    def on_error(self, error: Exception, connection: Any = None) -> None:
        self.errors.append(f"{type(error).__name__}: {error}")

    def on_fiber_recovered(self, fiber: Any) -> Any:
        plan = self.plans.get("recovered")
        return None if plan is None else plan((self, fiber))


def payloads() -> list[Any]:
    """What was called, in order."""
    return [payload for _, payload, _ in Worker.calls]
