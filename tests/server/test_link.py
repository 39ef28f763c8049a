"""The link of two nodes, over real TCP: known first, then many frames at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable import (
    BodyTooLarge,
    Frame,
    Overloaded,
    RemoteError,
    Request,
    Response,
    Unavailable,
    ValueRefused,
)
from durable.domain.errors import LinkLost, Moved
from server.link import connection, frames
from server.link.handshake import MAGIC
from tests.objects.scripted import turns
from tests.server.link_nodes import (
    SECOND,
    SECRET,
    TARGET,
    linked,
    raw,
    two_nodes,
)

# --- who is who


async def test_either_node_may_come_first_and_there_is_one_link() -> None:
    async with linked() as (first, second):
        assert (len(first.mesh), len(second.mesh)) == (1, 1)
        await first.mesh.look()
        await second.mesh.look()
        await second.mesh.complete()
        assert (len(first.mesh), len(second.mesh)) == (1, 1)
        # Each has told the other what it serves.
        while first.shard_map.owner(2) is None or second.shard_map.owner(1) is None:
            await turns(1)
        assert first.shard_map.owner(2) == SECOND


async def test_a_node_with_another_secret_is_not_linked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two_nodes(secret="t" * 32) as (first, second):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await first.mesh.complete()
        assert (len(first.mesh), len(second.mesh)) == (0, 0)
        assert "the link's secret is another one" in caplog.text
        assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 60,
        b"\x00" * 200,
        MAGIC + b"x" * 80,
    ],
    ids=["http", "zeros", "no proof"],
)
async def test_nothing_is_parsed_before_the_proof(greeting: bytes) -> None:
    async with two_nodes() as (first, _):
        reader, writer = await raw(first)
        writer.write(greeting)
        # Our greeting and proof may come; then the connection ends.
        received = await reader.read()
        assert len(received) <= 56 + 32
        assert len(first.mesh) == 0
        writer.close()


async def test_a_proof_that_was_sent_back_is_none() -> None:
    async with two_nodes() as (first, _):
        reader, writer = await raw(first)
        greeting = await reader.readexactly(56)
        writer.write(MAGIC + SECOND.bytes + greeting[24:])
        proof = await reader.readexactly(32)
        writer.write(proof)
        assert await reader.read() == b""
        assert len(first.mesh) == 0
        writer.close()


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_SECONDS", 0.05)
    async with two_nodes() as (first, _):
        reader, writer = await raw(first)
        assert len(await reader.read()) == 56, "our greeting, and no more"
        writer.close()


async def test_a_frame_that_claims_to_be_huge_ends_the_link() -> None:
    async with linked() as (first, second):
        transport = second.peer.connection._transport
        assert transport is not None
        transport.write(frames.HEAD.pack(connection.MAX_FRAME_BYTES + 1))
        while len(first.mesh):
            await turns(1)
        assert first.woken, "its shards may be free"


async def test_a_node_that_does_not_read_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_UNSENT_BYTES", 1 << 20)
    async with linked() as (first, second):
        transport = second.peer.connection._transport
        assert transport is not None
        transport.pause_reading()
        calling = asyncio.create_task(first.call("echo", "x" * (32 << 20)))
        with pytest.raises(LinkLost):
            await calling


async def test_a_hint_wakes_the_keepers_of_all_others() -> None:
    async with linked() as (first, second):
        first.mesh.hint()
        while not second.woken:
            await turns(1)
        assert first.woken == 0


# --- calls


async def test_a_call_and_its_result_cross_with_their_types() -> None:
    async with linked() as (first, second):
        for node in (first, second):
            got = await node.call("echo", b"\x00", (1, {2}), key=2**80)
            args = [b"\x00", (1, {2})]
            assert got == [
                TARGET.value.hex,
                "room é",
                args,
                {"key": 2**80},
                {"p": 1},
            ]


async def test_errors_cross_as_what_they_are_and_without_a_trace() -> None:
    async with linked() as (first, _):
        with pytest.raises(RemoteError, match="what") as caught:
            await first.call("fail", "what")
        assert (caught.value.name, caught.value.remote) == ("LookupError", True)
        with pytest.raises(Moved):
            await first.call("moved")
        with pytest.raises(Overloaded) as overloaded:
            await first.call("overloaded")
        assert overloaded.value.overloaded


async def test_many_calls_are_under_way_at_once() -> None:
    async with linked() as (first, second):
        calls = [n.call("echo", i) for i in range(100) for n in (first, second)]
        results = await asyncio.gather(*calls)
        assert [r[2] for r in results] == [[i] for i in range(100) for _ in "ab"]


async def test_a_call_that_nobody_waits_for_is_cancelled_there() -> None:
    async with linked() as (first, second):
        calling = asyncio.create_task(first.call("hang"))
        await second.objects.began.wait()
        calling.cancel()
        await second.objects.cancelled.wait()


async def test_when_the_link_is_lost_calls_in_it_end_and_later_ones_fail() -> None:
    async with linked() as (first, second):
        calling = asyncio.create_task(first.call("hang"))
        await second.objects.began.wait()
        peer = first.peer
        await second.mesh.close()
        with pytest.raises((LinkLost, Unavailable)):
            await calling
        while len(first.mesh):
            await turns(1)
        with pytest.raises(LinkLost):
            await peer.objects.call(TARGET, "echo", "[[],{}]", None)


# --- requests


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def test_requests_and_responses_stream_both_ways() -> None:
    async with linked() as (first, second):
        second.objects.answer = lambda request: Response(
            request.body, headers={"X-Path": request.path}
        )
        sent = Request("POST", "http://h/a%20b", body=pieces(10, 3 << 20, 1))
        answer = await first.peer.objects.fetch(TARGET, sent, None)
        assert (answer.status, answer.headers["x-path"]) == (200, "/a%20b")
        assert len(await answer.bytes()) == 10 + (3 << 20) + 1


async def test_a_body_that_the_object_does_not_want_stays_untouched() -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for number in range(1000):
            read.append(number)
            yield b"x" * 65536

    async with linked() as (first, second):
        second.objects.answer = lambda request: Response("no, thanks", status=409)
        sent = Request("POST", "http://h/", body=body())
        answer = await first.peer.objects.fetch(TARGET, sent, None)
        assert (answer.status, read) == (409, [])


async def test_a_slow_reader_slows_its_own_body_and_no_other() -> None:
    produced = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield b"x" * 65536

    async with linked() as (first, second):
        second.objects.answer = lambda request: Response(body())
        slow = await first.peer.objects.fetch(TARGET, Request("GET", "http://h/"), None)
        reading = slow.body
        await anext(reading)
        second.objects.answer = lambda request: Response("quick")
        for _ in range(10):
            quick = await first.peer.objects.fetch(
                TARGET, Request("GET", "http://h/"), None
            )
            assert await quick.text() == "quick"
        assert produced < 20
        await reading.aclose()  # type: ignore[attr-defined]
        await first.call("echo")
        assert produced < 20, "nobody reads on"


async def test_a_body_that_fails_fails_at_its_reader() -> None:
    async def too_large() -> AsyncIterator[bytes]:
        yield b"x"
        raise BodyTooLarge("over the limit")

    async def answer(request: Request) -> Response:
        return Response(str(len(await request.bytes())))

    async with linked() as (first, second):
        second.objects.answer = answer
        sent = Request("POST", "http://h/", body=too_large())
        with pytest.raises(BodyTooLarge, match="over the limit"):
            await first.peer.objects.fetch(TARGET, sent, None)


async def test_a_result_over_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.link.serving.MAX_RESULT_BYTES", 1000)
    async with linked() as (first, _):
        with pytest.raises(ValueRefused, match="1000 bytes"):
            await first.call("large", 2000)
        assert await first.call("large", 10) == "x" * 10


# --- sockets


async def test_a_frame_for_many_sockets_crosses_once() -> None:
    async with linked() as (first, _):
        sent: list[bytes] = []
        link = first.peer.connection
        transport = link._transport
        assert transport is not None
        monkey = transport.write

        class Writing:
            def write(self, data: bytes) -> None:
                sent.append(data)
                monkey(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        link._transport = Writing()  # type: ignore[assignment]
        frame = Frame(b"state " + b"x" * 10_000, coalesce=True)
        for number in range(1000):
            link.say_to(number, frame)
        await turns(2)
        (wire,) = sent
        assert wire.count(b"state ") == 1
        assert len(wire) < 10_000 + 5_000


async def test_what_was_sent_over_all_links_is_counted() -> None:
    async with linked() as (first, _):
        before = first.mesh.meter.frames, first.mesh.meter.bytes
        frame = Frame(b"x" * 10_000)
        for number in range(1000):
            first.peer.connection.say_to(number, frame)
        await turns(2)
        assert first.mesh.meter.frames == before[0] + 1
        assert first.mesh.meter.bytes > before[1] + 10_000


async def test_the_port_of_a_link_is_not_reachable_from_outside_by_default() -> None:
    async with two_nodes() as (first, _):
        assert first.mesh.address.startswith("127.0.0.1:")
        assert socket.gethostbyname("localhost") == "127.0.0.1"
