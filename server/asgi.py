"""Agents inside an ASGI server: its scope, receive and send ↔ ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict, CIMultiDictProxy

from durable import BodyTooLarge, DurableObjectId, Frame, Overloaded, Request, Response
from durable.domain.errors import DurableError
from server.backlog import NO_STATUS, Backlog
from server.http import host_of
from server.whole import HOP_BY_HOP

if TYPE_CHECKING:
    from durable.objects.websocket import SocketRecord
    from server.socket import SocketEvents

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TRY_LATER, RESTARTED = 1013, 1012


def request_of(scope: Scope, receive: Receive, max_body: int) -> Request:
    """Our view of a request; its body is read when somebody asks for it."""
    headers = CIMultiDictProxy(
        CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
        )
    )
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    raw = scope.get("raw_path") or scope["path"].encode()
    path = raw.partition(b"?")[0].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    url = f"{scheme}://{host_of(headers)}{path}"
    if query:
        url += f"?{query}"
    if scope["type"] == "websocket":
        return Request("GET", url, headers=headers)
    has_body = "Content-Length" in headers or "Transfer-Encoding" in headers
    body = _body(receive, max_body) if has_body else None
    return Request(scope["method"], url, headers=headers, body=body)


class Incoming:
    """The messages of one request: its body, and then whether the client has left."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._body_ended = asyncio.Event()
        names = {name.lower() for name, _ in scope["headers"]}
        if not names & {b"content-length", b"transfer-encoding"}:
            self._body_ended.set()

    async def __call__(self) -> Message:
        """The next message, for whoever reads the body."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self._body_ended.set()
        return message

    async def left(self) -> None:
        """Return when the client has gone: servers drop what is sent then, silently."""
        await self._body_ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _body(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    received, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left while sending its body")
        piece, more = message.get("body", b""), message.get("more_body", False)
        received += len(piece)
        if received > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes (max_body_bytes)")
        if piece:
            yield piece


async def respond(response: Response, incoming: Incoming, send: Send) -> None:
    """Send our response; a streamed body goes as fast as the server takes it."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
        if name.lower() not in HOP_BY_HOP
    ]
    content = response.content
    if content is None or isinstance(content, bytes):
        body = content or b""
        headers.append((b"content-length", str(len(body)).encode()))
        await _start(response, headers, send)
        await send({"type": "http.response.body", "body": body})
        return
    await _start(response, headers, send)
    leaving = asyncio.get_running_loop().create_task(incoming.left())
    pieces: Any = response.body
    try:
        async for piece in pieces:
            if leaving.done():
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        leaving.cancel()
        await pieces.aclose()


async def _start(
    response: Response, headers: list[tuple[bytes, bytes]], send: Send
) -> None:
    await send(
        {"type": "http.response.start", "status": response.status, "headers": headers}
    )


async def refuse(response: Response, scope: Scope, send: Send) -> None:
    """Answer an upgrade with something else than a socket."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": "Refused"})
        return
    headers = [(n.lower().encode(), v.encode()) for n, v in response.headers.items()]
    start = {"type": "websocket.http.response.start", "status": response.status}
    await send({**start, "headers": headers})
    body = await response.bytes()
    await send({"type": "websocket.http.response.body", "body": body})


class AsgiSocket:
    """A client's socket that an ASGI server holds (a SocketPort)."""

    def __init__(self, limit: int) -> None:
        self._backlog = Backlog(limit)
        self._said = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._open = False
        self._object_id: DurableObjectId | None = None
        self._record: SocketRecord | None = None

    def accepted(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """An object took the socket: messages go there."""
        self._object_id, self._record = object_id, record

    def send(self, frame: Frame) -> None:
        """Send a frame as soon as the server takes it."""
        if self._closing is not None:
            return
        self._backlog.push(frame)
        if self._backlog.is_over:
            self._backlog.clear()
            self._closing = (TRY_LATER, "Reading too slowly")
        self._said.set()

    def take_back(self) -> None:
        """Forget what was sent, as long as the upgrade isn't answered."""
        if not self._open:
            self._backlog.clear()

    def close(self, code: int, reason: str) -> None:
        """Close behind what was sent."""
        if self._closing is None:
            self._closing = (code, reason)
            self._said.set()

    async def serve(self, receive: Receive, send: Send, events: SocketEvents) -> None:
        """Accept, deliver messages and send frames until the client has gone."""
        await send({"type": "websocket.accept"})
        self._open = True
        writing = asyncio.get_running_loop().create_task(self._write(send))
        code, reason = 1006, ""
        try:
            code, reason = await self._read(receive, events)
        finally:
            self._closing = self._closing or (code, reason)
            writing.cancel()
            self.ended(events, code, reason)

    def ended(self, events: SocketEvents, code: int = 1006, reason: str = "") -> None:
        """Tell the object, once."""
        record, self._record = self._record, None
        if record is None or self._object_id is None:
            return
        try:
            events.socket_closed(self._object_id, record, code, reason, code != 1006)
        except DurableError as error:
            log.info("close not delivered: %s", error)

    async def _read(self, receive: Receive, events: SocketEvents) -> tuple[int, str]:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return message.get("code", NO_STATUS), message.get("reason") or ""
            if message["type"] != "websocket.receive" or self._closing is not None:
                continue
            text = message.get("text")
            self._forward(events, message["bytes"] if text is None else text)

    def _forward(self, events: SocketEvents, message: str | bytes) -> None:
        object_id, record = self._object_id, self._record
        assert object_id is not None  # set by accepted()
        assert record is not None
        try:
            events.socket_message(object_id, record, message)
        except Overloaded:
            self.close(TRY_LATER, "The object is overloaded")
        except DurableError as error:
            log.info("message not delivered: %s", error)
            self.close(RESTARTED, "The object is moving")

    async def _write(self, send: Send) -> None:
        try:
            while True:
                await self._said.wait()
                self._said.clear()
                for frame in self._backlog.drain():
                    payload: str | bytes = frame.payload
                    kind = "bytes"
                    if frame.text:
                        kind, payload = "text", frame.payload.decode()
                    await send({"type": "websocket.send", kind: payload})
                if self._closing is not None:
                    code, reason = self._closing
                    await send(
                        {"type": "websocket.close", "code": code, "reason": reason}
                    )
                    return
        except OSError:
            log.debug("client left while being written to")
