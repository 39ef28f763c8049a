"""The front end's end of a client's socket.

Frames are encoded once for all their receivers and written straight to the transport:
nothing here waits. A client that reads slowly has a backlog of its own, in which a
newer state frame replaces an older one; over its limit the socket is closed (1013).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web
from aiohttp.abc import AbstractStreamWriter

from durable import DurableObjectId, Frame
from server.backlog import NO_STATUS, Backlog, closing, encode
from server.held_socket import ABNORMAL, TRY_LATER

if TYPE_CHECKING:
    from durable.domain.ports import Kept
    from durable.objects.websocket import SocketRecord
    from server.held_socket import HeldSocket
    from server.held_sockets import HeldSockets, LocalOwner

log = logging.getLogger(__name__)

PING = b"\x89\x00"
# Beyond so many bytes in the transport, frames wait in the backlog.
HIGH_WATER = 65_536
# A client has so many seconds to answer our closing frame.
CLOSE_SECONDS = 5.0


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
        "_local",
        "_outbox",
        "_said",
        "_sockets",
        "_transport",
        "_writer",
        "held",
    )

    def __init__(
        self, limit: int, outbox: Outbox, sockets: HeldSockets, local: LocalOwner
    ) -> None:
        self._limit = limit
        self._outbox = outbox
        self._sockets = sockets
        self._local = local
        self._transport: asyncio.Transport | None = None
        self._writer: AbstractStreamWriter | None = None
        # Frames of this turn of the loop.
        self._said: list[Frame] | None = None
        # Frames that can't be written yet; all of them before the upgrade is answered.
        self._backlog: Backlog | None = Backlog(limit)
        self._closed = False
        self._drain: asyncio.Task[None] | None = None
        # Set while an object has it.
        self.held: HeldSocket | None = None

    # --- from the object

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
        self, request: web.BaseRequest, max_message: int
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
            code, reason, clean = await self._deliver(websocket)
        except ConnectionError:
            log.debug("client left while connecting")
        finally:
            self._ended(request.transport, code, reason, clean)
        return websocket

    def discard(self) -> None:
        """The upgrade was not answered with this socket: it never opens."""
        self._ended(None, ABNORMAL, "", clean=False)

    def _open(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        backlog, self._backlog = self._backlog, None
        if backlog:
            transport.write(b"".join([encode(frame) for frame in backlog.drain()]))
        if self._closed:
            self._hang_up_later(transport)

    async def _deliver(self, websocket: web.WebSocketResponse) -> tuple[int, str, bool]:
        held = self.held
        assert held is not None  # an object has accepted it
        while True:
            message = await websocket.receive()
            kind = message.type
            if kind is WSMsgType.TEXT or kind is WSMsgType.BINARY:
                if not self._closed:
                    held.heard(message.data)
                    if held.is_full:
                        await held.room()
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

    def _answer_close(self, code: int) -> None:
        if not self._closed and self._transport is not None:
            # With the client's own code, as genuine servers do.
            self.flush()
            self._transport.write(encode(closing(code, "")))
        self._closed = True

    def _ended(
        self,
        transport: asyncio.BaseTransport | None,
        code: int,
        reason: str,
        clean: bool,
    ) -> None:
        self._closed = True
        if self._drain is not None:
            self._drain.cancel()
        if transport is not None:
            transport.close()
        if self.held is not None:
            self.held.gone(code, reason, clean)


def close_all(sockets: set[Any], code: int, reason: str) -> None:
    """Close every socket of a front end that stops."""
    for socket in tuple(sockets):
        socket.close(code, reason)
