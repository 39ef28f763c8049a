"""The queue as rows: numbered in the order of arrival, and their numbers by id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from agents.jobs import JobRow, decoded, new_id
from agents.retries import RetryOptions
from agents.work_rows import Counter, Rows, RowStorage, read_raw

SPACE = "work-queue"
IDS_SPACE = "work-queue-ids"


class QueueRow(JobRow, omit_defaults=True, kw_only=True):
    """An item as stored; times are milliseconds since the epoch."""

    id: str
    callback: str
    payload: msgspec.Raw
    created: int
    retry: RetryOptions | None = None


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An item of the queue; ``created_at`` is seconds since the epoch."""

    id: str
    callback: str
    payload: Any
    created_at: float
    retry: RetryOptions | None = None


def public(row: QueueRow) -> QueueItem:
    """What the agent's code sees of a row."""
    return QueueItem(
        row.id, row.callback, decoded(row.payload), row.created / 1000, row.retry
    )


class QueueStore:
    """The rows of one agent's queue."""

    __slots__ = ("_ids", "_number", "rows")

    def __init__(self, storage: RowStorage) -> None:
        self.rows = Rows(storage, SPACE, QueueRow)
        self._ids = storage.space(IDS_SPACE)
        self._number = Counter(storage, "queue")

    async def key_of(self, id: str) -> str | None:
        """The key of an item's row, None if there is none."""
        stored = await read_raw(self._ids, id)
        return None if stored is None else msgspec.json.decode(stored, type=str)

    async def append(self, row: QueueRow) -> None:
        """Add an item at the end."""
        key = f"{await self._number.add(1):015d}"
        self.rows.put(key, row)
        self._ids.put_raw(row.id, f'"{key}"')

    def delete(self, key: str, id: str) -> None:
        """Remove an item that is there."""
        self.rows.delete(key)
        self._ids.delete(id)

    async def restore(self, origin: msgspec.Raw) -> None:
        """Append an item that was removed once more."""
        row = msgspec.json.decode(origin, type=QueueRow)
        if await self.key_of(row.id) is not None:
            row.id = new_id()
        row.settle()
        await self.append(row)
