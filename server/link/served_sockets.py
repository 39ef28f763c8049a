"""The owner's end of sockets that another node holds."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from multidict import CIMultiDict, CIMultiDictProxy

from durable import DurableError, DurableObjectId, Frame, Overloaded
from durable.domain.errors import Moved
from durable.domain.ids import shard_of
from durable.domain.ports import Kept
from durable.objects.websocket import SocketRecord
from server.held_socket import ABNORMAL, RESTARTED, TRY_LATER
from server.link import frames

if TYPE_CHECKING:
    from durable.objects.websocket import SocketTable
    from server.held_sockets import SocketEvents
    from server.link.connection import LinkConnection

log = logging.getLogger(__name__)


class RemotePort:
    """The owner's end of one socket (a SocketPort)."""

    __slots__ = (
        "_connection",
        "_number",
        "_sockets",
        "expected",
        "object_id",
        "record",
        "shard",
    )

    def __init__(
        self, number: int, connection: LinkConnection, sockets: ServedSockets
    ) -> None:
        self._number = number
        self._connection = connection
        self._sockets = sockets
        # The number of the message that is to come next.
        self.expected = 1
        self.object_id: DurableObjectId
        self.record: SocketRecord
        self.shard: int

    def accepted(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """An object took the socket."""
        self.belong(object_id, record)
        value = object_id.value.bytes
        self._connection.say(
            frames.Accepted(self._number, value, object_id.name, record.id)
        )

    def belong(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """This is the object that has it."""
        self.object_id, self.record = object_id, record
        self.shard = shard_of(object_id.value, self._sockets.shards)
        self._sockets.add(self._number, self)

    def send(self, frame: Frame) -> None:
        """Send a frame to the client."""
        self._connection.say_to(self._number, frame)

    def take_back(self) -> None:
        """Forget what was sent, as long as the upgrade isn't answered."""
        self._connection.say(frames.TakeBack(self._number))

    def close(self, code: int, reason: str) -> None:
        """Close behind what was sent."""
        self._connection.say(frames.Close(self._number, code, reason))

    def keep(self, kept: Kept) -> None:
        """Have this at hand for the next owner."""
        self._connection.say(
            frames.Keep(self._number, kept.tags, kept.attachment, kept.options)
        )

    def acknowledged(self) -> None:
        """The effects of one of its messages have left."""
        self._sockets.acknowledge(self._number, self.expected - 1, 1)


class ServedSockets:
    """The sockets of one other node that objects of this node have."""

    def __init__(
        self,
        connection: LinkConnection,
        objects: SocketEvents,
        table: SocketTable,
        shards: int,
    ) -> None:
        self.shards = shards
        self._connection = connection
        self._say = connection.say
        self._objects = objects
        self._table = table
        self._served: dict[int, RemotePort] = {}
        self._of_shard: dict[int, set[int]] = {}
        # Socket → what it is to be told in this turn of the loop.
        self._acknowledged: dict[int, list[int]] = {}
        connection.before_write = self._tell

    def port(self, number: int) -> RemotePort:
        """For an upgrade that an object here may accept."""
        return RemotePort(number, self._connection, self)

    def add(self, number: int, port: RemotePort) -> None:
        """An object has a socket."""
        self._served[number] = port
        self._of_shard.setdefault(port.shard, set()).add(number)

    def attach(
        self, found: Iterable[frames.Held]
    ) -> list[tuple[DurableObjectId, SocketRecord]]:
        """Take over sockets that other owners have had; returns those of lost ones."""
        unclean = []
        for held in found:
            object_id = DurableObjectId(UUID(bytes=held.object), held.name)
            port = self.port(held.socket)
            record = SocketRecord(
                held.id,
                port=port,
                url=held.url,
                headers=CIMultiDictProxy(CIMultiDict(held.headers)),
            )
            kept = Kept(held.tags, held.attachment, held.options)
            record.restore(kept, held.answered)
            self._table.add(object_id.value, record)
            port.belong(object_id, record)
            if not held.clean:
                unclean.append((object_id, record))
        return unclean

    def refuse(self, found: Iterable[frames.Held]) -> None:
        """It is too late: their shards are served without them."""
        for held in found:
            self._say(frames.Close(held.socket, RESTARTED, "The object has moved"))

    def give_back(self, shards: Iterable[int]) -> None:
        """These shards leave in order: say of each socket what was taken and done.

        A message that crosses this on its way here was not taken: it is the next
        owner's, and no reason to close the socket.
        """
        self._tell()
        for shard in shards:
            for number in self._of_shard.get(shard, ()):
                self._say(frames.Bounced(number, self._served[number].expected))

    def part(self, shards: Iterable[int]) -> None:
        """These shards aren't served here any more: neither are their sockets."""
        for shard in shards:
            for number in self._of_shard.pop(shard, ()):
                port = self._served.pop(number)
                self._acknowledged.pop(number, None)
                self._table.remove(port.object_id.value, port.record)

    def lost(self) -> None:
        """The other node is gone, and so are its clients."""
        served, self._served = self._served, {}
        self._of_shard = {}
        for port in served.values():
            self._close(port, ABNORMAL, "", was_clean=False)

    # --- frames

    def heard(self, frame: frames.Heard) -> None:
        """A client said something."""
        port = self._served.get(frame.socket)
        if port is None or frame.number != port.expected:
            # Of a shard that has left, or behind one that bounced: it will come again.
            return
        message: str | bytes = frame.payload
        if frame.text:
            message = frame.payload.decode("utf-8", "surrogatepass")
        port.expected += 1
        try:
            self._objects.socket_message(port.object_id, port.record, message)
        except Moved:
            port.expected -= 1
            self._say(frames.Bounced(frame.socket, frame.number))
        except Overloaded:
            port.close(TRY_LATER, "The object is overloaded")
        except DurableError as error:
            log.info("message not delivered: %s", error)
            port.close(RESTARTED, "The object is moving")
        else:
            self.acknowledge(frame.socket, frame.number, 0)

    def acknowledge(self, socket: int, number: int, count: int) -> None:
        """Tell, with all else of this turn, what was taken and what is done."""
        self._connection.write_soon()
        told = self._acknowledged.get(socket)
        if told is None:
            self._acknowledged[socket] = [number, count]
        else:
            told[0] = max(told[0], number)
            told[1] += count

    def _tell(self) -> None:
        told, self._acknowledged = self._acknowledged, {}
        if told:
            sockets = [(n, taken, count) for n, (taken, count) in told.items()]
            self._say(frames.Acknowledged(sockets))

    def answered(self, frame: frames.Answered) -> None:
        """A client was answered for its object."""
        port = self._served.get(frame.socket)
        if port is not None:
            port.record.answered = frame.at

    def gone(self, frame: frames.Gone) -> None:
        """A client has gone."""
        port = self._served.pop(frame.socket, None)
        if port is not None:
            self._of_shard[port.shard].discard(frame.socket)
            self._close(port, frame.code, frame.reason, was_clean=frame.was_clean)

    def _close(
        self, port: RemotePort, code: int, reason: str, *, was_clean: bool
    ) -> None:
        try:
            self._objects.socket_closed(
                port.object_id, port.record, code, reason, was_clean
            )
        except DurableError as error:
            log.info("close not delivered: %s", error)
