"""One TCP connection between two nodes: greeted, then frames, many for each write."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from uuid import UUID

import msgspec

from server.link.frames import HEAD, Frame, Say, decode, encode
from server.link.handshake import (
    GREETING_BYTES,
    PROOF_BYTES,
    Handshake,
    HandshakeFailed,
)

if TYPE_CHECKING:
    import durable

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 5.0
# A node that is so far behind with reading is gone, or as good as.
MAX_UNSENT_BYTES = 1 << 28
# More than the largest message or result; what claims to be longer is garbage.
MAX_FRAME_BYTES = 1 << 30


@dataclass(slots=True)
class LinkMeter:
    """What a node has sent over all its links since it started."""

    frames: int = 0
    bytes: int = 0


class LinkConnection(asyncio.Protocol):
    """Sends and receives frames, from the handshake to the end.

    ``on_ready``, ``on_frame`` and ``on_end`` are called in this order: ready once, end
    once, whatever happened; what is sent before the one and after the other is lost.
    """

    def __init__(
        self,
        handshake: Handshake,
        *,
        on_ready: Callable[[LinkConnection], None],
        on_end: Callable[[LinkConnection], None],
        meter: LinkMeter,
    ) -> None:
        self._handshake = handshake
        self._meter = meter
        self._on_ready = on_ready
        self._on_end = on_end
        self.on_frame: Callable[[Frame], None]
        # Asked before each write for what is to go with it.
        self.before_write: Callable[[], None] = lambda: None
        self._buffer = bytearray()
        self._wanted = GREETING_BYTES
        self._receive = self._greeting
        self._transport: asyncio.Transport | None = None
        # Encoded, but for what more sockets may still join.
        self._unsent: list[bytes | Say] = []
        self._writes = False
        # The frame whose Say is the last one unsent: more sockets may join it.
        self._said: durable.Frame | None = None
        self._patience: asyncio.TimerHandle | None = None
        self.is_ready = False
        self._refused = False

    @property
    def peer(self) -> UUID:
        """The other node."""
        return self._handshake.peer

    @property
    def queued(self) -> int:
        """Bytes that the other node hasn't taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    # --- sending

    def say(self, frame: Frame) -> None:
        """Send a frame, with all others of this turn of the loop."""
        self._said = None
        self._queue(encode(frame))

    def say_to(self, socket: int, frame: durable.Frame) -> None:
        """Send a client's frame; for many sockets in a row it crosses once."""
        last = self._unsent[-1] if self._unsent else None
        if self._said is frame and isinstance(last, Say):
            last.sockets.append(socket)
            return
        self._queue(Say([socket], frame.payload, frame.text, frame.coalesce))
        self._said = frame

    def limit_silence(self, seconds: float) -> None:
        """Let the kernel end it when the other acknowledges nothing for so long."""
        if self._transport is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            ours = self._transport.get_extra_info("socket")
            milliseconds = int(seconds * 1000)
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def close(self) -> None:
        """Hang up; what was said before still goes."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def write_soon(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._writes:
            self._writes = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _queue(self, frame: bytes | Say) -> None:
        self.write_soon()
        self._unsent.append(frame)

    def _flush(self) -> None:
        self.before_write()
        self._writes = False
        unsent, self._unsent, self._said = self._unsent, [], None
        transport = self._transport
        if not unsent or transport is None or transport.is_closing():
            return
        wires = [f if isinstance(f, bytes) else encode(f) for f in unsent]
        wire = wires[0] if len(wires) == 1 else b"".join(wires)
        transport.write(wire)
        self._meter.frames += len(wires)
        self._meter.bytes += len(wire)
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.error("a node doesn't read: link closed", extra=self._extra())
            transport.abort()

    # --- asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        # uvloop's transports aren't of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._handshake.greeting)
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(HANDSHAKE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take all that is whole."""
        self._buffer += data
        try:
            taken = self._take()
        except (HandshakeFailed, msgspec.DecodeError) as error:
            log.warning("link refused: %s", error, extra=self._extra())
            self._refused = True
            if self._transport is not None:
                self._transport.abort()
            return
        del self._buffer[:taken]

    def _take(self) -> int:
        """How many bytes were whole parts; without copies, as a link has many."""
        taken = 0
        with memoryview(self._buffer) as received:
            while len(received) - taken >= self._wanted and self._transport is not None:
                with received[taken : taken + self._wanted] as part:
                    taken += self._wanted
                    self._receive(part)
        return taken

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who uses it."""
        if self._patience is not None:
            self._patience.cancel()
        if not (self.is_ready or self._refused):
            self._refused_there(error)
        self._transport = None
        self._on_end(self)

    def _refused_there(self, error: Exception | None) -> None:
        if isinstance(error, ssl.SSLError):
            log.warning("link refused by the other: %s", error, extra=self._extra())
        elif self._handshake.dialled:
            text = "link refused by the other: is its TLS, CA or secret another one?"
            log.warning(text, extra=self._extra())

    # --- in this order, then head and frame in turn

    def _greeting(self, part: memoryview) -> None:
        assert self._transport is not None  # something was received
        self._transport.write(self._handshake.greeted(bytes(part)))
        self._wanted, self._receive = PROOF_BYTES, self._proof

    def _proof(self, part: memoryview) -> None:
        self._handshake.check(bytes(part))
        if self._patience is not None:
            self._patience.cancel()
        self.is_ready = True
        self._on_ready(self)
        self._wanted, self._receive = HEAD.size, self._head

    def _head(self, part: memoryview) -> None:
        (size,) = HEAD.unpack(part)
        if size > MAX_FRAME_BYTES:
            raise HandshakeFailed(f"a frame of {size} bytes is over the limit")
        self._wanted, self._receive = size, self._frame

    def _frame(self, part: memoryview) -> None:
        self._wanted, self._receive = HEAD.size, self._head
        self.on_frame(decode(part))

    def _extra(self) -> dict[str, str]:
        address = self._transport and self._transport.get_extra_info("peername")
        return {"peer": str(address)}
