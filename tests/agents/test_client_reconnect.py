"""What AgentClient does when its socket ends: by a clock that the tests own."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from agents.client import AgentClient
from agents.client_socket import reconnect_delay
from tests.agents.scripted_agent import (
    Closes,
    ControlledTimers,
    ScriptedAgent,
    identified,
    make_client,
    turns,
)

HANDSHAKE_LIMIT = 4.0
MIN_UPTIME = 5.0


def test_delays_are_those_of_partysocket() -> None:
    delays = [round(reconnect_delay(count), 4) for count in range(8)]
    assert delays == [0, 3, 3.9, 5.07, 6.591, 8.5683, 10, 10]
    assert reconnect_delay(1_000_000) == 10


async def test_a_close_by_the_server_reconnects_after_3_s_with_the_same_id(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    async with make_client(server, timers=timers, on_close=closes) as client:
        peer = await identified(server, client)
        before = client.ready
        await peer.close(1001, "deploy")
        assert await closes.next() == (1001, "deploy", True)
        assert client.connection_error is None
        assert not client.identified
        assert client.ready is not before
        await timers.planned(3.0)
        timers.advance(2.9)
        await turns()
        assert len(server.attempts) == 1
        timers.advance(0.1)
        again = await identified(server, client)
        assert again.request.query["_pk"] == client.id == peer.request.query["_pk"]
        assert client.identified


@pytest.mark.parametrize("code", [1000, 1006, 1009, 1011, 1012, 3000, 3999])
async def test_other_close_codes_reconnect(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes, code: int
) -> None:
    async with make_client(server, timers=timers, on_close=closes) as client:
        peer = await identified(server, client)
        if code == 1006:
            peer.cut()
        else:
            await peer.close(code)
        told = await closes.next()
        assert told[0] == code
        assert told[2] is (code != 1006)
        await timers.planned(3.0)
        timers.advance(3)
        await identified(server, client)
        assert client.connection_error is None


async def test_reconnect_is_immediate_and_resets_the_back_off(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    server.refusals = 3
    async with make_client(server, timers=timers, on_close=closes) as client:
        for delay in (3.0, 3.9):
            await server.refused()
            await timers.planned(delay)
            timers.advance(delay)
        await server.refused()
        await timers.planned(5.07)
        client.reconnect()  # in the middle of the pause
        peer = await identified(server, client)
        client.reconnect(1000, "again")  # and of a conversation
        await identified(server, client)
        await peer.closed.wait()
        assert peer.close_code == 1000
        for _ in range(3):
            assert (await closes.next())[0] == 1006
        assert await closes.next() == (1000, "again", True)


async def test_refused_handshakes_are_retried_with_growing_delays(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    server.refusals = 8
    async with make_client(server, timers=timers, on_close=closes) as client:
        call = asyncio.ensure_future(client.call("m", timeout=None))
        for count in range(1, 9):
            await server.refused()
            code, reason, was_clean = await closes.next()
            assert (code, was_clean) == (1006, False)
            assert "503" in reason
            await timers.planned(reconnect_delay(count))
            timers.advance(reconnect_delay(count))
        peer = await server.accept()
        await peer.answer("at last")
        assert await call == "at last"


async def test_a_host_that_is_not_there_is_retried(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
        async with AgentClient(
            agent="Counter", host=host, timers=timers, on_close=closes
        ):
            assert (await closes.next())[0] == 1006
            await timers.planned(3.0)


async def test_a_handshake_that_takes_more_than_4_s_has_failed(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    server.holds_handshakes = True
    async with make_client(server, timers=timers, on_close=closes) as client:
        await server.held.get()
        timers.advance(HANDSHAKE_LIMIT - 0.1)
        await turns()
        assert closes.empty()
        timers.advance(0.1)
        assert await closes.next() == (1006, "the handshake timed out", False)
        server.holds_handshakes = False
        await timers.planned(3.0)
        timers.advance(3)
        await identified(server, client)


async def test_the_back_off_is_forgotten_only_after_5_s_of_being_open(
    server: ScriptedAgent, timers: ControlledTimers
) -> None:
    async with make_client(server, timers=timers) as client:
        peer = await identified(server, client)
        await peer.close(1012)
        await timers.planned(3.0)
        timers.advance(3)
        peer = await identified(server, client)
        timers.advance(MIN_UPTIME - 0.1)
        await peer.close(1012)
        await timers.planned(3.9)
        timers.advance(3.9)
        peer = await identified(server, client)
        timers.advance(MIN_UPTIME)
        await peer.close(1012)
        await timers.planned(3.0)


async def test_whoever_waits_for_ready_outlives_an_early_close(
    server: ScriptedAgent, timers: ControlledTimers
) -> None:
    async with make_client(server, timers=timers) as client:
        ready = asyncio.ensure_future(client.ready)
        peer = await server.accept()
        await peer.close(1012)
        await timers.planned(3.0)
        timers.advance(3)
        peer = await server.accept()
        await peer.identify()
        await ready


async def test_the_state_is_awaited_anew_after_a_reconnect(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    async with make_client(server, timers=timers, on_close=closes) as client:
        for state in (1, 2):
            peer = await server.accept()
            frame = {"type": "cf_agent_identity", "name": "room", "agent": "counter"}
            await peer.send({**frame, "stateFollows": True})
            fence = asyncio.ensure_future(client.call("fence"))
            await peer.answer(None)
            await fence
            assert not client.identified
            await peer.send({"type": "cf_agent_state", "state": state})
            await client.ready
            assert client.state == state
            await peer.close(1012)
            await closes.next()
            assert client.state == state
            await timers.planned(reconnect_delay(state))
            timers.advance(10)


@pytest.mark.parametrize("is_handled", [True, False])
async def test_another_identity_after_a_reconnect_is_reported(
    server: ScriptedAgent,
    timers: ControlledTimers,
    caplog: pytest.LogCaptureFixture,
    is_handled: bool,
) -> None:
    changes: list[tuple[str, ...]] = []
    handler = (lambda *told: changes.append(told)) if is_handled else None
    async with make_client(
        server, timers=timers, base_path="me", on_identity_change=handler
    ) as client:
        peer = await server.accept()
        await peer.identify(name="alice", agent="profile")
        await client.ready
        await peer.close(1012)
        await timers.planned(3.0)
        timers.advance(3)
        peer = await server.accept()
        await peer.identify(name="bob", agent="profile")
        await client.ready
        assert client.name == "bob"
    if is_handled:
        assert changes == [("alice", "bob", "profile", "profile")]
    assert ("reached another agent" in caplog.text) is not is_handled


async def test_the_query_function_is_asked_before_each_attempt(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    tokens = iter(["first", None, "third"])

    async def query() -> dict[str, Any]:
        token = next(tokens)
        if token is None:
            raise LookupError("no token today")
        return {"token": token}

    async with make_client(
        server, timers=timers, query=query, on_close=closes
    ) as client:
        peer = await identified(server, client)
        assert peer.request.query["token"] == "first"
        await peer.close(1012)
        assert (await closes.next())[0] == 1012
        await timers.planned(3.0)
        timers.advance(3)
        assert await closes.next() == (1006, "no token today", False)
        await timers.planned(3.9)
        timers.advance(3.9)
        peer = await identified(server, client)
        assert peer.request.query["token"] == "third"


async def test_nothing_of_a_replaced_socket_is_heard(
    server: ScriptedAgent, closes: Closes
) -> None:
    messages: asyncio.Queue[str | bytes] = asyncio.Queue()

    def on_message(message: str | bytes) -> None:
        messages.put_nowait(message)
        if message == "go":
            client.reconnect()  # while the next message is in the buffer

    client = make_client(server, on_close=closes, on_message=on_message)
    async with client:
        old = await identified(server, client)
        await old.socket.send_str("go")
        await old.socket.send_str("too late")
        await old.closed.wait()
        new = await identified(server, client)
        await new.socket.send_str("heard")
        assert [await messages.get() for _ in range(2)] == ["go", "heard"]
        assert await closes.next() == (1000, "", True)
        assert closes.empty()
