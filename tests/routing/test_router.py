"""Calls to their owner: copies, bounded waiting, and nothing is run twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from durable import RemoteError, Request, Unavailable, ValueRefused
from durable.domain.errors import Moved, SqlError
from durable.domain.ids import DurableObjectId
from durable.domain.writes import Claim
from durable.routing.router import Router

TARGET = DurableObjectId(UUID(int=5))


class Local:
    """Raises Moved so many times, then answers."""

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


def router(local: Local, *, claim: bool = True, address: str | None = None) -> Router:
    async def wait_for_claim(shard: int, patience: float) -> Claim | None:
        return Claim(shard, 1, UUID(int=1)) if claim else None

    async def owner_address(shard: int) -> str | None:
        return address

    return Router(
        local,
        shards=16,
        wait_for_claim=wait_for_claim,
        owner_address=owner_address,
        patience=1,
    )


async def test_arguments_and_results_are_copies_with_their_types() -> None:
    seen: list[Any] = []

    def answer(args: Any) -> Any:
        seen.append(args)
        args[0].append("changed by the callee")
        return args

    given: list[Any] = [1, (2, {3}), b"x"]
    result = await router(Local(answer)).call(TARGET, "m", [given], {}, None)
    assert given == [1, (2, {3}), b"x"]
    assert result == [[*given, "changed by the callee"]]
    assert result[0] is not seen[0][0]


async def test_what_cannot_be_sent_never_leaves() -> None:
    local = Local(lambda args: args)
    with pytest.raises(ValueRefused, match=r"value\[0\]\[0\]"):
        await router(local).call(TARGET, "m", [object()], {}, None)
    assert local.ran == 0
    with pytest.raises(ValueRefused):
        await router(Local(lambda args: object())).call(TARGET, "m", [], {}, None)


async def test_a_moved_object_is_asked_again_once_it_is_here() -> None:
    local = Local(lambda args: "done", moves=1)
    assert await router(local).call(TARGET, "m", [], {}, None) == "done"
    local = Local(lambda request: "done", moves=1)
    assert (
        await router(local).fetch(TARGET, Request("GET", "http://x/"), None) == "done"
    )
    assert local.ran == 1


@pytest.mark.parametrize(
    ("address", "said"), [("h:1", "worker at h:1"), (None, "no owner")]
)
async def test_waiting_is_bounded(address: str | None, said: str) -> None:
    for claim in (True, False):
        local = Local(lambda args: None, moves=9)
        with pytest.raises(Unavailable, match=said):
            await router(local, claim=claim, address=address).call(
                TARGET, "m", [], {}, None
            )
        assert local.ran == 0


async def test_errors_are_the_objects_own_or_the_systems() -> None:
    def fails(error: Exception) -> Callable[[Any], Any]:
        def fail(_: Any) -> Any:
            raise error

        return fail

    with pytest.raises(RemoteError, match="what") as caught:
        await router(Local(fails(KeyError("what")))).call(TARGET, "m", [], {}, None)
    assert (caught.value.name, caught.value.remote) == ("KeyError", True)
    error = SqlError("refused", query="x")
    with pytest.raises(SqlError):
        await router(Local(fails(error))).call(TARGET, "m", [], {}, None)
