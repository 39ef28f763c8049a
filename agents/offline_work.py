"""An agent's work while no node has the agent: for an operator who owns its shard.

The same rows by the same code as in a live agent, over a copy. ``writes`` is what has
to be committed then, and the alarm set to now if anything was planned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Mapping
from typing import Any

import msgspec

from agents import (
    dead_letters,
    fibers,
    outbox_store,
    queue_store,
    schedule_store,
    work_rows,
)
from agents.dead_letters import DeadLetters
from agents.fibers import FiberRow, restore_fiber
from agents.outbox_store import OutboxStore
from agents.queue_store import QueueStore
from agents.schedule_store import ScheduleStore
from agents.work_rows import Rows, Stored
from durable import KeyRange

Slot = tuple[str, str]

SPACES = (
    work_rows.COUNTERS,
    dead_letters.SPACE,
    fibers.SPACE,
    outbox_store.SPACE,
    outbox_store.PAIRS_SPACE,
    queue_store.SPACE,
    queue_store.IDS_SPACE,
    schedule_store.SPACE,
    schedule_store.DUE_SPACE,
)


class OfflineWork:
    """The work of an agent, from its rows in ``SPACES``; ``now`` in milliseconds."""

    def __init__(self, rows: Mapping[Slot, Stored], now: int) -> None:
        self.rows = dict(rows)
        self.writes: dict[Slot, Stored | None] = {}
        self._now = now

    def space(self, name: str) -> _Space:
        """A reserved space."""
        return _Space(self, name)

    def write(self, slot: Slot, stored: Stored | None) -> None:
        """Write a row, or delete it."""
        self.writes[slot] = stored
        if stored is None:
            self.rows.pop(slot, None)
        else:
            self.rows[slot] = stored

    async def cancel_schedule(self, id: str) -> bool:
        """Forget a schedule; whether it was there."""
        store = ScheduleStore(self)
        row = await store.get(id)
        if row is None:
            return False
        await store.delete(row)
        return True

    async def dequeue(self, id: str) -> bool:
        """Take an item out of the queue; whether it was there."""
        store = QueueStore(self)
        key = await store.key_of(id)
        if key is None:
            return False
        store.delete(key, id)
        return True

    async def forget(self, id: str) -> bool:
        """Delete a dead letter; whether it was there."""
        return await DeadLetters(self).delete(id)

    async def replay(self, id: str) -> bool:
        """Plan a dead letter again; whether it was there."""
        dead = DeadLetters(self)
        schedules, queue = ScheduleStore(self), QueueStore(self)
        outbox = OutboxStore(self)
        waiting = Rows(self, fibers.SPACE, FiberRow)

        async def fiber(origin: msgspec.Raw) -> None:
            restore_fiber(waiting, origin, self._now)

        async def schedule(origin: msgspec.Raw) -> None:
            await schedules.restore(origin, self._now)

        dead.replayed_by("schedule", schedule)
        dead.replayed_by("queue", queue.restore)

        async def message(origin: msgspec.Raw) -> None:
            await outbox.restore(origin, self._now)

        dead.replayed_by("fiber", fiber)
        dead.replayed_by("message", message)
        return await dead.replay(id)


class _Done:
    """Awaited or dropped."""

    def __init__(self, value: bool) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, bool]:
        return self._value
        yield


class _Space:
    """A reserved space of the copy."""

    def __init__(self, work: OfflineWork, name: str) -> None:
        self._work = work
        self._name = name

    def get_raw(self, key: str) -> Stored | None:
        return self._work.rows.get((self._name, key))

    def put_raw(
        self,
        key: str,
        stored: Stored,
        *,
        no_cache: bool = False,  # nothing is cached here
    ) -> None:
        self._work.write((self._name, key), stored)

    def delete(self, key: str) -> Awaitable[bool]:
        existed = (self._name, key) in self._work.rows
        self._work.write((self._name, key), None)
        return _Done(existed)

    async def list_raw(self, wanted: KeyRange) -> dict[str, Stored]:
        found = sorted(
            (key, stored)
            for (space, key), stored in self._work.rows.items()
            if space == self._name
            and key >= wanted.start
            and (wanted.end is None or key < wanted.end)
        )
        return dict(found[: wanted.limit])
