"""Agents inside an ASGI server: its scope, receive and send ↔ ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict, CIMultiDictProxy

from durable import DurableObjectId, Frame, Request, Response
from server.backlog import NO_STATUS, Backlog
from server.held_socket import ABNORMAL, TRY_LATER
from server.http import host_of, limited
from server.whole import HOP_BY_HOP

if TYPE_CHECKING:
    from durable.domain.ports import Kept
    from durable.objects.websocket import SocketRecord
    from server.held_socket import HeldSocket
    from server.held_sockets import HeldSockets, LocalOwner

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def request_of(
    scope: Scope, receive: Receive, max_body: int, body_seconds: float
) -> Request:
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
    body = limited(_body(receive), max_body, body_seconds) if has_body else None
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


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left while sending its body")
        piece, more = message.get("body", b""), message.get("more_body", False)
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

    def __init__(self, limit: int, sockets: HeldSockets, local: LocalOwner) -> None:
        self._sockets = sockets
        self._local = local
        self._backlog = Backlog(limit)
        self._said = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._open = False
        # Set while an object has it.
        self.held: HeldSocket | None = None

    def accepted(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """An object of this node took the socket: messages go there."""
        self._sockets.hold_here(self, object_id, record, self._local)

    def keep(self, kept: Kept) -> None:
        """Have this at hand, for the next owner and for automatic responses."""
        if self.held is not None:
            self.held.kept = kept

    def acknowledged(self) -> None:
        """Nothing to do: the record knows."""

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

    async def serve(self, receive: Receive, send: Send) -> None:
        """Accept, deliver messages and send frames until the client has gone."""
        await send({"type": "websocket.accept"})
        self._open = True
        writing = asyncio.get_running_loop().create_task(self._write(send))
        code, reason = ABNORMAL, ""
        try:
            code, reason = await self._read(receive)
        finally:
            self._closing = self._closing or (code, reason)
            writing.cancel()
            self.ended(code, reason)

    def ended(self, code: int = ABNORMAL, reason: str = "") -> None:
        """Tell the object, once."""
        if self.held is not None:
            self.held.gone(code, reason, code != ABNORMAL)

    async def _read(self, receive: Receive) -> tuple[int, str]:
        held = self.held
        assert held is not None  # an object has accepted it
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return message.get("code", NO_STATUS), message.get("reason") or ""
            if message["type"] != "websocket.receive" or self._closing is not None:
                continue
            text = message.get("text")
            held.heard(message["bytes"] if text is None else text)
            if held.is_full:
                await held.room()

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
