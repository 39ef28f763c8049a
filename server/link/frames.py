"""What two nodes say to each other: typed frames of MessagePack, length first.

``id`` numbers an exchange that its sender began: odd from the node that dialled, even
from the other, so that both may begin. A ``socket`` is a client's socket, numbered in
the same way by the node that holds it.
"""

from __future__ import annotations

import struct

import msgspec

HEAD = struct.Struct("!I")
# Room in a frame for what is said beside a message or a piece of a body.
OVERHEAD = 1 << 20


class Ping(msgspec.Struct, array_like=True, tag=0):
    """Nothing; but who is gone doesn't acknowledge it."""


class Hint(msgspec.Struct, array_like=True, tag=1):
    """Shards have come to the sender, or left it: look at the shard map."""


class Call(msgspec.Struct, array_like=True, tag=2):
    """A call of an object's method; arguments and props as the codec writes them."""

    id: int
    object: bytes
    name: str | None
    method: str
    args: str
    props: str


class Returned(msgspec.Struct, array_like=True, tag=3):
    """What a call returned."""

    id: int
    result: str


class Failed(msgspec.Struct, array_like=True, tag=4):
    """How a call or a request failed: an error of the runtime, or RemoteError."""

    id: int
    kind: str
    message: str
    name: str


class Fetch(msgspec.Struct, array_like=True, tag=5):
    """A request; ``socket`` if it is an upgrade, ``streams`` if pieces are to come."""

    id: int
    object: bytes
    name: str | None
    props: str
    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes | None
    streams: bool
    socket: int | None


class Answer(msgspec.Struct, array_like=True, tag=6):
    """A response; ``streams`` if the pieces of its body are to come."""

    id: int
    status: int
    headers: list[tuple[str, str]]
    body: bytes | None
    streams: bool


class Piece(msgspec.Struct, array_like=True, tag=7):
    """A piece of a body; ``up`` if of a request's."""

    id: int
    up: bool
    data: bytes


class End(msgspec.Struct, array_like=True, tag=8):
    """A body has ended, or failed with this error."""

    id: int
    up: bool
    error: str | None


class Credit(msgspec.Struct, array_like=True, tag=9):
    """The reader of a body takes so many bytes more."""

    id: int
    up: bool
    bytes: int


class Stop(msgspec.Struct, array_like=True, tag=10):
    """The reader of a body wants no more of it."""

    id: int
    up: bool


class Accepted(msgspec.Struct, array_like=True, tag=11):
    """An object took a socket."""

    socket: int
    object: bytes
    name: str | None


class Say(msgspec.Struct, array_like=True, tag=12):
    """A frame for sockets: once for all that the receiver holds."""

    sockets: list[int]
    payload: bytes
    text: bool
    coalesce: bool


class TakeBack(msgspec.Struct, array_like=True, tag=13):
    """Forget what was said to a socket whose upgrade isn't answered."""

    socket: int


class Close(msgspec.Struct, array_like=True, tag=14):
    """Close a socket, behind what was said to it."""

    socket: int
    code: int
    reason: str


class Heard(msgspec.Struct, array_like=True, tag=15):
    """A client's message."""

    socket: int
    payload: bytes
    text: bool


class Gone(msgspec.Struct, array_like=True, tag=16):
    """A client's socket has closed."""

    socket: int
    code: int
    reason: str
    was_clean: bool


Frame = (
    Ping
    | Hint
    | Call
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
    | Heard
    | Gone
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
