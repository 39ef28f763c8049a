"""What was planned and can't be done: kept with its reason until somebody decides.

A dead letter is written in the commit that removes what it stands for, so nothing is in
both places or in neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agents import work_clock
from agents.jobs import decoded, error_text, new_id
from agents.work_clock import milliseconds
from agents.work_rows import Counter, Rows, RowStorage

SPACE = "dead-letters"
# An agent keeps so many; beyond, the oldest goes.
DEAD_LETTERS_KEPT = 1000


class DeadRow(msgspec.Struct, omit_defaults=True):
    """A dead letter as stored; ``origin`` is the row that it was."""

    kind: str
    id: str
    callback: str
    failed: int
    error: str
    origin: msgspec.Raw
    payload: msgspec.Raw


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Work that failed for good; ``failed_at`` is seconds since the epoch.

    ``kind``: ``schedule``, ``queue`` or ``fiber``; ``origin_id``: the id that it had.
    """

    id: str
    kind: str
    origin_id: str
    callback: str
    payload: Any
    error: str
    failed_at: float


Replay = Callable[[msgspec.Raw], Awaitable[None]]


class DeadLetters:
    """The dead letters of one agent."""

    __slots__ = ("_count", "_replays", "_rows")

    def __init__(self, storage: RowStorage) -> None:
        self._rows = Rows(storage, SPACE, DeadRow)
        self._count = Counter(storage, "dead-letters")
        self._replays: dict[str, Replay] = {}

    def replayed_by(self, kind: str, replay: Replay) -> None:
        """Who plans a dead letter of this kind again."""
        self._replays[kind] = replay

    async def add(
        self,
        *,
        kind: str,
        id: str,  # as it is called in public
        callback: str,
        payload: msgspec.Raw,
        origin: msgspec.Struct,
        error: BaseException,
    ) -> None:
        """Keep one."""
        now = milliseconds(work_clock.now())
        raw = msgspec.Raw(msgspec.json.encode(origin))
        row = DeadRow(kind, id, callback, now, error_text(error), raw, payload)
        if await self._count.add(1) > DEAD_LETTERS_KEPT:
            for oldest in await self._rows.page(limit=1):
                await self.delete(oldest)
        self._rows.put(f"{now:015d}-{new_id()}", row)

    async def list(self, after: str, limit: int) -> list[DeadLetter]:
        """Dead letters, the oldest first."""
        rows = await self._rows.page(after, limit)
        return [_public(key, row) for key, row in rows.items()]

    async def delete(self, id: str) -> bool:
        """Forget one; whether it was there."""
        if await self._rows.get(id) is None:
            return False
        self._rows.delete(id)
        await self._count.add(-1)
        return True

    async def replay(self, id: str) -> bool:
        """Plan one again, as if it had never failed; whether it was there.

        Raises:
            AttributeError: its callback is still gone; it stays a dead letter.
        """
        row = await self._rows.get(id)
        if row is None:
            return False
        await self._replays[row.kind](row.origin)
        return await self.delete(id)


def _public(key: str, row: DeadRow) -> DeadLetter:
    return DeadLetter(
        id=key,
        kind=row.kind,
        origin_id=row.id,
        callback=row.callback,
        payload=decoded(row.payload),
        error=row.error,
        failed_at=row.failed / 1000,
    )
