"""Shard → owner, as this node last heard. A hint: the owner's claim decides.

Owners say what they have claimed; besides, the table is read when a call was sent
astray, when a link comes or goes, and now and then anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

from durable.domain.errors import Unavailable
from durable.tasks import TaskScope

log = logging.getLogger(__name__)


class ShardMap:
    """The owners of all shards; ``read`` asks the table for them."""

    def __init__(
        self, read: Callable[[], Awaitable[Sequence[tuple[int, UUID | None]]]]
    ) -> None:
        self._read = read
        self._owners: dict[int, UUID | None] = {}
        self._change: asyncio.Future[None] | None = None
        self._scope = TaskScope("shard map")
        self._reading = self._again = False

    def owner(self, shard: int) -> UUID | None:
        """Who owns a shard, as far as is known."""
        return self._owners.get(shard)

    def claimed(self, shards: Iterable[int], owner: UUID) -> None:
        """A node says that it serves these from now on."""
        self._owners.update(dict.fromkeys(shards, owner))
        self.tell()

    def tell(self) -> None:
        """Whoever waits for a change is to look again."""
        change, self._change = self._change, None
        if change is not None:
            change.set_result(None)

    def change(self) -> asyncio.Future[None]:
        """Done at the next change; not to be cancelled."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        return self._change

    def refresh(self) -> None:
        """Read the table, soon."""
        self._again = True
        if not self._reading:
            self._reading = True
            self._scope.start(self._refresh())

    async def refresh_now(self) -> None:
        """Ask for the table to be read (as periodic work)."""
        self.refresh()

    async def close(self) -> None:
        """Read no more."""
        await self._scope.close()

    async def _refresh(self) -> None:
        try:
            while self._again:
                self._again = False
                owners = dict(await self._read())
                if owners != self._owners:
                    self._owners = owners
                    self.tell()
        except Unavailable as error:
            log.warning("shard map not read: %s", error)
        finally:
            self._reading = False
