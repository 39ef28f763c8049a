"""The page *Schedule tasks*, and what *Agents API* tells of schedules.

They are flight_watch, reminders, daily_report, mail_queue, research, transfer; on the
kit's clock: hours pass in no time, and nothing sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.client import AgentCallError
from durable import now
from durable.testing import Fleet, VirtualClock
from durable.testing.node import LocalNode


@pytest.fixture
def durable_app(request: pytest.FixtureRequest) -> str:
    """The example that the test is named after: ``test_NAME__…``."""
    example = request.function.__name__.removeprefix("test_").partition("__")[0]
    return f"examples/schedules/{example}.py"


async def test_flight_watch__checks_when_the_time_has_come(fleet: Fleet) -> None:
    http = await fleet.http()
    async with http.get("/agents/flight-watch/me?flight=DL264") as response:
        task = await response.json()
    assert len(task["id"]) == 9
    assert task["time"] == now().timestamp() + 600
    await fleet.clock.advance(seconds=599)
    async with http.get("/agents/flight-watch/me") as response:
        assert await response.json() == {"checked": []}
    await fleet.clock.advance(seconds=1)
    async with http.get("/agents/flight-watch/me") as response:
        assert await response.json() == {"checked": ["DL264"]}


async def test_reminders__are_planned_listed_cancelled_and_sent(fleet: Fleet) -> None:
    said: asyncio.Queue[Any] = asyncio.Queue()
    client = await fleet.client("reminders", "ann", on_message=said.put_nowait)
    late = await client.stub.remind_in_two_hours("call Bob")
    monday = await client.stub.remind_every_monday("stand-up")
    assert await client.stub.remind_every_monday("stand-up") == monday
    assert [task["id"] for task in await client.stub.upcoming(3)] == [late]
    assert {task["text"] for task in await client.stub.upcoming(24 * 8)} == {
        "call Bob",
        "stand-up",
    }
    await client.stub.remind_me("tea", 300)
    await fleet.clock.advance(hours=2)
    assert [await said.get(), await said.get()] == [
        "tea (delayed)",
        "call Bob (scheduled)",
    ]
    # Thursday's clock is moved on to the next Monday.
    await fleet.clock.advance(timedelta(days=5))
    assert await said.get() == "stand-up (cron)"
    again = await client.stub.remind_every(60, "breathe")
    await fleet.clock.advance(minutes=2, seconds=30)
    assert [await said.get(), await said.get()] == ["breathe (interval)"] * 2
    assert await client.stub.cancel(again) is True
    assert await client.stub.cancel(again) is False
    await fleet.clock.advance(hours=1)
    assert said.empty()


async def test_daily_report__plans_looks_and_clears_up(fleet: Fleet) -> None:
    client = await fleet.client("daily-report")
    daily = await client.stub.report_daily()
    reminder = await client.stub.remind("ann", "stand up")
    assert await client.stub.overview() == {
        "total": 2,
        "tomorrow": ["send_reminder", "make_report"],
        "types": ["cron", "scheduled"],
    }
    await fleet.clock.advance(days=2)
    assert client.state["log"] == [
        "ann: stand up",
        "report of 01 January, 08:00",
        "report of 02 January, 08:00",
    ]
    assert await client.stub.cancel_if_planned(reminder) is False
    assert await client.stub.cancel_if_planned(daily) is True
    await client.stub.remind("bob", "never")
    assert await client.stub.cancel_all("scheduled") == 1
    with pytest.raises(AgentCallError, match="make_repotr"):
        await client.stub.misspell()
    await fleet.clock.advance(days=2)
    assert len(client.state["log"]) == 3


async def test_daily_report__ends_with_the_year(
    make_fleet: Callable[..., Awaitable[Fleet]],
) -> None:
    clock = VirtualClock(datetime(2026, 12, 29, 12, tzinfo=UTC))
    fleet = await make_fleet(clock=clock)
    client = await fleet.client("daily-report")
    await client.stub.report_daily()
    await clock.advance(days=30)
    assert client.state["log"] == [
        "report of 30 December, 08:00",
        "report of 31 December, 08:00",
    ]
    assert (await client.stub.overview())["total"] == 0


async def test_mail_queue__keeps_what_fails_until_it_is_replayed(fleet: Fleet) -> None:
    client = await fleet.client("mail-queue")
    await client.stub.send_letters("one", "two")
    await fleet.clock.advance(seconds=1)
    await client.stub.set_open(False)
    await client.stub.send_letters("three")
    await fleet.clock.advance(minutes=1)
    assert await client.stub.undelivered() == ["three"]
    await client.stub.set_open(True)
    assert await client.stub.try_again() == 1
    await fleet.clock.advance(seconds=1)
    assert await client.stub.undelivered() == []
    assert client.state["sent"] == ["one", "two", "three"]


async def test_research__goes_on_after_a_crash_where_it_was(
    make_fleet: Callable[..., Awaitable[Fleet]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = await make_fleet(nodes=2)
    research = fleet.env.Research
    stub = research.get_by_name("me")
    asked: list[int] = []
    hangs = asyncio.Event()

    async def read(self: Any, number: int) -> str:
        asked.append(number)
        if number == 1 and not hangs.is_set():
            hangs.set()
            await asyncio.Event().wait()
        return f"page {number}"

    monkeypatch.setattr(research.cls, "read", read)
    await stub.begin()
    await hangs.wait()
    (owner,) = [
        node
        for node in fleet.nodes
        if isinstance(node, LocalNode)
        and any(worker.dispatcher.activations() for worker in node.workers)
    ]
    await owner.crash()
    await fleet.clock.advance(minutes=1)
    client = await fleet.client("research", "me")
    await client.ready
    assert client.state == {"pages": ["page 0", "page 1", "page 2"]}
    # The first page was stashed with the state: nobody asks for it again.
    assert asked == [0, 1, 1, 2]


async def test_transfer__moves_money_once(fleet: Fleet) -> None:
    payer, payee = (fleet.env.Account.get_by_name(n) for n in "12")
    client = await fleet.client("account", "2")
    assert await payer.pay("2", 30) == 70
    await fleet.clock.advance(seconds=1)
    assert await payer.pay("2", 20) == 50
    await fleet.clock.advance(seconds=1)
    await fleet.evict(payee)
    http = await fleet.http()
    assert http is not None
    assert client.state == {"money": 150}
