"""What a program observes through AgentClient while its socket is up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from typing import Any

import pytest

from agents.client import AgentClient
from tests.agents.scripted_agent import (
    ScriptedAgent,
    make_client,
    turns,
)


async def test_connects_to_the_kebab_case_agent_with_its_id_as_pk(
    server: ScriptedAgent,
) -> None:
    async with make_client(server, agent="MyCounter", query={"a": 1, "b": None}) as c:
        peer = await server.accept()
        assert peer.request.raw_path == f"/agents/my-counter/room?_pk={c.id}&a=1"
        assert str(uuid.UUID(c.id)) == c.id
        assert (c.agent, c.name) == ("my-counter", "room")


async def test_the_name_is_default_unless_given(server: ScriptedAgent) -> None:
    async with AgentClient(agent="Counter", host=server.host) as client:
        peer = await server.accept()
        assert peer.request.raw_path == f"/agents/counter/default?_pk={client.id}"


async def test_ready_waits_for_the_state_that_the_identity_announces(
    server: ScriptedAgent,
) -> None:
    order: list[str] = []
    async with make_client(
        server,
        on_identity=lambda *_: order.append("identity"),
        on_state_update=lambda state, source: order.append(f"state {source}"),
    ) as client:
        peer = await server.accept()
        ready = asyncio.ensure_future(client.ready)
        frame = {"type": "cf_agent_identity", "name": "room", "agent": "counter"}
        await peer.send({**frame, "stateFollows": True})
        await peer.send({"type": "rpc", "id": "nobody", "success": True, "done": True})
        call = asyncio.ensure_future(client.call("fence"))
        await peer.answer(None)
        await call
        assert not ready.done()
        assert not client.identified
        await peer.send({"type": "cf_agent_state", "state": {"n": 1}})
        await ready
        assert client.state == {"n": 1}
        assert client.identified
        assert order == ["state server", "identity"]


async def test_ready_comes_with_the_identity_alone_where_no_state_follows(
    server: ScriptedAgent,
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        await peer.identify()
        await client.ready
        await client.ready  # it may be awaited again
        assert client.state is None


async def test_a_wait_for_ready_that_is_cancelled_leaves_it_to_others(
    server: ScriptedAgent,
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        first = asyncio.ensure_future(client.ready)
        await turns()
        first.cancel()
        await peer.identify()
        await client.ready


async def test_the_identity_frame_corrects_agent_and_name(
    server: ScriptedAgent,
) -> None:
    told: list[tuple[str, str]] = []
    async with make_client(
        server, base_path="user", on_identity=lambda n, a: told.append((n, a))
    ) as client:
        peer = await server.accept()
        assert peer.request.path == "/user"
        await peer.identify(name="alice", agent="profile")
        await client.ready
        assert (client.name, client.agent) == ("alice", "profile")
        assert told == [("alice", "profile")]


async def test_set_state_shows_at_once_and_is_sent(server: ScriptedAgent) -> None:
    told: list[tuple[Any, str]] = []
    async with make_client(
        server, on_state_update=lambda state, source: told.append((state, source))
    ) as client:
        peer = await server.accept()
        client.set_state({"text": "ü", "n": 1})
        assert client.state == {"text": "ü", "n": 1}
        assert told == [({"text": "ü", "n": 1}, "client")]
        assert await peer.receive() == {
            "type": "cf_agent_state",
            "state": {"text": "ü", "n": 1},
        }
        await peer.send({"type": "cf_agent_state", "state": None})
        await peer.identify()
        await client.ready
        assert told[-1] == (None, "server")


@pytest.mark.parametrize("state", [float("nan"), {1, 2}, object()])
async def test_a_state_that_is_not_json_is_refused_and_not_shown(
    server: ScriptedAgent, state: Any
) -> None:
    async with make_client(server) as client:
        await server.accept()
        with pytest.raises((TypeError, ValueError)):
            client.set_state(state)
        assert client.state is None


async def test_a_refused_state_is_reported_and_kept(server: ScriptedAgent) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    async with make_client(server, on_state_update_error=errors.put_nowait) as client:
        peer = await server.accept()
        client.set_state(1)
        await peer.send({"type": "cf_agent_state_error", "error": "readonly"})
        assert await errors.get() == "readonly"
        assert client.state == 1


async def test_on_message_gets_what_is_not_protocol(server: ScriptedAgent) -> None:
    messages: asyncio.Queue[str | bytes] = asyncio.Queue()
    mcp: list[Any] = []
    async with make_client(
        server, on_message=messages.put_nowait, on_mcp_update=mcp.append
    ) as client:
        peer = await server.accept()
        await peer.identify()
        await peer.send({"type": "cf_agent_state", "state": 1})
        await peer.send({"type": "cf_agent_mcp_servers", "mcp": {"tools": []}})
        await peer.send({"type": "cf_agent_state_error", "error": "x"})
        await peer.send({"type": "rpc", "id": "unknown", "success": True})
        own = ["hello", "{", "null", "[1]", '{"type": ["rpc"]}', '{"type":"rpc"}']
        own.append('{"type":"cf_agent_use_chat_response"}')
        for text in own:
            await peer.socket.send_str(text)
        await peer.socket.send_bytes(b'{"type":"cf_agent_state","state":2}')
        received = [await messages.get() for _ in range(len(own) + 1)]
        assert received == [*own, b'{"type":"cf_agent_state","state":2}']
        assert client.state == 1
        assert mcp == [{"tools": []}]


async def test_text_and_bytes_are_sent_as_they_are(server: ScriptedAgent) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        await peer.identify()
        await client.ready
        assert client.send("grüß dich") is True
        assert client.send(b"\x00\xff") is True
        assert await peer.receive_raw() == "grüß dich"
        assert await peer.receive_raw() == b"\x00\xff"
        with pytest.raises(UnicodeEncodeError):
            client.send("\ud800")


async def test_large_messages_pass_both_ways(server: ScriptedAgent) -> None:
    messages: asyncio.Queue[str | bytes] = asyncio.Queue()
    big = "x" * 6_000_000
    async with make_client(server, on_message=messages.put_nowait) as client:
        peer = await server.accept()
        client.send(big)
        assert await peer.receive_raw() == big
        await peer.socket.send_str(big)
        assert await messages.get() == big


async def test_a_callback_that_fails_is_logged_and_breaks_nothing(
    server: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("mine")

    async def fail_later(*_: Any) -> None:
        raise RuntimeError("mine, later")

    async with make_client(
        server, on_state_update=fail, on_identity=fail, on_open=fail_later
    ) as client:
        peer = await server.accept()
        await peer.send({"type": "cf_agent_state", "state": 1})
        await peer.identify()
        await client.ready
        assert client.state == 1
    assert "RuntimeError: mine\n" in caplog.text
    assert "RuntimeError: mine, later" in caplog.text


async def test_async_callbacks_run_in_order_and_may_call_the_agent(
    server: ScriptedAgent,
) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def on_message(message: str | bytes) -> None:
        heard.put_nowait((message, await client.call("look", [message])))

    client = make_client(server, on_message=on_message)
    async with client:
        peer = await server.accept()
        await peer.socket.send_str("a")
        await peer.socket.send_str("b")
        assert (await peer.answer(1))["args"] == ["a"]
        assert (await peer.answer(2))["args"] == ["b"]
        assert await heard.get() == ("a", 1)
        assert await heard.get() == ("b", 2)


async def test_leaving_the_block_sends_what_waits_and_closes_with_1000(
    server: ScriptedAgent,
) -> None:
    closes: list[tuple[int, str, bool]] = []
    async with make_client(
        server, on_close=lambda *told: closes.append(told)
    ) as client:
        peer = await server.accept()
        await peer.identify()
        await client.ready
        for n in range(100):
            client.send(str(n))
    received = [await peer.receive_raw() for _ in range(100)]
    assert received == [str(n) for n in range(100)]
    await peer.closed.wait()
    assert peer.close_code == 1000
    assert closes == [(1000, "", True)]
    assert client.connection_error is None


async def test_close_tells_at_once_and_fails_calls_and_ready(
    server: ScriptedAgent,
) -> None:
    closes: list[tuple[int, str, bool]] = []
    async with make_client(
        server, on_close=lambda *told: closes.append(told)
    ) as client:
        peer = await server.accept()
        call = asyncio.ensure_future(client.call("never"))
        ready = asyncio.ensure_future(client.ready)
        await peer.receive()
        goodbye = client.close(4001, "enough")
        assert closes == [(4001, "enough", True)]
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await call
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await ready
        with pytest.raises(ConnectionError, match=r"^Connection closed$"):
            await client.call("too late")
        await goodbye
        assert peer.close_code == 4001
        assert client.connection_error is None


@pytest.mark.parametrize(("code", "reason"), [(1006, ""), (99, ""), (1000, "x" * 124)])
async def test_a_close_that_cannot_be_sent_is_refused(
    server: ScriptedAgent, code: int, reason: str
) -> None:
    async with make_client(server) as client:
        peer = await server.accept()
        with pytest.raises(ValueError, match="close"):
            client.close(code, reason)
        await peer.identify()
        await client.ready


async def test_a_client_is_entered_before_use_and_only_once(
    server: ScriptedAgent,
) -> None:
    client = make_client(server)
    with pytest.raises(RuntimeError, match="async with"):
        client.send("too early")
    async with client:
        with pytest.raises(RuntimeError, match="only once"):
            await client.__aenter__()


def test_an_unknown_option_is_named() -> None:
    options: dict[str, Any] = {"on_mesage": print}
    with pytest.raises(TypeError, match="'on_mesage'"):
        AgentClient(agent="Counter", host="localhost:1", **options)


def test_the_client_itself_imports_neither_the_runtime_nor_the_server() -> None:
    # A bare package in place of ours: what `agents/__init__.py` imports is not the
    # client's doing.
    code = """
import sys, types
import agents
bare = types.ModuleType("agents")
bare.__path__ = list(agents.__path__)
kept = {"agents": bare}
for name in [n for n in sys.modules if n.split(".")[0] in ("agents", "durable")]:
    del sys.modules[name]
sys.modules.update(kept)
import agents.client
print(*sys.modules, sep="\\n")
"""
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"durable", "server", "sqlalchemy", "asyncpg"} & set(listed)
    ours = {name for name in listed if name.startswith("agents.")}
    allowed = ("agents.client", "agents.naming")
    assert "agents.client" in ours
    assert {name for name in ours if not name.startswith(allowed)} == set()
