"""Client sockets as an object sees them.

The front end holds the socket; here is a record of it that outlives activations, so a
sleeping object's sockets stay open. What an object sends waits at its output gate.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID

from multidict import MultiMapping

from durable.domain.errors import ValueRefused
from durable.domain.ports import NO_OPTIONS, Frame, Kept
from durable.objects import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable.domain.ports import SocketPort
    from durable.objects.http import Request

MAX_TAGS = 10
MAX_TAG_CHARS = 256
MAX_ATTACHMENT_BYTES = 16_384
MAX_REASON_BYTES = 123


class SocketRecord:
    """One client socket of one object, kept by the worker while the socket is open."""

    __slots__ = (
        "answered",
        "attachment",
        "handle",
        "headers",
        "id",
        "open",
        "options",
        "port",
        "tags",
        "unacknowledged",
        "url",
    )

    def __init__(
        self,
        socket_id: str,
        *,
        port: SocketPort,
        url: str,
        headers: MultiMapping[str],
        tags: tuple[str, ...] = (),
    ) -> None:
        self.id = socket_id
        self.port = port
        self.url = url
        self.headers = headers
        self.tags = tags
        self.attachment: str | bytes | None = None
        self.options = NO_OPTIONS
        # When its holder last answered for the object, in seconds since the epoch.
        self.answered: float | None = None
        self.open = True
        # The live activation's handle of this socket, while there is one.
        self.handle: WebSocket | None = None
        # Messages whose handler, or whose effects, haven't finished.
        self.unacknowledged = 0

    @property
    def kept(self) -> Kept:
        """What the object's next owner must know."""
        return Kept(self.tags, self.attachment, self.options)

    def restore(self, kept: Kept, answered: float | None) -> None:
        """Go on with what another owner has kept."""
        self.tags, self.attachment = kept.tags, kept.attachment
        self.options = kept.options
        self.answered = answered


def record_of(
    request: Request, tags: Iterable[str], socket_id: str | None
) -> SocketRecord:
    """The record of a socket that is accepted with its upgrade request.

    Raises:
        ValueError: the request isn't an upgrade, or was accepted already.
        ValueRefused: over 10 tags, or one over 256 characters.
    """
    port = request.socket_port
    if port is None:
        raise ValueError(
            "this request is no upgrade that can be accepted "
            "(or it was accepted already)"
        )
    record = SocketRecord(
        socket_id or secrets.token_hex(16),
        port=port,
        url=request.url,
        headers=request.headers,
        tags=check_tags(tags),
    )
    request.socket_port = None
    return record


class SocketTable:
    """The socket records of a worker, by object."""

    def __init__(self) -> None:
        self._of: dict[UUID, list[SocketRecord]] = {}

    def __len__(self) -> int:
        return sum(len(records) for records in self._of.values())

    def add(self, object_id: UUID, record: SocketRecord) -> None:
        """A client has connected."""
        records = self._of.get(object_id)
        if records is None:
            # A list grown by append takes room for four; most objects have one socket.
            self._of[object_id] = [record]
        else:
            records.append(record)

    def remove(self, object_id: UUID, record: SocketRecord) -> None:
        """The socket has closed."""
        record.open = False
        records = self._of.get(object_id)
        if records is not None and record in records:
            records.remove(record)
            if not records:
                del self._of[object_id]

    def of(self, object_id: UUID) -> list[SocketRecord]:
        """The sockets of an object, oldest first."""
        return self._of.get(object_id, [])


class WebSocket:
    """A client's socket, bound to the activation that uses it.

    ``id`` is unique among the object's sockets unless a client reconnects with the same
    one; ``url`` and ``headers`` are those of the upgrade request.
    """

    __slots__ = ("_emit", "companion", "record")

    def __init__(
        self, record: SocketRecord, emit: Callable[[Callable[[], object]], None]
    ) -> None:
        self.record = record
        self._emit = emit
        # An SDK's own view of this socket, for as long as the activation lives.
        self.companion: Any = None

    @property
    def id(self) -> str:
        """The connection's id."""
        return self.record.id

    @property
    def url(self) -> str:
        """The URL of the upgrade request."""
        return self.record.url

    @property
    def headers(self) -> MultiMapping[str]:
        """The headers of the upgrade request."""
        return self.record.headers

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags it was accepted with."""
        return self.record.tags

    @property
    def is_open(self) -> bool:
        """Whether the client may still be there."""
        return self.record.open

    def add_tags(self, tags: Iterable[str]) -> None:
        """Give it more tags, before the upgrade is answered.

        Raises:
            ValueRefused: over 10 tags in all, or one over 256 characters.
        """
        self.record.tags = check_tags([*self.record.tags, *tags])
        self._keep()

    def send(self, message: str | bytes) -> None:
        """Send a text or a binary message, when what was written before is durable.

        Sending to a socket that has closed does nothing.
        """
        if isinstance(message, str):
            self.send_frame(Frame(message.encode("utf-8", "replace")))
        elif isinstance(message, (bytes, bytearray, memoryview)):
            self.send_frame(Frame(bytes(message), text=False))
        else:
            raise TypeError(
                f"a message is str or bytes, not {type(message).__name__}; "
                "json.dumps() makes text of a value"
            )

    def send_frame(self, frame: Frame) -> None:
        """Send a frame that was made once for many sockets."""
        record = self.record
        if record.open:
            self._emit(lambda: record.port.send(frame))

    def take_back(self) -> None:
        """Unsay what was sent before the upgrade is answered."""
        self._emit(self.record.port.take_back)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a code of the WebSocket registry; what was sent before arrives.

        Raises:
            ValueError: a code that must not be sent, or a reason over 123 bytes.
        """
        if not (1000 <= code <= 4999) or code in (1004, 1005, 1006, 1015):
            raise ValueError(f"a close code is 1000 to 4999, not {code}")
        if len(reason.encode()) > MAX_REASON_BYTES:
            raise ValueError(f"a close reason is at most {MAX_REASON_BYTES} bytes")
        record = self.record
        if record.open:
            self._emit(lambda: record.port.close(code, reason))

    def serialize_attachment(self, value: Any) -> None:
        """Keep a small value with the socket, over hibernation too; the last one wins.

        Raises:
            ValueRefused: over 16,384 bytes, or nothing that can be stored.
        """
        stored = codec.encode(value)
        if len(stored) > MAX_ATTACHMENT_BYTES:
            raise ValueRefused(
                f"an attachment is at most {MAX_ATTACHMENT_BYTES} bytes, "
                f"this has {len(stored)}"
            )
        self.record.attachment = stored
        self._keep()

    def deserialize_attachment(self) -> Any:
        """The value kept with the socket (a copy), or None."""
        stored = self.record.attachment
        return None if stored is None else codec.decode(stored)

    def _keep(self) -> None:
        record = self.record
        kept = record.kept
        if record.open:
            self._emit(lambda: record.port.keep(kept))


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Refuse tags that can't be kept.

    Raises:
        ValueRefused: more than 10 distinct ones, or one over 256 characters.
    """
    distinct = tuple(dict.fromkeys(tags))
    if len(distinct) > MAX_TAGS:
        raise ValueRefused(f"at most {MAX_TAGS} tags, not {len(distinct)}")
    for tag in distinct:
        if not 0 < len(tag) <= MAX_TAG_CHARS:
            raise ValueRefused(
                f"a tag is a string of 1 to {MAX_TAG_CHARS} characters, not {tag!r}"
            )
    return distinct
