"""Shard → owner, as this node last read it. A hint: the owner's claim decides.

Read again when somebody says that shards have moved, when a call was sent astray, and
now and then anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from durable.domain.errors import Unavailable
from durable.tasks import TaskScope

log = logging.getLogger(__name__)


class ShardMap:
    """The owners; ``on_moved`` hears of shards that another node owns now."""

    def __init__(
        self,
        read: Callable[[], Awaitable[Sequence[tuple[int, UUID | None]]]],
        on_moved: Callable[[dict[int, UUID]], None] = lambda _: None,
    ) -> None:
        self._read = read
        self._on_moved = on_moved
        self._owners: dict[int, UUID | None] = {}
        self._changed = asyncio.Event()
        self._scope = TaskScope("shard map")
        self._reading = self._again = False

    def owner(self, shard: int) -> UUID | None:
        """Who owns a shard, as far as is known."""
        return self._owners.get(shard)

    def refresh(self) -> None:
        """Read it anew, soon."""
        self._again = True
        if not self._reading:
            self._reading = True
            self._scope.start(self._refresh())

    async def changed(self, seconds: float) -> None:
        """Return when it was read anew, or when it is time."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def close(self) -> None:
        """Read no more."""
        await self._scope.close()

    async def _refresh(self) -> None:
        try:
            while self._again:
                self._again = False
                self._take(await self._read())
        except Unavailable as error:
            log.warning("shard map not read: %s", error)
        finally:
            self._reading = False

    def _take(self, rows: Sequence[tuple[int, UUID | None]]) -> None:
        moved = {
            shard: owner
            for shard, owner in rows
            if owner is not None and self._owners.get(shard) != owner
        }
        self._owners = dict(rows)
        if moved:
            self._on_moved(moved)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
