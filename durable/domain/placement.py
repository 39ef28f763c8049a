"""Who should own a shard: weighted rendezvous hashing over the live workers.

Promise: every node that knows the same workers computes the same order of them for a
shard, and a worker that comes or goes moves only the shards that it wins or had. It is
only the *wish*: who holds the shard's lock owns it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Literal
from uuid import UUID

Role = Literal["front", "worker", "both"]

# Draws in one hash: 64 bytes, 8 for each.
_PER_HASH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A live node as ``durable.worker`` has it.

    ``weight``: its share of the shards, relative to the others'. ``link_address``:
    host:port of its link, None without one. ``stale``: it may claim no more.
    ``present``: it has a lane, so it can own shards at this moment. ``shares``: other
    nodes reach its objects, so a part of the shards is enough for it. ``since``: when
    it joined, in seconds since the epoch by the database's clock.
    """

    id: UUID
    address: str = ""
    link_address: str | None = None
    role: Role = "both"
    weight: float = 1.0
    draining: bool = False
    stale: bool = False
    present: bool = True
    shares: bool = True
    since: float = math.inf
    labels: tuple[str, ...] = ()

    @property
    def may_own(self) -> bool:
        """Whether shards are to go to it."""
        return (
            self.present
            and self.role != "front"
            and self.weight > 0
            and not (self.draining or self.stale)
        )


@dataclass(frozen=True)
class Placement:
    """The order of the workers for each of ``shards`` shards."""

    shards: int
    workers: tuple[tuple[UUID, float], ...]
    _ranked: dict[int, list[UUID]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, shards: int, rows: Iterable[WorkerRow]) -> Placement:
        """Over those of ``rows`` that may own shards.

        A request that meets another node's shard needs a link to get there. Where one
        of them has none, the node that came first owns all, and the others stand by.
        """
        owners = [row for row in rows if row.may_own]
        if not all(row.shares for row in owners):
            owners = [min(owners, key=lambda row: (row.since, row.id))]
        return cls(shards, tuple(sorted((row.id, row.weight) for row in owners)))

    def ranked(self, shard: int) -> list[UUID]:
        """The workers for a shard, the preferred one first."""
        known = self._ranked.get(shard)
        if known is None:
            known = self._ranked[shard] = [
                worker
                for _, worker in sorted(
                    (-draws(worker, self.shards)[shard] / weight, worker)
                    for worker, weight in self.workers
                )
            ]
        return known

    def is_alone(self, worker: UUID) -> bool:
        """Whether nobody else may own anything."""
        return all(other == worker for other, _ in self.workers)

    def preferred(self, shard: int) -> UUID | None:
        """Who should own a shard; None if nobody may."""
        ranked = self.ranked(shard)
        return ranked[0] if ranked else None

    def rank(self, shard: int, worker: UUID) -> int | None:
        """A worker's place for a shard, 0 for the preferred one; None: it has none."""
        ranked = self.ranked(shard)
        return ranked.index(worker) if worker in ranked else None


@lru_cache(maxsize=256)
def draws(worker: UUID, shards: int) -> array[float]:
    """For each shard, the logarithm of a worker's draw from (0, 1): always the same."""
    logs = array("d")
    for block in range(-(-shards // _PER_HASH)):
        digest = blake2b(worker.bytes + block.to_bytes(4, "big")).digest()
        for at in range(0, 64, _PER_HASH):
            # The middle of one of 2^53 steps: never 0 or 1.
            step = int.from_bytes(digest[at : at + 8], "big") >> 11
            logs.append(math.log((step + 0.5) / (1 << 53)))
    return logs
