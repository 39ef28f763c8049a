"""Placement: the same for everybody, fair by weight, and it moves little."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from durable.domain.placement import Placement, WorkerRow

SHARDS = 1024


def rows(*weights: float) -> list[WorkerRow]:
    return [
        WorkerRow(id=UUID(int=number + 1), weight=weight)
        for number, weight in enumerate(weights)
    ]


def shares(placement: Placement) -> dict[int, int]:
    counts: dict[int, int] = {}
    for shard in range(SHARDS):
        worker = placement.preferred(shard)
        assert worker is not None
        counts[worker.int] = counts.get(worker.int, 0) + 1
    return counts


def test_every_node_computes_the_same_whatever_the_order_of_the_rows() -> None:
    one = Placement.of(SHARDS, rows(1, 2, 3))
    other = Placement.of(SHARDS, reversed(rows(1, 2, 3)))
    assert [one.ranked(s) for s in range(SHARDS)] == [
        other.ranked(s) for s in range(SHARDS)
    ]
    # Written down: another version of this must agree with the one that runs.
    assert [one.ranked(s)[0].int for s in range(12)] == [
        2,
        2,
        2,
        3,
        2,
        3,
        2,
        1,
        3,
        3,
        3,
        1,
    ]


def test_shares_follow_weights() -> None:
    assert all(
        300 < n < 385 for n in shares(Placement.of(SHARDS, rows(1, 1, 1))).values()
    )
    weighted = shares(Placement.of(SHARDS, rows(1, 3)))
    assert 200 < weighted[1] < 312


def test_a_worker_that_goes_moves_only_its_own_shards_to_the_next_in_rank() -> None:
    before = Placement.of(SHARDS, rows(1, 1, 1, 1))
    after = Placement.of(SHARDS, rows(1, 1, 1))
    for shard in range(SHARDS):
        ranked = [worker for worker in before.ranked(shard) if worker.int != 4]
        assert after.ranked(shard) == ranked


@pytest.mark.parametrize(
    "other",
    [
        WorkerRow(id=UUID(int=9), draining=True),
        WorkerRow(id=UUID(int=9), stale=True),
        WorkerRow(id=UUID(int=9), present=False),
        WorkerRow(id=UUID(int=9), role="front"),
        WorkerRow(id=UUID(int=9), weight=0.0),
    ],
)
def test_who_may_own_nothing_has_no_rank(other: WorkerRow) -> None:
    placement = Placement.of(SHARDS, [*rows(1), other])
    assert placement.rank(3, other.id) is None
    assert placement.rank(3, UUID(int=1)) == 0


def test_nobody_is_preferred_where_nobody_is() -> None:
    assert Placement.of(SHARDS, []).preferred(1) is None


def test_without_a_link_the_node_that_came_first_owns_all_and_the_others_stand_by() -> (
    None
):
    first, second = rows(1, 1)
    first = replace(first, shares=False, since=20.0)
    second = replace(second, since=10.0)
    assert shares(Placement.of(SHARDS, [first, second])) == {2: SHARDS}
    gone = replace(second, draining=True)
    assert shares(Placement.of(SHARDS, [first, gone])) == {1: SHARDS}
