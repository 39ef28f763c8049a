"""Calls to their owner: copies, bounded waiting, and nothing is run twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from durable import RemoteError, Request, Response, Unavailable, ValueRefused
from durable.domain.errors import LinkLost, Moved, SqlError
from durable.domain.ids import DurableObjectId, shard_of
from durable.routing.router import Router
from durable.routing.shard_map import ShardMap
from tests.objects.scripted import turns

TARGET = DurableObjectId(UUID(int=5))
SHARDS = 16
SHARD = shard_of(TARGET.value, SHARDS)
OTHER = UUID(int=9)


class Here:
    """The dispatcher: raises Moved so many times, then answers."""

    def __init__(self, answer: Callable[..., Any], moves: int = 0) -> None:
        self.answer = answer
        self.moves = moves
        self.ran = 0

    async def call(
        self, object_id: Any, method: str, args: Any, kwargs: Any, props: Any
    ) -> Any:
        return await self.fetch(object_id, args, kwargs)

    async def fetch(self, object_id: Any, request: Any, props: Any) -> Any:
        if self.moves:
            self.moves -= 1
            raise Moved("not here")
        self.ran += 1
        return self.answer(request)


class There:
    """Another node: raises what is in the list, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.ran = 0

    async def call(self, target: Any, method: str, sent: str, props: Any) -> str:
        await self.fetch(target, None, props)
        return sent

    async def fetch(self, target: Any, request: Any, props: Any) -> Any:
        self.ran += 1
        if self.errors:
            raise self.errors.pop(0)
        return Response("there")


class Fleet:
    """A router, the dispatcher behind it, another node, and the shard map."""

    def __init__(
        self, here: Here, there: There | None = None, *, patience: float = 1.0
    ) -> None:
        self.table: list[tuple[int, UUID | None]] = []
        self.shard_map = ShardMap(self.read)
        self.reads = 0
        self.router = Router(
            here,
            self.shard_map,
            shards=SHARDS,
            patience=patience,
            reach=lambda node: there if node == OTHER else None,
        )

    async def read(self) -> list[tuple[int, UUID | None]]:
        self.reads += 1
        return self.table


def elsewhere() -> Here:
    return Here(lambda _: pytest.fail("it is not here"), moves=1_000)


async def test_arguments_and_results_are_copies_with_their_types() -> None:
    seen: list[Any] = []

    def answer(args: Any) -> Any:
        seen.append(args)
        args[0].append("changed by the callee")
        return args

    given: list[Any] = [1, (2, {3}), b"x"]
    router = Fleet(Here(answer)).router
    result = await router.call(TARGET, "m", [given], {}, None)
    assert given == [1, (2, {3}), b"x"]
    assert result == [[*given, "changed by the callee"]]
    assert result[0] is not seen[0][0]


async def test_what_cannot_be_sent_never_leaves() -> None:
    here = Here(lambda args: args)
    with pytest.raises(ValueRefused, match=r"value\[0\]\[0\]"):
        await Fleet(here).router.call(TARGET, "m", [object()], {}, None)
    assert here.ran == 0
    with pytest.raises(ValueRefused):
        await Fleet(Here(lambda _: object())).router.call(TARGET, "m", [], {}, None)


async def test_a_call_waits_for_this_node_to_claim_the_shard() -> None:
    here = Here(lambda args: "done", moves=1)
    fleet = Fleet(here)
    calling = asyncio.create_task(fleet.router.call(TARGET, "m", [], {}, None))
    await turns()
    fleet.shard_map.claimed([SHARD], UUID(int=1))
    assert await calling == "done"
    assert here.ran == 1


async def test_a_request_goes_to_the_node_that_the_map_names() -> None:
    there = There()
    fleet = Fleet(elsewhere(), there)
    fleet.shard_map.claimed([SHARD], OTHER)
    answer = await fleet.router.fetch(TARGET, Request("POST", "http://x/"), None)
    assert await answer.text() == "there"
    assert there.ran == 1


async def test_a_call_sent_astray_is_sent_again_when_the_map_changes() -> None:
    there = There(Moved("handed over"))
    fleet = Fleet(elsewhere(), there)
    fleet.shard_map.claimed([SHARD], OTHER)
    calling = asyncio.create_task(fleet.router.call(TARGET, "m", [7], {}, None))
    await turns()
    assert fleet.reads == 1
    assert not calling.done()
    fleet.shard_map.claimed([SHARD], OTHER)
    assert await calling == [[7], {}]
    assert there.ran == 2


async def test_when_the_owner_is_lost_only_what_reads_is_sent_again() -> None:
    there = There(LinkLost("gone"), LinkLost("gone"))
    fleet = Fleet(elsewhere(), there)
    fleet.shard_map.claimed([SHARD], OTHER)
    with pytest.raises(LinkLost):
        await fleet.router.fetch(TARGET, Request("POST", "http://x/"), None)
    assert there.ran == 1
    reading = asyncio.create_task(
        fleet.router.fetch(TARGET, Request("GET", "http://x/"), None)
    )
    await turns()
    fleet.shard_map.claimed([SHARD], OTHER)
    assert await (await reading).text() == "there"
    assert there.ran == 3


async def test_waiting_is_bounded() -> None:
    fleet = Fleet(elsewhere(), patience=0.01)
    with pytest.raises(Unavailable, match=r"within 0\.01 s"):
        await fleet.router.call(TARGET, "m", [], {}, None)
    fleet = Fleet(elsewhere(), There(*[Moved("not here")] * 9), patience=0.01)
    fleet.shard_map.claimed([SHARD], OTHER)
    with pytest.raises(Unavailable):
        await fleet.router.call(TARGET, "m", [], {}, None)


async def test_the_table_is_read_at_need_and_a_change_told() -> None:
    fleet = Fleet(elsewhere())
    fleet.table = [(SHARD, OTHER)]
    change = fleet.shard_map.change()
    fleet.shard_map.refresh()
    await change
    assert fleet.shard_map.owner(SHARD) == OTHER
    assert fleet.shard_map.owner(SHARD + 1) is None


async def test_errors_are_the_objects_own_or_the_systems() -> None:
    def fails(error: Exception) -> Callable[[Any], Any]:
        def fail(_: Any) -> Any:
            raise error

        return fail

    with pytest.raises(RemoteError, match="what") as caught:
        await Fleet(Here(fails(KeyError("what")))).router.call(
            TARGET, "m", [], {}, None
        )
    assert (caught.value.name, caught.value.remote) == ("KeyError", True)
    error = SqlError("refused", query="x")
    with pytest.raises(SqlError):
        await Fleet(Here(fails(error))).router.call(TARGET, "m", [], {}, None)
