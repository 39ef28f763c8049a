"""An activation's view of its rows: what was read, what was written, what isn't there.

Values are kept encoded and decoded at each read, so what a caller does with a value it
got never changes what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable.domain.ports import KeyRange
    from durable.domain.writes import Slot, Stored


class Unknown:
    """The cache doesn't know: ask Postgres."""


UNKNOWN = Unknown()


class Cache:
    """Rows by (space, key); None for a row that is known not to exist."""

    __slots__ = ("_before", "_complete", "_last", "_rows")

    def __init__(self, rows: dict[Slot, Stored], *, complete: bool) -> None:
        self._rows: dict[Slot, Stored | None] = dict(rows)
        self._complete = complete
        # Rows are read in order: all up to the last one are known.
        self._last = max(rows, default=("", ""))
        # While a transaction is open: what the slots that it wrote held before.
        self._before: dict[Slot, Stored | Unknown | None] | None = None

    @property
    def complete(self) -> bool:
        """Whether every row of the object is here."""
        return self._complete

    def get(self, slot: Slot) -> Stored | Unknown | None:
        """The row, None if there is none, UNKNOWN if only Postgres knows."""
        known = self._complete or slot <= self._last
        return self._rows.get(slot, None if known else UNKNOWN)

    def set(self, slot: Slot, value: Stored | None, *, inside: bool = False) -> None:
        """Remember a row or its absence: for good, or with the open transaction."""
        if self._before is not None:
            if inside:
                self._before.setdefault(slot, self.get(slot))
            else:
                self._before.pop(slot, None)
        self._put(slot, value)

    def learn(self, slot: Slot, value: Stored | None) -> None:
        """Remember what a read brought, unless a write came in between."""
        if self.get(slot) is UNKNOWN:
            self._rows[slot] = value

    def clear(self) -> None:
        """Everything was deleted: now all is known, and nothing is there."""
        self._rows.clear()
        self._complete = True
        if self._before is not None:
            self._before.clear()

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
                self._rows.pop(slot, None)
            else:
                self._put(slot, value)

    def _put(self, slot: Slot, value: Stored | None) -> None:
        if value is None and self._complete:
            self._rows.pop(slot, None)
        else:
            self._rows[slot] = value

    def rows_of(self, space: str) -> Iterable[tuple[str, Stored | None]]:
        """What is known of a space, in no order."""
        return ((key, value) for (at, key), value in self._rows.items() if at == space)


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
