"""The node's periodic work, on APScheduler; lower floors see the Timer Protocol."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler


class PeriodicWork:
    """Runs coroutines every so often until it is closed; open with ``async with``."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            job_defaults={"coalesce": True, "max_instances": 1}
        )

    async def __aenter__(self) -> PeriodicWork:
        self._scheduler.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._scheduler.shutdown(wait=False)

    def every(
        self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Run the work again and again, never twice at a time."""
        self._scheduler.add_job(work, "interval", seconds=seconds)
