"""The queue: calls of an agent's methods in the order in which they were asked for.

Promise: one at a time, first in, first out, each at least once; an item goes in the
commit that has what its callback wrote. While there are items the alarm is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents import work_clock
from agents.jobs import (
    callback_name,
    encoded_payload,
    new_id,
    run_job,
)
from agents.queue_store import QueueItem, QueueRow, QueueStore, public
from agents.retries import RetryOptions, retry_options
from agents.work_clock import milliseconds

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.work import Work

KIND = "queue"


class Queue:
    """The queue of one agent."""

    __slots__ = ("_agent", "_draining", "_store", "_work")

    def __init__(self, agent: Agent[Any, Any], work: Work) -> None:
        self._agent = agent
        self._work = work
        self._store = QueueStore(agent.ctx.storage)
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
        if id is None or await self._store.key_of(id) is None:
            await self._store.append(row)
            await self._wake()
        return row.id

    async def get(self, id: str) -> QueueItem | None:
        """One by its id."""
        key = await self._store.key_of(id)
        row = None if key is None else await self._store.rows.get(key)
        return None if row is None else public(row)

    async def list(self, key: str | None, value: Any) -> list[QueueItem]:
        """The items in order; or those whose payload has a value under a key."""
        items = [public(row) for row in (await self._store.rows.all()).values()]
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
        key = await self._store.key_of(id)
        if key is None:
            return False
        self._store.delete(key, id)
        return True

    async def clear(self, callback: Any = None) -> int:
        """Take out all, or all of a callback; how many."""
        # A callback that is gone from the class is named, too.
        name = callback if isinstance(callback, str | None) else callback.__name__
        removed = 0
        for key, row in (await self._store.rows.all()).items():
            if name in (None, row.callback):
                self._store.delete(key, row.id)
                removed += 1
        return removed

    # --- what the alarm does

    async def start(self) -> None:
        """Work off the queue, if there is something and nobody does."""
        if not self._draining and await self._store.rows.page(limit=1):
            self._draining = True
            self._agent.ctx.wait_until(self._drain())

    async def next_due(self) -> int | None:
        """When the alarm must come."""
        if self._draining:
            return self._work.heartbeat()
        if await self._store.rows.page(limit=1):
            return milliseconds(work_clock.now())
        return None

    async def _drain(self) -> None:
        try:
            while page := await self._store.rows.page():
                for key in page:
                    await self._run(key)
        finally:
            self._draining = False

    async def _run(self, key: str) -> None:
        row = await self._store.rows.get(key)
        if row is None:
            return
        failed: Exception | None = row.cut_off()
        began = row.begin()
        if failed is None:
            self._store.rows.put(key, row)
            # Durable before it begins, or a run that ends the process would not count.
            await self._agent.ctx.storage.sync()
            try:
                await run_job(
                    self._agent, row.callback, row.payload, public(row), row.retry
                )
            except Exception as error:  # noqa: BLE001  # the user's callback
                failed = error
        await self._ended(key, row, failed, began)

    async def _ended(
        self, key: str, row: QueueRow, error: Exception | None, began: int
    ) -> None:
        # If it was taken out meanwhile, or all was deleted, nothing is left of it.
        if await self._store.rows.get(key) is not None:
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
            self._store.delete(key, row.id)
        if error is not None:
            await self._agent.report(error)

    # --- inside

    async def _wake(self) -> None:
        await self._work.wake_by(
            self._work.heartbeat() if self._draining else milliseconds(work_clock.now())
        )

    async def _replay(self, origin: msgspec.Raw) -> None:
        planned = msgspec.json.decode(origin, type=QueueRow)
        callback_name(self._agent, planned.callback)
        await self._store.restore(origin)
        await self._wake()
