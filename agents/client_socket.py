"""A WebSocket that comes back: the rules of npm `partysocket`.

Invariant: the listener hears of one socket at a time. Once a life has been given
up, by `close`, by `reconnect` or by its end, nothing of it is reported any more.
Messages that were never handed to a socket wait here for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import WSMsgType
from yarl import URL

from agents.client_timers import Timer, Timers, pause, time_limit

logger = logging.getLogger(__name__)

MIN_DELAY: Final = 3.0
MAX_DELAY: Final = 10.0
DELAY_GROWTH: Final = 1.3
MIN_UPTIME: Final = 5.0
HANDSHAKE_LIMIT: Final = 4.0
CLOSING_LIMIT: Final = 5.0

_NO_STATUS = 1005
_ABNORMAL = 1006
_UNSENDABLE_CODES = (_NO_STATUS, _ABNORMAL, 1015)
_MAX_REASON_BYTES = 123


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketClose:
    """How a socket ended; a failed handshake counts as 1006."""

    code: int
    reason: str = ""
    was_clean: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether the server asks never to come back."""
        return self.code == aiohttp.WSCloseCode.POLICY_VIOLATION or (
            4000 <= self.code <= 4999
        )


class Aftermath(enum.Enum):
    """What follows a close."""

    RECONNECTS = "reconnects"
    FINAL = "final"
    ASKED_FOR = "asked for"


@dataclass(eq=False, frozen=True, slots=True)
class Frame:
    """One outgoing message; it is told from its equals by identity."""

    payload: bytes
    opcode: WSMsgType


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketListener:
    """Who is told what happens.

    `opened`: a socket is open and the waiting messages are on it. `received`: a
    message arrived. `closed`: the socket, or an attempt to open one, has ended.
    """

    opened: Callable[[], None]
    received: Callable[[str | bytes], None]
    closed: Callable[[SocketClose, Aftermath], None]


def reconnect_delay(retry_count: int) -> float:
    """Give the seconds before an attempt; the first (0) is immediate."""
    if retry_count <= 0:
        return 0.0
    # The growth is bounded first: a float power of a large count would overflow.
    return min(MIN_DELAY * DELAY_GROWTH ** min(retry_count - 1, 100), MAX_DELAY)


class ReconnectingSocket:
    """Opens a socket and, when it ends, the next one."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        url: Callable[[], Awaitable[URL]],
        listener: SocketListener,
        timers: Timers,
        should_reconnect: Callable[[SocketClose], bool] | None = None,
        max_retries: int | None = None,
    ) -> None:
        self.session = session
        self.url = url
        self.timers = timers
        self._listener = listener
        self._unsent: deque[Frame] = deque()
        self._should_reconnect = should_reconnect
        self._max_retries = max_retries
        self._retry_count = -1
        self._life: _Life | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._uptime: Timer | None = None

    @property
    def is_open(self) -> bool:
        """Whether a message would be sent now rather than wait."""
        return self._life is not None and self._life.is_open

    def send(self, frame: Frame) -> bool:
        """Send a message, or keep it for the next socket and return False."""
        if self._life is not None and self._life.is_open:
            self._life.outbox.put_nowait(frame)
            return True
        self._unsent.append(frame)
        return False

    def withdraw(self, frame: Frame) -> None:
        """Take back a message that still waits; no-op if it has been sent."""
        if frame in self._unsent:
            self._unsent.remove(frame)

    def connect(self, code: int = 1000, reason: str = "") -> None:
        """Open a socket now, in place of the present one if there is any."""
        check_close(code, reason)
        self._give_up(code, reason, Aftermath.RECONNECTS)
        self._retry_count = -1
        self._begin()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the present socket or attempt, and make no other."""
        check_close(code, reason)
        self._give_up(code, reason, Aftermath.ASKED_FOR)

    async def wait_closed(self) -> None:
        """Wait until sockets that were given up have said goodbye."""
        present = self._life.task if self._life is not None else None
        while parting := self._tasks - {present, asyncio.current_task()}:
            await asyncio.wait(parting)

    def life_opened(self, life: _Life) -> None:
        """Hand over what waits; called by the life once its handshake is done."""
        self._uptime = self.timers.call_later(MIN_UPTIME, self._accept)
        while self._unsent:
            life.outbox.put_nowait(self._unsent.popleft())
        self._listener.opened()

    def life_received(self, life: _Life, message: str | bytes) -> None:
        """Pass a message on, unless that life has been given up."""
        if life is self._life:
            self._listener.received(message)

    def life_ended(self, life: _Life, close: SocketClose) -> None:
        """Decide what follows the end of a life that nobody asked for."""
        if life is not self._life:
            return
        # Decided while the life is still the present one: should the user's function
        # raise, `_finished` sees a defect of this life.
        aftermath = (
            Aftermath.RECONNECTS if self._may_reconnect(close) else Aftermath.FINAL
        )
        self._drop()
        if aftermath is Aftermath.RECONNECTS:
            self._begin()
        self._listener.closed(close, aftermath)

    def _may_reconnect(self, close: SocketClose) -> bool:
        if self._max_retries is not None and self._retry_count >= self._max_retries:
            return False
        if self._should_reconnect is not None and not self._should_reconnect(close):
            return False
        return not close.is_terminal

    def _begin(self) -> None:
        self._retry_count += 1
        life = _Life(self, reconnect_delay(self._retry_count))
        self._life = life
        life.task = asyncio.create_task(life.run(), name="agent client socket")
        self._tasks.add(life.task)
        life.task.add_done_callback(lambda task: self._finished(life, task))

    def _finished(self, life: _Life, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.error("an agent client's socket failed", exc_info=error)
        if life is self._life:
            # A defect, not the network: nobody may wait for this socket.
            self._drop()
            close = SocketClose(code=_ABNORMAL, reason=repr(error))
            self._listener.closed(close, Aftermath.FINAL)

    def _give_up(self, code: int, reason: str, aftermath: Aftermath) -> None:
        life = self._life
        if life is None:
            return
        self._drop()
        was_attempted = life.is_connecting or life.is_open
        life.part(code, reason)
        if was_attempted:
            close = SocketClose(code=code, reason=reason, was_clean=True)
            self._listener.closed(close, aftermath)

    def _drop(self) -> None:
        self._life = None
        if self._uptime is not None:
            self._uptime.cancel()
            self._uptime = None

    def _accept(self) -> None:
        self._retry_count = 0


class _Life:
    """One socket: waits its delay, shakes hands, converses."""

    def __init__(self, owner: ReconnectingSocket, delay: float) -> None:
        self.outbox: asyncio.Queue[Frame | SocketClose] = asyncio.Queue()
        self.is_connecting = False
        self.is_open = False
        self.task: asyncio.Task[None] | None = None
        self._owner = owner
        self._delay = delay
        self._is_parting = False
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._hang_up: asyncio.TimerHandle | None = None

    def part(self, code: int, reason: str) -> None:
        """End it on our side; messages handed over before are sent first."""
        if self.is_open:
            self._is_parting = True
            self.is_open = False
            self._limit_goodbye()
            self.outbox.put_nowait(SocketClose(code=code, reason=reason))
        elif self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Live, and report the end to the owner."""
        if self._delay:
            await pause(self._owner.timers, self._delay)
        self.is_connecting = True
        try:
            websocket = await self._handshake()
        except Exception as error:  # also whatever the user's query function raises
            reason = str(error) or type(error).__name__
            logger.warning(
                "an agent client's connection attempt failed",
                extra={"reason": reason},
                exc_info=not isinstance(error, aiohttp.ClientError | OSError),
            )
            self._owner.life_ended(self, SocketClose(code=_ABNORMAL, reason=reason))
            return
        await self._converse(websocket)

    async def _handshake(self) -> aiohttp.ClientWebSocketResponse:
        url = await self._owner.url()
        try:
            async with time_limit(self._owner.timers, HANDSHAKE_LIMIT):
                return await self._owner.session.ws_connect(
                    url,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING_LIMIT),
                    autoclose=False,
                    max_msg_size=0,
                )
        except TimeoutError:
            raise TimeoutError("the handshake timed out") from None

    async def _converse(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self.is_connecting, self.is_open = False, True
        self._websocket = websocket
        writer = asyncio.create_task(self._write(websocket), name="agent client writer")
        goodbye = _ABNORMAL
        try:
            self._owner.life_opened(self)
            close = await self._read(websocket)
            goodbye = close.code
            self.is_open = False
            self._owner.life_ended(self, close)
        finally:
            hang_up = self._limit_goodbye()
            if not self._is_parting:
                writer.cancel()
            await asyncio.wait({writer})
            code = 1000 if goodbye in _UNSENDABLE_CODES else goodbye
            await websocket.close(code=code)
            hang_up.cancel()

    def _limit_goodbye(self) -> asyncio.TimerHandle:
        """Bound by real time what a peer that doesn't read can make us wait."""
        if self._hang_up is None:
            loop = asyncio.get_running_loop()
            self._hang_up = loop.call_later(CLOSING_LIMIT, self._shut_down)
        return self._hang_up

    def _shut_down(self) -> None:
        # At the system's socket: aiohttp's close would wait for its buffer to drain.
        # A duplicate, because uvloop lends a socket that can do nothing.
        raw = self._websocket.get_extra_info("socket") if self._websocket else None
        if raw is None or raw.fileno() < 0:
            return
        with (
            socket.fromfd(raw.fileno(), raw.family, raw.type) as twin,
            contextlib.suppress(OSError),  # it is down already
        ):
            twin.shutdown(socket.SHUT_RDWR)

    async def _read(self, websocket: aiohttp.ClientWebSocketResponse) -> SocketClose:
        while True:
            message = await websocket.receive()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self._owner.life_received(self, message.data)
                case WSMsgType.CLOSE:
                    return SocketClose(
                        code=message.data or _NO_STATUS,
                        reason=message.extra or "",
                        was_clean=True,
                    )
                case WSMsgType.ERROR:
                    return SocketClose(code=_ABNORMAL, reason=str(message.data))
                case WSMsgType.CLOSING | WSMsgType.CLOSED:
                    return SocketClose(code=_ABNORMAL)

    async def _write(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                item = await self.outbox.get()
                if isinstance(item, SocketClose):
                    await websocket.close(code=item.code, message=item.reason.encode())
                    return
                await websocket.send_frame(item.payload, item.opcode)
        except (ConnectionError, aiohttp.ClientError):
            # The reader meets the same end and reports it.
            logger.debug("an agent client's socket broke in mid-send")


def check_close(code: int, reason: str) -> None:
    """Refuse what the WebSocket protocol doesn't let an endpoint send.

    Raises:
        ValueError: the code is out of range or reserved, or the reason too long.
    """
    if not 1000 <= code <= 4999 or code in _UNSENDABLE_CODES:
        raise ValueError(f"{code} is not a close code that can be sent")
    if len(reason.encode()) > _MAX_REASON_BYTES:
        raise ValueError(f"a close reason has at most {_MAX_REASON_BYTES} bytes")
