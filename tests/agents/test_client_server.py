"""AgentClient and agent_fetch against the real server, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from agents.client import AgentCallError, AgentClient, agent_fetch
from durable.testing import databases as postgres
from tests.agents.scripted_agent import Closes, ControlledTimers
from tests.wire.process import running_server


@pytest.fixture(scope="module")
def host(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the agents of the wire suite are served."""
    log = tmp_path_factory.mktemp("client") / "server.log"
    with (
        postgres.fresh_database(postgres_server) as database_url,
        running_server(database_url, log) as url,
    ):
        yield url.removeprefix("http://")


@pytest.fixture
def name() -> str:
    """An instance for this test alone."""
    return uuid.uuid4().hex


class States:
    """Records states and lets a test wait for them."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, str]] = []
        self._told: asyncio.Queue[tuple[Any, str]] = asyncio.Queue()

    def __call__(self, state: Any, source: str) -> None:
        self.all.append((state, source))
        self._told.put_nowait((state, source))

    async def next(self) -> tuple[Any, str]:
        return await self._told.get()


async def test_ready_brings_identity_and_state(host: str, name: str) -> None:
    async with AgentClient(agent="StateAgent", name=name, host=host) as client:
        await client.ready
        assert (client.agent, client.name) == ("state-agent", name)
        assert client.state == {"count": 0}


async def test_a_call_changes_the_state_of_all_before_it_returns(
    host: str, name: str
) -> None:
    states = States()
    options: dict[str, Any] = {"agent": "StateAgent", "name": name, "host": host}
    async with (
        AgentClient(**options) as caller,
        AgentClient(**options, on_state_update=states) as other,
    ):
        await caller.ready
        await other.ready
        assert await caller.stub.increment(2) == 2
        assert caller.state == {"count": 2}
        assert await states.next() == ({"count": 0}, "server")
        assert await states.next() == ({"count": 2}, "server")


async def test_set_state_reaches_the_others_and_is_not_echoed(
    host: str, name: str
) -> None:
    mine, theirs = States(), States()
    options: dict[str, Any] = {"agent": "StateAgent", "name": name, "host": host}
    async with (
        AgentClient(**options, on_state_update=mine) as author,
        AgentClient(**options, on_state_update=theirs) as other,
    ):
        await author.ready
        await other.ready
        author.set_state({"count": 5})
        assert await theirs.next() == ({"count": 0}, "server")
        assert await theirs.next() == ({"count": 5}, "server")
        assert await author.stub.count() == 5
        assert mine.all == [({"count": 0}, "server"), ({"count": 5}, "client")]


async def test_a_refused_state_is_told_to_its_author(host: str, name: str) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    async with AgentClient(
        agent="StateAgent",
        name=name,
        host=host,
        on_state_update_error=errors.put_nowait,
    ) as client:
        await client.ready
        client.set_state({"count": -1})
        assert await errors.get() == "State update rejected"
        assert client.state == {"count": -1}
        assert await client.stub.count() == 0


@pytest.mark.parametrize(
    ("method", "args", "text"),
    [
        ("fail", ["no such luck"], "no such luck"),
        ("nowhere", [], "Method nowhere does not exist"),
        ("undecorated", [], "Method undecorated is not callable"),
    ],
)
async def test_errors_of_calls_carry_the_agents_text(
    host: str, name: str, method: str, args: list[Any], text: str
) -> None:
    async with AgentClient(agent="StateAgent", name=name, host=host) as client:
        with pytest.raises(AgentCallError) as caught:
            await client.call(method, args)
        assert str(caught.value) == text


async def test_streams_give_chunks_and_a_final_value(host: str, name: str) -> None:
    async with AgentClient(agent="StreamAgent", name=name, host=host) as client:
        stream = client.stream("count_to", [3])
        assert [chunk async for chunk in stream] == [0, 1, 2]
        assert stream.result == "done"
        chunks: list[int] = []
        assert await client.call("count_to", [2], on_chunk=chunks.append) == "done"
        assert chunks == [0, 1]
        broken = client.stream("breaks")
        assert await anext(broken) == "first"
        with pytest.raises(AgentCallError, match="broke off"):
            await anext(broken)


async def test_a_call_that_waits_does_not_hold_up_another(host: str, name: str) -> None:
    async with AgentClient(agent="StateAgent", name=name, host=host) as client:
        waiting = asyncio.ensure_future(client.stub.wait_for("gate"))
        assert await client.stub.same([1, 2.5, "ü", None]) == [1, 2.5, "ü", None]
        assert not waiting.done()
        await client.stub.release("gate")
        assert await waiting == "gate"


async def test_messages_of_the_application_pass_both_ways(host: str, name: str) -> None:
    heard: asyncio.Queue[str | bytes] = asyncio.Queue()
    async with AgentClient(
        agent="EchoAgent", name=name, host=host, on_message=heard.put_nowait
    ) as client:
        big = "x" * 600_000
        for message in ("grüß dich", b"\x00\xff", "{", big):
            client.send(message)
            assert await heard.get() == message


async def test_a_final_close_ends_the_connection(host: str, name: str) -> None:
    closes = Closes()
    async with AgentClient(
        agent="StateAgent", name=name, host=host, on_close=closes
    ) as client:
        await client.ready
        with contextlib.suppress(ConnectionError):  # the close may overtake the answer
            await client.stub.close_me(4001, "go away")
        assert await closes.next() == (4001, "go away", True)
        assert client.connection_error is not None
        assert client.connection_error.code == 4001


async def test_another_close_reconnects_as_the_same_connection(
    host: str, name: str
) -> None:
    closes, timers = Closes(), ControlledTimers()
    async with AgentClient(
        agent="StateAgent", name=name, host=host, on_close=closes, timers=timers
    ) as client:
        await client.ready
        await client.stub.increment(7)
        with contextlib.suppress(ConnectionError):  # the close may overtake the answer
            await client.stub.close_me(1012, "restart")
        assert await closes.next() == (1012, "restart", True)
        queued = asyncio.ensure_future(client.stub.count())
        await timers.planned(3.0)
        timers.advance(3)
        await client.ready
        assert client.state == {"count": 7}
        assert await queued == 7


async def test_a_base_path_learns_the_instance_from_the_server(
    host: str, name: str
) -> None:
    async with AgentClient(
        agent="StateAgent", base_path="me", host=host, query={"user": name}
    ) as client:
        await client.ready
        assert (client.agent, client.name) == ("state-agent", name)


async def test_the_name_is_the_raw_segment(host: str, name: str) -> None:
    spaced = f"{name} b"
    async with AgentClient(agent="StateAgent", name=spaced, host=host) as client:
        await client.ready
        assert client.name == f"{name}%20b"


async def test_agent_fetch_reaches_on_request(host: str, name: str) -> None:
    response = await agent_fetch(
        agent="EchoAgent",
        name=name,
        host=host,
        path="deep/er",
        query={"n": 1},
        method="POST",
        data="a body",
    )
    seen = await response.json()
    assert response.status == 200
    assert (seen["name"], seen["method"], seen["body"]) == (name, "POST", "a body")
    assert seen["query"] == {"n": "1"}
    assert seen["url"].endswith(f"/agents/echo-agent/{name}/deep/er?n=1")


@pytest.mark.parametrize(
    ("agent", "status", "text"),
    [("BareAgent", 404, "Not implemented"), ("Nowhere", 400, "Invalid request")],
)
async def test_agent_fetch_returns_refusals(
    host: str, name: str, agent: str, status: int, text: str
) -> None:
    response = await agent_fetch(agent=agent, name=name, host=host)
    assert (response.status, await response.text()) == (status, text)
