"""What the ownership machine is told, wants done, and says of a shard: only facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING
from uuid import UUID

from durable.domain.writes import Claim

if TYPE_CHECKING:
    from durable.domain.placement import WorkerRow

# Wakes are written down for so long after a claim from an owner that fell.
TRIAL_SECONDS = 600.0


class Phase(Enum):
    """Where a shard is between being somebody else's and being so again."""

    LOCKING = auto()
    CLAIMING = auto()
    WAITING = auto()
    PREPARING = auto()
    SERVED = auto()
    ENDING = auto()
    ENDED = auto()
    RELEASING = auto()


# --- events


@dataclass(frozen=True, slots=True)
class ClaimedShard:
    """A claim that is committed, and the row it replaced.

    ``released``: by its owner, who has flushed and stopped. ``before``: the claim id
    that was there.
    """

    shard: int
    epoch: int
    claim_id: UUID
    released: bool
    before: UUID | None


def claim_of(row: ClaimedShard, now: float, before: Claim | None) -> Claim:
    """The claim that a row makes; ``before``: the one that is suspended here."""
    until = 0.0 if row.released else now + TRIAL_SECONDS
    if before is not None and before.claim_id == row.before:
        # Nobody fell: this worker has its shard back.
        until = before.trials_until
    return Claim(row.shard, row.epoch, row.claim_id, until)


@dataclass(frozen=True, slots=True)
class LaneOpened:
    """A new session is there; it holds no lock yet."""


@dataclass(frozen=True, slots=True)
class LaneFailed:
    """No session could be opened."""


@dataclass(frozen=True, slots=True)
class LaneLost:
    """The session has ended, or may have: its locks are gone."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Who is live (None: unknown), and (shard, owner of the row) of what is free."""

    live: Sequence[WorkerRow] | None
    free: Sequence[tuple[int, UUID | None]] = ()


@dataclass(frozen=True, slots=True)
class Locked:
    """Of the shards asked for, the session has the locks of ``got``."""

    asked: Sequence[int]
    got: Sequence[int]


@dataclass(frozen=True, slots=True)
class Claimed:
    """The claims that were committed, of those asked for."""

    asked: Sequence[int]
    rows: Sequence[ClaimedShard]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What must be known before these claims are served is."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Ended:
    """No activation under these claims is alive, and what they wrote is durable."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Released:
    """Their rows say that nobody owns these, and then their locks were given back."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Give everything away, claim nothing more."""


@dataclass(frozen=True, slots=True)
class Woken:
    """A hint: look again at once. ``lost``: the node whose link has just broken."""

    lost: UUID | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """It is ``wake_at``."""


Event = (
    LaneOpened
    | LaneFailed
    | LaneLost
    | Looked
    | Locked
    | Claimed
    | Prepared
    | Ended
    | Released
    | DrainAsked
    | Woken
    | Tick
)

# --- effects


@dataclass(frozen=True, slots=True)
class OpenLane:
    """Open a session. Answer: LaneOpened or LaneFailed."""


@dataclass(frozen=True, slots=True)
class Look:
    """Ask who is live and, if ``free``, which shards nobody has. Answer: Looked."""

    free: bool


@dataclass(frozen=True, slots=True)
class Lock:
    """Try for these session locks. Answer: Locked."""

    shards: Sequence[int]


@dataclass(frozen=True, slots=True)
class WriteClaims:
    """Fence, then write new epochs and claim ids, and commit. Answer: Claimed."""

    shards: Sequence[int]


@dataclass(frozen=True, slots=True)
class Unlock:
    """Give session locks back."""

    shards: Sequence[int]


@dataclass(frozen=True, slots=True)
class Prepare:
    """See to what must be known before these are served. Answer: Prepared."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Serve:
    """Let events in."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Suspend:
    """Nothing enters or leaves these; what is in memory stays."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Resume:
    """What was suspended and has the same owner goes on under these; all else is reset.

    Sent once for each suspension that ends with a lane, also with no claims.
    """

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Reset:
    """End what is in memory under these claims: somebody else may own them."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let what runs end, flush, end the activations. Answer: Ended, also in parts."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Release:
    """Release the rows, *then* unlock. Answer: Released."""

    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class Drained:
    """Nothing is left here."""


Effect = (
    OpenLane
    | Look
    | Lock
    | WriteClaims
    | Unlock
    | Prepare
    | Serve
    | Suspend
    | Resume
    | Reset
    | HandOver
    | Release
    | Drained
)
