"""Client sockets over the link: the front end holds them, the owner talks to them.

When the link or its other node is lost, so are both ends: the front end closes its
clients' sockets with 1012, and they connect again; the owner tells its objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from durable import DurableError, DurableObjectId, Frame, Overloaded
from server.link import frames

if TYPE_CHECKING:
    from durable.domain.ports import SocketPort
    from durable.objects.websocket import SocketRecord
    from server.link.connection import LinkConnection
    from server.socket import SocketEvents

log = logging.getLogger(__name__)

ABNORMAL, RESTARTED, TRY_LATER = 1006, 1012, 1013


class LinkedSocket:
    """What the front end has in place of a socket's record, which the owner keeps."""

    __slots__ = ("_on_gone", "_say", "number")

    def __init__(
        self,
        number: int,
        say: Callable[[frames.Frame], None],
        on_gone: Callable[[int], None],
    ) -> None:
        self.number = number
        self._say = say
        self._on_gone = on_gone

    def heard(self, message: str | bytes) -> None:
        """The client said something."""
        if isinstance(message, str):
            payload = message.encode("utf-8", "surrogatepass")
            self._say(frames.Heard(self.number, payload, True))
        else:
            self._say(frames.Heard(self.number, bytes(message), False))

    def gone(self, code: int, reason: str, was_clean: bool) -> None:
        """The client has gone."""
        self._on_gone(self.number)
        self._say(frames.Gone(self.number, code, reason, was_clean))


class HeldSockets:
    """The sockets that this front end holds for one owner."""

    def __init__(self, say: Callable[[frames.Frame], None], first: int) -> None:
        self._say = say
        self._next = first
        self._ports: dict[int, SocketPort] = {}

    def offer(self, port: SocketPort) -> int:
        """Number a socket that an object of the owner may accept."""
        number, self._next = self._next, self._next + 2
        self._ports[number] = port
        return number

    def forget(self, number: int) -> None:
        """It has closed, or was not accepted."""
        self._ports.pop(number, None)

    def accepted(self, frame: frames.Accepted) -> None:
        """An object took a socket."""
        port = self._ports.get(frame.socket)
        if port is not None:
            target = DurableObjectId(UUID(bytes=frame.object), frame.name)
            port.accepted(target, LinkedSocket(frame.socket, self._say, self.forget))

    def say(self, frame: frames.Say) -> None:
        """Send a frame to the clients."""
        said = Frame(frame.payload, text=frame.text, coalesce=frame.coalesce)
        for number in frame.sockets:
            port = self._ports.get(number)
            if port is not None:
                port.send(said)

    def take_back(self, frame: frames.TakeBack) -> None:
        """Unsay what was sent before the upgrade is answered."""
        port = self._ports.get(frame.socket)
        if port is not None:
            port.take_back()

    def close(self, frame: frames.Close) -> None:
        """Close a socket."""
        port = self._ports.get(frame.socket)
        if port is not None:
            port.close(frame.code, frame.reason)

    def lost(self) -> None:
        """The owner can't be reached any more."""
        ports, self._ports = self._ports, {}
        for port in ports.values():
            port.close(RESTARTED, "The object's node was lost")


class RemotePort:
    """The owner's end of a socket that another node holds (a SocketPort)."""

    __slots__ = ("_connection", "_number", "_sockets")

    def __init__(
        self, number: int, connection: LinkConnection, sockets: ServedSockets
    ) -> None:
        self._number = number
        self._connection = connection
        self._sockets = sockets

    def accepted(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """An object took the socket."""
        self._sockets.add(self._number, object_id, record)
        value = object_id.value.bytes
        self._connection.say(frames.Accepted(self._number, value, object_id.name))

    def send(self, frame: Frame) -> None:
        """Send a frame to the client."""
        self._connection.say_to(self._number, frame)

    def take_back(self) -> None:
        """Forget what was sent, as long as the upgrade isn't answered."""
        self._connection.say(frames.TakeBack(self._number))

    def close(self, code: int, reason: str) -> None:
        """Close behind what was sent."""
        self._connection.say(frames.Close(self._number, code, reason))


@dataclass(frozen=True, slots=True)
class _Served:
    object_id: DurableObjectId
    record: SocketRecord


class ServedSockets:
    """The sockets of one front end that objects of this node have accepted."""

    def __init__(self, events: SocketEvents) -> None:
        self._events = events
        self._served: dict[int, _Served] = {}

    def add(self, number: int, object_id: DurableObjectId, record: SocketRecord) -> None:
        """An object took a socket."""
        self._served[number] = _Served(object_id, record)

    def heard(self, frame: frames.Heard) -> None:
        """A client said something."""
        served = self._served.get(frame.socket)
        if served is None:
            return
        message: str | bytes = frame.payload
        if frame.text:
            message = frame.payload.decode("utf-8", "surrogatepass")
        try:
            self._events.socket_message(served.object_id, served.record, message)
        except Overloaded:
            served.record.port.close(TRY_LATER, "The object is overloaded")
        except DurableError as error:
            log.info("message not delivered: %s", error)
            served.record.port.close(RESTARTED, "The object is moving")

    def gone(self, frame: frames.Gone) -> None:
        """A client has gone."""
        served = self._served.pop(frame.socket, None)
        if served is not None:
            self._closed(served, frame.code, frame.reason, frame.was_clean)

    def lost(self) -> None:
        """The front end is gone, and so are its clients."""
        lost, self._served = self._served, {}
        for served in lost.values():
            self._closed(served, ABNORMAL, "", was_clean=False)

    def _closed(
        self, served: _Served, code: int, reason: str, was_clean: bool
    ) -> None:
        try:
            self._events.socket_closed(
                served.object_id, served.record, code, reason, was_clean
            )
        except DurableError as error:
            log.info("close not delivered: %s", error)
