"""The rows of one activation: cache above, write set below, one commit at a time.

Promise: writes leave in the order they were made, as whole write sets; while one is
being committed (on the lane, or with the agent's SQL) the next gathers. A failed commit
ends the activation; nothing is ever repaired. What an ended activation had not handed
over is never committed; what it had, its successor outwaits before it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.errors import CommitUnknown
from durable.domain.ports import KeyRange
from durable.domain.writes import ObjectRow, Unchanged, WriteSet
from durable.objects.alarm_slot import AlarmSlot
from durable.objects.cache import UNKNOWN, Cache, Unknown, in_order
from durable.objects.storage import Done

if TYPE_CHECKING:
    from durable.domain.ports import CommitLog, Loaded, Reader
    from durable.domain.writes import Claim, Slot, Stored
    from durable.gates.input_gate import InputGate
    from durable.gates.output_gate import OutputGate


# The writes of the transaction whose code runs: tasks that it starts are inside, too.
current_transaction: ContextVar[WriteSet | None] = ContextVar(
    "current_transaction", default=None
)


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
        start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
    ) -> None:
        self.object_id = object_id
        self.claim = claim
        self.row = row
        self._log = log
        self._reader = reader
        self._input_gate = input_gate
        self._output_gate = output_gate
        self._on_failure = on_failure
        self._start = start
        self._cache = Cache({}, complete=False)
        self._exists = False
        self.alarm = AlarmSlot(self._writes_here)
        self._pending: WriteSet | None = None
        self._in_flight: WriteSet | None = None
        # Reads that a commit must wait for; statements that take what is pending.
        self._held = 0
        self._reserved = 0
        self._ended = False
        # Whether nobody knows what became of the last commit.
        self.unknown = False
        self._settled: asyncio.Future[None] | None = None
        # Set while a transaction is open: its writes gather there.
        self.open_transaction: WriteSet | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing left to commit."""
        return self._pending is None and self._in_flight is None and not self._held

    @property
    def is_unsettled(self) -> bool:
        """Whether a commit may still change what Postgres has of the object."""
        return self._in_flight is not None or self.unknown

    @property
    def is_inside(self) -> bool:
        """Whether the running code is inside the open transaction."""
        return (
            self.open_transaction is not None
            and current_transaction.get() is self.open_transaction
        )

    def end(self) -> None:
        """The activation is over: what was not handed over is forgotten."""
        self._ended = True
        self._pending = None
        self.open_transaction = None

    async def outwait(self) -> None:
        """Return when no commit of this activation can land any more."""
        while self._in_flight is not None:
            await self._until_settled()
        if self.unknown:
            await self._reader.drain(self.claim.shard)
            self.unknown = False

    def opened(self, loaded: Loaded) -> None:
        """Begin with what the activation's first read brought."""
        self._cache = Cache(loaded.rows, complete=loaded.complete)
        self._exists = loaded.exists
        self.alarm.loaded(loaded.alarm)

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
        with self._input_gate.locked():
            rows = await self._reader.scan(
                self.claim.shard, self.object_id, space, asked
            )
        if self._cache.complete:
            # All was deleted meanwhile.
            return in_order(self._cache.rows_of(space), wanted)
        return in_order({**rows, **dirty, **dict(self._dirty(space))}.items(), wanted)

    async def _fetch_row(self, space: str, key: str) -> Stored | None:
        await self._fetch(space, [key])
        return _known(self._cache.get((space, key)))

    async def _fetch(self, space: str, keys: list[str]) -> None:
        with self._input_gate.locked():
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
        self._writes_to(slot).put(slot, value)
        self._cache.set(slot, value, inside=self.is_inside)

    def delete_rows(self, space: str, keys: Iterable[str]) -> Awaitable[int]:
        """Delete; how many existed is read first if only Postgres knows."""
        deleted = 0
        unknown = []
        for key in dict.fromkeys(keys):
            slot = (space, key)
            found = self._cache.get(slot)
            if found is None:
                continue
            if isinstance(found, Unknown):
                unknown.append(key)
            else:
                deleted += 1
            self._writes_to(slot).delete(slot)
            self._cache.set(slot, None, inside=self.is_inside)
        if not unknown:
            return Done(deleted)
        # The commit waits until Postgres was asked what is there.
        self._held += 1
        self._input_gate.lock()
        counting = self._start(self._count(space, unknown, deleted))
        counting.add_done_callback(self._counted)
        return counting

    def delete_all_rows(self) -> None:
        """Delete every row of the object, in all spaces."""
        writes = self._writes()
        if self.open_transaction is not None:
            # Its writes so far came before this.
            self.open_transaction.rows.clear()
        writes.delete_all()
        self.alarm.loaded(None)
        self._cache.clear()
        self._exists = False

    async def sync(self) -> None:
        """Return when every write so far is durable."""
        await self._output_gate.wait()

    async def _count(self, space: str, keys: list[str], deleted: int) -> int:
        found = await self._reader.get(self.claim.shard, self.object_id, space, keys)
        return deleted + len(found)

    def _counted(self, _: object) -> None:
        self._held -= 1
        self._input_gate.unlock()
        self._wake()

    def _writes(self) -> WriteSet:
        if self._output_gate.broken is not None:
            raise self._output_gate.broken
        if self._pending is None:
            self._pending = WriteSet()
            self._pending.issues = 1
            self._output_gate.issue()
            self._wake()
        return self._pending

    def _writes_here(self) -> WriteSet:
        inside = self.open_transaction if self.is_inside else None
        return self._writes() if inside is None else inside

    def _writes_to(self, slot: Slot) -> WriteSet:
        if self.open_transaction is None:
            return self._writes()
        if not self.is_inside:
            # A handler that ran before: its write stays, whatever becomes of the
            # transaction, and replaces what that wrote.
            self.open_transaction.rows.pop(slot, None)
            return self._writes()
        if self._output_gate.broken is not None:
            raise self._output_gate.broken
        return self.open_transaction

    # --- transactions

    def begin(self) -> WriteSet:
        """Open a transaction; code whose ``current_transaction`` this is, is in it."""
        self._cache.begin()
        self.alarm.begin_transaction()
        self.open_transaction = WriteSet()
        return self.open_transaction

    def end_transaction(self) -> None:
        """The open transaction's writes join the next commit."""
        self._cache.end()
        writes, self.open_transaction = self.open_transaction, None
        if writes:
            self._writes().merge(writes)

    def roll_back(self) -> None:
        """Forget the open transaction's writes."""
        self.open_transaction = None
        self.alarm.roll_back()
        self._cache.roll_back()

    # --- commits

    def take_writes(self) -> WriteSet | None:
        """What to commit next; None while a commit is in flight or held back."""
        if self._in_flight is not None or self._held or self._reserved:
            return None
        return self._take()

    def _take(self) -> WriteSet | None:
        writes, self._pending = self._pending, None
        if writes is None:
            return None
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
        self.unknown = isinstance(error, CommitUnknown)
        self._in_flight = None
        self._pending = None
        self._on_failure(error)
        self._settle()

    def reserve(self) -> None:
        """What is pending goes with a statement: the lane gets nothing until then."""
        self._reserved += 1

    async def take_for_sql(self) -> WriteSet:
        """Take what was reserved, to be committed with an SQL statement off the lane.

        Until ``committed``, ``commit_failed`` or ``put_back`` the lane gets nothing.
        """
        try:
            while self._in_flight is not None or self._held:
                await self._until_settled()
            if self._output_gate.broken is not None:
                raise self._output_gate.broken
        except BaseException:
            self._reserved -= 1
            self._wake()
            raise
        self._reserved -= 1
        self._in_flight = self._take() or WriteSet()
        return self._in_flight

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
        writes, self.open_transaction = self.open_transaction, None
        self._cache.end()
        if writes is not None and self._pending is not None:
            # What others wrote after the transaction did is no longer among its rows.
            for slot in writes.rows:
                self._pending.rows.pop(slot, None)
        self._exists = True
        self.committed()

    def put_back(self) -> None:
        """The statement failed and was rolled back: its write set waits again."""
        writes, self._in_flight = self._in_flight, None
        if writes is not None and writes.issues and not self._ended:
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
