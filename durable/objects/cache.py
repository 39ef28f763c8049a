"""An activation's view of its rows: what was read, what was written, what isn't there.

Values are kept encoded and decoded at each read, so what a caller does with a value it
got never changes what is stored.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.domain.ports import KeyRange
    from durable.domain.writes import Slot, Stored

# The object's own space. Rows of others (an SDK's) aren't let go to save memory.
USER_SPACE = "user"
# What a row takes beside its key and value, about.
OVERHEAD = 100


class Unknown:
    """The cache doesn't know: ask Postgres."""


UNKNOWN = Unknown()


class Cache:
    """Rows by (space, key); None for a row that is known not to exist.

    ``bytes``: about what the rows of the object's own space take.
    """

    __slots__ = (
        "_before",
        "_complete",
        "_forgetful",
        "_last",
        "_order",
        "_rows",
        "bytes",
    )

    def __init__(self, rows: dict[Slot, Stored], *, complete: bool) -> None:
        self._rows: dict[Slot, Stored | None] = dict(rows)
        self._complete = complete
        # Rows are read in order: all up to the last one are known.
        self._last = max(rows, default=("", ""))
        # Spaces of which rows were let go: what isn't here may be there.
        self._forgetful: set[str] = set()
        # While a transaction is open: what the slots that it wrote held before.
        self._before: dict[Slot, Stored | Unknown | None] | None = None
        # The keys of spaces that were listed, in order: paging sorts once.
        self._order: dict[str, list[str]] = {}
        self.bytes = sum(_size(slot, value) for slot, value in rows.items())

    def knows_all(self, space: str) -> bool:
        """Whether every row of the space is here."""
        return self._complete and space not in self._forgetful

    def get(self, slot: Slot) -> Stored | Unknown | None:
        """The row, None if there is none, UNKNOWN if only Postgres knows."""
        known = self._complete or slot <= self._last
        if self._forgetful and slot[0] in self._forgetful:
            known = False
        return self._rows.get(slot, None if known else UNKNOWN)

    def set(self, slot: Slot, value: Stored | None, *, inside: bool = False) -> None:
        """Remember a row or its absence: for good, or with the open transaction."""
        if self._before is not None:
            if inside:
                self._before.setdefault(slot, self.get(slot))
            else:
                self._before.pop(slot, None)
        self._put(slot, value)

    def is_tentative(self, slot: Slot) -> bool:
        """Whether a roll-back would make it what it was before the transaction."""
        return self._before is not None and slot in self._before

    def learn(
        self, space: str, keys: Iterable[str], found: Mapping[str, Stored]
    ) -> None:
        """Remember what a read brought, unless a write came in between."""
        for key in keys:
            slot = (space, key)
            if self.get(slot) is UNKNOWN:
                self._put(slot, found.get(key))

    def clear(self) -> None:
        """Everything was deleted: now all is known, and nothing is there."""
        self._rows.clear()
        self._order.clear()
        self._forgetful.clear()
        self._complete = True
        self.bytes = 0

    def begin(self) -> None:
        """A transaction opens."""
        self._before = {}

    def end(self) -> None:
        """What the transaction wrote stays."""
        self._before = None

    def roll_back(self) -> None:
        """Forget what the transaction wrote."""
        before, self._before = self._before, None
        for slot, value in (before or {}).items():
            if isinstance(value, Unknown):
                self._drop(slot)
            else:
                self._put(slot, value)

    def trim(self, keep: int, dirty: Mapping[Slot, Stored | None]) -> None:
        """Let go of the oldest rows until ``bytes`` is ``keep``, but for dirty ones.

        ``dirty``: rows that were written and that Postgres may not have yet.
        """
        if self.bytes <= keep:
            return
        self._lose_track(USER_SPACE, dirty)
        for slot in [s for s in self._rows if s[0] == USER_SPACE and s not in dirty]:
            if self._before is None or slot not in self._before:
                self._drop(slot)
            if self.bytes <= keep:
                break

    def forget(self, slot: Slot, dirty: Mapping[Slot, Stored | None]) -> None:
        """Let go of one row unless it is dirty; see ``trim``."""
        if slot in dirty or slot not in self._rows:
            return
        if self._before is None or slot not in self._before:
            self._lose_track(slot[0], dirty)
            self._drop(slot)

    def scan(self, space: str, wanted: KeyRange) -> dict[str, Stored]:
        """A range of a space of which all is known."""
        keys = self._order.get(space)
        if keys is None:
            keys = self._order[space] = sorted(k for at, k in self._rows if at == space)
        low = bisect_left(keys, wanted.start)
        high = len(keys) if wanted.end is None else bisect_left(keys, wanted.end)
        found: dict[str, Stored] = {}
        places = range(low, high)
        for place in reversed(places) if wanted.reverse else places:
            if len(found) == wanted.limit:
                break
            value = self._rows[space, keys[place]]
            if value is not None:
                found[keys[place]] = value
        return found

    def _lose_track(self, space: str, dirty: Mapping[Slot, Stored | None]) -> None:
        """From now on a row that isn't here may be in Postgres."""
        self._forgetful.add(space)
        for slot, value in dirty.items():
            if slot[0] == space and value is None and slot not in self._rows:
                # That it is gone was known because all was.
                self._put(slot, None)

    def _put(self, slot: Slot, value: Stored | None) -> None:
        old = self._rows.get(slot, UNKNOWN)
        if not isinstance(old, Unknown):
            self.bytes -= _size(slot, old)
        if value is None and self.knows_all(slot[0]):
            if self._rows.pop(slot, UNKNOWN) is not UNKNOWN:
                self._reorder(slot, there=False)
            return
        if isinstance(old, Unknown):
            self._reorder(slot, there=True)
        self._rows[slot] = value
        self.bytes += _size(slot, value)

    def _drop(self, slot: Slot) -> None:
        value = self._rows.pop(slot, UNKNOWN)
        if not isinstance(value, Unknown):
            self._reorder(slot, there=False)
            self.bytes -= _size(slot, value)

    def _reorder(self, slot: Slot, *, there: bool) -> None:
        keys = self._order.get(slot[0]) if self._order else None
        if keys is None:
            return
        if there:
            insort(keys, slot[1])
        else:
            del keys[bisect_left(keys, slot[1])]


def _size(slot: Slot, value: Stored | None) -> int:
    if slot[0] != USER_SPACE:
        return 0
    return OVERHEAD + len(slot[1]) + len(value or "")


def in_order(
    rows: Iterable[tuple[str, Stored | None]], wanted: KeyRange
) -> dict[str, Stored]:
    """The rows of the range that exist, in its order, up to its limit.

    Python compares strings by code point, which is the order of their UTF-8 bytes.
    """
    low, high = wanted.start, wanted.end
    found = sorted(
        (
            (key, value)
            for key, value in rows
            if value is not None and key >= low and (high is None or key < high)
        ),
        key=lambda row: row[0],
        reverse=wanted.reverse,
    )
    return dict(found[: wanted.limit])
