"""The chunks of one stream, numbered from 0, as rows: what a client saw, the log has.

Promise: a chunk is given out in the step that writes it, so the object's output gate
holds the frame back until the row is durable. Chunks are gathered for up to 20 ms into
one row; what ``chunks`` has was given out, in this order, and nothing else was.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from agents.work_rows import PAGE, RowStorage
from durable import DurableError, KeyRange

SPACE = "chat-chunks"
# A chunk waits so long for others to be written with.
GATHER_SECONDS = 0.02
# More than this is written at once.
MAX_GATHERED_BYTES = 65_536

# Keys in one deletion, as many as storage takes.
_BATCH = 128


class Timer(Protocol):
    """What ``call_later`` returns."""

    def cancel(self) -> None:
        """Don't call."""


CallLater = Callable[[float, Callable[[], object]], Timer]
# Takes the number of the first chunk, and the chunks.
GiveOut = Callable[[int, Sequence[bytes]], object]


class ChunkLog:
    """The log of a stream that is being produced."""

    __slots__ = (
        "_bytes",
        "_call_later",
        "_context",
        "_gathered",
        "_give_out",
        "_space",
        "_stream",
        "_timer",
        "chunks",
    )

    def __init__(
        self,
        storage: RowStorage,
        stream: str,
        give_out: GiveOut,
        call_later: CallLater | None = None,
    ) -> None:
        self._space = storage.space(SPACE)
        self._stream = stream
        self._give_out = give_out
        self._call_later = call_later or asyncio.get_running_loop().call_later
        # A producer may be inside of a transaction; what it says is not.
        self._context = contextvars.copy_context()
        self._gathered: list[bytes] = []
        self._bytes = 0
        self._timer: Timer | None = None
        # Those that were given out.
        self.chunks: list[bytes] = []

    def append(self, raw: bytes) -> None:
        """Take the next chunk, as JSON."""
        self._gathered.append(raw)
        self._bytes += len(raw)
        if self._bytes >= MAX_GATHERED_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._call_later(GATHER_SECONDS, self._due)

    def flush(self) -> None:
        """Write what was gathered, and give it out behind that."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            self._context.copy().run(self._write)

    def drop(self) -> None:
        """Forget what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gathered, self._bytes = [], 0

    def _due(self) -> None:
        self._timer = None
        # The activation may be over: then its gate has dropped all that it said.
        try:
            self.flush()
        except DurableError:
            self.drop()

    def _write(self) -> None:
        gathered, first = self._gathered, len(self.chunks)
        block = b"[" + b",".join(gathered) + b"]"
        # Read again by who comes late from another owner only: ``chunks`` has them.
        key = _key(self._stream, first)
        self._space.put_raw(key, block.decode(), no_cache=True)
        self._gathered, self._bytes = [], 0
        self.chunks += gathered
        self._give_out(first, gathered)


async def read_chunks(storage: RowStorage, stream: str) -> list[bytes]:
    """All chunks of a stream, as JSON."""
    space, chunks, after = storage.space(SPACE), list[bytes](), f"{stream}-"
    while True:
        wanted = KeyRange(start=after, end=f"{stream}.", limit=PAGE)
        blocks = await space.list_raw(wanted)
        for block in blocks.values():
            chunks += map(bytes, msgspec.json.decode(block, type=list[msgspec.Raw]))
        if len(blocks) < PAGE:
            return chunks
        # U+0001 follows nothing: keys are digits.
        after = next(reversed(blocks)) + "\x01"


async def delete_chunks(storage: RowStorage, stream: str) -> None:
    """Delete the log of a stream."""
    space = storage.space(SPACE)
    while True:
        wanted = KeyRange(start=f"{stream}-", end=f"{stream}.", limit=_BATCH)
        blocks = await space.list_raw(wanted)
        for key in blocks:
            space.delete(key)
        if len(blocks) < _BATCH:
            return


def _key(stream: str, first: int) -> str:
    return f"{stream}-{first:09d}"
