"""The front end's end of a client's socket.

Frames are encoded once for all their receivers and written straight to the transport:
nothing here waits. A client that reads slowly has a backlog of its own, in which a
newer state frame replaces an older one; over its limit the socket is closed (1013).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from durable import DurableObjectId, Frame, Overloaded, Unavailable
from durable.domain.errors import DurableError
from server.backlog import NO_STATUS, Backlog, closing, encode

if TYPE_CHECKING:
    from durable.objects.websocket import SocketRecord

log = logging.getLogger(__name__)

ABNORMAL, RESTARTED, TRY_LATER = 1006, 1012, 1013
PING = b"\x89\x00"
# Beyond so many bytes in the transport, frames wait in the backlog.
HIGH_WATER = 65_536
# A client has so many seconds to answer our closing frame.
CLOSE_SECONDS = 5.0


class SocketEvents(Protocol):
    """Where a socket's messages go: the dispatcher of its object's owner."""

    def socket_message(
        self, object_id: DurableObjectId, record: SocketRecord, message: str | bytes
    ) -> None:
        """The client sent something."""

    def socket_closed(
        self,
        object_id: DurableObjectId,
        record: SocketRecord,
        code: int,
        reason: str,
        was_clean: bool,
    ) -> None:
        """The socket is closed."""


class Outbox:
    """Writes what a turn of the loop said to each socket in one go, not in many."""

    def __init__(self) -> None:
        self._sockets: list[ClientSocket] = []

    def add(self, socket: ClientSocket) -> None:
        """Flush this socket at the end of the turn."""
        if not self._sockets:
            asyncio.get_running_loop().call_soon(self._flush)
        self._sockets.append(socket)

    def _flush(self) -> None:
        sockets, self._sockets = self._sockets, []
        for socket in sockets:
            socket.flush()


class ClientSocket:
    """One client's socket, from its upgrade request to its end (a SocketPort)."""

    __slots__ = (
        "_backlog",
        "_closed",
        "_drain",
        "_limit",
        "_object_id",
        "_outbox",
        "_record",
        "_said",
        "_transport",
        "_writer",
    )

    def __init__(self, limit: int, outbox: Outbox) -> None:
        self._limit = limit
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._writer: AbstractStreamWriter | None = None
        # Frames of this turn of the loop.
        self._said: list[Frame] | None = None
        # Frames that can't be written yet; all of them before the upgrade is answered.
        self._backlog: Backlog | None = Backlog(limit)
        self._closed = False
        self._drain: asyncio.Task[None] | None = None
        self._object_id: DurableObjectId | None = None
        self._record: SocketRecord | None = None

    @property
    def was_accepted(self) -> bool:
        """Whether an object took it."""
        return self._record is not None

    # --- from the object

    def accepted(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """An object took the socket: messages go there."""
        self._object_id, self._record = object_id, record

    def send(self, frame: Frame) -> None:
        """Write a frame, or keep it for a slow reader."""
        if self._closed:
            return
        if self._backlog is not None:
            self._keep(frame)
        elif self._said is None:
            self._said = [frame]
            self._outbox.add(self)
        else:
            self._said.append(frame)

    def take_back(self) -> None:
        """Forget what was sent, as long as the upgrade isn't answered."""
        if self._transport is None and self._backlog is not None:
            self._backlog.clear()

    def close(self, code: int, reason: str) -> None:
        """Write a closing frame behind what was sent; nothing follows it."""
        if self._closed:
            return
        self.send(closing(code, reason))
        self.flush()
        self._closed = True
        if self._transport is not None:
            self._hang_up_later(self._transport)

    def ping(self) -> None:
        """Keep middleboxes from forgetting an idle connection."""
        if self._transport is not None and self._backlog is None and not self._closed:
            self._transport.write(PING)

    def flush(self) -> None:
        """Write what this turn said, unless the client is behind with reading."""
        said, self._said = self._said, None
        if said is None or self._transport is None:
            return
        if self._transport.get_write_buffer_size() < HIGH_WATER:
            # All of it, however much: who kept up until now isn't slow.
            wires = [encode(frame) for frame in said]
            self._transport.write(wires[0] if len(wires) == 1 else b"".join(wires))
            return
        self._backlog = Backlog(self._limit)
        for frame in said:
            self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        backlog = self._backlog
        if backlog is None:
            # The client was too slow in the midst of this turn.
            return
        backlog.push(frame)
        if backlog.is_over:
            self._too_slow()
        elif self._transport is not None and self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._drained())

    async def _drained(self) -> None:
        assert self._writer is not None  # set with the transport
        transport = self._transport
        assert transport is not None  # nobody drains before the upgrade
        try:
            while self._backlog:
                await self._writer.drain()
                while self._backlog and transport.get_write_buffer_size() < HIGH_WATER:
                    transport.write(encode(self._backlog.pop()))
            self._backlog = None
        except ConnectionError:
            # The reading side hears of it, and ends the socket.
            self._closed = True
        finally:
            self._drain = None

    def _too_slow(self) -> None:
        log.info("a client reads too slowly: closed")
        self._closed = True
        farewell = closing(TRY_LATER, "Reading too slowly")
        if self._transport is None:
            # Said too much before the upgrade is answered: then this is all it hears.
            self._backlog = Backlog(self._limit)
            self._backlog.push(farewell)
            return
        self._backlog = None
        self._transport.write(encode(farewell))
        self._hang_up_later(self._transport)

    def _hang_up_later(self, transport: asyncio.Transport) -> None:
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)

    # --- from the client

    async def serve(
        self, request: web.BaseRequest, events: SocketEvents, max_message: int
    ) -> web.WebSocketResponse:
        """Answer the upgrade, deliver messages until the client has gone."""
        websocket = web.WebSocketResponse(
            compress=False, max_msg_size=max_message, autoclose=False
        )
        code, reason, clean = ABNORMAL, "", False
        try:
            self._writer = await websocket.prepare(request)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError
            self._open(transport)
            code, reason, clean = await self._deliver(websocket, events)
        except ConnectionError:
            log.debug("client left while connecting")
        finally:
            self._ended(request.transport, events, code, reason, clean)
        return websocket

    def discard(self, events: SocketEvents) -> None:
        """The upgrade was not answered with this socket: it never opens."""
        self._ended(None, events, ABNORMAL, "", clean=False)

    def _open(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        backlog, self._backlog = self._backlog, None
        if backlog:
            transport.write(b"".join([encode(frame) for frame in backlog.drain()]))
        if self._closed:
            self._hang_up_later(transport)

    async def _deliver(
        self, websocket: web.WebSocketResponse, events: SocketEvents
    ) -> tuple[int, str, bool]:
        object_id, record = self._object_id, self._record
        assert object_id is not None  # set by accepted()
        assert record is not None
        while True:
            message = await websocket.receive()
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                if not self._closed:
                    self._forward(events, object_id, record, message.data)
            elif kind is WSMsgType.CLOSE:
                code = message.data or NO_STATUS
                self._answer_close(code)
                return code, message.extra or "", True
            else:
                # CLOSED, CLOSING, ERROR: the connection is lost or was malformed;
                # aiohttp has sent its closing frame for the latter.
                code = websocket.close_code
                lost = code is None or code == ABNORMAL
                return ABNORMAL if lost or code is None else code, "", False

    def _forward(
        self,
        events: SocketEvents,
        object_id: DurableObjectId,
        record: SocketRecord,
        message: str | bytes,
    ) -> None:
        try:
            events.socket_message(object_id, record, message)
        except Overloaded:
            self.close(TRY_LATER, "The object is overloaded")
        except DurableError as error:
            log.info("message not delivered: %s", error)
            self.close(RESTARTED, "The object is moving")

    def _answer_close(self, code: int) -> None:
        if not self._closed and self._transport is not None:
            # With the client's own code, as genuine servers do.
            self.flush()
            self._transport.write(encode(closing(code, "")))
        self._closed = True

    def _ended(
        self,
        transport: asyncio.BaseTransport | None,
        events: SocketEvents,
        code: int,
        reason: str,
        clean: bool,
    ) -> None:
        self._closed = True
        if self._drain is not None:
            self._drain.cancel()
        if transport is not None:
            transport.close()
        record, object_id = self._record, self._object_id
        if record is None or object_id is None:
            return
        self._record = None
        try:
            events.socket_closed(object_id, record, code, reason, clean)
        except (Unavailable, DurableError) as error:
            log.info("close not delivered: %s", error)


def close_all(sockets: set[Any], code: int, reason: str) -> None:
    """Close every socket of a front end that stops."""
    for socket in tuple(sockets):
        socket.close(code, reason)
