"""Rows of an agent's work in reserved spaces, as JSON, and counters beside them.

Spaces sort after ``agent``: the state stays the first row that an activation reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from durable import KeyRange

Row = TypeVar("Row", bound=msgspec.Struct)
Stored = str | bytes

PAGE = 128
COUNTERS = "work"


class RowSpace(Protocol):
    """What is needed of a reserved space; see ``durable.Space``."""

    def get_raw(self, key: str) -> Stored | Coroutine[Any, Any, Stored | None] | None:
        """A row as stored, at once if it is known."""

    def put_raw(self, key: str, stored: Stored, *, no_cache: bool = False) -> None:
        """Write a row; ``no_cache``: it isn't kept in memory once it is durable."""

    def delete(self, key: str) -> Awaitable[bool]:
        """Delete a row."""

    async def list_raw(self, wanted: KeyRange) -> dict[str, Stored]:
        """Rows as stored, in order."""


class RowStorage(Protocol):
    """Where the rows of an agent's work are."""

    def space(self, name: str) -> RowSpace:
        """A reserved space."""


async def read_raw(space: RowSpace, key: str) -> Stored | None:
    """A row as stored, None if there is none."""
    stored = space.get_raw(key)
    return stored if stored is None or isinstance(stored, Stored) else await stored


class Rows(Generic[Row]):
    """Rows of one kind."""

    __slots__ = ("_decoder", "space")

    def __init__(self, storage: RowStorage, name: str, kind: type[Row]) -> None:
        self.space = storage.space(name)
        self._decoder = msgspec.json.Decoder(kind)

    async def get(self, key: str) -> Row | None:
        """The row, None if there is none."""
        stored = await read_raw(self.space, key)
        return None if stored is None else self._decoder.decode(stored)

    def known(self, key: str) -> Row | None:
        """The row of a key that was read before: nothing comes in between."""
        stored: Any = self.space.get_raw(key)
        return None if stored is None else self._decoder.decode(stored)

    def put(self, key: str, row: Row) -> None:
        """Write a row."""
        self.space.put_raw(key, msgspec.json.encode(row).decode())

    def delete(self, key: str) -> None:
        """Delete a row that is known to be there."""
        self.space.delete(key)

    async def page(self, after: str = "", limit: int = PAGE) -> dict[str, Row]:
        """The rows after a key, in order."""
        # U+0001 follows nothing: keys are ids and digits.
        wanted = KeyRange(start=after and after + "\x01", limit=limit)
        found = await self.space.list_raw(wanted)
        return {key: self._decoder.decode(stored) for key, stored in found.items()}

    async def all(self) -> dict[str, Row]:
        """All rows."""
        rows: dict[str, Row] = {}
        while page := await self.page(next(reversed(rows), "")):
            rows.update(page)
            if len(page) < PAGE:
                break
        return rows


class Counter:
    """A whole number, from 0; changed without an await once it was read."""

    __slots__ = ("_name", "_space")

    def __init__(self, storage: RowStorage, name: str) -> None:
        self._space = storage.space(COUNTERS)
        self._name = name

    async def get(self) -> int:
        """Its value."""
        return int(await read_raw(self._space, self._name) or 0)

    async def add(self, change: int) -> int:
        """Its value, afterwards."""
        await self.get()
        # It is in the cache now: nothing comes between reading and writing.
        return self.add_now(change)

    def add_now(self, change: int) -> int:
        """Its value, afterwards; it was read before."""
        stored: Any = self._space.get_raw(self._name)
        value = int(stored or 0) + change
        self._space.put_raw(self._name, str(value))
        return value
