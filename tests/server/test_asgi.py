"""Our side of ASGI, against an ASGI server that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from durable import BodyTooLarge, Request, Response
from server.asgi import Incoming, request_of, respond


def scope_of(**changed: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"q=1",
        "headers": [(b"host", b"x:1"), (b"content-length", b"4")],
        **changed,
    }


class Server:
    """Hands out messages, keeps what it is sent; without any left, it waits."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.more = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> Any:
        while not self.messages:
            self.more.clear()
            await self.more.wait()
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self.messages.append({"type": "http.disconnect"})
        self.more.set()


def body(*pieces: bytes) -> list[dict[str, Any]]:
    messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
    messages[-1]["more_body"] = False
    return messages


async def test_a_request_is_read_in_pieces_up_to_the_limit() -> None:
    server = Server(*body(b"ab", b"", b"cd"), *body(b"abc", b"def"))
    request = request_of(scope_of(), server.receive, 4, 30)
    assert (request.url, request.path) == ("http://x:1/a%20b?q=1", "/a%20b")
    assert [piece async for piece in request.body] == [b"ab", b"cd"]
    with pytest.raises(BodyTooLarge):
        await request_of(scope_of(), server.receive, 4, 30).bytes()


@pytest.mark.parametrize("host", [b"x/agents/room/a?", b"a b", b"@", b""])
def test_a_host_header_never_chooses_the_route(host: bytes) -> None:
    scope = scope_of(headers=[(b"host", host)])
    assert request_of(scope, Server().receive, 4, 30).path == "/a%20b"


@pytest.mark.parametrize("has_body", [True, False])
async def test_a_stream_ends_when_its_client_has_left(has_body: bool) -> None:
    """Servers drop what is sent to nobody, so sending never fails."""
    log: list[Any] = []
    server = Server(*(body(b"ab") if has_body else ()))
    scope = scope_of() if has_body else scope_of(headers=[])
    incoming = Incoming(scope, server.receive)
    request: Request = request_of(scope, incoming, 4, 30)

    async def ticks() -> AsyncIterator[bytes]:
        try:
            log.append(await request.bytes())
            while True:
                yield b"tick"
                await asyncio.sleep(0)
        finally:
            log.append("closed")

    answering = asyncio.create_task(respond(Response(ticks()), incoming, server.send))
    while len(server.sent) < 5:  # noqa: ASYNC110  # the other task's turns
        await asyncio.sleep(0)
    server.leave()
    async with asyncio.timeout(5):
        await answering
    assert log == [b"ab" if has_body else b"", "closed"]


async def test_a_stream_that_ends_says_so() -> None:
    server = Server()

    async def two() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    incoming = Incoming(scope_of(headers=[]), server.receive)
    response = Response(two(), status=201, headers={"X-A": "1", "Connection": "close"})
    await respond(response, incoming, server.send)
    assert [message.get("body") for message in server.sent] == [None, b"a", b"b", b""]
    assert (server.sent[0]["status"], server.sent[0]["headers"]) == (
        201,
        [(b"x-a", b"1")],
    )
