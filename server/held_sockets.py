"""The clients' sockets that this node holds, whoever owns their objects.

A socket outlives owners: when its object's shard moves, the next owner attaches it
again, with its tags and attachment. Messages wait meanwhile. A message is handed to an
owner at most once: if that is lost before it said that the message's effects have left,
the socket is closed (1012), and its client knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from durable import DurableError, DurableObjectId, Overloaded
from durable.domain.clock import Clock, boottime
from durable.domain.errors import Moved
from durable.domain.ids import shard_of
from durable.domain.ports import SocketPort
from durable.objects.websocket import SocketRecord

if TYPE_CHECKING:
    from multidict import MultiMapping

    from durable.objects.websocket import SocketTable

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


class HolderPort(SocketPort, Protocol):
    """A client's socket, as its holder sees it."""

    held: HeldSocket | None


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
        "attachment",
        "clean",
        "headers",
        "id",
        "in_flight",
        "is_open",
        "number",
        "object_id",
        "owner",
        "port",
        "record",
        "sent",
        "shard",
        "since",
        "sockets",
        "tags",
        "unacknowledged",
        "url",
    )

    def __init__(
        self,
        sockets: HeldSockets,
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
        self.shard = shard_of(object_id.value, sockets.shards)
        self.id = socket_id
        self.url = url
        self.headers = headers
        # What the object keeps with the socket, as last said by an owner elsewhere.
        self.tags: tuple[str, ...] = ()
        self.attachment: str | bytes | None = None
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


class HeldSockets:
    """All that this node holds. ``limit``: bytes that one may have waiting."""

    def __init__(self, shards: int, limit: int, clock: Clock = boottime) -> None:
        self.shards = shards
        self.limit = limit
        self._clock = clock
        self._numbers = 0
        self._held: dict[int, HeldSocket] = {}
        self._of_shard: dict[int, dict[int, HeldSocket]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def number(self) -> int:
        """A number for a socket that an object elsewhere may accept."""
        self._numbers += 1
        return self._numbers

    def hold(
        self,
        port: HolderPort,
        object_id: DurableObjectId,
        owner: SocketOwner,
        *,
        socket_id: str,
        url: str,
        headers: MultiMapping[str],
        number: int | None = None,
    ) -> HeldSocket:
        """An object has accepted a socket; its owner is there."""
        number = self.number() if number is None else number
        held = HeldSocket(self, number, port, object_id, socket_id, url, headers)
        held.owner, held.is_open = owner, True
        port.held = held
        self._held[number] = held
        self._of_shard.setdefault(held.shard, {})[number] = held
        return held

    def hold_here(
        self,
        port: HolderPort,
        object_id: DurableObjectId,
        record: SocketRecord,
        owner: LocalOwner,
    ) -> None:
        """An object of this node has accepted a socket."""
        held = self.hold(
            port,
            object_id,
            owner,
            socket_id=record.id,
            url=record.url,
            headers=record.headers,
        )
        held.record = record

    def find(self, number: int, owner: SocketOwner) -> HeldSocket | None:
        """A socket, if this is its owner: what former owners say counts no more."""
        held = self._held.get(number)
        return held if held is not None and held.owner is owner else None

    def forget(self, held: HeldSocket) -> None:
        """It has gone, and its owner knows."""
        if self._held.pop(held.number, None) is not None:
            of_shard = self._of_shard[held.shard]
            del of_shard[held.number]
            if not of_shard:
                del self._of_shard[held.shard]

    # --- owners that come and go

    def attach(self, owner: SocketOwner, shards: Iterable[int]) -> list[HeldSocket]:
        """Give an owner the sockets of shards that it has claimed.

        What another node hasn't acknowledged is lost with its claim.
        """
        found = list(self._in(shards))
        for held in found:
            if held.owner is not None:
                held.parted(self._clock(), clean=False)
        return found

    def serves(self, owner: SocketOwner, shards: Iterable[int]) -> None:
        """An owner serves these shards: messages go there.

        Sockets that it hasn't attached, because it couldn't ask in time, are closed.
        """
        for held in list(self._in(shards)):
            if held.owner is owner:
                if not held.is_open:
                    held.opened()
            else:
                self._give_up(held)

    def part(self, owner: SocketOwner, shards: Collection[int]) -> None:
        """An owner has ended all that ran in these shards: it hears no more."""
        now = self._clock()
        for held in list(self._in(shards)):
            if held.owner is owner:
                held.parted(now, clean=True)

    def lost(self, owner: SocketOwner) -> None:
        """An owner can't be reached any more."""
        now = self._clock()
        for held in [h for h in self._held.values() if h.owner is owner]:
            held.parted(now, clean=False)

    def give_up(self, seconds: float) -> None:
        """Close sockets that have had no owner for so long."""
        since = self._clock() - seconds
        for held in [h for h in self._held.values() if h.owner is None]:
            if held.since < since:
                self._give_up(held)

    def _give_up(self, held: HeldSocket) -> None:
        held.port.close(RESTARTED, "The object has moved")
        if held.port.held is None:
            # Its client has gone before: nobody is left to hear of it.
            self.forget(held)

    def _in(self, shards: Iterable[int]) -> Iterator[HeldSocket]:
        for shard in shards:
            yield from self._of_shard.get(shard, {}).values()


class LocalOwner:
    """This node as the owner of sockets that it holds itself."""

    def __init__(self, events: SocketEvents, table: SocketTable) -> None:
        self._events = events
        self._table = table

    def attach(self, held: HeldSocket) -> SocketRecord:
        """Let this node's objects have a socket that another owner has had."""
        record = SocketRecord(
            held.id, port=held.port, url=held.url, headers=held.headers, tags=held.tags
        )
        record.attachment = held.attachment
        self._table.add(held.object_id.value, record)
        held.attached(self)
        held.record = record
        return record

    def heard(self, held: HeldSocket, message: Message) -> None:
        """Deliver what a client said."""
        assert held.record is not None  # this node is its owner
        self._events.socket_message(held.object_id, held.record, message)

    def gone(self, held: HeldSocket, code: int, reason: str, was_clean: bool) -> None:
        """Deliver that a client has gone."""
        assert held.record is not None  # this node is its owner
        self._events.socket_closed(held.object_id, held.record, code, reason, was_clean)

    def parted(self, held: HeldSocket) -> None:
        """Another node is to own it, or nobody for now."""
        record, held.record = held.record, None
        assert record is not None  # this node was its owner
        held.tags, held.attachment = record.tags, record.attachment
        held.unacknowledged = record.unacknowledged
        self._table.remove(held.object_id.value, record)


class SocketEvents(Protocol):
    """The dispatcher of this node, as sockets see it. Each may raise Moved."""

    def socket_message(
        self, object_id: DurableObjectId, record: SocketRecord, message: Message
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

    def socket_restored(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """The socket's last owner was lost: what it said last may be missing."""
