"""What a client lets its user wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Ready:
    """Comes true, or fails, once; any number may await it, any number of times."""

    def __init__(self) -> None:
        self._settled = asyncio.Event()
        self._error: Exception | None = None

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until it is settled."""
        return self._wait().__await__()

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""
        return self._settled.is_set()

    def succeed(self) -> None:
        """Let those who wait go on; no-op if it is settled."""
        self._settled.set()

    def renewed(self) -> Ready:
        """Give one that is unsettled: itself, so that nobody waits in vain."""
        return Ready() if self.is_settled else self

    def fail(self, error: Exception) -> None:
        """Raise this in those who wait; no-op if it is settled."""
        if not self.is_settled:
            self._error = error
            self._settled.set()

    async def _wait(self) -> None:
        await self._settled.wait()
        if self._error is not None:
            raise self._error


class Goodbye:
    """The rest of a close: it goes on by itself, and may be awaited."""

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, None, None]:
        """Wait for the server's answer."""
        return self._wait().__await__()
