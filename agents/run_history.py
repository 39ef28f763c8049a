"""The last runs of an agent's planned work: a ring of rows, so it never grows."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from agents.jobs import error_text
from agents.work_rows import Counter, Rows, RowStorage

SPACE = "work-runs"
# An agent keeps so many.
RUNS_KEPT = 100


class RunRow(msgspec.Struct, omit_defaults=True):
    """A run as stored."""

    number: int
    kind: str
    id: str
    callback: str
    due: int
    began: int
    ended: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a schedule or queue item; times are seconds since the epoch.

    ``due``: when it was planned; ``error`` is None if it succeeded.
    """

    kind: str
    id: str
    callback: str
    due: float
    began: float
    ended: float
    error: str | None


class RunHistory:
    """What ran last."""

    __slots__ = ("_number", "_rows")

    def __init__(self, storage: RowStorage) -> None:
        self._rows = Rows(storage, SPACE, RunRow)
        self._number = Counter(storage, "runs")

    async def add(
        self,
        *,
        kind: str,
        id: str,  # as it is called in public
        callback: str,
        due: int,
        began: int,
        ended: int,
        error: Exception | None,
    ) -> None:
        """Write down a run, in the place of the oldest."""
        number = await self._number.add(1)
        text = None if error is None else error_text(error)
        row = RunRow(number, kind, id, callback, due, began, ended, text)
        self._rows.put(f"{number % RUNS_KEPT:03d}", row)

    async def last(self, id: str | None, limit: int) -> list[Run]:
        """Runs, the newest first; of one schedule or item, or of all."""
        rows = sorted((await self._rows.all()).values(), key=lambda row: -row.number)
        return [
            Run(
                row.kind,
                row.id,
                row.callback,
                row.due / 1000,
                row.began / 1000,
                row.ended / 1000,
                row.error,
            )
            for row in rows
            if id is None or row.id == id
        ][:limit]
