"""What a chat must know when it goes on by itself: the last request's body and tools.

And the continuation that is owed after a tool's result: it is made, whatever happens to
the owner in between.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agents.work_rows import Rows, RowStorage

SPACE = "chat"
CONTEXT, OWED = "context", "owed"


class ContextRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A request beside its messages; ``id`` is of the continuation that is owed."""

    id: str = ""
    body: dict[str, Any] | None = None
    client_tools: list[Any] | None = None


class Remembered:
    """The rows of one chat, in memory."""

    __slots__ = ("_rows", "context", "owed")

    def __init__(self, storage: RowStorage) -> None:
        self._rows = Rows(storage, SPACE, ContextRow)
        self.context = ContextRow()
        self.owed: ContextRow | None = None

    async def load(self) -> None:
        """Read both."""
        self.context = await self._rows.get(CONTEXT) or ContextRow()
        self.owed = await self._rows.get(OWED)

    def asked(
        self, body: dict[str, Any] | None, client_tools: list[Any] | None
    ) -> None:
        """A client's turn begins."""
        context = ContextRow(body=body, client_tools=client_tools)
        if context != self.context:
            self.context = context
            self._rows.put(CONTEXT, context)

    def owe(self, row: ContextRow) -> None:
        """A continuation is to be made."""
        self.owed = row
        self._rows.put(OWED, row)

    def settle(self) -> None:
        """It is made, or not wanted any more."""
        if self.owed is not None:
            self.owed = None
            self._rows.delete(OWED)
