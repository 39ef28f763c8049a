"""One client's socket, whoever owns its object.

A socket outlives owners: when its object's shard moves, the next owner attaches it
again, with its tags and attachment. Messages wait meanwhile. A message is handed to an
owner at most once: if that is lost before it said that the message's effects have left,
the socket is closed (1012), and its client knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol

from durable import DurableError, DurableObjectId, Frame, Overloaded
from durable.domain.clock import wall
from durable.domain.errors import Moved
from durable.domain.ports import Kept, SocketPort

if TYPE_CHECKING:
    from multidict import MultiMapping

    from durable.objects.websocket import SocketRecord

log = logging.getLogger(__name__)

ABNORMAL, RESTARTED, TRY_LATER = 1006, 1012, 1013
Message = str | bytes


class SocketOwner(Protocol):
    """A node that owns objects, as the holder of their sockets sees it."""

    def heard(self, held: HeldSocket, message: Message) -> None:
        """The client said something; raises Moved or Overloaded, here or later."""

    def gone(self, held: HeldSocket, code: int, reason: str, was_clean: bool) -> None:
        """The client has gone."""

    def parted(self, held: HeldSocket) -> None:
        """It isn't this node's any more."""

    def answered(self, held: HeldSocket, at: float) -> None:
        """The client was answered for its object; ``at``: seconds since the epoch."""


class HolderPort(SocketPort, Protocol):
    """A client's socket, as its holder sees it."""

    held: HeldSocket | None


class Holder(Protocol):
    """Who has all sockets. ``limit``: bytes that one may have waiting."""

    limit: int

    def forget(self, held: HeldSocket) -> None:
        """It has gone, and its owner knows."""


class HeldSocket:
    """One client's socket on its way through owners.

    ``is_open``: its owner takes messages now; else they wait here, at most about
    ``limit`` bytes of them, then the client isn't read (``room``).
    """

    __slots__ = (
        "_bytes",
        "_farewell",
        "_room",
        "_waiting",
        "answered",
        "clean",
        "headers",
        "id",
        "in_flight",
        "is_open",
        "kept",
        "number",
        "object_id",
        "owner",
        "port",
        "record",
        "sent",
        "shard",
        "since",
        "sockets",
        "unacknowledged",
        "url",
    )

    def __init__(
        self,
        sockets: Holder,
        shard: int,
        number: int,
        port: HolderPort,
        object_id: DurableObjectId,
        socket_id: str,
        url: str,
        headers: MultiMapping[str],
    ) -> None:
        self.sockets = sockets
        self.number = number
        self.port = port
        self.object_id = object_id
        self.shard = shard
        self.id = socket_id
        self.url = url
        self.headers = headers
        # What the object keeps with the socket, as its owner has last said.
        self.kept = Kept()
        self.answered: float | None = None
        # The owner's record, while that is this node.
        self.record: SocketRecord | None = None
        self.owner: SocketOwner | None = None
        self.is_open = False
        # Whether its last owner parted from it, or was lost.
        self.clean = True
        self.since = 0.0
        self.sent = 0
        self.unacknowledged = 0
        # Messages of which another node hasn't said that it took them.
        self.in_flight: dict[int, Message] | None = None
        self._waiting: deque[Message] | None = None
        self._bytes = 0
        self._farewell: tuple[int, str, bool] | None = None
        self._room: asyncio.Future[None] | None = None

    # --- from the client

    def heard(self, message: Message) -> None:
        """The client said something."""
        auto = self.kept.options.auto_response
        if auto is not None and message == auto[0]:
            self._answer(auto[1])
            return
        if not self.is_open:
            self._keep(message)
            return
        assert self.owner is not None  # it is open
        try:
            self.owner.heard(self, message)
        except Moved:
            self.is_open = False
            self._keep(message)
        except Overloaded:
            self.port.close(TRY_LATER, "The object is overloaded")
        except DurableError as error:
            log.info("message not delivered: %s", error)
            self.port.close(RESTARTED, "The object is moving")

    def _answer(self, response: str) -> None:
        self.port.send(Frame(response.encode()))
        self.answered = wall.now()
        if self.owner is not None:
            self.owner.answered(self, self.answered)

    def gone(self, code: int, reason: str, was_clean: bool) -> None:
        """The client has gone; its owner hears of it behind what was said."""
        self.port.held = None
        self._farewell = (code, reason, was_clean)
        if self.is_open:
            self._leave()

    @property
    def is_full(self) -> bool:
        """Whether so much waits that the client isn't to be read."""
        return self._bytes > self.sockets.limit

    async def room(self) -> None:
        """Return when the client may be read again."""
        while self.is_full:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    # --- from owners

    def sending(self, message: Message) -> int:
        """Number a message for an owner on another node, and keep it until taken."""
        self.sent += 1
        self.unacknowledged += 1
        if self.in_flight is None:
            self.in_flight = {}
        self.in_flight[self.sent] = message
        self._bytes += len(message)
        return self.sent

    def taken(self, number: int) -> None:
        """The owner has taken all messages up to this one."""
        flying = self.in_flight
        while flying:
            first = next(iter(flying))
            if first > number:
                break
            self._bytes -= len(flying.pop(first))
        self._tell()

    def bounced(self, number: int) -> None:
        """The owner took no message from this one on: they wait for the next owner."""
        flying = self.in_flight or {}
        back = [message for at, message in flying.items() if at >= number]
        self.in_flight = None
        self.is_open = False
        self.sent = number - 1
        self.unacknowledged -= len(back)
        self._waiting = deque(back + list(self._waiting or ()))

    def attached(self, owner: SocketOwner) -> None:
        """An owner has a record of it; its messages still wait until that serves."""
        self.owner = owner
        self.is_open = False
        self.clean = True
        self.record = None
        self.sent = self.unacknowledged = 0
        self.in_flight = None

    def parted(self, now: float, *, clean: bool) -> None:
        """Its owner is one no more."""
        if self.owner is not None:
            self.owner.parted(self)
        self.owner = None
        self.is_open = False
        self.clean = clean
        self.since = now
        if self.unacknowledged:
            self.port.close(RESTARTED, "The object's owner was lost")
            self.unacknowledged = 0
        if self.in_flight:
            self._bytes -= sum(map(len, self.in_flight.values()))
            self.in_flight = None
            self._tell()

    def opened(self) -> None:
        """Its owner serves: what has waited goes there."""
        self.is_open = True
        waiting, self._waiting = self._waiting, None
        while waiting:
            message = waiting.popleft()
            self._bytes -= len(message)
            self.heard(message)
            if not self.is_open:
                # That one is kept already; the others stay behind it.
                for later in waiting:
                    self._bytes -= len(later)
                    self._keep(later)
                return
        self._tell()
        if self._farewell is not None:
            self._leave()

    def _leave(self) -> None:
        assert self._farewell is not None  # it has gone
        assert self.owner is not None  # it is open
        try:
            self.owner.gone(self, *self._farewell)
        except Moved:
            self.is_open = False
            return
        except DurableError as error:
            log.info("close not delivered: %s", error)
        self.sockets.forget(self)

    def _keep(self, message: Message) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(message)
        self._bytes += len(message)

    def _tell(self) -> None:
        room = self._room
        if room is not None and not self.is_full:
            self._room = None
            room.set_result(None)
