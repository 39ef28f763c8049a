"""What a node and Postgres say to each other, as far as a tap must understand it."""

from __future__ import annotations

import copy
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

COMMIT_CALL = "durable.commit_"
NEGOTIATIONS = (80877103, 80877104)  # SSLRequest, GSSENCRequest: answered by one byte


def is_commit(statement: str) -> bool:
    """Whether a statement makes an object's writes durable."""
    text = statement.strip().lower()
    return COMMIT_CALL in text or text == "commit"


@dataclass(slots=True)
class FrontendReader:
    """Reads what a client sends; ``requests`` counts what awaits ReadyForQuery.

    Each entry of ``requests`` says whether that request commits. ``application`` is
    the name that the session was given.
    """

    requests: deque[bool] = field(default_factory=deque)
    negotiations: int = 0
    application: str = ""
    _buffer: bytearray = field(default_factory=bytearray)
    _started: bool = False
    _commits: bool = False
    _statements: dict[bytes, str] = field(default_factory=dict)

    def feed(self, data: bytes) -> bool:
        """Take bytes; whether they completed a request that commits."""
        self._buffer += data
        committed = False
        while (message := self._next()) is not None:
            committed |= self._read(*message)
        return committed

    def split(self, data: bytes, holds: Callable[[str], bool]) -> int | None:
        """How many of these bytes may pass so that the statement isn't committed.

        That is up to a COMMIT, or up to the Sync that ends an implicit transaction;
        None if there is no such end in them.
        """
        probe = copy.deepcopy(self)
        behind = len(probe._buffer)
        probe._buffer += data
        total = behind + len(data)
        meant = False
        while True:
            start = total - len(probe._buffer)
            message = probe._next()
            if message is None:
                return None
            kind, body = message
            if kind == b"B":
                meant |= holds(probe._statement(body))
            probe._read(kind, body)
            text = ""
            if kind == b"P":
                text = probe._statements[body.split(b"\0", 1)[0]]
            ends = text.strip().lower() == "commit" and holds(text)
            if ends or (meant and kind == b"S"):
                return max(0, start - behind)

    def _statement(self, bind: bytes) -> str:
        """The text of what is bound."""
        _, name, _ = bind.split(b"\0", 2)
        return self._statements.get(name, "")

    def _next(self) -> tuple[bytes, bytes] | None:
        """Cut one complete message off the buffer: its type and body."""
        head = 1 if self._started else 0
        if len(self._buffer) < head + 4:
            return None
        (length,) = struct.unpack_from("!I", self._buffer, head)
        if len(self._buffer) < head + length:
            return None
        kind = bytes(self._buffer[:head])
        body = bytes(self._buffer[head + 4 : head + length])
        del self._buffer[: head + length]
        return kind, body

    def _read(self, kind: bytes, body: bytes) -> bool:
        if not kind:
            self._read_startup(body)
        elif kind == b"P":
            name, statement, _ = body.split(b"\0", 2)
            self._statements[name] = statement.decode()
        elif kind == b"B":
            self._commits |= is_commit(self._statement(body))
        elif kind == b"Q":
            return self._end_request(is_commit(body.rstrip(b"\0").decode()))
        elif kind == b"S":
            return self._end_request(self._commits)
        return False

    def _read_startup(self, body: bytes) -> None:
        if struct.unpack_from("!I", body)[0] in NEGOTIATIONS:
            self.negotiations += 1
            return
        self._started = True
        words = body[4:].split(b"\0")
        named = dict(zip(words[::2], words[1::2], strict=False))
        self.application = named.get(b"application_name", b"").decode()
        self.requests.append(False)  # authentication also ends with ReadyForQuery

    def _end_request(self, commits: bool) -> bool:
        self._commits = False
        self.requests.append(commits)
        return commits


@dataclass(slots=True)
class BackendReader:
    """Reads what Postgres answers; only the ends of requests matter."""

    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes, frontend: FrontendReader) -> int:
        """Take bytes; how many requests they answered."""
        self._buffer += data
        if frontend.negotiations and self._buffer:
            refusals = min(frontend.negotiations, len(self._buffer))
            if self._buffer[:refusals] != b"N" * refusals:
                raise ValueError("the tap can't read an encrypted connection")
            del self._buffer[:refusals]
            frontend.negotiations -= refusals
        answered = 0
        offset = 0
        while len(self._buffer) - offset >= 5:
            (length,) = struct.unpack_from("!I", self._buffer, offset + 1)
            if len(self._buffer) - offset < 1 + length:
                break
            answered += self._buffer[offset] == ord("Z")
            offset += 1 + length
        del self._buffer[:offset]
        return answered
