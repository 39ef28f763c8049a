"""What clients and agents do wrong is an error for them; neighbours don't notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.server.nodes import UPGRADE, Client, Node, client, mute, node

MIB = 1 << 20


@pytest.fixture
async def running(database_url: str, tmp_path: Path) -> AsyncIterator[Node]:
    async with node(
        database_url,
        tmp_path / "log",
        DURABLE_START_TIMEOUT_SECONDS="1",
        DURABLE_MAX_BODY_BYTES="100000",
        DURABLE_MAX_MESSAGE_BYTES="1MiB",
        DURABLE_SOCKET_BUFFER_BYTES="64KiB",
    ) as running:
        yield running


@pytest.fixture
async def one(running: Node) -> AsyncIterator[Client]:
    async with client(running.url) as one:
        yield one
        # Whatever the test did: the server still serves.
        async with await one.call("/agents/room/neighbour") as neighbour:
            assert (await neighbour.reply("increment"))["success"]


async def raw(port: int, text: str) -> str:
    """Send bytes as they are; the head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(text.replace("\n", "\r\n").encode("latin-1"))
        async with asyncio.timeout(10):
            return (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    finally:
        writer.transport.abort()


# --- requests


async def test_an_unknown_class_and_a_long_name_are_400(one: Client) -> None:
    assert await one.get("/agents/absent/a") == (400, "Invalid request")
    status, text = await one.get("/agents/room/" + "x" * 1025)
    assert (status, text.partition(":")[0]) == (400, "Invalid name")
    assert (await one.get("/agents/room/" + "x" * 1024))[0] == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Version": ""},
        {"Connection": "keep-alive"},
    ],
)
async def test_a_malformed_upgrade_is_refused(
    running: Node, one: Client, changed: dict[str, str]
) -> None:
    headers = {"Host": "x", **UPGRADE, **changed}
    lines = "".join(f"{name}: {value}\n" for name, value in headers.items() if value)
    head = await raw(running.port, f"GET /agents/room/a HTTP/1.1\n{lines}\n")
    assert head.startswith("HTTP/1.1 400"), head


async def test_an_upgrade_by_post_is_refused(running: Node, one: Client) -> None:
    lines = "".join(f"{name}: {value}\n" for name, value in UPGRADE.items())
    head = await raw(
        running.port,
        f"POST /agents/room/a HTTP/1.1\nHost: x\nContent-Length: 0\n{lines}\n",
    )
    assert head.startswith("HTTP/1.1 4"), head


@pytest.mark.parametrize("host", ["x/agents/room/other?", "a b", "x#", "@", ""])
async def test_a_host_header_never_chooses_the_route(
    running: Node, one: Client, host: str
) -> None:
    head = await raw(running.port, f"GET /nowhere HTTP/1.1\nHost: {host}\n\n")
    assert head.startswith(("HTTP/1.1 404", "HTTP/1.1 400")), head


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_oversize_body_is_413_however_it_is_sent(
    one: Client, chunked: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(101):
            yield bytes(1000)

    body = pieces() if chunked else bytes(101_000)
    url = one.url + "/agents/room/a/body"
    try:
        async with one.session.post(url, data=body) as response:
            assert response.status == 413
            assert "max_body_bytes" in await response.text()
    except aiohttp.ClientConnectionError:
        assert chunked, "the server may hang up on a client that goes on sending"
    async with one.session.post(url, data=bytes(100_000)) as response:
        assert (response.status, await response.text()) == (200, "100000")


async def test_a_client_that_leaves_in_mid_body_harms_nobody(
    running: Node, one: Client
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(
        b"POST /agents/room/a/body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"
    )
    await writer.drain()
    writer.transport.abort()
    assert (await one.get("/agents/room/a"))[0] == 200


async def test_who_asks_on_without_reading_is_not_answered_without_end(
    running: Node, one: Client
) -> None:
    async with await one.call("/agents/room/a") as caller:
        await caller.reply("fill", 30_000)
    before = running.memory()
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        with pytest.raises(TimeoutError):  # noqa: PT012
            async with asyncio.timeout(3):
                while True:
                    writer.write(
                        b"GET /agents/room/a HTTP/1.1\r\nHost: x\r\n\r\n" * 100
                    )
                    await writer.drain()
        assert running.memory() - before < 60 * MIB
    finally:
        writer.transport.abort()


async def test_a_stream_is_closed_when_its_client_leaves(one: Client) -> None:
    async with one.session.get(one.url + "/agents/room/a/stream") as stream:
        await stream.content.readuntil(b"\n\n")
        stream.close()
    async with asyncio.timeout(10):
        # The generator's end, in another process, sets it.
        while (await one.get("/agents/room/a"))[1] != '{"count":-1}':  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- frames


async def test_a_large_frame_is_legal_and_an_oversize_one_is_1009(one: Client) -> None:
    async with await one.call("/agents/room/a") as caller:
        await caller.websocket.send_str("x" * 600_000)
        await caller.until("600000")
        await caller.websocket.send_str("x" * (MIB + 1))
        assert (await caller.closed())[0] == 1009


async def test_a_frame_that_is_no_frame_is_1002(running: Node, one: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    writer.write(f"GET /agents/room/a HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\xff\xff\xff\xff")
    async with asyncio.timeout(20):
        everything = await reader.read()
    assert b"\x03\xea" in everything
    writer.transport.abort()


@pytest.mark.parametrize("text", ["{", '{"type":"rpc"}', "[1]", '"\\ud800"', "{" * 999])
async def test_what_is_no_frame_of_the_protocol_is_the_agents(
    one: Client, text: str
) -> None:
    async with await one.call("/agents/room/a") as caller:
        await caller.websocket.send_str(text)
        await caller.until(str(len(text)))


# --- agents


@pytest.mark.parametrize(
    ("name", "said"),
    [("raises", "can't start today"), ("hangs", "blocked for over 1 s")],
)
async def test_a_start_that_fails_is_500_for_it_alone_and_tried_again(
    running: Node, one: Client, name: str, said: str
) -> None:
    path = f"/agents/stubborn/{name}"
    results = await asyncio.gather(*(one.get(path) for _ in range(3)))
    assert [status for status, _ in results] == [500] * 3
    # `durable dev` shows what was wrong, without a trace.
    assert all(said in text for _, text in results)
    assert "Traceback" not in results[0][1]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await one.call(path)
    assert caught.value.status == 500
    assert (await one.get("/agents/healer/h"))[0] == 200
    assert await one.get(path) == (200, "started")


async def test_a_callable_that_raises_or_returns_no_json_fails_that_call_alone(
    one: Client,
) -> None:
    async with await one.call("/agents/room/a") as caller:
        failed = await caller.reply("fail")
        assert (failed["success"], failed["error"]) == (False, "it failed")
        failed = await caller.reply("not_json")
        assert not failed["success"]
        assert "result.deep[1]" in failed["error"]
        assert (await caller.reply("increment"))["result"] == 1


async def test_a_callable_that_aborts_closes_its_callers_socket(one: Client) -> None:
    async with await one.call("/agents/room/a") as other:
        async with await one.call("/agents/room/a") as caller:
            await caller.send_call("give_up")
            assert (await caller.closed())[0] == 1012
        assert (await other.reply("increment"))["result"] == 1


async def test_101_without_an_accepted_socket_is_500(one: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await one.call("/agents/impostor/a")
    assert caught.value.status == 500


async def test_who_says_too_much_before_the_upgrade_is_answered_gets_1013(
    one: Client,
) -> None:
    async with await one.call("/agents/shouter/a") as caller:
        assert await caller.closed() == (1013, "Reading too slowly")


# --- a client that stops reading


async def test_a_client_that_stops_reading_is_closed_with_1013_alone(
    running: Node, one: Client
) -> None:
    path = "/agents/room/a"
    async with mute(running.port, path) as stuck, await one.call(path) as neighbour:
        async with await one.call(f"{path}?_pk=caller") as caller:
            before = running.memory()
            for _ in range(60):
                # 60 MB in all; the neighbour reads as they come.
                await caller.reply("flood", 10, 100_000)
                for _ in range(10):
                    await neighbour.until("x" * 100_000)
            assert running.memory() - before < 40 * MIB
            assert (await neighbour.reply("increment"))["success"]
        async with asyncio.timeout(20):
            heard = b""
            while piece := await stuck.read(MIB):
                heard = (heard + piece)[-MIB:]
        assert b"\x03\xf5Reading too slowly" in heard


async def test_states_that_a_slow_client_has_missed_are_coalesced(
    running: Node, one: Client
) -> None:
    path = "/agents/room/a"
    async with mute(running.port, path) as slow:
        async with await one.call(path) as caller:
            for _ in range(400):
                assert (await caller.reply("fill", 50_000))["success"]
        # 20 MB of states were sent, and it is still connected: it gets the last.
        heard = b""
        total = 0
        async with asyncio.timeout(20):
            while b'"count":400,' not in heard:
                piece = await slow.read(MIB)
                assert piece, "it was closed"
                total += len(piece)
                heard = (heard + piece)[-200_000:]
        assert total < 400 * 50_000


# --- a module that can't be imported


async def test_a_module_that_fails_to_import_is_told_with_file_and_line(
    database_url: str, tmp_path: Path
) -> None:
    app = tmp_path / "broken.py"
    app.write_text("import agents\n\nvalue = 1 / 0\n")
    with pytest.raises(AssertionError) as caught:
        async with node(database_url, tmp_path / "log", str(app)):
            pass
    told = str(caught.value)
    assert "broken.py" in told
    assert "line 3" in told
    assert "ZeroDivisionError" in told
