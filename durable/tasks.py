"""Named background tasks that somebody watches. The only ``create_task``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)


class TaskScope:
    """Tasks that end with their scope; a failure of one is reported, never lost."""

    def __init__(
        self, name: str, on_failure: Callable[[Exception], None] | None = None
    ) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> frozenset[asyncio.Task[Any]]:
        """Those that have not ended."""
        return frozenset(self._tasks)

    def start(
        self, work: Coroutine[Any, Any, Any], name: str | None = None
    ) -> asyncio.Task[Any]:
        """Run in the background. A failure goes to ``on_failure``, else to the log."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel_others(self) -> None:
        """Ask all to stop but the task that asks."""
        current = asyncio.current_task()
        for task in tuple(self._tasks):
            if task is not current:
                task.cancel()

    async def close(self) -> None:
        """Cancel all and wait until they have ended."""
        self.cancel_others()
        pending = {t for t in self._tasks if t is not asyncio.current_task()}
        if pending:
            await asyncio.wait(pending)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for all to end, for up to ``timeout`` seconds; whether they did."""
        pending = {t for t in self._tasks if t is not asyncio.current_task()}
        if not pending:
            return True
        _, unfinished = await asyncio.wait(pending, timeout=timeout)
        return not unfinished

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if self._on_failure is not None and isinstance(error, Exception):
            self._on_failure(error)
            return
        log.error(
            "background task failed",
            exc_info=error,
            extra={"scope": self.name, "task": task.get_name()},
        )
