"""Frames that a client has not taken yet: bounded, and superseded ones left out."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

from durable import Frame

NO_STATUS = 1005


class Backlog:
    """In order of saying; a newer ``coalesce`` frame replaces an older one."""

    __slots__ = ("_frames", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._frames: deque[Frame] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_over(self) -> bool:
        """Whether the client is too far behind."""
        return self._size > self._limit

    def push(self, frame: Frame) -> None:
        """Add a frame; what it supersedes goes."""
        if frame.coalesce:
            for kept in self._frames:
                if kept.coalesce:
                    self._frames.remove(kept)
                    self._size -= len(kept.payload)
                    break
        self._frames.append(frame)
        self._size += len(frame.payload)

    def pop(self) -> Frame:
        """The oldest frame."""
        frame = self._frames.popleft()
        self._size -= len(frame.payload)
        return frame

    def clear(self) -> None:
        """Forget all."""
        self._frames.clear()
        self._size = 0

    def drain(self) -> Iterator[Frame]:
        """Take the frames out, oldest first."""
        while self._frames:
            yield self.pop()


def encode(frame: Frame) -> bytes:
    """A frame as a server sends it: unmasked, whole, not compressed."""
    if frame.wire is None:
        head = frame_head(0x81 if frame.text else 0x82, len(frame.payload))
        frame.wire = head + frame.payload
    return frame.wire


def frame_head(first: int, size: int) -> bytes:
    """The head of an unmasked frame; ``first`` is FIN and opcode."""
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def closing(code: int, reason: str) -> Frame:
    """A closing frame; NO_STATUS says nothing."""
    payload = b"" if code == NO_STATUS else struct.pack("!H", code) + reason.encode()
    frame = Frame(payload)
    frame.wire = frame_head(0x88, len(payload)) + payload
    return frame
