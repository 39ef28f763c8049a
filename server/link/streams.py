"""Bodies over the link, with credit: a slow reader slows its own body and no other.

The sender begins when the reader first asks: a request whose object turns out to be
elsewhere still has its body.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from durable import Unavailable
from server.link.frames import Credit, End, Frame, Piece, Stop

# Bytes of a body that are under way or wait for its reader, about.
WINDOW_BYTES = 1 << 18


class Incoming:
    """The reader's end of a body."""

    def __init__(self, id: int, *, up: bool, say: Callable[[Frame], None]) -> None:
        self._id = id
        self._up = up
        self._say = say
        self._pieces: deque[bytes] = deque()
        self._ended = False
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    def push(self, data: bytes) -> None:
        """A piece has come."""
        self._pieces.append(data)
        self._tell()

    def end(self, error: Exception | None) -> None:
        """There is no more; ``error`` says why too soon."""
        if not self._ended:
            self._ended, self._error = True, error
            self._tell()

    async def pieces(self) -> AsyncIterator[bytes]:
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
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return
                self._news = asyncio.get_running_loop().create_future()
                await self._news
        finally:
            if not self._ended:
                self._ended = True
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
        error: str | None = None
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
            error = "the sender of the body has ended"
            raise
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"
            if not isinstance(failed, Unavailable):
                raise
        finally:
            if not self._stopped:
                self._say(End(self._id, self._up, error))
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
