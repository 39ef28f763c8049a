"""What AgentClient does with calls and messages when its socket ends, or for good."""

from __future__ import annotations

import asyncio
import logging

import pytest

from agents.client import AgentConnectionError, SocketClose
from tests.agents.scripted_agent import (
    Closes,
    ControlledTimers,
    ScriptedAgent,
    identified,
    make_client,
    turns,
)


@pytest.mark.parametrize("code", [1008, 4000, 4401, 4999])
async def test_final_close_codes_end_the_connection(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes, code: int
) -> None:
    errors: list[AgentConnectionError] = []
    async with make_client(
        server, timers=timers, on_close=closes, on_connection_error=errors.append
    ) as client:
        peer = await identified(server, client)
        call = asyncio.ensure_future(client.call("m"))
        await peer.receive()
        await peer.close(code, "go away")
        assert await closes.next() == (code, "go away", True)
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await call
        error = client.connection_error
        assert isinstance(error, ConnectionError)
        assert (error.code, error.reason, error.was_clean) == (code, "go away", True)
        assert str(error) == "Agent connection closed: go away"
        assert errors == [error]
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await client.call("m")
        with pytest.raises(AgentConnectionError):
            await client.ready
        timers.advance(1000)
        await turns()
        assert len(server.attempts) == 1


async def test_the_error_of_a_final_close_without_reason_tells_the_code(
    server: ScriptedAgent, closes: Closes
) -> None:
    async with make_client(server, on_close=closes) as client:
        peer = await identified(server, client)
        await peer.close(4003)
        await closes.next()
        text = "Agent connection closed: WebSocket closed with code 4003"
        assert str(client.connection_error) == text


async def test_reconnect_after_a_final_close_starts_anew(
    server: ScriptedAgent, closes: Closes
) -> None:
    async with make_client(server, on_close=closes) as client:
        peer = await identified(server, client)
        await peer.close(1008)
        await closes.next()
        assert client.connection_error is not None
        client.reconnect()
        peer = await identified(server, client)
        assert client.connection_error is None
        call = asyncio.ensure_future(client.call("m"))
        await peer.answer(1)
        assert await call == 1


async def test_calls_in_flight_fail_and_calls_not_yet_sent_are_sent_later(
    server: ScriptedAgent, timers: ControlledTimers, closes: Closes
) -> None:
    async with make_client(server, timers=timers, on_close=closes) as client:
        peer = await identified(server, client)
        in_flight = asyncio.ensure_future(client.call("first"))
        stream = client.stream("streamed")
        await peer.receive()
        await peer.receive()
        await peer.close(1012)
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await in_flight
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await anext(stream)
        assert client.send("between") is False
        queued = asyncio.ensure_future(client.call("second"))
        await turns()
        client.set_state({"n": 1})
        await timers.planned(3.0)
        timers.advance(3)
        peer = await server.accept()
        assert await peer.receive_raw() == "between"
        assert (await peer.answer(2))["method"] == "second"
        assert await queued == 2
        assert await peer.receive() == {"type": "cf_agent_state", "state": {"n": 1}}


async def test_a_call_that_was_queued_is_in_flight_after_the_reconnect(
    server: ScriptedAgent, timers: ControlledTimers
) -> None:
    server.refusals = 1
    async with make_client(server, timers=timers) as client:
        call = asyncio.ensure_future(client.call("m"))
        await timers.planned(3.0)
        timers.advance(3)
        peer = await server.accept()
        await peer.receive()
        await peer.close(1012)
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await call


@pytest.mark.parametrize("ending", ["time limit", "cancelled", "closed"])
async def test_a_call_that_failed_before_it_was_sent_is_never_sent(
    server: ScriptedAgent, timers: ControlledTimers, ending: str
) -> None:
    server.refusals = 1
    async with make_client(server, timers=timers) as client:
        await server.refused()
        await timers.planned(3.0)
        call = asyncio.ensure_future(client.call("m", timeout=1))
        await turns()
        if ending == "time limit":
            timers.advance(1)
        elif ending == "cancelled":
            call.cancel()
        else:
            client.close()
        with pytest.raises((TimeoutError, asyncio.CancelledError, ConnectionError)):
            await call
        client.reconnect()
        peer = await server.accept()
        client.send("the only message")
        assert await peer.receive_raw() == "the only message"


async def test_messages_sent_after_close_wait_for_reconnect(
    server: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_client(server) as client:
        await identified(server, client)
        await client.close()
        with caplog.at_level(logging.WARNING, logger="agents"):
            assert client.send("later") is False
        assert "waits for reconnect()" in caplog.text
        client.reconnect()
        peer = await identified(server, client)
        assert await peer.receive_raw() == "later"


async def test_the_user_decides_which_closes_reconnect(
    server: ScriptedAgent, timers: ControlledTimers
) -> None:
    asked: list[SocketClose] = []

    def unless_1013(close: SocketClose) -> bool:
        asked.append(close)
        return close.code != 1013

    final: asyncio.Queue[AgentConnectionError] = asyncio.Queue()
    async with make_client(
        server,
        timers=timers,
        should_reconnect_on_close=unless_1013,
        on_connection_error=final.put_nowait,
    ) as client:
        peer = await identified(server, client)
        await peer.close(1012)
        await timers.planned(3.0)
        timers.advance(3)
        peer = await identified(server, client)
        await peer.close(1013)
        assert (await final.get()).code == 1013
        assert [close.code for close in asked] == [1012, 1013]


async def test_a_decision_that_raises_ends_the_connection_with_an_error(
    server: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    def undecided(_: SocketClose) -> bool:
        raise LookupError("undecided")

    final: asyncio.Queue[AgentConnectionError] = asyncio.Queue()
    async with make_client(
        server,
        should_reconnect_on_close=undecided,
        on_connection_error=final.put_nowait,
    ) as client:
        peer = await identified(server, client)
        call = asyncio.ensure_future(client.call("m"))
        await peer.receive()
        await peer.close(1012)
        with pytest.raises(ConnectionError):
            await call
        assert "undecided" in (await final.get()).reason
    assert "LookupError: undecided" in caplog.text


async def test_retries_can_be_limited(
    server: ScriptedAgent, timers: ControlledTimers
) -> None:
    server.refusals = 3
    final: asyncio.Queue[AgentConnectionError] = asyncio.Queue()
    async with make_client(
        server, timers=timers, max_retries=2, on_connection_error=final.put_nowait
    ) as client:
        call = asyncio.ensure_future(client.call("m", timeout=None))
        for delay in (3.0, 3.9):
            await timers.planned(delay)
            timers.advance(delay)
        assert (await final.get()).code == 1006
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await call
        assert len(server.attempts) == 3


async def test_close_in_the_middle_of_a_handshake_ends_it(
    server: ScriptedAgent, closes: Closes
) -> None:
    server.holds_handshakes = True
    async with make_client(server, on_close=closes) as client:
        await server.held.get()
        await client.close(1000, "changed my mind")
        assert await closes.next() == (1000, "changed my mind", True)
    assert closes.empty()


async def test_a_server_that_never_answers_the_close_does_not_hold_the_client(
    server: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.client_socket.CLOSING_LIMIT", 0.05)
    async with make_client(server) as client:
        peer = await identified(server, client)
        transport = peer.request.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        client.send(b"x" * 20_000_000)  # more than the system buffers
