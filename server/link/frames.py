"""What two nodes say to each other: typed frames of MessagePack, length first.

``id`` numbers an exchange that its sender began: odd from the node that dialled, even
from the other, so that both may begin. A ``socket`` is a client's socket, numbered by
the node that holds it.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from durable.domain.ports import SocketOptions  # msgspec looks at it

HEAD = struct.Struct("!I")


class Ping(msgspec.Struct, array_like=True, tag=0):
    """Nothing; but who is gone doesn't acknowledge it."""


class Hint(msgspec.Struct, array_like=True, tag=1):
    """Shards have left the sender: perhaps the receiver is to claim them."""


class Serves(msgspec.Struct, array_like=True, tag=2):
    """The sender serves these shards from now on."""

    shards: list[int]


class Fault(msgspec.Struct, array_like=True):
    """An error of the runtime by its class, or RemoteError with a ``name``.

    ``object`` is its ``durable_object_id``; the rest is what an SqlError has.
    """

    kind: str
    message: str
    name: str
    object: str | None = None
    query: str = ""
    position: int | None = None
    sqlstate: str | None = None


class Call(msgspec.Struct, array_like=True, tag=3):
    """A call of an object's method; arguments and props as the codec writes them.

    ``nested``: it comes from a handler, which must be able to end.
    """

    id: int
    object: bytes
    name: str | None
    method: str
    args: str
    props: str
    nested: bool
    # Objects that let nobody in before this returns.
    blocked: list[bytes] = []


class Cancel(msgspec.Struct, array_like=True, tag=4):
    """Nobody waits for this call or request any more."""

    id: int


class Returned(msgspec.Struct, array_like=True, tag=5):
    """What a call returned; ``streams`` if lines with one result each are to come."""

    id: int
    result: str
    streams: bool = False


class Failed(msgspec.Struct, array_like=True, tag=6):
    """How a call or a request failed."""

    id: int
    fault: Fault


class Fetch(msgspec.Struct, array_like=True, tag=7):
    """A request; ``socket`` if it is an upgrade, ``streams`` if pieces are to come."""

    id: int
    object: bytes
    name: str | None
    props: str
    nested: bool
    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes | None
    streams: bool
    socket: int | None
    blocked: list[bytes] = []


class Answer(msgspec.Struct, array_like=True, tag=8):
    """A response; ``streams`` if the pieces of its body are to come."""

    id: int
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None
    streams: bool


class Piece(msgspec.Struct, array_like=True, tag=9):
    """A piece of a body; ``up`` if of a request's."""

    id: int
    up: bool
    data: bytes


class End(msgspec.Struct, array_like=True, tag=10):
    """A body has ended, or failed with this error."""

    id: int
    up: bool
    fault: Fault | None


class Credit(msgspec.Struct, array_like=True, tag=11):
    """The reader of a body takes so many bytes more."""

    id: int
    up: bool
    bytes: int


class Stop(msgspec.Struct, array_like=True, tag=12):
    """The reader of a body wants no more of it."""

    id: int
    up: bool


# --- sockets: from their owner to who holds them


class Accepted(msgspec.Struct, array_like=True, tag=13):
    """An object took a socket; ``id`` is what it calls it."""

    socket: int
    object: bytes
    name: str | None
    id: str


class Say(msgspec.Struct, array_like=True, tag=14):
    """A frame for sockets: once for all that the receiver holds."""

    sockets: list[int]
    payload: bytes
    text: bool
    coalesce: bool


class TakeBack(msgspec.Struct, array_like=True, tag=15):
    """Forget what was said to a socket whose upgrade isn't answered."""

    socket: int


class Close(msgspec.Struct, array_like=True, tag=16):
    """Close a socket, behind what was said to it."""

    socket: int
    code: int
    reason: str


class Keep(msgspec.Struct, array_like=True, tag=17):
    """What the object keeps with a socket, for its next owner."""

    socket: int
    tags: tuple[str, ...]
    # As the codec writes it: text, bytes, or None.
    attachment: Any
    options: SocketOptions


class Acknowledged(msgspec.Struct, array_like=True, tag=18):
    """(socket, number, count): taken up to there; so many are done, effects and all."""

    sockets: list[tuple[int, int, int]]


class Bounced(msgspec.Struct, array_like=True, tag=19):
    """The messages of a socket from this number on were not taken."""

    socket: int
    number: int


class Attach(msgspec.Struct, array_like=True, tag=20):
    """The sender has claimed these shards: which of their sockets are held?"""

    id: int
    shards: list[int]


class Part(msgspec.Struct, array_like=True, tag=21):
    """The sender has ended all that ran in these shards."""

    id: int
    shards: list[int]


# --- sockets: from who holds them to their owner


class Held(msgspec.Struct, array_like=True):
    """A socket that is held; ``clean`` if its last owner parted from it."""

    socket: int
    object: bytes
    name: str | None
    id: str
    url: str
    headers: list[tuple[str, str]]
    tags: tuple[str, ...]
    # As the codec writes it: text, bytes, or None.
    attachment: Any
    options: SocketOptions
    answered: float | None
    clean: bool


class Attached(msgspec.Struct, array_like=True, tag=22):
    """The sockets that were asked for: they are the asker's from now on."""

    id: int
    sockets: list[Held]


class Parted(msgspec.Struct, array_like=True, tag=23):
    """All that was said before is with the clients."""

    id: int


class Heard(msgspec.Struct, array_like=True, tag=24):
    """A client's message, the ``number``-th since its owner has it."""

    socket: int
    number: int
    payload: bytes
    text: bool


class Gone(msgspec.Struct, array_like=True, tag=25):
    """A client's socket has closed."""

    socket: int
    code: int
    reason: str
    was_clean: bool


class Answered(msgspec.Struct, array_like=True, tag=26):
    """A client's text was answered where its socket is held."""

    socket: int
    at: float


Frame = (
    Ping
    | Hint
    | Serves
    | Call
    | Cancel
    | Returned
    | Failed
    | Fetch
    | Answer
    | Piece
    | End
    | Credit
    | Stop
    | Accepted
    | Say
    | TakeBack
    | Close
    | Keep
    | Acknowledged
    | Bounced
    | Attach
    | Part
    | Attached
    | Parted
    | Heard
    | Gone
    | Answered
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """A frame as it is sent, its length first."""
    body = _encoder.encode(frame)
    return HEAD.pack(len(body)) + body


def decode(body: bytes | memoryview) -> Frame:
    """A frame without its length.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decoder.decode(body)
