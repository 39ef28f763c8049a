"""What nobody holds: which shards a worker tries for, and when."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from durable.domain import ownership_pace as pace

if TYPE_CHECKING:
    from durable.domain.placement import Placement

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Plan:
    """Shards to lock now; when to look for those that others come first for."""

    chosen: list[int]
    look_at: float
    # Whether some are left for a next round.
    more: bool


class FreeShards:
    """How long shards have been free, as far as one worker knows."""

    def __init__(self, me: UUID) -> None:
        self._me = me
        self._since: dict[int, float] = {}
        # When to try for those that are ours, and may have their lost owner back.
        self._try_at: dict[int, float] = {}
        # Owners whose link broke, too: they won't be back so soon.
        self._lost_until: dict[UUID, float] = {}

    def note_lost(self, owner: UUID, now: float, seconds: float) -> None:
        """The link to a node broke: it isn't waited for, for so long."""
        still = {node: t for node, t in self._lost_until.items() if t > now}
        self._lost_until = still | {owner: now + seconds}

    @property
    def due_at(self) -> float:
        """When ``due`` has something to say."""
        return min(self._try_at.values(), default=_NEVER)

    def due(self, now: float, held: Container[int]) -> list[int]:
        """Our own shards whose lost owner has not come back for them."""
        due = [shard for shard, at in self._try_at.items() if at <= now]
        for shard in due:
            del self._try_at[shard]
        return [shard for shard in due if shard not in held]

    def plan(
        self,
        now: float,
        free: Iterable[tuple[int, UUID | None]],
        held: Container[int],
        placement: Placement,
    ) -> Plan:
        """What to do about (shard, owner of its row) that are free; ``held``: ours."""
        since: dict[int, float] = {}
        self._try_at = {}
        ours: list[int] = []
        due: list[tuple[float, int]] = []
        look_at = _NEVER
        alone = placement.is_alone(self._me)
        for shard, owner in free:
            if shard in held:
                continue
            since[shard] = self._since.get(shard, now)
            patience = 0.0
            if not alone:
                patience = self._patience(now, shard, owner, placement)
            is_ours = alone or placement.preferred(shard) == self._me
            if since[shard] + patience <= now:
                if is_ours:
                    ours.append(shard)
                else:
                    due.append((patience, shard))
            elif is_ours:
                self._try_at[shard] = since[shard] + patience
            else:
                look_at = min(look_at, since[shard] + patience)
        self._since = since
        # Ours before others', who may still come for theirs.
        chosen = ours + [shard for _, shard in sorted(due)[: pace.CLAIMS_A_ROUND]]
        return Plan(chosen, look_at, len(chosen) < len(ours) + len(due))

    def forget(self) -> None:
        """The lane is lost: look anew."""
        self._try_at = {}

    def _patience(
        self, now: float, shard: int, owner: UUID | None, placement: Placement
    ) -> float:
        rank = placement.rank(shard, self._me)
        if rank is None:
            return _NEVER
        if owner == self._me:
            return 0.0
        if owner is not None:
            may_be_back = self._lost_until.get(owner, -_NEVER) <= now
            return (rank + may_be_back) * pace.LOST_RANK_SECONDS
        return rank * pace.FREE_RANK_SECONDS
