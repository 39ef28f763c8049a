"""The page *Schedule tasks*: flight_watch, reminders, mail_queue, research, transfer"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from agents.client import AgentClient


async def test_flight_watch_checks_when_the_time_has_come(
    host: str, http: aiohttp.ClientSession
) -> None:
    states: asyncio.Queue[Any] = asyncio.Queue()
    async with AgentClient(
        agent="flight-watch",
        name="me",
        host=host,
        on_state_update=lambda state, source: states.put_nowait(state),
    ):
        assert await states.get() == {"checked": []}
        async with http.get(
            "/agents/flight-watch/me?flight=DL264&seconds=0.1"
        ) as response:
            assert len((await response.json())["id"]) == 9
        assert await states.get() == {"checked": ["DL264"]}


async def test_reminders_are_planned_listed_cancelled_and_sent(host: str) -> None:
    said: asyncio.Queue[Any] = asyncio.Queue()
    async with AgentClient(
        agent="reminders", name="ann", host=host, on_message=said.put_nowait
    ) as client:
        late = await client.stub.remind_in_two_hours("call Bob")
        monday = await client.stub.remind_every_monday("stand-up")
        assert await client.stub.remind_every_monday("stand-up") == monday
        assert [task["id"] for task in await client.stub.upcoming(3)] == [late]
        assert {task["text"] for task in await client.stub.upcoming(24 * 8)} == {
            "call Bob",
            "stand-up",
        }
        assert await client.stub.cancel(late) is True
        assert await client.stub.cancel(late) is False
        await client.stub.remind_me("tea", 0.05)
        assert await said.get() == "tea (delayed)"
        again = await client.stub.remind_every(0.05, "breathe")
        assert await said.get() == "breathe (interval)"
        assert await said.get() == "breathe (interval)"
        assert await client.stub.cancel(again) is True


async def test_mail_queue_keeps_what_fails_until_it_is_replayed(host: str) -> None:
    states: asyncio.Queue[Any] = asyncio.Queue()
    async with AgentClient(
        agent="mail-queue",
        host=host,
        on_state_update=lambda state, source: states.put_nowait(state),
    ) as client:
        await client.stub.send_letters("one", "two")
        while (await states.get())["sent"] != ["one", "two"]:
            pass
        await client.stub.set_open(False)
        await client.stub.send_letters("three")
        async with asyncio.timeout(20):
            while not await client.stub.undelivered():
                pass
        assert await client.stub.undelivered() == ["three"]
        await client.stub.set_open(True)
        assert await client.stub.try_again() == 1
        while (await states.get())["sent"] != ["one", "two", "three"]:
            pass
        assert await client.stub.undelivered() == []


async def test_research_reads_all_pages_in_a_fiber(host: str) -> None:
    states: asyncio.Queue[Any] = asyncio.Queue()
    async with AgentClient(
        agent="research",
        host=host,
        on_state_update=lambda state, source: states.put_nowait(state),
    ) as client:
        await client.stub.begin()
        while (await states.get())["pages"] != ["first", "second", "third"]:
            pass


async def test_transfer_moves_money_once(host: str) -> None:
    states: asyncio.Queue[Any] = asyncio.Queue()
    async with (
        AgentClient(
            agent="account",
            name="2",
            host=host,
            on_state_update=lambda state, source: states.put_nowait(state),
        ),
        AgentClient(agent="account", name="1", host=host) as payer,
    ):
        assert await states.get() == {"money": 100}
        assert await payer.stub.pay("2", 30) == 70
        assert await states.get() == {"money": 130}
        assert await payer.stub.pay("2", 20) == 50
        assert await states.get() == {"money": 150}
