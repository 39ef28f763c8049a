"""Rows of an agent's work in reserved spaces, as JSON, and counters beside them.

Spaces sort after ``agent``: the state stays the first row that an activation reads.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from durable import DurableObjectStorage, KeyRange, Space

Row = TypeVar("Row", bound=msgspec.Struct)

PAGE = 128
COUNTERS = "work"


class Rows(Generic[Row]):
    """Rows of one kind."""

    __slots__ = ("_decoder", "space")

    def __init__(self, storage: DurableObjectStorage, name: str, kind: type[Row]):
        self.space: Space = storage.space(name)
        self._decoder = msgspec.json.Decoder(kind)

    async def get(self, key: str) -> Row | None:
        """The row, None if there is none."""
        stored: Any = self.space.get_raw(key)
        if stored is not None and not isinstance(stored, str | bytes):
            stored = await stored
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

    def __init__(self, storage: DurableObjectStorage, name: str) -> None:
        self._space = storage.space(COUNTERS)
        self._name = name

    async def get(self) -> int:
        """Its value."""
        return await self._space.get(self._name) or 0

    async def add(self, change: int) -> int:
        """Its value, afterwards."""
        await self.get()
        # It is in the cache now: nothing comes between reading and writing.
        stored: Any = self._space.get_raw(self._name)
        value = int(stored or 0) + change
        self._space.put_raw(self._name, str(value))
        return value
