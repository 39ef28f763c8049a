"""Keep an agent in memory while something goes on that isn't an event.

It needs no alarm, unlike Cloudflare's heartbeat: an agent with background work isn't
evicted, and after a crash there is nothing in memory left to keep.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable import DurableObjectState


class KeepAlive:
    """Holds off eviction until it is called, or its ``with`` block ends."""

    __slots__ = ("_over",)

    def __init__(self, ctx: DurableObjectState) -> None:
        self._over = asyncio.Event()
        ctx.wait_until(self._over.wait())

    def __call__(self) -> None:
        """The agent may sleep again; calling it twice does nothing."""
        self._over.set()

    def __enter__(self) -> KeepAlive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self()
