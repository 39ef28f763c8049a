"""Reads of one activation: from its cache, else from Postgres.

A read that Postgres must answer shuts the input gate until it is back, unless it was
asked not to. What was written since hides what Postgres says.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from durable.domain.ports import KeyRange
from durable.objects.cache import UNKNOWN, Cache, Unknown, in_order

if TYPE_CHECKING:
    from durable.domain.ports import Reader
    from durable.domain.writes import Claim, Slot, Stored, WriteSet
    from durable.gates.input_gate import InputGate
    from durable.objects.cache_budget import CacheBudget


class Uncommitted(Protocol):
    """Whose rows are read, and what of them Postgres may not have yet."""

    object_id: UUID
    claim: Claim

    def uncommitted(self) -> Iterator[WriteSet]:
        """Write sets on their way, oldest first."""


class CachedReads:
    """Reads rows through ``cache``, which it trims when ``budget`` says so."""

    def __init__(
        self,
        owner: Uncommitted,
        reader: Reader,
        input_gate: InputGate,
        budget: CacheBudget,
    ) -> None:
        self.cache = Cache({}, complete=False)
        self._owner = owner
        self._reader = reader
        self._gate = input_gate
        self._budget = budget
        # Reads that Postgres hasn't answered.
        self._open = 0

    def opened(self, cache: Cache) -> None:
        """Begin with what the activation's first read brought."""
        self.cache = cache
        self.grown()

    def ended(self) -> None:
        """The activation is over."""
        self._budget.gone(self)

    def row(
        self, slot: Slot, *, shut: bool = True, learn: bool = True
    ) -> Stored | Coroutine[Any, Any, Stored | None] | None:
        """The row, None, or a coroutine that asks Postgres."""
        found = self.cache.get(slot)
        if isinstance(found, Unknown):
            return self._row(slot, shut, learn)
        return found

    async def rows(
        self, space: str, keys: Sequence[str], *, shut: bool = True, learn: bool = True
    ) -> dict[str, Stored | None]:
        """Several rows; what the cache lacks comes in one read."""
        missing = [key for key in keys if self.cache.get((space, key)) is UNKNOWN]
        read: dict[str, Stored] = {}
        if missing:
            read = await self._read(space, missing, shut)
        found: dict[str, Stored | None] = {}
        for key in keys:
            # Whatever was written meanwhile is known by now.
            known = self.cache.get((space, key))
            found[key] = read.get(key) if isinstance(known, Unknown) else known
        if learn and missing:
            self.cache.learn(space, missing, read)
            self.grown()
        return found

    async def scan(
        self, space: str, wanted: KeyRange, *, shut: bool = True
    ) -> dict[str, Stored]:
        """A range of rows: what Postgres has, under what was written since."""
        limit = wanted.limit
        while not self.cache.knows_all(space):
            dirty = dict(self._dirty(space))
            asked = KeyRange(
                start=wanted.start,
                end=wanted.end,
                reverse=wanted.reverse,
                # Rows deleted in memory may take up places in what Postgres returns.
                limit=None if limit is None else limit + len(dirty),
            )
            with self._reading(shut):
                rows = await self._reader.scan(
                    self._owner.claim.shard, self._owner.object_id, space, asked
                )
            if self.cache.knows_all(space):
                break  # all was deleted meanwhile
            now = {**rows, **dirty, **dict(self._dirty(space))}
            found = in_order(now.items(), wanted)
            if len(rows) != asked.limit or _within(found, rows, wanted):
                return found
            # More of them were deleted meanwhile than places had been left for.
        return self.cache.scan(space, wanted)

    async def count(self, space: str, keys: Sequence[str]) -> int:
        """How many of these rows Postgres has; the caller has shut the gate."""
        return len(await self._read(space, keys, shut=False))

    async def size(self, schema: str | None) -> int:
        """Bytes of all that Postgres has of the object, with the tables of a schema."""
        with self._reading(shut=True):
            return await self._reader.size(
                self._owner.claim.shard, self._owner.object_id, schema
            )

    async def _row(self, slot: Slot, shut: bool, learn: bool) -> Stored | None:
        space, key = slot
        return (await self.rows(space, [key], shut=shut, learn=learn))[key]

    async def _read(
        self, space: str, keys: Sequence[str], shut: bool
    ) -> dict[str, Stored]:
        with self._reading(shut):
            return await self._reader.get(
                self._owner.claim.shard, self._owner.object_id, space, keys
            )

    @contextmanager
    def _reading(self, shut: bool) -> Iterator[None]:
        self._open += 1
        if shut:
            self._gate.lock()
        try:
            yield
        finally:
            self._open -= 1
            if shut:
                self._gate.unlock()

    # --- memory

    def grown(self) -> None:
        """The cache has more than before, perhaps."""
        self._budget.grown(self, self.cache.bytes)

    def trim(self, keep: int) -> int:
        """Let go of rows that Postgres has, the oldest first; see ``Trimmed``."""
        sets = list(self._owner.uncommitted())
        # While a read is under way a row that was let go would seem to be unwritten;
        # what a deletion of everything hides must stay hidden until it is durable.
        if not self._open and not any(writes.wipe for writes in sets):
            self.cache.trim(keep, _rows_of(sets))
        return self.cache.bytes

    def forget(self, slots: Iterable[Slot]) -> None:
        """Let go of these rows, if they are durable and no read is under way."""
        if self._open:
            return
        dirty = _rows_of(list(self._owner.uncommitted()))
        for slot in slots:
            self.cache.forget(slot, dirty)
        self.grown()

    def _dirty(self, space: str) -> Iterator[tuple[str, Stored | None]]:
        for writes in self._owner.uncommitted():
            for (at, key), value in writes.rows.items():
                if at == space:
                    yield key, value


def _rows_of(sets: Sequence[WriteSet]) -> dict[Slot, Stored | None]:
    """The rows of write sets, oldest first; the last word on each counts."""
    return dict(ChainMap(*(writes.rows for writes in reversed(sets))))


def _within(
    found: dict[str, Stored], page: dict[str, Stored], wanted: KeyRange
) -> bool:
    """Whether all that was wanted was found, and none of it beyond a full page."""
    if len(found) != wanted.limit:
        return False
    last, end = next(reversed(found)), next(reversed(page))
    return last >= end if wanted.reverse else last <= end
