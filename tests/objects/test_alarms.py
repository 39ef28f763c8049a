"""Alarms on a real Postgres: at their time, after a restart, with retries."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import asyncpg
import pytest

from agents import Agent, get_agent_by_name, get_current_agent
from durable import AlarmInfo, DurableObject
from durable.objects import alarm_run
from server.embed import DurableRuntime
from server.settings import Settings


class Clock(DurableObject):
    """Writes down its alarms; what happens is told by what was put under "plan"."""

    ran: ClassVar[list[tuple[str | None, float, AlarmInfo, Any]]] = []
    fired: ClassVar[asyncio.Event]

    async def alarm(self, info: AlarmInfo) -> None:
        plan = await self.ctx.storage.get("plan") or "end"
        seen = await self.ctx.storage.get_alarm()
        Clock.ran.append((self.ctx.id.name, time.time(), info, seen))
        Clock.fired.set()
        if plan == "raise once" and not info.is_retry:
            raise ValueError("the first run fails")
        if plan == "again":
            await self.ctx.storage.put("plan", "end")
            await self.ctx.storage.set_alarm(timedelta(seconds=0.05))
        await self.ctx.storage.put("runs", info.retry_count + 1)

    async def wake_at(self, seconds: float, plan: str = "end") -> None:
        self.ctx.storage.put("plan", plan)
        await self.ctx.storage.set_alarm(time.time() + seconds)

    async def due(self) -> datetime | None:
        return await self.ctx.storage.get_alarm()

    async def cancel(self) -> None:
        await self.ctx.storage.delete_alarm()

    async def runs(self) -> int | None:
        runs: int | None = await self.ctx.storage.get("runs")
        return runs


class Endless(DurableObject):
    """Its first run never ends by itself."""

    infos: ClassVar[list[AlarmInfo]] = []
    retried: ClassVar[asyncio.Event]

    async def alarm(self, info: AlarmInfo) -> None:
        self.infos.append(info)
        if info.is_retry:
            self.retried.set()
        else:
            await asyncio.Event().wait()

    async def wake(self) -> None:
        await self.ctx.storage.set_alarm(time.time())


class Ringer(Agent):
    rang: ClassVar[list[Any]] = []

    async def wake_soon(self) -> None:
        await self.schedule(timedelta(seconds=0.05), self.ring)

    async def ring(self) -> None:
        here = get_current_agent().agent
        other = await get_agent_by_name(Ringer, "other")
        Ringer.rang.append((here is self, await other.greet()))
        Clock.fired.set()

    async def greet(self) -> str:
        return f"I am {self.name}"


class Deaf(DurableObject):
    async def wake(self) -> None:
        await self.ctx.storage.set_alarm(timedelta(seconds=1))


@pytest.fixture
def settings(database_url: str) -> Settings:
    Clock.ran.clear()
    Clock.fired = asyncio.Event()
    return Settings(database_url=database_url, shards=1024)


async def until_runs(count: int) -> None:
    async with asyncio.timeout(10):
        while len(Clock.ran) < count:
            Clock.fired.clear()
            await Clock.fired.wait()


async def rows_left(database_url: str, timeout: float = 5) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(timeout):
            return int(await connection.fetchval("SELECT count(*) FROM durable.alarm"))
    finally:
        await connection.close()


async def test_an_alarm_fires_at_its_time_never_early_and_its_row_goes(
    settings: Settings, database_url: str
) -> None:
    async with DurableRuntime([Clock], settings) as runtime:
        stub = runtime.env.Clock.get_by_name("a")
        set_at = time.time()
        await stub.wake_at(0.2)
        assert await rows_left(database_url) == 1
        await until_runs(1)
        name, ran_at, info, seen = Clock.ran[0]
        assert (name, seen) == ("a", None)
        assert ran_at >= set_at + 0.2
        assert (info.is_retry, info.retry_count) == (False, 0)
        assert await stub.runs() == 1
        assert await stub.due() is None
    assert await rows_left(database_url) == 0


async def test_an_overdue_alarm_fires_on_the_next_node_with_the_name_known(
    settings: Settings, database_url: str
) -> None:
    async with DurableRuntime([Clock], settings) as runtime:
        await runtime.env.Clock.get_by_name("sleeper").wake_at(3600)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE durable.alarm SET due = now() - interval '1 day'")
    await connection.close()
    async with DurableRuntime([Clock], settings):
        await until_runs(1)
    assert Clock.ran[0][0] == "sleeper"


async def test_a_run_that_raises_is_tried_again_and_knows_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.domain.alarms.BASE_SECONDS", 0.05)
    async with DurableRuntime([Clock], settings) as runtime:
        stub = runtime.env.Clock.get_by_name("unlucky")
        await stub.wake_at(0, "raise once")
        await until_runs(2)
        assert await stub.runs() == 2
    infos = [info for _, _, info, _ in Clock.ran]
    assert [(i.is_retry, i.retry_count) for i in infos] == [(False, 0), (True, 1)]


async def test_an_alarm_set_in_the_run_replaces_the_one_that_runs(
    settings: Settings,
) -> None:
    async with DurableRuntime([Clock], settings) as runtime:
        stub = runtime.env.Clock.get_by_name("chain")
        await stub.wake_at(0, "again")
        await until_runs(2)
        assert await stub.due() is None


async def test_a_deleted_alarm_does_not_fire_and_a_later_one_replaces_it(
    settings: Settings,
) -> None:
    async with DurableRuntime([Clock], settings) as runtime:
        stub = runtime.env.Clock.get_by_name("moved")
        await stub.wake_at(0.2)
        await stub.wake_at(3600)
        due = await stub.due()
        assert due is not None
        assert due > datetime.now(UTC) + timedelta(minutes=59)
        gone = runtime.env.Clock.get_by_name("gone")
        await gone.wake_at(0.2)
        await gone.cancel()
        other = runtime.env.Clock.get_by_name("other")
        await other.wake_at(0.4)
        await until_runs(1)
    assert [name for name, *_ in Clock.ran] == ["other"]


async def test_an_agents_alarm_knows_the_agent_and_calls_others(
    settings: Settings,
) -> None:
    async with DurableRuntime([Clock, Ringer], settings) as runtime:
        await runtime.env.Ringer.get_by_name("bell").wake_soon()
        async with asyncio.timeout(10):
            await Clock.fired.wait()
    assert Ringer.rang == [(True, "I am other")]


async def test_alarms_of_classes_that_live_elsewhere_are_left_alone(
    settings: Settings, database_url: str
) -> None:
    async with DurableRuntime([Clock], settings) as runtime:
        await runtime.env.Clock.get_by_name("a").wake_at(3600)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE durable.alarm SET due = now(), object = gen_random_uuid()"
    )
    await connection.close()
    async with DurableRuntime([Clock], settings) as runtime:
        await runtime.env.Clock.get_by_name("b").wake_at(0)
        await until_runs(1)
    assert [name for name, *_ in Clock.ran] == ["b"]
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT attempt FROM durable.alarm") == 0
    await connection.close()


async def test_a_class_without_alarm_is_told_so(settings: Settings) -> None:
    async with DurableRuntime([Deaf], settings) as runtime:
        with pytest.raises(Exception, match="no alarm"):
            await runtime.env.Deaf.get_by_name("x").wake()


async def test_a_run_that_takes_too_long_is_cancelled_and_has_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alarm_run.RUN_SECONDS == 15 * 60
    monkeypatch.setattr(alarm_run, "RUN_SECONDS", 0.05)
    monkeypatch.setattr("durable.domain.alarms.BASE_SECONDS", 0.05)
    Endless.infos.clear()
    Endless.retried = asyncio.Event()
    async with DurableRuntime([Endless], settings) as runtime:
        await runtime.env.Endless.get_by_name("e").wake()
        async with asyncio.timeout(10):
            await Endless.retried.wait()
    assert [info.retry_count for info in Endless.infos] == [0, 1]
