"""Turns as rows: what was accepted and has not ended, and how the last ones ended.

A row is written when a turn is accepted, and again when it begins to stream and when it
ends. One that has not ended and has no producer here was cut off with its owner.
"""

from __future__ import annotations

import msgspec

from agents.chat.chunk_log import delete_chunks
from agents.work_rows import Counter, Rows, RowStorage

SPACE = "chat-turns"
# So many turns that have ended are kept, with the chunks of their streams.
TURNS_KEPT = 10

WAITING, STREAMING = "waiting", "streaming"


class TurnRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A turn as stored; ``state`` is its outcome once it has ended."""

    # The request's id, by which clients know it.
    id: str
    state: str = WAITING
    # The user messages that it answers, and the one that answers them.
    message_ids: list[str] = []
    message_id: str | None = None
    continuation: bool = False
    error: str | None = None
    # How often it was cut off and run again; whether that was its end.
    recoveries: int = 0
    cut_off: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether it waits and streams no longer."""
        return self.state not in (WAITING, STREAMING)


class TurnStore:
    """The rows of one agent's turns; ``rows`` has all of them, the oldest first."""

    __slots__ = ("_number", "_rows", "_storage", "rows")

    def __init__(self, storage: RowStorage) -> None:
        self._storage = storage
        self._rows = Rows(storage, SPACE, TurnRow)
        self._number = Counter(storage, "chat-turns")
        self.rows: dict[str, TurnRow] = {}

    async def load(self) -> None:
        """Read all rows, which are few."""
        self.rows = await self._rows.all()
        # Known from now on: a key is made without an await.
        await self._number.get()

    def unfinished(self) -> dict[str, TurnRow]:
        """Those that have not ended."""
        return {key: row for key, row in self.rows.items() if not row.has_ended}

    def find(self, turn_id: str) -> tuple[str, TurnRow] | None:
        """The newest turn with this id, with its key."""
        for key in reversed(self.rows):
            if self.rows[key].id == turn_id:
                return key, self.rows[key]
        return None

    def last_ended(self) -> tuple[str, TurnRow] | None:
        """The turn that ended last, with its key; None if another came after it."""
        for key in reversed(self.rows):
            row = self.rows[key]
            return (key, row) if row.has_ended else None
        return None

    def add(self, row: TurnRow) -> str:
        """Write a new turn; returns its key, which is its stream's name, too."""
        key = f"{self._number.add_now(1):012d}"
        self.rows[key] = row
        self._rows.put(key, row)
        return key

    def put(self, key: str) -> None:
        """Write a row that was changed."""
        if key in self.rows:
            self._rows.put(key, self.rows[key])

    def delete(self, key: str) -> None:
        """Forget a turn that never streamed."""
        if self.rows.pop(key, None) is not None:
            self._rows.delete(key)

    async def trim(self, keep: int = TURNS_KEPT) -> None:
        """Delete the oldest of those that have ended, with their chunks."""
        ended = [key for key, row in self.rows.items() if row.has_ended]
        for key in ended[: max(len(ended) - keep, 0)]:
            self.delete(key)
            await self.delete_stream(key)

    async def delete_stream(self, key: str) -> None:
        """Delete the chunks of a turn."""
        await delete_chunks(self._storage, key)

    async def clear(self) -> None:
        """Delete all that have ended."""
        await self.trim(0)
