"""``retry``, ``keep_alive`` and fibers, on a controlled clock."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from agents.retries import RetryOptions
from tests.agents.working import Worker, WorkPlace
from tests.objects.scripted import turns


async def test_retry_waits_with_full_jitter_up_to_its_limit(
    work_place: WorkPlace,
) -> None:
    tries: list[int] = []

    def fail(attempt: int) -> str:
        tries.append(attempt)
        if attempt < 5:
            raise OSError("not yet")
        return "done"

    acting = asyncio.create_task(
        work_place.act(
            lambda agent: agent.retry(fail, max_attempts=5, base_delay=1, max_delay=3)
        )
    )
    await turns()
    work_place.clock.luck = 0.5
    await work_place.advance(60)
    assert await acting == "done"
    assert tries == [1, 2, 3, 4, 5]
    assert work_place.clock.pauses == [1.0, 1.0, 1.5, 1.5]


async def test_retry_raises_the_last_error_or_the_one_that_is_not_to_be_retried(
    work_place: WorkPlace,
) -> None:
    work_place.clock.luck = 0.0

    def fail(attempt: int) -> None:
        raise OSError(f"attempt {attempt}")

    async def plan(agent: Worker) -> None:
        with pytest.raises(OSError, match="attempt 3"):
            await agent.retry(fail)
        with pytest.raises(OSError, match="attempt 2"):
            await agent.retry(fail, should_retry=lambda error, attempt: attempt < 3)

    acting = asyncio.create_task(work_place.act(plan))
    await turns()
    await work_place.advance(1)
    await acting


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"base_delay": 0},
        {"base_delay": float("nan")},
        {"base_delay": 4.0},
    ],
    ids=str,
)
def test_impossible_retry_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        RetryOptions(**options)


async def test_keep_alive_holds_off_eviction_until_it_ends(
    work_place: WorkPlace,
) -> None:
    kept: list[Any] = []

    async def keep(agent: Worker) -> None:
        kept.append(agent.keep_alive())

    await work_place.act(keep)
    await turns()
    assert await work_place.evict() == 0
    kept[0]()
    kept[0]()
    await turns()
    assert await work_place.evict() == 1

    async def look(agent: Worker) -> None:
        async def inside() -> str:
            assert await work_place.evict() == 0
            return "result"

        assert await agent.keep_alive_while(inside) == "result"

    await work_place.act(look)


# --- fibers


async def test_a_fiber_returns_its_result_and_leaves_nothing(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> str:
        async def work(fiber: Any) -> str:
            agent.stash({"step": 1})
            return f"{fiber.name} {fiber.snapshot}"

        with pytest.raises(RuntimeError, match="run_fiber"):
            agent.stash(1)
        with pytest.raises(ZeroDivisionError):
            await agent.run_fiber("broken", lambda: 1 / 0)
        result: str = await agent.run_fiber("report", work)
        return result

    assert await work_place.act(plan) == "report None"
    assert work_place.stored(space="work-fibers") == {}
    await work_place.advance(31)
    assert work_place.due() is None


async def cut_off(work_place: WorkPlace) -> None:
    """A fiber that has stashed 2 when its process ends."""

    async def plan(agent: Worker) -> None:
        async def work() -> None:
            agent.stash(1)
            agent.stash(2)
            await asyncio.Event().wait()

        await agent.run_fiber("report", work)

    acting = asyncio.create_task(work_place.act(plan))
    await turns()
    await work_place.crash()
    with pytest.raises(Exception, match="crash"):
        await acting


async def test_a_fiber_that_is_cut_off_goes_on_from_its_checkpoint(
    work_place: WorkPlace,
) -> None:
    seen: list[Any] = []

    async def recovered(given: Any) -> None:
        agent, fiber = given

        async def work(again: Any) -> None:
            seen.append(("again", again.id == fiber.id, again.snapshot))
            agent.stash(3)

        seen.append((fiber.name, fiber.snapshot, fiber.recoveries))
        await agent.run_fiber("report", work)

    Worker.plans["recovered"] = recovered
    await cut_off(work_place)
    assert seen == []
    await work_place.advance(30)
    assert seen == [("report", 2, 1), ("again", True, 2)]
    assert work_place.stored(space="work-fibers") == {}


async def test_recovery_that_fails_is_tried_for_a_day_and_then_a_dead_letter(
    work_place: WorkPlace,
) -> None:
    times: list[float] = []

    def recovered(given: Any) -> None:
        times.append(work_place.clock.time)
        raise OSError("no")

    Worker.plans["recovered"] = recovered
    await cut_off(work_place)
    await work_place.advance(1000)
    gaps = [round(b - a) for a, b in itertools.pairwise(times)]
    assert gaps[:9] == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    await work_place.advance(1000)
    assert round(times[-1] - times[-2]) == 300
    work_place.clock.time += 24 * 3600
    await work_place.advance(300)

    async def look(agent: Worker) -> None:
        (letter,) = await agent.list_dead_letters()
        assert (letter.kind, letter.callback, letter.payload) == ("fiber", "report", 2)
        Worker.plans.clear()
        await agent.replay_dead_letter(letter.id)

    await work_place.act(look)
    assert len(work_place.stored(space="work-fibers")) == 1
    await work_place.advance(31)
    assert work_place.stored(space="work-fibers") == {}
