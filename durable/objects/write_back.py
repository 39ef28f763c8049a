"""What one activation writes: gathered in write sets, one commit at a time.

Promise: writes leave in the order they were made, as whole write sets; while one is
being committed (on the lane, or with the agent's SQL) the next gathers. A failed commit
ends the activation; nothing is ever repaired. What an ended activation had not handed
over is never committed; what it had, its successor outwaits before it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.errors import CommitUnknown, TransactionEnded
from durable.domain.writes import UNCHANGED, ObjectRow, Unchanged, WriteSet
from durable.objects.alarm_slot import AlarmSlot
from durable.objects.cache import Cache, Unknown
from durable.objects.cached_reads import CachedReads
from durable.objects.storage import Done

if TYPE_CHECKING:
    from durable.domain.ports import CommitLog, Loaded, Reader
    from durable.domain.writes import Claim, Slot, Stored
    from durable.gates.input_gate import InputGate
    from durable.gates.output_gate import OutputGate
    from durable.objects.cache_budget import CacheBudget


# The writes of the transaction whose code runs: tasks that it starts are inside, too.
current_transaction: ContextVar[WriteSet | None] = ContextVar(
    "current_transaction", default=None
)


class WriteBack:
    """Gathers writes and hands write sets to the lane; ``reads`` sees them at once."""

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
        budget: CacheBudget,
        max_value_bytes: int,
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
        self.max_value_bytes = max_value_bytes
        self._on_failure = on_failure
        self._start = start
        self.reads = CachedReads(self, reader, input_gate, budget)
        # Rows that are not to stay in memory once they are durable.
        self._passing: set[Slot] = set()
        self._exists = False
        self.alarm = AlarmSlot(self)
        self._pending: WriteSet | None = None
        self._in_flight: WriteSet | None = None
        # Reads that a commit must wait for; statements that take what is pending.
        self._held = 0
        self._reserved = 0
        self._ended = False
        # Whether nobody knows what became of the last commit.
        self.unknown = False
        # Whether its activation has work to do before it ends.
        self.retiring = False
        self._settled: asyncio.Future[None] | None = None
        # Set while a transaction is open: its writes gather there.
        self.open_transaction: WriteSet | None = None
        # Whether its code has rolled it back: it ends with nothing.
        self.rolled_back = False

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing left to commit."""
        return self._pending is None and self._in_flight is None and not self._held

    @property
    def is_unsettled(self) -> bool:
        """Whether a commit may still change what Postgres has of the object."""
        return self._in_flight is not None or self.unknown or self.retiring

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
        self.retiring = False
        self.reads.ended()
        self._settle()

    def uncommitted(self) -> Iterator[WriteSet]:
        """What Postgres may not have yet, oldest first."""
        for writes in (self._in_flight, self._pending, self.open_transaction):
            if writes is not None:
                yield writes

    async def outwait(self) -> None:
        """Return when no commit of this activation can land any more."""
        while self._in_flight is not None or self.retiring:
            await self._until_settled()
        if self.unknown:
            await self._reader.drain(self.claim.shard)
            self.unknown = False

    def opened(self, loaded: Loaded) -> None:
        """Begin with what the activation's first read brought."""
        self.reads.opened(Cache(loaded.rows, complete=loaded.complete))
        self._exists = loaded.exists
        self.alarm.loaded(loaded.alarm)

    # --- writes

    def write_row(
        self, slot: Slot, value: Stored, *, confirmed: bool = True, keep: bool = True
    ) -> None:
        """Write, in memory now and durable with the next commit.

        ``confirmed``: the output gate waits for it. ``keep``: in the cache, also when
        it is durable.
        """
        self._writes_to(slot, confirmed).put(slot, value)
        self._remember(slot, value, keep)
        self.reads.grown()

    def delete_rows(
        self,
        space: str,
        keys: Iterable[str],
        *,
        shut: bool = True,
        confirmed: bool = True,
        keep: bool = True,
    ) -> Awaitable[int]:
        """Delete; how many existed is read first if only Postgres knows."""
        deleted = 0
        unknown = []
        for key in dict.fromkeys(keys):
            slot = (space, key)
            found = self.reads.cache.get(slot)
            if isinstance(found, Unknown):
                unknown.append(key)
            elif found is not None:
                deleted += 1
            elif self.is_inside or not self.reads.cache.is_tentative(slot):
                continue
            self._writes_to(slot, confirmed).delete(slot)
            self._remember(slot, None, keep)
        if not unknown:
            return Done(deleted)
        # The commit waits until Postgres was asked what is there.
        self._held += 1
        if shut:
            self._input_gate.lock()
        counting = self._start(self._count(space, unknown, deleted))
        counting.add_done_callback(lambda _: self._counted(shut))
        return counting

    def _remember(self, slot: Slot, value: Stored | None, keep: bool) -> None:
        self.reads.cache.set(slot, value, inside=self.is_inside)
        if not keep:
            self._passing.add(slot)
        elif self._passing:
            self._passing.discard(slot)

    def delete_all_rows(self) -> None:
        """Delete every row of the object, in all spaces."""
        self._writes().delete_all()
        self.alarm.loaded(None)
        self.reads.cache.clear()
        self.reads.grown()
        self._exists = False

    async def sync(self) -> None:
        """Return when every write so far is durable, unconfirmed ones, too."""
        last = self._pending or self._in_flight
        if last is not None and not last.issues:
            self._confirm(last)
        await self._output_gate.wait()

    async def _count(self, space: str, keys: list[str], deleted: int) -> int:
        return deleted + await self.reads.count(space, keys)

    def _counted(self, shut: bool) -> None:
        self._held -= 1
        if shut:
            self._input_gate.unlock()
        self._wake()

    def _writes(self, confirmed: bool = True) -> WriteSet:
        if self._output_gate.broken is not None:
            raise self._output_gate.broken
        if self._pending is None:
            self._pending = WriteSet()
            self._wake()
        if confirmed and not self._pending.issues:
            self._confirm(self._pending)
        return self._pending

    def _confirm(self, writes: WriteSet) -> None:
        """Let the output gate wait for the last write set that there is."""
        writes.issues = 1
        self._output_gate.issue()

    def writes_here(self, *, confirmed: bool = True) -> WriteSet:
        """Where a write of the running code goes to."""
        if not self.is_inside:
            return self._writes(confirmed)
        return self._inside()

    def _writes_to(self, slot: Slot, confirmed: bool) -> WriteSet:
        if self.open_transaction is None:
            return self._writes(confirmed)
        if not self.is_inside:
            # A handler that ran before: its write stays, whatever becomes of the
            # transaction, and replaces what that wrote.
            self.open_transaction.rows.pop(slot, None)
            return self._writes(confirmed)
        return self._inside()

    def _inside(self) -> WriteSet:
        assert self.open_transaction is not None  # the caller has looked
        if self._output_gate.broken is not None:
            raise self._output_gate.broken
        if self.rolled_back:
            raise TransactionEnded("the transaction was rolled back")
        return self.open_transaction

    # --- transactions

    def begin(self) -> WriteSet:
        """Open a transaction; code whose ``current_transaction`` this is, is in it."""
        self.reads.cache.begin()
        self.alarm.begin_transaction()
        self.rolled_back = False
        self.open_transaction = WriteSet()
        return self.open_transaction

    def end_transaction(self) -> None:
        """The open transaction's writes join the next commit."""
        self.reads.cache.end()
        writes, self.open_transaction = self.open_transaction, None
        if writes:
            self._writes().merge(writes)

    def roll_back(self) -> None:
        """Forget the open transaction's writes."""
        self.open_transaction = None
        self.alarm.roll_back()
        self.reads.cache.roll_back()

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
            if self._passing:
                self._let_pass(writes)
            if not isinstance(writes.alarm, Unchanged):
                self._log.alarm_changed(self.claim, self.object_id, writes.alarm)
            self._output_gate.opened(writes.issues)
        if self._pending is not None:
            self._wake()

    def _let_pass(self, writes: WriteSet) -> None:
        passing = self._passing.intersection(writes.rows)
        self._passing -= passing
        self.reads.forget(passing)

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
        self.reads.cache.end()
        if writes is not None and self._pending is not None:
            # What others wrote after the transaction did is no longer among its rows.
            for slot in writes.rows:
                self._pending.rows.pop(slot, None)
            if writes.alarm is not UNCHANGED:
                self._pending.alarm = UNCHANGED
        self._exists = True
        self.committed()

    def put_back(self) -> None:
        """The statement failed and was rolled back: its write set waits again."""
        writes, self._in_flight = self._in_flight, None
        if writes is not None and (writes or writes.issues) and not self._ended:
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
