"""Keeps a worker's shards: claims what is free, gives all back in the end.

Promise: a shard is served only between its claim's commit and its release, and, if the
former owner didn't release it, not before W has passed since the lock was obtained.
When a lane is lost its shards are: activations are reset, and all is claimed anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.errors import Unavailable
from durable.domain.writes import Claim
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.store.lane import Lane

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class ShardKeeper:
    """The claims of one worker on one lane."""

    def __init__(
        self,
        *,
        shards: int,
        owner: UUID,
        freshness: float,
        make_lane: Callable[[Callable[[Exception], None]], Lane],
        on_lost: Callable[[Exception], None],
        on_claimed: Callable[[], None],
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._count = shards
        self._owner = owner
        self._freshness = freshness
        self._make_lane = make_lane
        self._on_lost = on_lost
        self._on_claimed = on_claimed
        self._sleep = sleep
        self._scope = TaskScope("shards")
        self._claims: dict[int, Claim] = {}
        self._changed = asyncio.Event()
        self._lane_lost = asyncio.Event()
        self._draining = False
        self.lane: Lane

    @property
    def owned(self) -> int:
        """How many shards are served here."""
        return len(self._claims)

    def owned_shards(self) -> list[int]:
        """The shards that are served here."""
        return list(self._claims)

    def claim_of(self, shard: int) -> Claim | None:
        """The claim under which a shard is served here, if it is."""
        return self._claims.get(shard)

    async def wait_for(self, shard: int, timeout: float) -> Claim | None:
        """The claim of a shard, waiting a while for it to be obtained."""
        try:
            async with asyncio.timeout(timeout):
                while shard not in self._claims:
                    if self._draining:
                        return None
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self._claims[shard]

    async def start(self) -> None:
        """Open the lane and claim what is free; the rest is tried for every second.

        Raises:
            Unavailable: Postgres can't be reached.
        """
        await self._open_lane()
        await self._claim_free()
        self._scope.start(self._keep(), "shard keeper")

    def stop_claiming(self) -> None:
        """Claim nothing any more: this worker drains."""
        self._draining = True
        self._changed.set()

    async def close(self) -> None:
        """Release every shard, then end the lane and so its locks."""
        self.stop_claiming()
        await self._scope.close()
        claims, self._claims = list(self._claims.values()), {}
        if claims and self.lane.lost is None:
            try:
                await self.lane.release(claims)
            except Unavailable as error:
                log.warning("shards not released: %s", error)
        await self.lane.close()

    async def _keep(self) -> None:
        while True:
            try:
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._lane_lost.wait()
            except TimeoutError:
                pass
            try:
                if self._lane_lost.is_set():
                    await self.lane.close()
                    await self._open_lane()
                if len(self._claims) < self._count:
                    await self._claim_free()
            except Unavailable as error:
                log.warning("no lane: %s", error)
                await self._sleep(RETRY_SECONDS)

    async def _open_lane(self) -> None:
        lane = self._make_lane(self._lost)
        await lane.open()
        self.lane = lane
        self._lane_lost.clear()

    async def _claim_free(self) -> None:
        wanted = [s for s in range(self._count) if s not in self._claims]
        claimed = await self.lane.claim(wanted, self._owner)
        if not claimed:
            return
        if not all(released for *_, released in claimed):
            # The former owner may still believe itself fresh: outwait that.
            await self._sleep(self._freshness)
        if self.lane.lost is not None:
            return
        for shard, epoch, claim_id, _ in claimed:
            self._claims[shard] = Claim(shard, epoch, claim_id)
        log.info("claimed shards", extra={"shards": len(claimed)})
        self._changed.set()
        self._on_claimed()

    def _lost(self, error: Exception) -> None:
        self._claims.clear()
        self._lane_lost.set()
        self._on_lost(error)
