"""Tells which code blocks the event loop: every agent of the node waits for it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback

log = logging.getLogger(__name__)

# How often, within the limit, the loop is to show that it turns.
TICKS = 4


class LoopWatchdog:
    """Logs the stack of code that keeps the loop for over ``seconds``; ``async with``.

    Once for each time; and how long it has taken, when it is over.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._turned = time.monotonic()
        self._reported = False

    async def __aenter__(self) -> LoopWatchdog:
        self._loop = asyncio.get_running_loop()
        self._of_loop = threading.get_ident()
        self._tick()
        self._watcher = threading.Thread(
            target=self._watch, name="loop watchdog", daemon=True
        )
        self._watcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._ended.set()

    def _tick(self) -> None:
        now = time.monotonic()
        if self._reported:
            self._reported = False
            log.warning("the event loop turns again after %.1f s", now - self._turned)
        self._turned = now
        self._timer = self._loop.call_later(self._seconds / TICKS, self._tick)

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds / TICKS):
            blocked = time.monotonic() - self._turned
            if blocked < self._seconds or self._reported:
                continue
            frame = sys._current_frames().get(self._of_loop)  # noqa: SLF001  # documented
            if frame is not None:
                self._reported = True
                stack = "".join(traceback.format_stack(frame))
                log.warning(
                    "the event loop is blocked for %.1f s by:\n%s", blocked, stack
                )
