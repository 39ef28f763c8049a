"""Schedules as rows: by id, and in the order in which they are due.

Each row that isn't paused has one entry in the order, ``due:id``, written in the same
commit; so what is due next is the first key, and nothing else is ever read for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from agents.jobs import JobRow, decoded, new_id
from agents.retries import RetryOptions
from agents.work_rows import Counter, Rows, RowStorage
from durable import KeyRange

SPACE = "schedules"
DUE_SPACE = "schedules-due"
PAGE = 64
RECURRING = ("cron", "interval")
# What stands in a row of the order: its key says all.
_ENTRY = "1"


class ScheduleRow(JobRow, omit_defaults=True, kw_only=True):
    """A schedule as stored; times are milliseconds since the epoch.

    ``token`` tells it from another schedule that has taken its id.
    """

    id: str
    token: str
    callback: str
    payload: msgspec.Raw
    type: str
    due: int
    # Where its entry in the order is: later than ``due`` while it is run.
    at: int
    delay: float | None = None
    cron: str | None = None
    timezone: str | None = None
    interval: float | None = None
    missed: str = "fire_once"
    until: int | None = None
    retry: RetryOptions | None = None
    paused: bool = False

    @property
    def is_recurring(self) -> bool:
        """Whether it goes on after a run."""
        return self.type in RECURRING


@dataclass(frozen=True, slots=True)
class Schedule:
    """A planned call of a method; ``time`` is when, in whole seconds since the epoch.

    ``type``: ``scheduled``, ``delayed``, ``cron`` or ``interval``.
    """

    id: str
    callback: str
    payload: Any
    time: int
    type: str
    retry: RetryOptions | None = None
    delay_in_seconds: float | None = None
    cron: str | None = None
    timezone: str | None = None
    interval_seconds: float | None = None
    missed: str = "fire_once"
    until: float | None = None
    paused: bool = False


def public(row: ScheduleRow) -> Schedule:
    """What the agent's code sees of a row."""
    return Schedule(
        id=row.id,
        callback=row.callback,
        payload=decoded(row.payload),
        time=row.due // 1000,
        type=row.type,
        retry=row.retry,
        delay_in_seconds=row.delay,
        cron=row.cron,
        timezone=row.timezone,
        interval_seconds=row.interval,
        missed=row.missed,
        until=None if row.until is None else row.until / 1000,
        paused=row.paused,
    )


def same_id(row: ScheduleRow) -> str:
    """The id that all schedules have that say the same as this one."""
    said = [row.type, row.callback, row.cron, row.timezone, row.interval, row.payload]
    return blake2b(msgspec.json.encode(said), digest_size=8).hexdigest()


class ScheduleStore:
    """The rows of one agent."""

    __slots__ = ("_count", "_due", "_rows")

    def __init__(self, storage: RowStorage) -> None:
        self._rows = Rows(storage, SPACE, ScheduleRow)
        self._due = storage.space(DUE_SPACE)
        self._count = Counter(storage, "schedules")

    async def count(self) -> int:
        """How many there are."""
        return await self._count.get()

    async def get(self, id: str) -> ScheduleRow | None:
        """One by its id."""
        return await self._rows.get(id)

    async def page(self, after: str) -> dict[str, ScheduleRow]:
        """Some, in the order of their ids."""
        return await self._rows.page(after)

    async def put(self, row: ScheduleRow, at: int | None = None) -> None:
        """Write a row; it is due at ``row.due``, or looked at ``at``."""
        # Read now what must be read: no await is left after the row is looked at.
        await self._count.get()
        await self._rows.get(row.id)
        before = self._rows.known(row.id)
        if before is None:
            await self._count.add(1)
        elif not before.paused:
            self._due.delete(_key(before))
        row.at = row.due if at is None else at
        self._rows.put(row.id, row)
        if not row.paused:
            self._due.put_raw(_key(row), _ENTRY)

    async def delete(self, row: ScheduleRow) -> None:
        """Remove a row."""
        await self._count.get()
        await self._rows.get(row.id)
        before = self._rows.known(row.id)
        if before is None:
            return
        if not before.paused:
            self._due.delete(_key(before))
        self._rows.delete(row.id)
        await self._count.add(-1)

    async def restore(self, origin: msgspec.Raw, now: int) -> ScheduleRow:
        """Write a row that was removed once more, due at once."""
        row = msgspec.json.decode(origin, type=ScheduleRow)
        if await self._rows.get(row.id) is not None:
            row.id = new_id()
        row.settle()
        row.token, row.paused = new_id(), False
        row.due = now
        await self.put(row)
        return row

    async def due(self, now: int) -> list[str]:
        """The entries of those due up to a moment, in order; a page of them."""
        wanted = KeyRange(end=f"{now + 1:015d}", limit=PAGE)
        return [*await self._due.list_raw(wanted)]

    async def at_entry(self, entry: str) -> ScheduleRow | None:
        """The row that an entry is of, None if it was moved or removed meanwhile."""
        row = await self._rows.get(entry[16:])
        if row is not None and not row.paused and _key(row) == entry:
            return row
        self._due.delete(entry)
        return None

    async def next_due(self) -> int | None:
        """When the next one is due."""
        for key in await self._due.list_raw(KeyRange(limit=1)):
            return int(key[:15])
        return None


def _key(row: ScheduleRow) -> str:
    return f"{row.at:015d}:{row.id}"
