"""Section 8: WebSockets that outlive the object's memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import pytest

from durable import DurableError, Request, Response, ValueRefused
from durable.testing import Fleet
from tests.parity.probe import Gate, Probe, inside, on, sleep, turns, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

Connect = Callable[..., AbstractAsyncContextManager[aiohttp.ClientWebSocketResponse]]


@pytest.fixture
def heard(stub: Any) -> list[Any]:
    """What the object hears."""
    events: list[Any] = []
    on(stub, "message")(lambda _, ws, message: events.append(message))
    on(stub, "close")(lambda _, ws, *end: events.append(end))
    return events


async def connect(fleet: Fleet, stub: Any, query: str = "") -> Any:
    return (await fleet.http()).ws_connect(f"/agents/probe/{stub.name}{query}")


async def tags(stub: Any, tag: str | None = None) -> Any:
    def work(it: Probe) -> list[list[str]]:
        return [it.ctx.get_tags(ws) for ws in it.ctx.get_websockets(tag)]

    return sorted(await inside(stub, work))


@pytest.mark.rule("S8.1")
async def test_text_and_bytes_arrive_as_what_they_are_in_order(
    fleet: Fleet, stub: Any, heard: list[Any]
) -> None:
    async with await connect(fleet, stub) as socket:
        await socket.send_str("text")
        await socket.send_bytes(b"bytes")
        for n in range(20):
            await socket.send_str(str(n))
        await until(lambda: len(heard) == 22)
    assert heard[:22] == ["text", b"bytes", *map(str, range(20))]


@pytest.mark.rule("S8.2")
async def test_frames_to_a_client_keep_their_order_and_end_with_the_close(
    fleet: Fleet, stub: Any
) -> None:
    def work(it: Probe) -> None:
        (socket,) = it.ctx.get_websockets()
        for n in range(50):
            it.storage.put("n", n)
            socket.send(str(n))
        socket.send(b"bytes")
        socket.close(4001, "done")
        socket.send("after the close")

    async with await connect(fleet, stub) as socket:
        await inside(stub, work)
        frames = [message.data async for message in socket]
        assert frames == [*map(str, range(50)), b"bytes"]
        assert socket.close_code == 4001


@pytest.mark.rule("S8.3")
async def test_sockets_are_found_by_tag(fleet: Fleet, stub: Any) -> None:
    async with (
        await connect(fleet, stub, "?tag=red&tag=big"),
        await connect(fleet, stub, "?tag=red"),
        await connect(fleet, stub),
    ):
        assert await tags(stub) == [[], ["red"], ["red", "big"]]
        assert await tags(stub, "big") == [["red", "big"]]
        assert await tags(stub, "blue") == []
        await sleep(fleet, stub)
        assert await tags(stub, "red") == [["red"], ["red", "big"]]


@pytest.mark.rule("S8.4")
@pytest.mark.parametrize(
    ("count", "size", "fits"), [(10, 256, True), (11, 1, False), (1, 257, False)]
)
async def test_up_to_10_distinct_tags_of_up_to_256_characters(
    fleet: Fleet, stub: Any, count: int, size: int, fits: bool
) -> None:
    query = "&".join(f"tag={n:0{size}}" for n in [*range(count), 0])
    if fits:
        async with await connect(fleet, stub, f"?{query}"):
            assert len((await tags(stub))[0]) == 10
        return
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with await connect(fleet, stub, f"?{query}"):
            pass


@pytest.mark.rule("S8.5")
async def test_only_an_upgrade_can_be_accepted_and_only_once(
    fleet: Fleet, stub: Any
) -> None:
    refused: list[str] = []

    def accept(it: Probe, request: Request) -> Response:
        with pytest.raises(ValueError, match="upgrade") as caught:
            it.ctx.accept_websocket(request)
        refused.append(str(caught.value))
        return Response("no")

    on(stub, "fetch")(accept)
    on(stub, "connected")(lambda it, _, request: accept(it, request))
    async with (await fleet.http()).get(f"/agents/probe/{stub.name}"):
        assert len(refused) == 1
    async with await connect(fleet, stub):
        assert len(refused) == 2


@pytest.mark.rule("S8.6", "S8.18")
@pytest.mark.parametrize("clean", [True, False])
async def test_the_object_hears_of_the_end_of_a_socket(
    fleet: Fleet, stub: Any, heard: list[Any], clean: bool
) -> None:
    async with await connect(fleet, stub) as socket:
        if clean:
            await socket.close(code=4007, message=b"bye")
            assert socket.close_code == 4007
        else:
            # As when its network is gone: no handshake.
            socket._response.connection.transport.abort()
        await until(lambda: bool(heard))
    assert heard == [(4007, "bye", True) if clean else (1006, "", False)]
    assert await tags(stub) == []


@pytest.mark.rule("S8.7")
async def test_a_message_wakes_who_sleeps(
    fleet: Fleet, stub: Any, heard: list[Any]
) -> None:
    async with await connect(fleet, stub) as socket:
        await sleep(fleet, stub)
        await socket.send_str("good morning")
        await until(lambda: bool(heard))
        assert heard == ["good morning"]
        assert Probe.lives[stub.name] == 2


@pytest.mark.rule("S8.8")
async def test_an_attachment_survives_sleep_and_the_last_one_wins(
    fleet: Fleet, stub: Any
) -> None:
    def attach(it: Probe, value: Any) -> None:
        it.ctx.get_websockets()[0].serialize_attachment(value)

    def attached(it: Probe) -> Any:
        return it.ctx.get_websockets()[0].deserialize_attachment()

    on(stub, "attach")(attach)
    async with await connect(fleet, stub):
        assert await inside(stub, attached) is None
        await stub.do("attach", {"first": 1})
        await stub.do("attach", {"who": ("ann", b"\0")})
        await sleep(fleet, stub)
        assert await inside(stub, attached) == {"who": ("ann", b"\0")}


@pytest.mark.rule("S8.9")
async def test_an_attachment_has_up_to_16384_bytes(fleet: Fleet, stub: Any) -> None:
    def attach(it: Probe) -> str:
        (socket,) = it.ctx.get_websockets()
        socket.serialize_attachment("x" * 16_382)
        with pytest.raises(ValueRefused, match="16384"):
            socket.serialize_attachment("x" * 16_383)
        return str(socket.deserialize_attachment()[:2])

    async with await connect(fleet, stub):
        assert await inside(stub, attach) == "xx"


@pytest.mark.rule("S8.10")
async def test_a_reset_closes_the_socket_whose_message_is_lost_and_no_other(
    fleet: Fleet, stub: Any
) -> None:
    @on(stub, "message")
    def receive(it: Probe, socket: Any, message: str) -> None:
        it.storage.put("said", message)

    async with await connect(fleet, stub) as one, await connect(fleet, stub) as two:
        await fleet.settle()
        fleet.fail_commit(stub)
        await one.send_str("lost")
        assert (await one.receive(timeout=5)).type == aiohttp.WSMsgType.CLOSE
        assert one.close_code == 1012
        await inside(stub, lambda it: it.ctx.get_websockets()[0].send("still there"))
        assert await two.receive_str(timeout=5) == "still there"


@pytest.mark.rule("S8.11")
async def test_what_a_message_handler_raises_closes_nothing(
    fleet: Fleet, stub: Any
) -> None:
    @on(stub, "message")
    def receive(it: Probe, socket: Any, message: str) -> None:
        if message == "bad":
            raise ValueError(message)
        socket.send(f"heard {message}")

    async with await connect(fleet, stub) as socket:
        await socket.send_str("bad")
        await socket.send_str("good")
        assert await socket.receive_str(timeout=5) == "heard good"


@pytest.mark.rule("S8.12")
@pytest.mark.parametrize(
    ("code", "reason"),
    [(999, ""), (1005, ""), (1006, ""), (5000, ""), (1000, "x" * 124)],
)
async def test_what_can_not_be_sent_as_a_close_is_refused(
    fleet: Fleet, stub: Any, code: int, reason: str
) -> None:
    def close(it: Probe) -> str:
        (socket,) = it.ctx.get_websockets()
        with pytest.raises(ValueError, match="close"):
            socket.close(code, reason)
        return "refused"

    async with await connect(fleet, stub):
        assert await inside(stub, close) == "refused"


@pytest.mark.rule("S8.13")
async def test_a_protocol_ping_is_answered_without_waking_the_object(
    fleet: Fleet, stub: Any
) -> None:
    async with (await fleet.http()).ws_connect(
        f"/agents/probe/{stub.name}", autoping=False
    ) as socket:
        await sleep(fleet, stub)
        await socket.ping(b"still there?")
        pong = await socket.receive(timeout=5)
        assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"still there?")
        assert Probe.lives[stub.name] == 1


@pytest.mark.rule("S8.14")
async def test_a_socket_that_is_gone_takes_messages_and_does_nothing(
    fleet: Fleet, stub: Any
) -> None:
    kept: list[Any] = []
    on(stub, "connected")(lambda _, socket, __: kept.append(socket))
    async with await connect(fleet, stub):
        pass

    def send(it: Probe) -> str:
        kept[0].send("anybody?")
        kept[0].close()
        return "nothing happened"

    while await tags(stub):
        await turns()
    assert await inside(stub, send) == "nothing happened"


@pytest.mark.rule("S8.15")
async def test_a_value_is_no_message(fleet: Fleet, stub: Any) -> None:
    async with await connect(fleet, stub):
        with pytest.raises(DurableError, match=r"json\.dumps"):
            await inside(stub, lambda it: it.ctx.get_websockets()[0].send({"a": 1}))


def answer(it: Probe, request: str | None, response: str = "") -> Any:
    it.ctx.set_websocket_auto_response(request, response)
    return it.ctx.get_websocket_auto_response()


def answered(it: Probe) -> Any:
    (socket,) = it.ctx.get_websockets()
    return it.ctx.get_websocket_auto_response_timestamp(socket)


@pytest.mark.rule("S8.19", "S8.20")
async def test_an_automatic_response_is_sent_without_waking_the_object(
    fleet: Fleet, stub: Any, heard: list[Any]
) -> None:
    on(stub, "answer")(answer)
    async with await connect(fleet, stub) as socket:
        assert await inside(stub, answered) is None
        assert await stub.do("answer", "ping", "pong") == ("ping", "pong")
        await sleep(fleet, stub)
        for _ in range(2):
            await socket.send_str("ping")
            assert await socket.receive_str(timeout=5) == "pong"
        assert Probe.lives[stub.name] == 1
        # Only this very text, and only text.
        await socket.send_str("ping ")
        await socket.send_bytes(b"ping")
        await until(lambda: len(heard) == 2)
        assert heard == ["ping ", b"ping"]
        assert (await inside(stub, answered)).tzinfo is not None
        assert await stub.do("answer", None) is None
        await socket.send_str("ping")
        await until(lambda: len(heard) == 3)


@pytest.mark.rule("S8.19")
async def test_an_automatic_response_has_up_to_2048_bytes(stub: Any) -> None:
    on(stub, "answer")(answer)
    longest = "é" * 1024
    assert await stub.do("answer", longest, longest) == (longest, longest)
    for request, response in ((longest + "a", "b"), ("a", longest + "b")):
        with pytest.raises(ValueRefused, match="2048"):
            await stub.do("answer", request, response)


@pytest.mark.rule("S8.21")
async def test_a_handler_that_outlasts_the_event_timeout_is_cancelled(
    fleet: Fleet, stub: Any
) -> None:
    ended: list[str] = []

    @on(stub, "message")
    async def receive(it: Probe, socket: Any, message: str) -> None:
        if message == "for ever":
            try:
                await Gate()()
            finally:
                ended.append(message)
        socket.send(f"heard {message}")

    def limit(it: Probe, seconds: Any) -> Any:
        it.ctx.set_hibernatable_websocket_event_timeout(seconds)
        return it.ctx.get_hibernatable_websocket_event_timeout()

    on(stub, "limit")(limit)
    assert await stub.do("limit", 0.05) == 0.05
    async with await connect(fleet, stub) as socket:
        await socket.send_str("for ever")
        await until(lambda: ended)
        await socket.send_str("briefly")
        assert await socket.receive_str(timeout=5) == "heard briefly"
    assert await stub.do("limit", 7 * 86_400) == 7 * 86_400
    with pytest.raises(DurableError):
        await stub.do("limit", 7 * 86_400 + 1)
    assert await stub.do("limit", None) is None
