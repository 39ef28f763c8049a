"""What an agent may rely on (rules d), seen through the agents under test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents import Agent
from tests.wire.raw import UPGRADE, Socket, Wire, unique


@pytest.mark.rule("d.self")
async def test_name_env_and_ctx(wire: Wire) -> None:
    name = unique()
    async with await wire.open(f"/agents/store-agent/{name}") as socket:
        seen = await socket.call("identity")
        assert (seen["name"], seen["env"], seen["starts"]) == (name, True, 1)
        assert len(seen["id"]) == 32
        assert int(seen["id"], 16)


@pytest.mark.rule("d.on-state-update")
async def test_the_older_name_of_on_state_changed_works_alone(wire: Wire) -> None:
    async with await wire.open(f"/agents/old-hook-agent/{unique()}?_pk=me") as socket:
        await socket.send({"type": "cf_agent_state", "state": {"count": 1}})
        entry = ["updated", {"count": 1}, "connection:me"]
        await socket.until(lambda journal: entry in journal)


@pytest.mark.rule("d.on-state-update")
def test_both_names_of_on_state_changed_are_an_error() -> None:
    def hook(self: Any, state: Any, source: Any) -> None:
        raise AssertionError("never called")

    hooks = {"on_state_update": hook, "on_state_changed": hook}
    with pytest.raises(TypeError, match="on_state_update"):
        type("Both", (Agent,), hooks)


@pytest.mark.rule("d.sql")
async def test_sql_gives_rows_and_clear_errors(wire: Wire) -> None:
    async with await wire.open(f"/agents/store-agent/{unique()}") as socket:
        assert await socket.call("fill") == [{"id": 1, "body": "one"}]
        error = await socket.call("bad_sql")
        assert error["query"] == "SELECT missing_column FROM nowhere"
        assert "nowhere" in error["text"]


@pytest.mark.rule("d.on-start")
async def test_on_start_runs_once_while_the_others_wait(wire: Wire) -> None:
    path = f"/agents/slow-start-agent/{unique()}"
    journals = await asyncio.gather(*(wire.json(path) for _ in range(5)))
    assert journals == [[["start", None]]] * 5


@pytest.mark.rule("d.on-connect", "a.path-appended", "f.15")
async def test_on_connect_gets_the_upgrade_request(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}/rest?token=t%201&_pk=me"
    async with await wire.open(path) as socket:
        kind, connection_id, url, _ = (await socket.call("read_journal"))[1]
        assert (kind, connection_id) == ("connect", "me")
        assert url.endswith(path)


@pytest.mark.rule("d.get-connections")
async def test_connections_are_found_by_tag_and_id(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}"
    async with (
        await wire.open(f"{path}?_pk=a&tags=red,big") as one,
        await wire.open(f"{path}?_pk=b&tags=red") as two,
        await wire.open(f"{path}?_pk=c") as three,
    ):
        assert await three.call("ids") == ["a", "b", "c"]
        assert await one.call("ids", "red") == ["a", "b"]
        assert await two.call("ids", "big") == ["a"]
        assert await two.call("ids", "absent") == []
        assert await two.call("one", "c") == "c"
        assert await two.call("one", "absent") is None


@pytest.mark.rule("d.tags")
async def test_tags_include_the_id_and_are_limited(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}?_pk=me&tags="
    nine = [f"t{number}" for number in range(9)]
    async with await wire.open(path + ",".join(nine)) as socket:
        assert sorted((await socket.call("me"))["tags"]) == sorted([*nine, "me"])
        assert await socket.call("ids", "me") == ["me"]
    async with await wire.open(path + "x" * 256) as socket:
        assert "x" * 256 in (await socket.call("me"))["tags"]
    for tags in (",".join([*nine, "t9"]), "x" * 257):
        refused = await wire.connect(path + tags)
        assert (await refused.closed())[0] == 1011


@pytest.mark.rule("d.broadcast")
async def test_broadcast_spares_those_it_is_told_to(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}"
    async with (
        await wire.open(f"{path}?_pk=a") as one,
        await wire.open(f"{path}?_pk=b") as two,
        await wire.connect(f"{path}?_pk=c&silent=1") as three,
    ):
        await one.call("say", "to all", [])
        await one.call("say", "not to b", ["b"])
        for socket in (two, three):
            await socket.call("ids")
        said = [[f for f in s.frames if isinstance(f, str)] for s in (one, two, three)]
        assert said == [["to all", "not to b"], ["to all"], ["to all", "not to b"]]


@pytest.mark.rule("d.connection")
async def test_a_connection_has_these_members(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}?_pk=me&tags=red"
    async with await wire.open(path) as socket:
        seen = await socket.call("me")
        assert seen["url"] == seen["uri"]
        assert seen["url"].endswith(path)
        assert (seen["id"], sorted(seen["tags"]), seen["state"]) == (
            "me",
            ["me", "red"],
            None,
        )
        await socket.call("remember", {"user": 7})
        assert (await socket.call("me"))["state"] == {"user": 7}
        await socket.send("send is on_message's echo")
        assert await socket.receive() == "send is on_message's echo"
        await socket.send(
            {"type": "rpc", "id": "1", "method": "close_me", "args": [4001, "enough"]}
        )
        assert await socket.closed() == (4001, "enough")


async def _evicted(socket: Socket) -> None:
    """Wait until the instance was evicted: its journal starts anew."""
    for _ in range(40):
        await asyncio.sleep(0.4)
        if "connect" not in [kind for kind, *_ in await socket.call("read_journal")]:
            return
    raise AssertionError("the instance was never evicted")


@pytest.mark.rule("d.hibernation")
async def test_connections_survive_hibernation_with_all_they_have(sleepy: Wire) -> None:
    path = f"/agents/room-agent/{unique()}"
    async with (
        await sleepy.open(f"{path}?_pk=a&tags=red") as one,
        await sleepy.connect(f"{path}?_pk=b&silent=1") as two,
    ):
        await one.call("remember", {"user": 7})
        await one.call("set_readonly", True)
        before = [await one.call("me"), await two.call("me")]
        assert (before[0]["state"], before[0]["readonly"]) == ({"user": 7}, True)
        await _evicted(one)
        assert [await one.call("me"), await two.call("me")] == before
        assert await one.call("ids", "red") == ["a"]
        await one.send({"type": "cf_agent_state", "state": {"room": 1}})
        error = {"type": "cf_agent_state_error", "error": "Connection is readonly"}
        assert await one.receive() == error
        await two.call("replace", {"room": 2})
        await one.call("ids")
        assert (one.states()[-1], two.states()) == ({"room": 2}, [])
        await two.websocket.close(code=4000)
        await one.until(lambda journal: "close" in [kind for kind, *_ in journal])
        assert await one.call("ids") == ["a"]


@pytest.mark.rule("d.readonly")
async def test_the_readonly_flag_can_be_changed(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}?readonly=1"
    async with await wire.open(path) as socket, await wire.open(path) as other:
        assert (await socket.call("me"))["readonly"] is True
        await socket.call("set_readonly", False)
        assert (await socket.call("me"))["readonly"] is False
        await socket.send({"type": "cf_agent_state", "state": {"free": True}})
        assert (await other.receive())["state"] == {"free": True}
        await socket.call("set_readonly", True)
        await socket.send({"type": "cf_agent_state", "state": {"free": False}})
        assert (await socket.receive())["error"] == "Connection is readonly"
        await other.call("ids")
        assert other.states() == [{"room": True}, {"free": True}]


@pytest.mark.rule("d.protocol-enabled", "b.no-protocol")
async def test_the_protocol_flag_tells_what_was_decided(wire: Wire) -> None:
    path = f"/agents/room-agent/{unique()}"
    async with (
        await wire.open(path) as loud,
        await wire.connect(f"{path}?silent=1") as s,
    ):
        assert (await loud.call("me"))["protocol"] is True
        assert (await s.call("me"))["protocol"] is False
        await loud.call("replace", {"room": 1})
        await s.call("replace", {"room": 2})
        await s.call("ids")
        assert set(s.types()) == {"rpc"}


@pytest.mark.rule("d.callables")
async def test_the_callable_methods_are_listed(wire: Wire) -> None:
    async with await wire.open(f"/agents/room-agent/{unique()}") as socket:
        methods = await socket.call("methods")
        assert methods["say"] == {"description": "Says it", "streaming": False}
        assert methods["count_to"]["streaming"] is True
        assert {"me", "ids", "read_journal"} <= set(methods)
        assert not {"on_message", "set_state", "gate"} & set(methods)


@pytest.mark.rule("d.current-agent")
async def test_the_current_agent_is_known_in_every_entry(wire: Wire) -> None:
    path = f"/agents/store-agent/{unique()}"
    answer = await wire.json(path)
    seen = {"agent": True, "connection": None, "request": "GET"}
    assert answer["current"] == seen
    async with await wire.open(f"{path}?_pk=me") as socket:
        await socket.send("a message")
        current = await socket.call("current")
        assert (current["agent"], current["connection"]) == (True, "me")
        journal = dict((await socket.call("read_journal"))[1:])
        assert journal["connect"] == {**seen, "connection": "me"}
        assert journal["message"]["connection"] == "me"


@pytest.mark.rule("d.get-agent-by-name")
async def test_an_agent_calls_others_by_name(wire: Wire) -> None:
    name = unique()
    async with await wire.open(f"/agents/store-agent/{name}") as socket:
        seen = await socket.call("call_other", name, 5)
        assert seen["count"] == 5
        assert seen["fetched"]["name"] == name
        assert seen["fetched"]["query"] == {"x": "1"}
        assert seen["echo"] == ["start", {"from": "me"}]
    async with await wire.open(f"/agents/state-agent/{name}") as socket:
        assert socket.states() == [{"count": 5}]


@pytest.mark.rule("d.on-close")
async def test_a_lost_socket_is_closed_with_1006(wire: Wire) -> None:
    name = unique()
    path = f"/agents/room-agent/{name}"
    async with await wire.open(path) as watcher:
        host, port = wire.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [f"GET {path}?_pk=lost HTTP/1.1", f"Host: {host}:{port}"]
        lines += [f"{key}: {value}" for key, value in UPGRADE.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.transport.abort()
        journal = await watcher.until(
            lambda journal: "close" in [kind for kind, *_ in journal]
        )
        closes = [entry for entry in journal if entry[0] == "close"]
        assert closes[0][1:3] == ["lost", 1006]
        assert closes[0][4] is False


@pytest.mark.rule("d.destroy")
async def test_a_destroyed_instance_holds_up_nobody_else(wire: Wire) -> None:
    # Its closed sockets wake it again, just when the next instance is being loaded.
    for _ in range(25):
        async with await wire.open(f"/agents/store-agent/{unique()}") as socket:
            await socket.send(
                {"type": "rpc", "id": "1", "method": "destroy_me", "args": []}
            )
            assert (await socket.closed())[0] == 1001
        assert (await wire.answer(f"/agents/echo-agent/{unique()}"))[0] == 200
