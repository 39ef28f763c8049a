"""What attackers send, as bytes: the right status or close code, no trace, no memory.

Each case is sent alone, on a fresh connection; after all of them the node still serves.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.server.nodes import UPGRADE, Node, client, node

APP = "tests/server/guarded_app.py"
PATH = "/agents/vault/open"
MIB = 1 << 20
LIMIT = 20


SETTINGS = {
    "DURABLE_IDLE_CONNECTION_SECONDS": "1",
    "DURABLE_BODY_SECONDS": "1",
    "DURABLE_MAX_BODY_BYTES": "100000",
    "DURABLE_MAX_MESSAGE_BYTES": "1MiB",
}


@pytest.fixture(params=["both", "front"])
async def running(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> AsyncIterator[Node]:
    """A node that owns the agents, and a front end whose worker does."""
    async with AsyncExitStack() as stack:

        async def start(role: str) -> Node:
            starting = node(
                database_url, tmp_path / role, APP, DURABLE_ROLE=role, **SETTINGS
            )
            return await stack.enter_async_context(starting)

        if request.param == "front":
            await start("worker")
        running = await start(request.param)
        yield running
        async with client(running.url) as one:
            assert (await one.get(PATH))[0] == 200, "it serves on"


@asynccontextmanager
async def connected(
    running: Node,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", running.port, limit=8 * MIB
    )
    try:
        async with asyncio.timeout(LIMIT):
            yield reader, writer
    finally:
        writer.transport.abort()


async def everything(running: Node, sent: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    async with connected(running) as (reader, writer):
        writer.write(sent)
        try:
            answer = await reader.read()
        except ConnectionResetError:
            return b""
        assert b"Traceback" not in answer
        return answer


def statuses(answer: bytes) -> list[int]:
    # aiohttp answers what it couldn't parse as HTTP/1.0.
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def head(*lines: str, method: str = "POST") -> bytes:
    text = "\r\n".join([f"{method} {PATH} HTTP/1.1", "Host: x", *lines, "", ""])
    return text.encode("latin-1")


SMUGGLED = b"GET /agents/vault/told HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"

SMUGGLING = {
    "length and chunked": head("Content-Length: 6", CHUNKED) + b"0\r\n\r\n" + SMUGGLED,
    "chunked and length": head(CHUNKED, "Content-Length: 6") + b"0\r\n\r\n" + SMUGGLED,
    "two lengths": head("Content-Length: 5", "Content-Length: 6") + b"hello" + SMUGGLED,
    "a list of lengths": head("Content-Length: 5, 5") + b"hello" + SMUGGLED,
    "a signed length": head("Content-Length: +5") + b"hello" + SMUGGLED,
    "a negative length": head("Content-Length: -1") + SMUGGLED,
    "a hex length": head("Content-Length: 0x5") + b"hello" + SMUGGLED,
    "a length with an underscore": head("Content-Length: 1_0") + SMUGGLED,
    "chunked twice": head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "chunked is not last": head("Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "an unknown coding": head("Transfer-Encoding: xchunked") + b"0\r\n\r\n" + SMUGGLED,
    "a space before the colon": head("Content-Length : 5") + b"hello" + SMUGGLED,
    "a folded header": head("X-A: 1", " folded") + SMUGGLED,
    "a bare LF": b"GET / HTTP/1.1\nHost: x\n\n" + SMUGGLED,
    "a bare CR": head("X-A: 1\rX-B: 2") + SMUGGLED,
    "a NUL": head("X-A: a\0b") + SMUGGLED,
    "two hosts": head("Host: y") + SMUGGLED,
    "a name that is none": head("X A: 1") + SMUGGLED,
    "an empty name": head(": 1") + SMUGGLED,
    "a chunk size that is none": head(CHUNKED) + b"zz\r\nhello\r\n0\r\n\r\n",
    "a signed chunk size": head(CHUNKED) + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size of 0x": head(CHUNKED) + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk without its end": head(CHUNKED) + b"5\r\nhelloGET / HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n" + SMUGGLED,
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: x\r\n\r\n" + SMUGGLED,
    "no request at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


async def test_what_could_smuggle_a_request_is_400_and_nothing_behind_it_is_served(
    running: Node,
) -> None:
    wrong: dict[str, list[int]] = {}
    for name, sent in SMUGGLING.items():
        got = statuses(await everything(running, sent))
        # Told is 401: no answer to it, nor to anything after the bad request.
        if got not in ([400], [501], [505]):
            wrong[name] = got
    assert not wrong


async def test_more_headers_than_allowed_are_400(running: Node) -> None:
    many = [f"X-{n}: 1" for n in range(200)]
    assert statuses(await everything(running, head(*many))) == [400]
    few = [f"X-{n}: 1" for n in range(100)]
    got = await everything(running, head(*few, "Connection: close", method="GET"))
    assert statuses(got) == [200]


async def test_headers_of_one_hop_and_forged_internal_ones_do_not_reach_the_agent(
    running: Node,
) -> None:
    answer = await everything(
        running,
        head(
            "Connection: close, X-Secret",
            "X-Secret: 1",
            "Keep-Alive: 5",
            "TE: trailers",
            "Proxy-Authorization: Basic abc",
            'X-Durable-Identity: {"user":"root"}',
            'x-durable-identity: {"user":"root"}',
            "X-Kept: 1",
            method="GET",
        ),
    )
    assert statuses(answer) == [200]
    shown = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert shown["identity"] is None
    assert shown["headers"] == ["connection", "host", "x-kept"]


async def test_a_body_on_an_upgrade_is_refused_and_not_taken_for_frames(
    running: Node,
) -> None:
    lines = [f"{name}: {value}" for name, value in UPGRADE.items()]
    for more in ("Content-Length: 5", CHUNKED):
        sent = head(*lines, more, method="GET") + b"hello" + SMUGGLED
        assert statuses(await everything(running, sent)) == [400], more


# --- slow and large


async def test_a_head_that_drips_is_cut_off_in_time(running: Node) -> None:
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "):
        began = time.monotonic()
        async with connected(running) as (reader, writer):
            writer.write(sent)
            dripping = asyncio.ensure_future(drip(writer) if sent else reader.read(0))
            assert await reader.read() == b""
            dripping.cancel()
        assert time.monotonic() - began < 5


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte every now and then, until the server has had enough."""
    while not writer.transport.is_closing():
        writer.write(b"a")
        await asyncio.sleep(0.1)


async def test_a_body_that_drips_is_408_in_time(running: Node) -> None:
    began = time.monotonic()
    async with connected(running) as (reader, writer):
        writer.write(head("Content-Length: 50000"))
        dripping = asyncio.ensure_future(drip(writer))
        answer = await reader.readuntil(b"\r\n")
        dripping.cancel()
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 5


async def test_many_idle_connections_go_and_give_their_memory_back(
    running: Node,
) -> None:
    async def opened() -> None:
        assert await everything(running, b"GET / HT") == b""

    await asyncio.gather(*(opened() for _ in range(100)))
    before = running.memory()
    for _ in range(3):
        await asyncio.gather(*(opened() for _ in range(300)))
    assert running.memory() <= before * 1.1 + 20 * MIB


async def test_a_compressed_body_is_limited_by_what_it_becomes(running: Node) -> None:
    bomb = zlib.compress(bytes(64 * MIB), 9)
    assert len(bomb) < 100_000
    before = running.memory()
    sent = head(
        "Content-Encoding: deflate",
        f"Content-Length: {len(bomb)}",
        "Connection: close",
    )
    got = statuses(await everything(running, sent + bomb))
    assert got == [413]
    assert running.memory() <= before * 1.1 + 20 * MIB


# --- frames


def frame(opcode: int, payload: bytes, *, fin: bool = True, bits: int = 0) -> bytes:
    """A client's frame, masked with zeros."""
    first = (0x80 if fin else 0) | bits | opcode
    if len(payload) < 126:
        size = bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        size = b"\xfe" + struct.pack(">H", len(payload))
    else:
        size = b"\xff" + struct.pack(">Q", len(payload))
    return bytes([first]) + size + bytes(4) + payload


FRAMES = {
    "a reserved bit": (frame(1, b"hi", bits=0x20), 1002),
    "compressed, which was not agreed": (frame(1, b"hi", bits=0x40), 1002),
    "a reserved opcode": (frame(3, b"hi"), 1002),
    "a reserved control opcode": (frame(11, b"hi"), 1002),
    "a long ping": (frame(9, b"x" * 126), 1002),
    "a ping in parts": (frame(9, b"x", fin=False), 1002),
    "a continuation of nothing": (frame(0, b"x"), 1002),
    "text inside of text": (frame(1, b"a", fin=False) + frame(1, b"b"), 1002),
    "text that is not UTF-8": (frame(1, b"\xff\xfe"), 1007),
    "a close of one byte": (frame(8, b"\x03"), 1002),
    "a close with code 1005": (frame(8, struct.pack(">H", 1005)), 1002),
    "a close with code 999": (frame(8, struct.pack(">H", 999)), 1002),
    "a close that is not UTF-8": (frame(8, b"\x03\xe8\xff"), 1007),
    "too large, as it says itself": (
        b"\x81\xff" + struct.pack(">Q", 1 << 40) + bytes(4),
        1009,
    ),
    "too large in parts": (
        b"".join(
            frame(2 if n == 0 else 0, bytes(MIB // 4), fin=False) for n in range(5)
        ),
        1009,
    ),
}


async def upgraded(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *more: str
) -> bytes:
    lines = [f"{name}: {value}" for name, value in UPGRADE.items()]
    writer.write(head(*lines, *more, method="GET"))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return answer


async def close_code(reader: asyncio.StreamReader) -> int | None:
    """The code of the server's closing frame; None if it just hung up."""
    try:
        while True:
            first, size = await reader.readexactly(2)
            length = size & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
            payload = await reader.readexactly(length)
            if first & 0x0F == 8:
                return int.from_bytes(payload[:2])
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None


async def test_each_malformed_frame_closes_its_socket_with_the_right_code(
    running: Node,
) -> None:
    wrong: dict[str, int | None] = {}
    before = running.memory()
    for name, (sent, expected) in FRAMES.items():
        async with connected(running) as (reader, writer):
            await upgraded(reader, writer)
            writer.write(sent)
            code = await close_code(reader)
        if code != expected:
            wrong[name] = code
    assert not wrong
    assert running.memory() <= before * 1.1 + 20 * MIB


async def test_compression_of_frames_is_never_agreed_to(running: Node) -> None:
    async with connected(running) as (reader, writer):
        answer = await upgraded(
            reader, writer, "Sec-WebSocket-Extensions: permessage-deflate"
        )
    assert b"extensions" not in answer.lower()


async def test_a_protocol_that_the_agent_does_not_speak_is_not_echoed(
    running: Node,
) -> None:
    async with connected(running) as (reader, writer):
        answer = await upgraded(reader, writer, "Sec-WebSocket-Protocol: chat, evil")
    assert b"sec-websocket-protocol" not in answer.lower()


async def test_the_client_of_this_file_is_right_where_the_others_are_wrong(
    running: Node,
) -> None:
    """Else every case above would be refused for a reason of its own."""
    async with connected(running) as (reader, writer):
        await upgraded(reader, writer)
        writer.write(frame(9, b"x" * 125) + frame(8, struct.pack(">H", 1000)))
        assert await close_code(reader) == 1000
    sent = head("Content-Length: 5", "Connection: close") + b"hello"
    answer = await everything(running, sent)
    assert statuses(answer) == [200]
    assert b'"body":5' in answer
