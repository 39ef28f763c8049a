"""Frame by frame on one socket (rules b and f), exactly as they are on the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.wire.raw import Wire, unique

MCP = {
    "type": "cf_agent_mcp_servers",
    "mcp": {"prompts": [], "resources": [], "servers": {}, "tools": []},
}


@pytest.mark.rule("b.identity-first", "b.state-follows", "b.mcp-frame", "f.2", "f.4")
async def test_the_frames_on_connect_are_exactly_these(wire: Wire) -> None:
    name = unique()
    async with await wire.open(f"/agents/state-agent/{name}") as socket:
        identity: dict[str, Any] = {
            "type": "cf_agent_identity",
            "name": name,
            "agent": "state-agent",
            "stateFollows": True,
        }
        state = {"type": "cf_agent_state", "state": {"count": 0}}
        assert socket.frames == [identity, state, MCP]
    async with await wire.open(f"/agents/echo-agent/{name}") as socket:
        identity = {"type": "cf_agent_identity", "name": name, "agent": "echo-agent"}
        assert socket.frames == [identity, MCP]


@pytest.mark.rule("b.binary-never-protocol", "b.binary-message")
async def test_a_binary_frame_is_never_protocol(wire: Wire) -> None:
    frame = b'{"type":"rpc","id":"1","method":"read_journal","args":[]}'
    async with await wire.open(f"/agents/echo-agent/{unique()}") as socket:
        await socket.send(frame)
        message = await socket.websocket.receive(10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.BINARY, frame)


OTHER = [
    "plain",
    "",
    "{",
    " \u2028é",
    "[1, 2]",
    "null",
    "7",
    '"text"',
    '{"type":"cf_agent_state"}',
    '{"type":"cf_agent_state","state":{"count":NaN}}',
    '{"type":"rpc","id":2,"method":"read_journal","args":[]}',
    '{"type":"rpc","method":"read_journal","args":[]}',
    '{"type":"rpc","id":"1","method":7,"args":[]}',
    '{"type":"rpc","id":"1","method":"read_journal","args":{}}',
    '{"type":"rpc","id":"1","method":"read_journal"}',
    '{"type":"unknown","id":"1"}',
    '{ "type" : 7 }',
]


@pytest.mark.rule("b.other-text", "b.state-needs-key", "f.5", "f.12")
@pytest.mark.parametrize("text", OTHER)
async def test_what_merely_looks_like_protocol_is_a_message(
    wire: Wire, text: str
) -> None:
    async with await wire.open(f"/agents/echo-agent/{unique()}") as socket:
        await socket.send(text)
        assert await socket.receive_text() == text


@pytest.mark.rule("b.rpc-result", "b.rpc-error", "b.rpc-undefined", "f.4", "f.12")
async def test_the_keys_of_a_reply(wire: Wire) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}") as socket:
        call = {"args": [None], "method": "same", "id": "é", "type": "rpc"}
        await socket.send(call)
        reply = {"type": "rpc", "id": "é", "success": True, "done": True}
        assert await socket.receive() in (reply, {**reply, "result": None})
        await socket.send({**call, "method": "nothing", "args": []})
        assert await socket.receive() == reply
        await socket.send({**call, "method": "fail", "args": ["no luck"]})
        error = {"type": "rpc", "id": "é", "success": False, "error": "no luck"}
        assert await socket.receive() == error


@pytest.mark.rule("b.rpc-stream")
async def test_the_keys_of_a_stream(wire: Wire) -> None:
    async with await wire.open(f"/agents/stream-agent/{unique()}") as socket:
        await socket.send({"type": "rpc", "id": "s", "method": "count_to", "args": [2]})
        frame = {"type": "rpc", "id": "s", "success": True, "done": False}
        assert await socket.receive() == {**frame, "result": 0}
        assert await socket.receive() == {**frame, "result": 1}
        assert await socket.receive() == {**frame, "done": True, "result": "done"}


@pytest.mark.rule("f.12")
async def test_integers_stay_integers_and_nan_is_refused(wire: Wire) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}") as socket:
        call = '{"type":"rpc","id":"1","method":"%s","args":[%s]}'
        await socket.send(call % ("same", "[1,9007199254740993,1.5]"))
        assert "[1,9007199254740993,1.5]" in (await socket.receive_text()).replace(
            " ", ""
        )
        await socket.send(call % ("increment", "1"))
        state = (await socket.receive_text()).replace(" ", "")
        assert '"state":{"count":1}' in state
        assert '"result":1' in (await socket.receive_text()).replace(" ", "")
        await socket.send(call % ("not_json", ""))
        refused = json.loads(await socket.receive_text())
        assert (refused["id"], refused["success"]) == ("1", False)


@pytest.mark.rule("b.rejected-error", "b.readonly-error", "d.validate-source")
async def test_a_refused_state_is_answered_without_details(wire: Wire) -> None:
    refused = {"type": "cf_agent_state", "state": {"count": -3}}
    path = f"/agents/state-agent/{unique()}"
    async with await wire.open(f"{path}?_pk=author") as socket:
        await socket.send(refused)
        error = {"type": "cf_agent_state_error", "error": "State update rejected"}
        assert await socket.receive() == error
        journal = await socket.call("read_journal")
        assert ["validate", {"count": -3}, "connection:author"] in journal
    async with await wire.open(f"{path}?readonly=1") as socket:
        await socket.send(refused)
        error = {"type": "cf_agent_state_error", "error": "Connection is readonly"}
        assert await socket.receive() == error


@pytest.mark.rule("b.initial-state", "d.validate-source")
async def test_the_initial_state_is_seen_once_and_validated(wire: Wire) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}") as socket:
        journal = await socket.call("read_journal")
        assert ["validate", {"count": 0}, "server"] in journal
        assert socket.states() == [{"count": 0}]
        assert await socket.call("count") == 0
        assert socket.states() == [{"count": 0}]


def _after(journal: list[Any], *entries: list[Any]) -> list[int]:
    return [journal.index(entry) for entry in entries]


@pytest.mark.rule("b.set-state-order", "d.on-state-changed", "b.state-by-server")
async def test_set_state_validates_stores_sends_and_tells_in_this_order(
    wire: Wire,
) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}") as socket:
        state = {"count": 3, "raise": True}
        assert (await socket.reply("replace", state))["success"]
        assert socket.types()[-2:] == ["cf_agent_state", "rpc"]
        error = ["error", "on_state_changed failed", None]
        journal = await socket.until(lambda journal: error in journal)
        validated = ["validate", state, "server"]
        order = _after(journal, ["before"], validated, ["after"], error)
        assert order == sorted(order)
        order = _after(journal, validated, ["changed", state, "server"], error)
        assert order == sorted(order)
        refused = await socket.reply("replace", {"count": -1})
        assert refused["error"] == "a secret detail"
        assert await socket.call("count") == 3


@pytest.mark.rule("b.state-by-client", "d.on-state-changed")
async def test_a_clients_state_is_told_after_it_was_sent(wire: Wire) -> None:
    path = f"/agents/state-agent/{unique()}"
    async with (
        await wire.open(f"{path}?_pk=a") as author,
        await wire.open(path) as other,
    ):
        await author.send({"state": {"count": 4}, "type": "cf_agent_state"})
        assert await other.receive() == {
            "type": "cf_agent_state",
            "state": {"count": 4},
        }
        source = "connection:a"
        entry = ["changed", {"count": 4}, source]
        journal = await author.until(lambda journal: entry in journal)
        order = _after(journal, ["validate", {"count": 4}, source], entry)
        assert order == sorted(order)
        assert author.states() == [{"count": 0}]


@pytest.mark.rule("b.on-message-error", "d.on-error")
async def test_an_error_in_on_message_goes_to_on_error_alone(wire: Wire) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}?_pk=me") as socket:
        await socket.send("raise")
        journal = await socket.call("read_journal")
        assert ["error", "on_message failed", "me"] in journal
        assert socket.types()[3:] == ["rpc"]
    async with await wire.open(f"/agents/failing-agent/{unique()}?_pk=me") as socket:
        await socket.send("anything")
        journal = await socket.call("read_journal")
        assert ["error", "me", "on_message failed"] in journal


@pytest.mark.rule("b.close-echo", "d.on-close")
@pytest.mark.parametrize("code", [1000, 3456, 4100])
async def test_a_close_is_answered_with_its_own_code(wire: Wire, code: int) -> None:
    path = f"/agents/room-agent/{unique()}"
    async with await wire.open(path) as watcher:
        leaving = await wire.open(f"{path}?_pk=leaving")
        await leaving.websocket.close(code=code, message=b"bye")
        assert leaving.websocket.close_code == code
        expected = ["close", "leaving", code, "bye", True]
        journal = await watcher.until(
            lambda journal: any(kind == "close" for kind, *_ in journal)
        )
        assert [entry for entry in journal if entry[0] == "close"] == [expected]


@pytest.mark.rule("b.ping")
async def test_a_ping_is_answered(wire: Wire) -> None:
    path = f"/agents/echo-agent/{unique()}"
    async with await wire.open(path, autoping=False) as socket:
        await socket.websocket.ping(b"there?")
        message = await socket.websocket.receive(10)
        assert (message.type, bytes(message.data)) == (
            aiohttp.WSMsgType.PONG,
            b"there?",
        )


@pytest.mark.rule("f.16")
async def test_frames_wait_until_on_connect_is_done(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}"

    async def connect_and_send_at_once() -> list[Any]:
        async with await wire.connect(f"{path}?gate=g") as socket:
            await socket.send("early")
            while "early" not in socket.frames:
                await socket.receive()
            return socket.frames

    early = asyncio.create_task(connect_and_send_at_once())
    while not any(kind == "connect" for kind, *_ in await wire.json(path)):
        assert not early.done(), early
    await wire.json(f"{path}?release=g")
    frames = await early
    assert frames.index("through the gate") < frames.index("early")


@pytest.mark.rule("a.on-connect-raises")
async def test_on_connect_that_raises_sends_one_frame_and_closes(wire: Wire) -> None:
    socket = await wire.connect(f"/agents/room-agent/{unique()}?raise=1")
    closed = await socket.closed()
    assert closed == (1011, "Uncaught exception during session setup")
    assert [set(frame) for frame in socket.frames] == [{"error"}]
    assert "on_connect failed" in socket.frames[0]["error"]


@pytest.mark.rule("b.destroyed", "d.destroy")
async def test_destroy_closes_every_socket_with_1001(wire: Wire) -> None:
    path = f"/agents/store-agent/{unique()}"
    async with await wire.open(path) as one, await wire.open(path) as two:
        await one.send({"type": "rpc", "id": "1", "method": "destroy_me", "args": []})
        for socket in (one, two):
            assert await socket.closed() == (1001, "Durable Object destroyed")


@pytest.mark.rule("b.rpc-not-callable", "b.rpc-unknown")
@pytest.mark.parametrize(
    "method", ["set_state", "sql", "destroy", "on_message", "fetch", "undecorated"]
)
async def test_nothing_undecorated_can_be_called(wire: Wire, method: str) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}") as socket:
        reply = await socket.reply(method, {})
        known = {f"Method {method} is not callable"}
        if method == "fetch":
            known.add(f"Method {method} does not exist")
        assert reply["error"] in known


@pytest.mark.rule("b.rpc-unknown")
@pytest.mark.parametrize(
    "method", ["", "label", "name", "__class__", "_private", "ctx"]
)
async def test_what_is_no_method_does_not_exist(wire: Wire, method: str) -> None:
    async with await wire.open(f"/agents/state-agent/{unique()}") as socket:
        reply = await socket.reply(method)
        assert reply["error"] == f"Method {method} does not exist"
