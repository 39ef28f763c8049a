"""What an SQL statement gave: a list of rows, and what else its author may ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from durable.domain.errors import SqlError

Row = dict[str, Any]


class SqlResult(list[Row]):
    """The rows, as mappings, all of them in memory: a list.

    It has what Cloudflare's cursor has, too. Of several statements the rows are the
    last one's; ``rows_written`` counts the inserted, updated and deleted rows of all.
    ``rows_read`` counts the rows that came back (Cloudflare: those that were scanned).
    Of two columns with one name the mapping has the last one; ``raw`` has both.

    ``schema`` is the name of the object's Postgres schema.
    """

    __slots__ = ("_raw", "column_names", "rows_written", "schema")

    def __init__(
        self,
        column_names: Sequence[str],
        values: Iterable[Sequence[Any]],
        *,
        rows_written: int = 0,
        schema: str = "",
    ) -> None:
        self.column_names: tuple[str, ...] = tuple(column_names)
        self.rows_written = rows_written
        self.schema = schema
        # Kept only where the mappings don't hold every value.
        self._raw: list[tuple[Any, ...]] | None = None
        if len(set(self.column_names)) < len(self.column_names):
            self._raw = [tuple(row) for row in values]
            values = self._raw
        names = self.column_names
        super().__init__(dict(zip(names, row, strict=True)) for row in values)

    @property
    def rows(self) -> list[Row]:
        """The rows: the result itself."""
        return self

    @property
    def rows_read(self) -> int:
        """How many rows came back."""
        return len(self)

    def one(self) -> Row:
        """The only row.

        Raises:
            SqlError: there is none, or more than one.
        """
        if len(self) != 1:
            raise SqlError(
                f"one() needs exactly one row, the statement gave {len(self)}", query=""
            )
        return self[0]

    def raw(self) -> list[tuple[Any, ...]]:
        """The rows as tuples, in the order of ``column_names``."""
        if self._raw is not None:
            return list(self._raw)
        return [tuple(row.values()) for row in self]

    def to_array(self) -> list[Row]:
        """The rows as a plain list of their own."""
        return list(self)
