"""The clients' sockets that this node holds, by the shards of their objects."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from durable import DurableObjectId
from durable.domain.clock import Clock, boottime
from durable.domain.ids import shard_of
from durable.objects.websocket import SocketRecord
from server.held_socket import (
    RESTARTED,
    HeldSocket,
    HolderPort,
    Message,
    SocketOwner,
)

if TYPE_CHECKING:
    from multidict import MultiMapping

    from durable.objects.websocket import SocketTable

log = logging.getLogger(__name__)


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
        shard = shard_of(object_id.value, self.shards)
        held = HeldSocket(self, shard, number, port, object_id, socket_id, url, headers)
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
            held.id, port=held.port, url=held.url, headers=held.headers
        )
        record.restore(held.kept, held.answered)
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

    def answered(self, held: HeldSocket, at: float) -> None:
        """Remember when a client was answered."""
        assert held.record is not None  # this node is its owner
        held.record.answered = at

    def parted(self, held: HeldSocket) -> None:
        """Another node is to own it, or nobody for now."""
        record, held.record = held.record, None
        assert record is not None  # this node was its owner
        held.kept = record.kept
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
