"""Section 6: alarms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from durable import AlarmInfo, DurableError, now
from durable.testing import Fleet
from tests.parity.probe import Gate, Probe, inside, on, sleep

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Rung:
    """What an alarm was told, and when."""

    def __init__(self, stub: Any, work: Callable[[Probe], Any] | None = None) -> None:
        self.infos: list[AlarmInfo] = []
        self.times: list[float] = []
        self.began = now()

        def ring(it: Probe, info: AlarmInfo) -> Any:
            self.infos.append(info)
            self.times.append((now() - self.began).total_seconds())
            return None if work is None else work(it)

        on(stub, "alarm")(ring)


async def set_alarm(stub: Any, when: Any) -> None:
    await inside(stub, lambda it: it.storage.set_alarm(when))


async def get_alarm(stub: Any) -> Any:
    return await inside(stub, lambda it: it.storage.get_alarm())


def fail(_: Probe) -> None:
    raise ValueError("no")


@pytest.mark.rule("S6.1", "S6.2")
@pytest.mark.parametrize("asleep", [False, True])
async def test_an_alarm_rings_once_not_early_and_wakes_who_sleeps(
    fleet: Fleet, stub: Any, asleep: bool
) -> None:
    rung = Rung(stub)
    await set_alarm(stub, timedelta(seconds=10))
    if asleep:
        await sleep(fleet, stub)
    await fleet.clock.advance(seconds=9.9)
    assert rung.times == []
    await fleet.clock.advance(seconds=100)
    assert rung.times == [10]
    assert await get_alarm(stub) is None


@pytest.mark.rule("S6.3")
async def test_set_alarm_replaces_an_earlier_one(fleet: Fleet, stub: Any) -> None:
    rung = Rung(stub)
    await set_alarm(stub, timedelta(seconds=10))
    await set_alarm(stub, timedelta(seconds=5))
    await fleet.clock.advance(seconds=20)
    await set_alarm(stub, timedelta(seconds=5))
    await set_alarm(stub, timedelta(seconds=30))
    await fleet.clock.advance(seconds=60)
    assert rung.times == [5, 50]


@pytest.mark.rule("S6.4")
@pytest.mark.parametrize("when", [0, -1, float("nan"), datetime(2030, 1, 1)])  # noqa: DTZ001
async def test_what_is_no_time_is_refused(stub: Any, when: Any) -> None:
    async def work(it: Probe) -> Any:
        with pytest.raises(ValueError, match="alarm"):
            await it.storage.set_alarm(when)
        return await it.storage.get_alarm()

    assert await inside(stub, work) is None


@pytest.mark.rule("S6.5")
async def test_a_past_time_is_as_soon_as_possible(fleet: Fleet, stub: Any) -> None:
    rung = Rung(stub)
    await set_alarm(stub, now() - timedelta(days=1))
    await fleet.clock.advance(seconds=0)
    assert rung.times == [0]


@pytest.mark.rule("S6.6")
async def test_a_class_without_alarm_can_not_set_one(fleet: Fleet) -> None:
    with pytest.raises(Exception, match=r"no alarm\(\)") as caught:
        await fleet.env.Mute.get_by_name("m").plan()
    assert caught.value.name == "TypeError"  # type: ignore[attr-defined]


@pytest.mark.rule("S6.7")
async def test_get_alarm_says_when_and_none_while_it_runs(
    fleet: Fleet, stub: Any
) -> None:
    seen: list[Any] = []

    async def work(it: Probe) -> None:
        seen.append(await it.storage.get_alarm())
        it.storage.set_alarm(datetime(2100, 1, 1, tzinfo=UTC))
        seen.append(await it.storage.get_alarm())

    Rung(stub, work)
    due = now() + timedelta(seconds=10)
    await set_alarm(stub, due)
    assert await get_alarm(stub) == due
    await fleet.clock.advance(seconds=10)
    assert seen == [None, datetime(2100, 1, 1, tzinfo=UTC)]
    assert await get_alarm(stub) == datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.rule("S6.8")
async def test_delete_alarm_unsets_it(fleet: Fleet, stub: Any) -> None:
    rung = Rung(stub)
    await set_alarm(stub, timedelta(seconds=10))
    await inside(stub, lambda it: it.storage.delete_alarm())
    assert await get_alarm(stub) is None
    await fleet.clock.advance(seconds=20)
    assert rung.times == []


@pytest.mark.rule("S6.8", "S6.9")
async def test_delete_alarm_in_a_run_lets_it_end_and_suppresses_the_retry(
    fleet: Fleet, stub: Any
) -> None:
    ended: list[str] = []

    async def work(it: Probe) -> None:
        await it.storage.delete_alarm()
        await it.storage.sync()
        ended.append("ended")
        fail(it)

    rung = Rung(stub, work)
    await set_alarm(stub, timedelta(seconds=10))
    await fleet.clock.advance(minutes=10)
    assert ended == ["ended"]
    assert rung.times == [10]


@pytest.mark.rule("S6.10", "S6.11")
async def test_a_run_that_raises_is_tried_again_six_times_and_then_dropped(
    fleet: Fleet, stub: Any
) -> None:
    rung = Rung(stub, fail)
    await set_alarm(stub, timedelta(seconds=10))
    await fleet.clock.advance(minutes=10)
    pauses = [later - earlier for earlier, later in pairwise(rung.times)]
    assert len(pauses) == 6
    for n, pause in enumerate(pauses):
        assert 2 << n <= pause <= (2 << n) * 1.25
    assert [(info.is_retry, info.retry_count) for info in rung.infos] == [
        (n > 0, n) for n in range(7)
    ]
    assert rung.infos[0].scheduled_time == rung.began + timedelta(seconds=10)
    assert await get_alarm(stub) is None


@pytest.mark.rule("S6.12")
async def test_an_alarm_set_in_a_run_wins_over_its_retry(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> None:
        if len(rung.times) == 1:
            await it.storage.set_alarm(timedelta(seconds=100))
            fail(it)

    rung = Rung(stub, work)
    await set_alarm(stub, timedelta(seconds=10))
    await fleet.clock.advance(minutes=10)
    assert rung.times == [10, 110]
    assert [info.retry_count for info in rung.infos] == [0, 0]


@pytest.mark.rule("S6.13", "S6.14")
async def test_a_run_whose_writes_are_lost_is_begun_again_and_not_counted(
    fleet: Fleet, stub: Any
) -> None:
    def work(it: Probe) -> None:
        it.storage.put("rung", len(rung.times))

    rung = Rung(stub, work)
    await set_alarm(stub, timedelta(seconds=10))
    fleet.fail_commit(stub)
    await fleet.clock.advance(minutes=1)
    assert len(rung.times) == 2
    assert [info.retry_count for info in rung.infos] == [0, 0]
    assert await inside(stub, lambda it: it.storage.get("rung")) == 2
    assert await get_alarm(stub) is None


@pytest.mark.rule("S6.14", "S6.21")
async def test_the_pause_after_faults_grows_and_an_exception_begins_anew(
    fleet: Fleet, stub: Any
) -> None:
    def work(it: Probe) -> None:
        if len(rung.times) <= 3:
            fleet.fail_commit(stub)
            it.storage.put("a", 1)
        elif len(rung.times) == 4:
            fail(it)

    rung = Rung(stub, work)
    await set_alarm(stub, timedelta(seconds=10))
    await fleet.clock.advance(minutes=2)
    pauses = [later - earlier for earlier, later in pairwise(rung.times)]
    for pause, seconds in zip(pauses, (2, 4, 8, 2), strict=True):
        assert seconds <= pause <= seconds * 1.25
    assert [info.retry_count for info in rung.infos] == [0, 0, 0, 0, 1]


@pytest.mark.rule("S6.15")
async def test_set_alarm_is_a_write_like_any_other(fleet: Fleet, stub: Any) -> None:
    rung = Rung(stub)
    await fleet.settle()
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await set_alarm(stub, timedelta(seconds=10))
    assert await get_alarm(stub) is None
    await fleet.clock.advance(minutes=1)
    assert rung.times == []


@pytest.mark.rule("S6.15")
async def test_deleting_an_alarm_that_does_not_become_durable_keeps_it(
    fleet: Fleet, stub: Any
) -> None:
    rung = Rung(stub)
    await set_alarm(stub, timedelta(seconds=10))
    fleet.fail_commit(stub)
    with pytest.raises(DurableError):
        await inside(stub, lambda it: it.storage.delete_alarm())
    await fleet.clock.advance(minutes=1)
    assert rung.times == [10]


@pytest.mark.rule("S6.16")
async def test_one_run_of_an_object_at_a_time(fleet: Fleet, stub: Any) -> None:
    gate, running = Gate(), []

    async def work(it: Probe) -> None:
        running.append("begins")
        if len(running) == 1:
            # It is due at once, and must wait for this one.
            await it.storage.set_alarm(now())
            await gate()
        running.append("ends")

    Rung(stub, work)
    await set_alarm(stub, now())
    advancing = asyncio.create_task(fleet.clock.advance(seconds=1))
    await gate.reached()
    gate.open()
    await advancing
    await fleet.clock.advance(seconds=1)
    assert running == ["begins", "ends", "begins", "ends"]


@pytest.mark.rule("S6.17")
async def test_options_of_the_alarm_calls(fleet: Fleet, stub: Any) -> None:
    def work(it: Probe) -> str:
        it.storage.set_alarm(
            timedelta(seconds=10), allow_concurrency=True, allow_unconfirmed=True
        )
        return "said"

    await stub.remembered()
    await fleet.settle()
    fleet.fail_commit(stub)
    assert await inside(stub, work) == "said"
    await fleet.settle()
    assert await get_alarm(stub) is None


@pytest.mark.rule("S6.18")
async def test_abort_without_a_retry_is_delete_alarm_and_sync_before_it(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> None:
        it.storage.delete_alarm()
        await it.storage.sync()
        it.ctx.abort("given up")

    rung = Rung(stub, work)
    await set_alarm(stub, timedelta(seconds=10))
    await fleet.clock.advance(hours=1)
    assert rung.times == [10]
