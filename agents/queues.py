"""The queue: calls of an agent's methods in the order in which they were asked for.

Promise: one at a time, first in, first out, each at least once; an item goes in the
commit that has what its callback wrote. While there are items the alarm is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agents import work_clock
from agents.jobs import (
    MAX_CRASHES,
    callback_name,
    decoded,
    encoded_payload,
    new_id,
    run_job,
)
from agents.retries import RetryOptions, retry_options
from agents.schedules import ProcessEnded
from agents.work_clock import milliseconds
from agents.work_rows import Counter, Rows

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.work import Work

KIND = "queue"
SPACE = "work-queue"
IDS_SPACE = "work-queue-ids"


class QueueRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An item as stored; times are milliseconds since the epoch."""

    id: str
    callback: str
    payload: msgspec.Raw
    created: int
    retry: RetryOptions | None = None
    started: int | None = None
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An item of the queue; ``created_at`` is seconds since the epoch."""

    id: str
    callback: str
    payload: Any
    created_at: float
    retry: RetryOptions | None = None


class Queue:
    """The queue of one agent."""

    __slots__ = ("_agent", "_draining", "_ids", "_number", "_rows", "_work")

    def __init__(self, agent: Agent[Any, Any], work: Work) -> None:
        storage = agent.ctx.storage
        self._agent = agent
        self._work = work
        self._rows = Rows(storage, SPACE, QueueRow)
        self._ids = storage.space(IDS_SPACE)
        self._number = Counter(storage, "queue")
        self._draining = False
        work.dead.replayed_by(KIND, self._replay)

    # --- what the agent asks for

    async def add(
        self,
        callback: Any,
        payload: Any,
        retry: RetryOptions | Mapping[str, Any] | None,
        id: str | None,
    ) -> str:
        """Append a call; returns its id. One of the same id that waits stays alone."""
        row = QueueRow(
            id=new_id() if id is None else id,
            callback=callback_name(self._agent, callback),
            payload=encoded_payload(payload),
            created=milliseconds(work_clock.now()),
            retry=None if retry is None else retry_options(retry),
        )
        if id is None or await self._ids.get(id) is None:
            await self._append(row)
        return row.id

    async def get(self, id: str) -> QueueItem | None:
        """One by its id."""
        key = await self._ids.get(id)
        row = None if key is None else await self._rows.get(key)
        return None if row is None else _public(row)

    async def list(self, key: str | None, value: Any) -> list[QueueItem]:
        """The items in order; or those whose payload has a value under a key."""
        items = [_public(row) for row in (await self._rows.all()).values()]
        if key is None:
            return items
        return [
            item
            for item in items
            if isinstance(item.payload, dict)
            and key in item.payload
            and item.payload[key] == value
        ]

    async def remove(self, id: str) -> bool:
        """Take one out; whether it was there. A run in progress goes on."""
        key = await self._ids.get(id)
        if key is None:
            return False
        self._delete(key, id)
        return True

    async def clear(self, callback: Any = None) -> int:
        """Take out all, or all of a callback; how many."""
        # A callback that is gone from the class is named, too.
        name = callback if isinstance(callback, str | None) else callback.__name__
        removed = 0
        for key, row in (await self._rows.all()).items():
            if name in (None, row.callback):
                self._delete(key, row.id)
                removed += 1
        return removed

    # --- what the alarm does

    async def start(self) -> None:
        """Work off the queue, if there is something and nobody does."""
        if not self._draining and await self._rows.page(limit=1):
            self._draining = True
            self._agent.ctx.wait_until(self._drain())

    async def next_due(self) -> int | None:
        """When the alarm must come."""
        if self._draining:
            return self._work.heartbeat()
        if await self._rows.page(limit=1):
            return milliseconds(work_clock.now())
        return None

    async def _drain(self) -> None:
        try:
            while page := await self._rows.page():
                for key in page:
                    await self._run(key)
        finally:
            self._draining = False

    async def _run(self, key: str) -> None:
        row = await self._rows.get(key)
        if row is None:
            return
        if row.started is not None:
            row.crashes += 1
        began = row.started = milliseconds(work_clock.now())
        failed: Exception | None = None
        if row.crashes >= MAX_CRASHES:
            failed = ProcessEnded(f"the process ended in {row.crashes} runs of it")
        else:
            self._rows.put(key, row)
            # Durable before it begins, or a run that ends the process would not count.
            await self._agent.ctx.storage.sync()
            try:
                await run_job(
                    self._agent, row.callback, row.payload, _public(row), row.retry
                )
            except Exception as error:  # noqa: BLE001  # the user's callback
                failed = error
        await self._ended(key, row, failed, began)

    async def _ended(
        self, key: str, row: QueueRow, error: Exception | None, began: int
    ) -> None:
        # If it was taken out meanwhile, or all was deleted, nothing is left of it.
        if await self._rows.get(key) is not None:
            await self._work.history.add(
                kind=KIND,
                id=row.id,
                callback=row.callback,
                due=row.created,
                began=began,
                ended=milliseconds(work_clock.now()),
                error=error,
            )
            if error is not None:
                await self._work.dead.add(
                    kind=KIND,
                    id=row.id,
                    callback=row.callback,
                    payload=row.payload,
                    origin=row,
                    error=error,
                )
            self._delete(key, row.id)
        if error is not None:
            await self._agent.report(error)

    # --- inside

    async def _append(self, row: QueueRow) -> None:
        key = f"{await self._number.add(1):015d}"
        self._rows.put(key, row)
        self._ids.put(row.id, key)
        await self._work.wake_by(
            self._work.heartbeat() if self._draining else milliseconds(work_clock.now())
        )

    async def _replay(self, origin: msgspec.Raw) -> None:
        row = msgspec.json.decode(origin, type=QueueRow)
        callback_name(self._agent, row.callback)
        if await self._ids.get(row.id) is not None:
            row.id = new_id()
        row.started, row.crashes = None, 0
        await self._append(row)

    def _delete(self, key: str, id: str) -> None:
        self._rows.delete(key)
        self._ids.delete(id)


def _public(row: QueueRow) -> QueueItem:
    return QueueItem(
        row.id, row.callback, decoded(row.payload), row.created / 1000, row.retry
    )
