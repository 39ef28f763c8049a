"""Runs what the user wants to be told.

Invariant: callbacks never break the connection (a failure is logged), and those
that are async run one after another in the order of their events, apart from the
reading of the socket, so that they may call the agent and await its answer.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


class Callbacks:
    """Calls plain functions at once and queues the coroutines of async ones."""

    def __init__(self) -> None:
        self._waiting: deque[Awaitable[object]] = deque()
        self._runner: asyncio.Task[None] | None = None

    def emit(self, callback: Callable[..., object] | None, *args: object) -> None:
        """Tell one callback, if there is one."""
        if callback is None:
            return
        try:
            outcome = callback(*args)
        except Exception:
            logger.exception("a callback of the agent client failed")
            return
        if inspect.isawaitable(outcome):
            self._waiting.append(outcome)
            if self._runner is None:
                # This and client_socket.py make tasks themselves: the client must
                # be light to import, hence knows no part of `durable`.
                self._runner = asyncio.create_task(
                    self._run(), name="agent client callbacks"
                )

    async def drain(self, limit: float) -> None:
        """Wait for queued callbacks; after the limit (in seconds) cancel them."""
        runner = self._runner
        if runner is None or runner is asyncio.current_task():
            return
        _, late = await asyncio.wait({runner}, timeout=limit)
        if late:
            logger.warning("callbacks of the agent client were cancelled at its close")
            runner.cancel()
            await asyncio.wait({runner})

    async def _run(self) -> None:
        try:
            while self._waiting:
                try:
                    await self._waiting.popleft()
                except Exception:
                    logger.exception("a callback of the agent client failed")
        finally:
            self._runner = None
            while self._waiting:
                abandoned = self._waiting.popleft()
                if inspect.iscoroutine(abandoned):
                    abandoned.close()
