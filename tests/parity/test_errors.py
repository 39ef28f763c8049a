"""Section 9: what a caller gets when something goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import (
    DurableError,
    Overloaded,
    RemoteError,
    ResetError,
    SqlError,
    Unavailable,
    ValueRefused,
)
from durable.testing import Fleet
from tests.parity.probe import Gate, Probe, elsewhere, inside, on, own_fleet

pytestmark = pytest.mark.asyncio(loop_scope="module")


def flags(error: DurableError) -> tuple[bool, bool, bool, bool]:
    """Retryable, overloaded, remote, durable_object_reset."""
    return (
        error.retryable,
        error.overloaded,
        error.remote,
        error.durable_object_reset,
    )


@pytest.mark.rule("S9.1")
async def test_what_the_object_raises_is_remote_and_has_its_text(stub: Any) -> None:
    def work(_: Probe) -> None:
        raise KeyError("no such thing")

    await stub.remember("memory")
    with pytest.raises(RemoteError, match="no such thing") as caught:
        await inside(stub, work)
    assert flags(caught.value) == (False, False, True, False)
    assert caught.value.name == "KeyError"
    # Memory is kept, and the stub is as good as before.
    assert await stub.remembered() == ["memory"]


@pytest.mark.rule("S9.1")
async def test_writes_before_an_exception_are_kept(stub: Any) -> None:
    def work(it: Probe) -> None:
        it.storage.put("a", 1)
        raise ValueError("no")

    with pytest.raises(RemoteError):
        await inside(stub, work)
    assert await inside(stub, lambda it: it.storage.get("a")) == 1


@pytest.mark.rule("S9.2")
async def test_a_reset_is_told_by_its_flags(fleet: Fleet, stub: Any) -> None:
    fleet.fail_commit(stub)
    with pytest.raises(ResetError) as caught:
        await stub.add_one()
    assert caught.value.durable_object_reset
    assert not caught.value.remote


@pytest.mark.rule("S9.3")
async def test_a_call_that_a_crash_has_cut_off_may_be_tried_again(
    durable_postgres: str,
) -> None:
    async with own_fleet(durable_postgres, nodes=2) as fleet:
        (stub,) = await elsewhere(fleet, 1)
        gate = Gate()
        call = asyncio.create_task(inside(stub, lambda _: gate()))
        await gate.reached()
        await fleet.nodes[1].crash()
        with pytest.raises(Unavailable) as caught:
            await call
        assert flags(caught.value) == (True, False, False, False)
        assert await stub.add_one() == 1


@pytest.mark.rule("S9.4")
async def test_too_many_events_for_one_object_are_overload(
    durable_postgres: str,
) -> None:
    async def block(it: Probe) -> None:
        await it.ctx.block_concurrency_while(gate)

    gate, limits = Gate(), {"max_waiting": 3}
    async with own_fleet(durable_postgres, settings=limits) as fleet:
        stub = fleet.env.Probe.get_by_name("busy")
        blocking = asyncio.create_task(inside(stub, block))
        await gate.reached()
        waiting = [asyncio.create_task(stub.add_one()) for _ in range(4)]
        done, _ = await asyncio.wait(
            waiting, return_when=asyncio.FIRST_COMPLETED, timeout=10
        )
        (refused,) = done
        error = refused.exception()
        assert isinstance(error, Overloaded)
        assert flags(error) == (False, True, False, False)
        assert "overloaded. Too many requests queued." in str(error)
        gate.open()
        await blocking
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(n for n in results if isinstance(n, int)) == [1, 2, 3]


@pytest.mark.rule("S9.5")
async def test_a_missing_method_is_an_error_that_names_it(stub: Any) -> None:
    with pytest.raises(RemoteError, match="'missing'") as caught:
        await stub.missing()
    assert caught.value.name == "AttributeError"


@pytest.mark.rule("S9.6")
@pytest.mark.parametrize("where", ["anywhere", "on another node"])
async def test_an_error_of_the_runtime_arrives_as_what_it_is(
    fleet: Fleet, stub: Any, where: str
) -> None:
    if where == "on another node":
        (stub,) = await elsewhere(fleet, 1)
    with pytest.raises(SqlError) as caught:
        await inside(stub, lambda it: it.storage.sql("SELECT * FROM nothing"))
    error = caught.value
    assert (error.query, error.sqlstate) == ("SELECT * FROM nothing", "42P01")
    assert error.position == 15
    assert error.durable_object_id == str(stub.id)


@pytest.mark.rule("S9.8")
async def test_an_error_that_comes_through_another_object_names_its_own(
    stub: Any, other: Any
) -> None:
    on(other, "query")(lambda it: it.storage.sql("SELECT * FROM nothing"))

    async def work(it: Probe) -> str:
        await it.env.Probe.get_by_name(other.name).do("query")
        return "unreached"

    with pytest.raises(SqlError) as caught:
        await inside(stub, work)
    assert caught.value.durable_object_id == str(other.id)


@pytest.mark.rule("S9.7")
async def test_what_can_not_be_sent_is_refused(stub: Any) -> None:
    with pytest.raises(ValueRefused):
        await stub.remember(object())
    with pytest.raises(ValueRefused):
        await inside(stub, lambda _: object())


@pytest.mark.rule("S9.8")
async def test_every_error_of_a_stub_says_which_object(fleet: Fleet, stub: Any) -> None:
    def fail(_: Probe) -> None:
        raise ValueError("no")

    fleet.fail_commit(stub)
    for call in (stub.add_one(), stub.missing(), inside(stub, fail)):
        with pytest.raises(DurableError) as caught:
            await call
        assert caught.value.durable_object_id == str(stub.id)
