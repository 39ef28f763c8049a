"""The kit that users test their agents with, on itself: time, crashes, failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import asyncpg
import pytest

from agents import Agent, Schedule, callable
from durable import (
    AlarmInfo,
    DurableError,
    DurableObject,
    Request,
    ResetError,
    Response,
    now,
)
from durable.testing import Fleet, VirtualClock
from durable.testing.clock import START

MakeFleet = Callable[..., Awaitable[Fleet]]


class Diary(Agent[Any, Any]):
    """Writes down what happened when."""

    initial_state = {"entries": []}
    memory: ClassVar[list[str]] = []

    @callable()
    async def plan(self, when: Any, text: str) -> str:
        return (await self.schedule(when, "enter", text)).id

    @callable()
    async def cancel(self, id: str) -> bool:
        return await self.cancel_schedule(id)

    def enter(self, text: str, task: Schedule) -> None:
        moment = (now() - START).total_seconds()
        entries = [*self.state["entries"], [moment, text]]
        self.set_state({"entries": entries})
        self.memory.append(f"{self.name}: {text}")

    def fail(self, text: str) -> None:
        raise ValueError(text)

    async def plan_failure(self) -> None:
        await self.schedule(10, "fail", "broken")

    async def errors(self) -> list[str]:
        return [letter.error for letter in await self.list_dead_letters()]

    @callable()
    def entries(self) -> list[Any]:
        return list(self.state["entries"])

    async def slow(self) -> str:
        await asyncio.sleep(0.05)
        return "done"

    async def on_request(self, request: Request) -> Response:
        return Response.json(self.state)


class Bell(DurableObject):
    """A plain object with an alarm."""

    async def ring_in(self, seconds: float) -> None:
        await self.ctx.storage.set_alarm(timedelta(seconds=seconds))

    async def alarm(self, info: AlarmInfo) -> None:
        rung = await self.ctx.storage.get("rung") or []
        self.ctx.storage.put("rung", [*rung, now().timestamp()])

    async def rung(self) -> Any:
        return await self.ctx.storage.get("rung") or []

    async def write(self, value: Any) -> None:
        self.ctx.storage.put("value", value)

    async def read(self) -> Any:
        return await self.ctx.storage.get("value")


@pytest.fixture
def durable_app() -> list[type[DurableObject]]:
    Diary.memory.clear()
    return [Diary, Bell]


async def test_three_hours_pass_in_no_time_and_all_that_was_due_is_done_in_order(
    fleet: Fleet,
) -> None:
    began = time.monotonic()
    one, two = fleet.env.Diary.get_by_name("one"), fleet.env.Diary.get_by_name("two")
    await one.plan(7200, "third")
    await two.plan(3600, "second")
    await one.plan(1, "first")
    await one.plan("0 * * * *", "hourly")
    await fleet.clock.advance(hours=2, minutes=30)
    assert time.monotonic() - began < 10
    assert Diary.memory[0] == "one: first"
    assert set(Diary.memory[1:3]) == {"two: second", "one: hourly"}
    assert set(Diary.memory[3:]) == {"one: third", "one: hourly"}
    assert sorted(await one.entries()) == [
        [1, "first"],
        [3600, "hourly"],
        [7200, "hourly"],
        [7200, "third"],
    ]
    assert await two.entries() == [[3600, "second"]]


async def test_time_stands_still_and_is_the_databases_too(fleet: Fleet) -> None:
    stub = fleet.env.Diary.get_by_name("a")
    await stub.plan(0.05, "soon")
    await asyncio.sleep(0.2)
    assert await stub.entries() == []
    assert now() == datetime(2026, 1, 1, tzinfo=UTC)
    await fleet.clock.advance(timedelta(days=1))
    assert now() == datetime(2026, 1, 2, tzinfo=UTC)
    assert [text for _, text in await stub.entries()] == ["soon"]


async def test_what_sleeps_is_woken_for_its_schedules(fleet: Fleet) -> None:
    stub = fleet.env.Diary.get_by_name("a")
    await stub.plan(60, "a minute")
    assert await fleet.evict(stub)
    assert not await fleet.evict(stub)
    await fleet.clock.advance(seconds=59)
    assert Diary.memory == []
    await fleet.clock.advance(seconds=1)
    assert Diary.memory == ["a: a minute"]


async def test_alarms_of_plain_objects_and_retries_keep_to_the_clock(
    fleet: Fleet,
) -> None:
    bell = fleet.env.Bell.get_by_name("b")
    await bell.ring_in(90)
    await fleet.clock.advance(minutes=5)
    assert await bell.rung() == [START.timestamp() + 90]
    diary = fleet.env.Diary.get_by_name("d")
    await diary.plan_failure()
    await fleet.clock.advance(minutes=1)
    assert await diary.errors() == ["ValueError: broken"]


async def test_a_cancelled_schedule_never_fires(fleet: Fleet) -> None:
    stub = fleet.env.Diary.get_by_name("a")
    task = await stub.plan(10, "never")
    assert await stub.cancel(task)
    await fleet.clock.advance(days=1)
    assert Diary.memory == []


async def test_over_http_and_over_a_socket(fleet: Fleet) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    client = await fleet.client(
        "diary", "a", on_state_update=lambda state, source: seen.put_nowait(state)
    )
    assert await seen.get() == {"entries": []}
    await client.stub.plan(60, "later")
    await fleet.clock.advance(minutes=1)
    assert await seen.get() == {"entries": [[60, "later"]]}
    http = await fleet.http()
    async with http.get("/agents/diary/a") as response:
        assert await response.json() == {"entries": [[60, "later"]]}


async def test_a_crash_loses_what_was_not_durable_and_another_node_goes_on(
    make_fleet: MakeFleet, durable_database_url: str
) -> None:
    fleet = await make_fleet(nodes=2)
    bells = [fleet.env.Bell.get_by_name(f"b{n}") for n in range(20)]
    await asyncio.gather(*(bell.write(n) for n, bell in enumerate(bells)))
    await asyncio.gather(*(bell.ring_in(60) for bell in bells))
    await fleet.nodes[1].crash()
    # Nobody was told, and nothing tidied up: its row is as it was.
    connection = await asyncpg.connect(durable_database_url)
    rows = await connection.fetch("SELECT draining FROM durable.worker")
    await connection.close()
    assert [row["draining"] for row in rows] == [False, False]
    assert await asyncio.gather(*(bell.read() for bell in bells)) == list(range(20))
    await fleet.clock.advance(minutes=2)
    rung = await asyncio.gather(*(bell.rung() for bell in bells))
    assert rung == [[START.timestamp() + 60]] * 20


async def test_a_scripted_failure_is_the_nth_commits_and_no_neighbours(
    fleet: Fleet,
) -> None:
    doomed, neighbour = (fleet.env.Bell.get_by_name(name) for name in "dn")
    fleet.fail_commit(doomed, nth=2)
    await doomed.write("first")
    results = await asyncio.gather(
        doomed.write("second"), neighbour.write("fine"), return_exceptions=True
    )
    assert isinstance(results[0], ResetError)
    assert results[1] is None
    assert await doomed.read() == "first"
    await doomed.write("third")
    assert await doomed.read() == "third"


async def test_nodes_in_processes_are_killed_for_real(make_fleet: MakeFleet) -> None:
    fleet = await make_fleet(
        "examples/state/counter.py", processes=True, settings={"lease_seconds": 5}
    )
    client = await fleet.client("dial", "a")
    assert await client.stub.increment_counter() == 1
    await fleet.nodes[0].crash()
    await fleet.start_node()
    again = await fleet.client("dial", "a", node=1)
    assert await again.stub.increment_counter() == 2
    with pytest.raises(RuntimeError, match="machine's clock"):
        _ = fleet.clock
    with pytest.raises(RuntimeError, match="looked into"):
        await fleet.settle()


async def test_what_does_not_end_is_named(fleet: Fleet) -> None:
    calling = asyncio.create_task(fleet.env.Diary.get_by_name("snail").slow())
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError, match="snail"):
        await fleet.settle(0.01)
    await fleet.settle()
    assert await calling == "done"


async def test_the_clock_refuses_what_would_make_no_sense(fleet: Fleet) -> None:
    with pytest.raises(ValueError, match="go back"):
        await fleet.clock.advance(hours=-1)
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001
    assert now() == START


async def test_the_clock_starts_where_the_test_says(make_fleet: MakeFleet) -> None:
    start = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    fleet = await make_fleet(clock=VirtualClock(start))
    stub = fleet.env.Diary.get_by_name("a")
    assert now() == start
    with pytest.raises(DurableError):
        await stub.plan("0 0 31 2 *", "never")
    await fleet.clock.advance(hours=1)
    assert now() == start + timedelta(hours=1)
