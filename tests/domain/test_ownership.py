"""What a node decides about shards, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar
from uuid import UUID

import pytest

from durable.domain import ownership_steps as steps
from durable.domain.ownership import Ownership
from durable.domain.ownership_pace import (
    CLAIMS_A_ROUND,
    FREE_RANK_SECONDS,
    HAND_OVER_AT_ONCE,
    HURRIED_LOOKS,
    HURRY_SECONDS,
    LOST_RANK_SECONDS,
    SETTLED_SECONDS,
)
from durable.domain.placement import Placement, WorkerRow
from durable.domain.writes import Claim

SHARDS = 1024
LEASE, W = 10.0, 0.3
ME, OTHER = WorkerRow(id=UUID(int=1)), WorkerRow(id=UUID(int=2))
BOTH = Placement.of(SHARDS, [ME, OTHER])
MINE = [s for s in range(SHARDS) if BOTH.preferred(s) == ME.id]
OTHERS = [s for s in range(SHARDS) if BOTH.preferred(s) == OTHER.id]
T = TypeVar("T")


class Driven:
    """The machine, with a clock and answers from the test."""

    def __init__(self, row: WorkerRow = ME) -> None:
        self.machine = Ownership(
            row, SHARDS, lease=LEASE, freshness=W, draw=lambda: 0.5
        )
        self.now = 100.0
        self.claims: dict[int, Claim] = {}
        self.last: list[steps.Effect] = []

    def feed(self, event: steps.Event) -> list[steps.Effect]:
        self.last = self.machine.step(self.now, event)
        return self.last

    def only(self, kind: type[T]) -> T:
        (found,) = (effect for effect in self.last if isinstance(effect, kind))
        return found

    def has(self, kind: type[Any]) -> bool:
        return any(isinstance(effect, kind) for effect in self.last)

    def look(
        self, *live: WorkerRow, free: Sequence[tuple[int, UUID | None]] = ()
    ) -> None:
        """Until it looks, then tell."""
        while not self.has(steps.Look):
            self.now = max(self.now, self.machine.wake_at)
            self.feed(steps.Tick())
        self.feed(steps.Looked(live, free))

    def obtain(self, *, released: bool = True, before: UUID | None = None) -> None:
        """Locks and claims that were asked for are had."""
        shards = self.only(steps.Lock).shards
        self.feed(steps.Locked(shards, shards))
        rows = [
            steps.ClaimedShard(s, 1, UUID(int=1000 + s), released, before)
            for s in self.only(steps.WriteClaims).shards
        ]
        self.feed(steps.Claimed(shards, rows))

    def own(self, *shards: int) -> None:
        """Serve these."""
        self.feed(steps.LaneOpened())
        self.look(ME, free=[(s, None) for s in shards])
        self.obtain()
        self.feed(steps.Prepared(self.only(steps.Prepare).claims))
        served = self.only(steps.Serve).claims
        self.claims = {claim.shard: claim for claim in served}
        assert sorted(self.claims) == sorted(shards)


def test_a_node_alone_claims_everything_in_one_round() -> None:
    node = Driven()
    node.own(*range(SHARDS))
    assert node.machine.settled


def test_among_others_it_claims_its_own_at_once() -> None:
    node = Driven()
    node.feed(steps.LaneOpened())
    node.look(ME, OTHER, free=[(s, None) for s in range(SHARDS)])
    assert node.only(steps.Lock).shards == MINE
    node.obtain()
    assert not node.machine.settled


def test_what_others_come_first_for_is_claimed_a_round_at_a_time() -> None:
    node = Driven()
    node.feed(steps.LaneOpened())
    free = [(s, None) for s in OTHERS]
    while not node.has(steps.Lock):
        node.look(ME, OTHER, free=free)
    first = node.only(steps.Lock).shards
    assert len(first) == CLAIMS_A_ROUND
    node.obtain()
    assert not node.machine.settled
    node.look(ME, OTHER, free=free[CLAIMS_A_ROUND:])
    assert set(node.only(steps.Lock).shards) < set(OTHERS) - set(first)


def test_who_is_woken_looks_again_soon_until_something_is_free() -> None:
    node = Driven()
    node.feed(steps.LaneOpened())
    node.look(ME, OTHER)
    node.feed(steps.Woken())
    looked = []
    for _ in range(HURRIED_LOOKS + 2):
        node.look(ME, OTHER)
        looked.append(node.now)
    pauses = [b - a for a, b in pairwise(looked)]
    assert pauses[:HURRIED_LOOKS] == pytest.approx([HURRY_SECONDS] * HURRIED_LOOKS)
    assert pauses[HURRIED_LOOKS] > 5 * HURRY_SECONDS


@pytest.mark.parametrize(
    ("owner", "patience"),
    [(None, FREE_RANK_SECONDS), (UUID(int=3), 2 * LOST_RANK_SECONDS)],
)
def test_what_others_should_own_is_left_to_them_for_a_while(
    owner: UUID | None, patience: float
) -> None:
    node = Driven()
    node.feed(steps.LaneOpened())
    free = [(OTHERS[0], owner)]
    node.look(ME, OTHER, free=free)
    begun = node.now
    while not node.has(steps.Lock):
        node.look(ME, OTHER, free=free)
    assert node.now == pytest.approx(begun + patience, abs=0.3)


@pytest.mark.parametrize("broke", [True, False])
def test_an_owner_whose_link_broke_is_not_waited_for(*, broke: bool) -> None:
    node = Driven()
    dead = UUID(int=3)
    node.feed(steps.LaneOpened())
    node.look(ME, OTHER)
    node.feed(steps.Woken(dead if broke else None))
    node.look(ME, OTHER, free=[(MINE[0], dead), (OTHERS[0], dead)])
    # What another is preferred for is left to it all the same.
    assert node.has(steps.Lock) is broke
    assert not broke or list(node.only(steps.Lock).shards) == [MINE[0]]


def test_a_shard_that_was_not_released_is_opened_w_after_its_lock() -> None:
    node = Driven()
    node.feed(steps.LaneOpened())
    node.look(ME, free=[(3, UUID(int=9))])
    node.obtain(released=False)
    assert not node.has(steps.Prepare)
    node.now += W - 0.01
    assert not [e for e in node.feed(steps.Tick()) if isinstance(e, steps.Prepare)]
    node.now += 0.01
    node.feed(steps.Tick())
    assert [claim.shard for claim in node.only(steps.Prepare).claims] == [3]


def test_a_drain_does_not_release_what_still_waits_for_w() -> None:
    """Whoever finds it released serves it at once; an old owner may still be fresh."""
    node = Driven()
    node.feed(steps.LaneOpened())
    node.look(ME, free=[(3, UUID(int=9))])
    node.obtain(released=False)
    node.feed(steps.DrainAsked())
    assert not node.has(steps.Release)
    node.now += W
    node.feed(steps.Tick())
    assert [claim.shard for claim in node.only(steps.Release).claims] == [3]


def test_what_was_not_claimed_is_unlocked() -> None:
    node = Driven()
    node.feed(steps.LaneOpened())
    node.look(ME, free=[(3, None), (4, None)])
    node.feed(steps.Locked([3, 4], [3, 4]))
    row = steps.ClaimedShard(3, 1, UUID(int=1), True, None)
    node.feed(steps.Claimed([3, 4], [row]))
    assert node.only(steps.Unlock).shards == [4]


def test_after_a_lost_lane_only_what_nobody_had_meanwhile_goes_on() -> None:
    node = Driven()
    node.own(3, 4, 5)
    node.feed(steps.LaneLost())
    assert {claim.shard for claim in node.only(steps.Suspend).claims} == {3, 4, 5}
    assert node.has(steps.OpenLane)
    node.feed(steps.LaneOpened())
    assert node.only(steps.Lock).shards == [3, 4, 5]
    node.feed(steps.Locked([3, 4, 5], [3, 4]))
    assert node.only(steps.Reset).claims == [node.claims[5]]
    node.feed(
        steps.Claimed(
            [3, 4],
            [
                steps.ClaimedShard(3, 2, UUID(int=7), False, node.claims[3].claim_id),
                steps.ClaimedShard(4, 3, UUID(int=8), False, UUID(int=9)),
            ],
        )
    )
    assert node.only(steps.Reset).claims == [node.claims[4]]
    assert node.only(steps.Resume).claims == [Claim(3, 2, UUID(int=7))]
    assert not node.has(steps.Prepare), "4 waits for W"


def test_wakes_are_written_down_where_the_former_owner_fell_and_nowhere_else() -> None:
    before = Claim(3, 1, UUID(int=5), trials_until=0.0)
    for released, claim_id, until in (
        (True, UUID(int=4), 0.0),
        (False, UUID(int=4), 7.0 + steps.TRIAL_SECONDS),
        # Nobody was in between: this worker has its own shard back.
        (False, UUID(int=5), 0.0),
    ):
        row = steps.ClaimedShard(3, 2, UUID(int=6), released, claim_id)
        assert steps.claim_of(row, 7.0, before).trials_until == until


def test_what_is_suspended_is_reset_after_t() -> None:
    node = Driven()
    node.own(3)
    node.feed(steps.LaneLost())
    lost = node.now
    while not node.has(steps.Reset):
        if node.has(steps.OpenLane):
            node.feed(steps.LaneFailed())
        node.now = node.machine.wake_at
        node.feed(steps.Tick())
    assert node.now == pytest.approx(lost + LEASE)


def test_shards_move_to_a_newcomer_a_few_at_a_time() -> None:
    node = Driven()
    node.own(*range(SHARDS))
    node.look(ME, OTHER)
    assert not node.has(steps.HandOver), "it may be gone again at once"
    node.now += SETTLED_SECONDS
    node.look(ME, OTHER)
    going = node.only(steps.HandOver).claims
    assert len(going) == HAND_OVER_AT_ONCE
    assert {claim.shard for claim in going} <= set(OTHERS)
    node.feed(steps.Ended(going[:3]))
    assert node.only(steps.Release).claims == going[:3]
    node.feed(steps.Ended(going[3:]))
    assert not node.has(steps.Release), "one release at a time"
    node.feed(steps.Released(going[:3]))
    assert node.only(steps.Release).claims == going[3:]


def test_a_drain_among_others_goes_in_parts_and_alone_at_once() -> None:
    alone = Driven()
    alone.own(*range(SHARDS))
    alone.feed(steps.DrainAsked())
    assert len(alone.only(steps.HandOver).claims) == SHARDS
    among = Driven()
    among.own(*range(100))
    among.look(ME, OTHER)
    among.feed(steps.DrainAsked())
    ended = 0
    while not among.has(steps.Drained):
        going = among.only(steps.HandOver).claims
        assert len(going) <= HAND_OVER_AT_ONCE
        ended += len(going)
        among.feed(steps.Ended(going))
        among.feed(steps.Released(among.only(steps.Release).claims))
    assert ended == 100


def test_a_front_end_claims_nothing() -> None:
    front = Driven(WorkerRow(id=UUID(int=4), role="front"))
    assert front.feed(steps.Tick()) == []
    assert front.machine.settled
    assert front.machine.wake_at == float("inf")
