"""The rows of one activation: cache above, write set below, one commit at a time.

Promise: writes leave in the order they were made, as whole write sets; while one is
being committed (on the lane, or with the agent's SQL) the next gathers. A failed commit
ends the activation; nothing is ever repaired.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.ports import KeyRange
from durable.domain.writes import ObjectRow, Unchanged, WriteSet
from durable.objects.cache import UNKNOWN, Cache, Unknown, in_order
from durable.objects.storage import Done

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.ports import CommitLog, Loaded, Reader
    from durable.domain.writes import Claim, Stored
    from durable.gates.input_gate import InputGate
    from durable.gates.output_gate import OutputGate


class WriteBack:
    """Reads through a cache, gathers writes, hands write sets to the lane."""

    def __init__(
        self,
        *,
        object_id: UUID,
        row: ObjectRow,
        claim: Claim,
        log: CommitLog,
        reader: Reader,
        input_gate: InputGate,
        output_gate: OutputGate,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.object_id = object_id
        self.claim = claim
        self.row = row
        self._log = log
        self._reader = reader
        self._input_gate = input_gate
        self._output_gate = output_gate
        self._on_failure = on_failure
        self._cache = Cache({}, complete=False)
        self._exists = False
        self._alarm: Alarm | None = None
        # While alarm() runs: the one it runs for, until something replaces it.
        self._running_alarm: Alarm | None = None
        self._pending: WriteSet | None = None
        self._in_flight: WriteSet | None = None
        self._held = 0
        self._settled: asyncio.Future[None] | None = None
        # Set while a transaction is open: its writes gather there.
        self.open_transaction: WriteSet | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing left to commit."""
        return self._pending is None and self._in_flight is None and not self._held

    def opened(self, loaded: Loaded) -> None:
        """Begin with what the activation's first read brought."""
        self._cache = Cache(loaded.rows, complete=loaded.complete)
        self._exists = loaded.exists
        self._alarm = loaded.alarm

    # --- reads

    def read_row(
        self, space: str, key: str
    ) -> Stored | Coroutine[Any, Any, Stored | None] | None:
        """The row, None, or a coroutine that asks Postgres with the input gate shut."""
        found = self._cache.get((space, key))
        if isinstance(found, Unknown):
            return self._fetch_row(space, key)
        return found

    async def read_rows(
        self, space: str, keys: Sequence[str]
    ) -> dict[str, Stored | None]:
        """Several rows; what the cache lacks comes in one read."""
        missing = [k for k in keys if self._cache.get((space, k)) is UNKNOWN]
        if missing:
            await self._fetch(space, missing)
        return {key: _known(self._cache.get((space, key))) for key in keys}

    async def scan_rows(self, space: str, wanted: KeyRange) -> dict[str, Stored]:
        """A range of rows: what Postgres has, under what was written since."""
        if self._cache.complete:
            return in_order(self._cache.rows_of(space), wanted)
        dirty = dict(self._dirty(space))
        limit = wanted.limit
        asked = KeyRange(
            start=wanted.start,
            end=wanted.end,
            reverse=wanted.reverse,
            # Rows deleted in memory may take up places in what Postgres returns.
            limit=None if limit is None else limit + len(dirty),
        )
        with _Locked(self._input_gate):
            rows = await self._reader.scan(
                self.claim.shard, self.object_id, space, asked
            )
        return in_order({**rows, **dirty, **dict(self._dirty(space))}.items(), wanted)

    async def _fetch_row(self, space: str, key: str) -> Stored | None:
        await self._fetch(space, [key])
        return _known(self._cache.get((space, key)))

    async def _fetch(self, space: str, keys: list[str]) -> None:
        with _Locked(self._input_gate):
            found = await self._reader.get(
                self.claim.shard, self.object_id, space, keys
            )
        for key in keys:
            self._cache.learn((space, key), found.get(key))

    def _dirty(self, space: str) -> Iterable[tuple[str, Stored | None]]:
        for writes in (self._in_flight, self._pending, self.open_transaction):
            if writes is not None:
                for (at, key), value in writes.rows.items():
                    if at == space:
                        yield key, value

    # --- writes

    def write_row(self, space: str, key: str, value: Stored) -> None:
        """Write, in memory now and durable with the next commit."""
        slot = (space, key)
        self._writes().put(slot, value)
        self._cache.set(slot, value)

    def delete_row(self, space: str, key: str) -> Awaitable[bool]:
        """Delete; whether the row existed is read first if only Postgres knows."""
        slot = (space, key)
        found = self._cache.get(slot)
        if found is None:
            return Done(False)
        if found is not UNKNOWN:
            self._writes().delete(slot)
            self._cache.set(slot, None)
            return Done(True)
        self._writes().delete(slot)
        self._cache.set(slot, None)
        # The commit waits until Postgres was asked what is there.
        self._held += 1
        return asyncio.ensure_future(self._existed(space, key))

    def delete_all_rows(self) -> None:
        """Delete every row of the object, in all spaces."""
        self._writes().delete_all()
        self._alarm = self._running_alarm = None
        self._cache.clear()
        self._exists = False

    async def sync(self) -> None:
        """Return when every write so far is durable."""
        await self._output_gate.wait()

    async def _existed(self, space: str, key: str) -> bool:
        try:
            with _Locked(self._input_gate):
                found = await self._reader.get(
                    self.claim.shard, self.object_id, space, [key]
                )
            return key in found
        finally:
            self._held -= 1
            self._wake()

    def _writes(self) -> WriteSet:
        if self._output_gate.broken is not None:
            raise self._output_gate.broken
        if self.open_transaction is not None:
            return self.open_transaction
        if self._pending is None:
            self._pending = WriteSet()
            self._pending.issues = 1
            self._output_gate.issue()
            self._wake()
        return self._pending

    # --- the alarm

    @property
    def alarm(self) -> Alarm | None:
        """The alarm that is set; None while it runs, unless a new one was set."""
        return None if self._running_alarm is not None else self._alarm

    def set_alarm(self, alarm: Alarm | None) -> None:
        """Set or delete the alarm; what runs for the old one gets no retry."""
        self._writes().alarm = alarm
        self._alarm, self._running_alarm = alarm, None

    def alarm_begins(self, alarm: Alarm) -> None:
        """``alarm()`` runs for this one."""
        self._alarm = self._running_alarm = alarm

    def alarm_ended(self, retry: Alarm | None) -> None:
        """``alarm()`` has ended: its row goes, or waits for the retry."""
        if self._running_alarm is not None:
            self.set_alarm(retry)

    # --- transactions

    def begin(self) -> object:
        """Open a transaction; returns what ``roll_back`` takes."""
        snapshot = (
            self._cache.snapshot(),
            self._exists,
            self._alarm,
            self._running_alarm,
        )
        self.open_transaction = WriteSet()
        return snapshot

    def end(self) -> None:
        """The open transaction's writes join the next commit."""
        writes, self.open_transaction = self.open_transaction, None
        if writes:
            self._writes().merge(writes)

    def roll_back(self, snapshot: Any) -> None:
        """Forget the open transaction's writes."""
        self.open_transaction = None
        cached, self._exists, self._alarm, self._running_alarm = snapshot
        self._cache.restore(cached)

    # --- commits

    def take_writes(self) -> WriteSet | None:
        """What to commit next; None while a commit is in flight or held back."""
        if self._in_flight is not None or self._held or self._pending is None:
            return None
        writes, self._pending = self._pending, None
        if not self._exists and writes.needs_row:
            writes.create = self.row
            self._exists = True
        self._in_flight = writes
        return writes

    def committed(self) -> None:
        """The write set in flight is durable."""
        writes, self._in_flight = self._in_flight, None
        self._settle()
        if writes is not None:
            if not isinstance(writes.alarm, Unchanged):
                self._log.alarm_changed(self.claim, self.object_id, writes.alarm)
            self._output_gate.opened(writes.issues)
        if self._pending is not None:
            self._wake()

    def commit_failed(self, error: Exception) -> None:
        """The write set in flight is lost, or nobody knows: the activation ends."""
        self._in_flight = None
        self._pending = None
        self._on_failure(error)
        self._settle()

    async def take_for_sql(self) -> WriteSet:
        """Take what is pending, to be committed with an SQL statement off the lane.

        Until ``committed``, ``commit_failed`` or ``put_back`` the lane gets nothing.
        """
        while self._in_flight is not None or self._held:
            await self._until_settled()
        if self._output_gate.broken is not None:
            raise self._output_gate.broken
        if self._pending is None:
            self._in_flight = WriteSet()
            return self._in_flight
        writes = self.take_writes()
        assert writes is not None  # checked by the loop above
        return writes

    def joined_writes(self) -> WriteSet:
        """What was taken for SQL and the open transaction's writes, as one set."""
        joined = WriteSet()
        for writes in (self._in_flight, self.open_transaction):
            if writes is not None:
                joined.merge(writes)
        if joined.needs_row:
            joined.create = self.row
        return joined

    def joined_committed(self) -> None:
        """``joined_writes`` are durable, and the transaction has ended."""
        self.open_transaction = None
        self._exists = True
        self.committed()

    def put_back(self) -> None:
        """The statement failed and was rolled back: its write set waits again."""
        writes, self._in_flight = self._in_flight, None
        if writes is not None and writes.issues:
            if writes.create is not None:
                self._exists, writes.create = False, None
            if self._pending is not None:
                writes.merge(self._pending)
            self._pending = writes
        self._settle()
        if self._pending is not None:
            self._wake()

    def _wake(self) -> None:
        if self._pending is not None and self._in_flight is None and not self._held:
            self._log.mark_dirty(self)
        self._settle()

    def _settle(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None and not settled.done():
            settled.set_result(None)

    async def _until_settled(self) -> None:
        if self._settled is None:
            self._settled = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._settled)


def _known(found: Stored | Unknown | None) -> Stored | None:
    assert not isinstance(found, Unknown)  # it was read just before
    return found


class _Locked:
    """The input gate is shut inside."""

    __slots__ = ("_gate",)

    def __init__(self, gate: InputGate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        self._gate.lock()

    def __exit__(self, *_: object) -> None:
        self._gate.unlock()
