"""Bodies over the link, with credit: a slow reader slows its own body and no other.

The sender begins when the reader first asks: a request whose object turns out to be
elsewhere still has its body.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from durable import DurableError, Unavailable
from durable.tasks import TaskScope
from server.link.errors import error_of, fault_of
from server.link.frames import Credit, End, Fault, Frame, Piece, Stop

log = logging.getLogger(__name__)

# Bytes of a body that are under way or wait for its reader, about.
WINDOW_BYTES = 1 << 18


class Incoming:
    """The reader's end of a body."""

    def __init__(self, id: int, *, up: bool, say: Callable[[Frame], None]) -> None:
        self._id = id
        self._up = up
        self._say = say
        self._pieces: deque[bytes] = deque()
        self.ended = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def push(self, data: bytes) -> None:
        """A piece has come."""
        self._pieces.append(data)
        self._tell()

    def end(self, error: Exception | None) -> None:
        """There is no more; ``error`` says why too soon."""
        if not self.ended:
            self.ended, self._error = True, error
            self._tell()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body as it comes.

        Raises:
            Exception: the sender's, or the end of the link.
        """
        try:
            self._say(Credit(self._id, self._up, WINDOW_BYTES))
            while True:
                while self._pieces:
                    piece = self._pieces.popleft()
                    yield piece
                    self._say(Credit(self._id, self._up, len(piece)))
                if self.ended:
                    if self._error is not None:
                        raise self._error
                    return
                self._news = asyncio.get_running_loop().create_future()
                await self._news
        finally:
            if not self.ended:
                self.ended = True
                self._say(Stop(self._id, self._up))

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)


class Outgoing:
    """The sender's end of a body."""

    def __init__(self, id: int, *, up: bool, say: Callable[[Frame], None]) -> None:
        self._id = id
        self._up = up
        self._say = say
        self._credit = 0
        self._stopped = False
        self._news: asyncio.Future[None] | None = None

    def credited(self, bytes: int) -> None:
        """The reader takes more."""
        self._credit += bytes
        self._tell()

    def stop(self) -> None:
        """The reader wants no more, or is gone."""
        self._stopped = True
        self._tell()

    async def pump(self, body: AsyncIterator[bytes]) -> None:
        """Send a body as fast as it is read; it is closed in the end."""
        fault: Fault | None = None
        try:
            while await self.wanted():
                piece = await anext(body, None)
                if piece is None:
                    break
                for at in range(0, len(piece), WINDOW_BYTES):
                    part = piece[at : at + WINDOW_BYTES]
                    if not await self.wanted():
                        break
                    self._credit -= len(part)
                    self._say(Piece(self._id, self._up, part))
        except asyncio.CancelledError:
            fault = fault_of(Unavailable("the sender of the body has ended"))
            raise
        except Exception as error:
            fault = fault_of(error)
            if not isinstance(error, DurableError):
                raise
        finally:
            if not self._stopped:
                self._say(End(self._id, self._up, fault))
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def wanted(self) -> bool:
        """Wait until the reader takes more; False if it wants no more."""
        while self._credit <= 0 and not self._stopped:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return not self._stopped

    def _tell(self) -> None:
        news, self._news = self._news, None
        if news is not None and not news.done():
            news.set_result(None)


class Bodies:
    """The bodies under way on one link; each has its exchange's id and a direction."""

    def __init__(self, say: Callable[[Frame], None], scope: TaskScope) -> None:
        self._say = say
        self._scope = scope
        self._incoming: dict[tuple[int, bool], Incoming] = {}
        self._outgoing: dict[tuple[int, bool], Outgoing] = {}

    def expect(self, id: int, *, up: bool) -> None:
        """A body is to come: take its pieces until somebody reads them."""
        self._incoming[id, up] = Incoming(id, up=up, say=self._say)

    async def read(self, id: int, *, up: bool) -> AsyncGenerator[bytes]:
        """The pieces of an expected body."""
        pieces = self._incoming[id, up].pieces()
        try:
            async for piece in pieces:
                yield piece
        finally:
            self._incoming.pop((id, up), None)
            await pieces.aclose()

    def ignore(self, id: int, *, up: bool) -> None:
        """Nobody will read it (any more)."""
        incoming = self._incoming.pop((id, up), None)
        if incoming is not None and not incoming.ended:
            self._say(Stop(id, up))

    def send_later(self, id: int, body: AsyncIterator[bytes], *, up: bool) -> None:
        """Send a body once its reader asks for it: until then it is untouched."""
        outgoing = self._outgoing[id, up] = Outgoing(id, up=up, say=self._say)

        async def send() -> None:
            if await outgoing.wanted():
                await self._pump(outgoing, body)
            self._outgoing.pop((id, up), None)

        self._scope.start(send())

    async def send(self, id: int, body: AsyncIterator[bytes], *, up: bool) -> None:
        """Send a body; returns when it has ended."""
        outgoing = self._outgoing[id, up] = Outgoing(id, up=up, say=self._say)
        try:
            await self._pump(outgoing, body)
        finally:
            self._outgoing.pop((id, up), None)

    def stop_sending(self, id: int, *, up: bool) -> None:
        """What is left of a body isn't wanted."""
        outgoing = self._outgoing.get((id, up))
        if outgoing is not None:
            outgoing.stop()

    def lost(self, error: Exception) -> None:
        """The link is gone."""
        for incoming in tuple(self._incoming.values()):
            incoming.end(error)
        for outgoing in tuple(self._outgoing.values()):
            outgoing.stop()

    # --- frames

    def piece(self, frame: Piece) -> None:
        """A piece has come."""
        incoming = self._incoming.get((frame.id, frame.up))
        if incoming is not None:
            incoming.push(frame.data)

    def end(self, frame: End) -> None:
        """A body has ended."""
        incoming = self._incoming.get((frame.id, frame.up))
        if incoming is not None:
            incoming.end(None if frame.fault is None else error_of(frame.fault))

    def credit(self, frame: Credit) -> None:
        """The reader takes more."""
        outgoing = self._outgoing.get((frame.id, frame.up))
        if outgoing is not None:
            outgoing.credited(frame.bytes)

    def stop(self, frame: Stop) -> None:
        """The reader wants no more."""
        self.stop_sending(frame.id, up=frame.up)

    async def _pump(self, outgoing: Outgoing, body: AsyncIterator[bytes]) -> None:
        try:
            await outgoing.pump(body)
        except Exception:
            # Its reader was told; a stack is for the log.
            log.exception("a streamed body failed")
