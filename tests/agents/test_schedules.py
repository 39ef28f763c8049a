"""Schedules: when they run, how they end, what refuses them. On a controlled clock."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from agents import Agent
from agents.retries import RetryOptions
from agents.schedules import TooManySchedules
from durable import ValueRefused
from durable.domain.errors import CommitFailed
from tests.agents.working import START, Worker, WorkPlace, payloads
from tests.objects.scripted import turns


async def test_a_delay_a_date_and_a_past_time_run_in_order_and_never_early(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        await agent.schedule(20, "note", "delay")
        await agent.schedule(datetime.fromtimestamp(START + 10, UTC), "note", "date")
        await agent.schedule(datetime(2001, 1, 1, tzinfo=UTC), agent.note, "past")
        await agent.schedule(timedelta(seconds=30), "plain", {"an": ["argument"]})

    await work_place.act(plan)
    await work_place.advance(0)
    assert payloads() == ["past"]
    await work_place.advance(9.9)
    assert payloads() == ["past"]
    await work_place.advance(60)
    assert Worker.calls[1:] == [
        ("a", "date", 10.0),
        ("a", "delay", 20.0),
        ("a", {"an": ["argument"]}, 30.0),
    ]
    assert work_place.due() is None
    assert work_place.stored(space="schedules") == {}
    assert work_place.stored(space="schedules-due") == {}


async def test_a_naive_datetime_is_in_utc(work_place: WorkPlace) -> None:
    naive = datetime(2026, 1, 1, 0, 0, 10)  # noqa: DTZ001  # what is tested
    zone = timezone(timedelta(hours=2))

    async def plan(agent: Worker) -> list[int]:
        first = await agent.schedule(naive, "note", 1)
        other = await agent.schedule(
            datetime(2026, 1, 1, 2, 0, 10, tzinfo=zone), "note", 2
        )
        assert (first.type, first.delay_in_seconds) == ("scheduled", None)
        return [first.time, other.time]

    assert await work_place.act(plan) == [int(START) + 10, int(START) + 10]


async def test_the_time_of_a_schedule_is_whole_seconds(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> int:
        made = await agent.schedule(1.7, "note", {"x": 1}, retry={"max_attempts": 2})
        assert made.type == "delayed"
        assert made.delay_in_seconds == 1.7
        assert made.payload == {"x": 1}
        assert made.retry == RetryOptions(max_attempts=2)
        assert len(made.id) == 9
        return made.time

    assert await work_place.act(plan) == int(START) + 1


async def test_an_interval_counts_from_the_end_of_the_run(
    work_place: WorkPlace,
) -> None:
    async def slow(agent: Worker) -> None:
        await agent.clock.sleep(5)

    Worker.plans["note"] = slow
    await work_place.act(lambda agent: agent.schedule_every(10, "note", "tick"))
    await work_place.advance(60)
    assert [moment for _, _, moment in Worker.calls] == [10, 25, 40, 55]


async def test_cron_repeats_and_what_was_missed_is_fired_once(
    work_place: WorkPlace,
) -> None:
    await work_place.act(lambda agent: agent.schedule("*/10 * * * *", "note", "cron"))
    await work_place.advance(1300)
    assert [moment for _, _, moment in Worker.calls] == [600, 1200]
    work_place.clock.time += 7200  # no node is there
    await work_place.advance(1)
    assert [moment for _, _, moment in Worker.calls[2:]] == [8500]
    await work_place.advance(1000)
    assert [moment for _, _, moment in Worker.calls[3:]] == [9000]


async def test_missed_times_are_skipped_or_all_made_up_if_so_asked(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        await agent.schedule("0 * * * *", "note", "skip", missed="skip")
        await agent.schedule("0 * * * *", "note", "all", missed="fire_all")

    await work_place.act(plan)
    work_place.clock.time += 3 * 3600 + 300
    await work_place.advance(0)
    assert payloads() == ["all", "all", "all"]
    await work_place.advance(3600)
    assert sorted(payloads()[3:]) == ["all", "skip"]


async def test_a_recurring_schedule_ends_at_its_end_date(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> None:
        await agent.schedule_every(10, "note", "e", until=START + 25)
        await agent.schedule("* * * * *", "note", "c", until=START + 150)

    await work_place.act(plan)
    await work_place.advance(600)
    assert payloads() == ["e", "e", "c", "c"]
    assert work_place.due() is None


async def test_cron_and_intervals_are_idempotent_and_others_on_request(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> int:
        for _ in range(2):
            await agent.schedule("0 8 * * *", "note", {"a": 1})
            await agent.schedule("0 8 * * *", "note", {"a": 2})
            await agent.schedule("0 8 * * *", "note", {"a": 2}, timezone="Asia/Tokyo")
            await agent.schedule_every(60, "note")
            await agent.schedule(5, "note", "once", idempotent=True)
            await agent.schedule(5, "plain")
        await agent.schedule("0 8 * * *", "note", {"a": 1}, idempotent=False)
        return len(await agent.list_schedules())

    assert await work_place.act(plan) == 5 + 2 + 1


async def test_an_idempotent_callback_may_plan_itself_again(
    work_place: WorkPlace,
) -> None:
    async def again(agent: Worker) -> None:
        await agent.schedule(10, "note", "chain", idempotent=True)

    Worker.plans["note"] = again
    await work_place.act(again)
    await work_place.advance(35)
    assert [moment for _, _, moment in Worker.calls] == [10, 20, 30]


async def test_schedules_are_found_by_id_type_callback_and_time(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        near = await agent.schedule(10, "note")
        far = await agent.schedule(START + 100 - agent.clock.time, "plain")
        cron = await agent.schedule("0 0 * * 1", "note")
        assert [s.id for s in await agent.list_schedules()] == [
            near.id,
            far.id,
            cron.id,
        ]
        assert await agent.get_schedules(type="cron") == [cron]
        assert await agent.get_schedules(callback="plain") == [far]
        assert await agent.get_schedules(time_range=(START + 50, None)) == [far, cron]
        assert await agent.get_schedules(time_range=(None, START + 50)) == [near]
        assert await agent.get_schedule(far.id) == far
        assert await agent.get_schedule_by_id("nothing") is None

    await work_place.act(plan)


async def test_a_cancelled_schedule_does_not_run(work_place: WorkPlace) -> None:
    async def plan(agent: Worker) -> None:
        made = await agent.schedule(10, "note")
        assert await agent.cancel_schedule(made.id) is True
        assert await agent.cancel_schedule(made.id) is False

    await work_place.act(plan)
    await work_place.advance(60)
    assert Worker.calls == []
    assert work_place.due() is None


async def test_a_recurring_schedule_may_cancel_itself(work_place: WorkPlace) -> None:
    async def cancel(agent: Worker) -> None:
        (mine,) = await agent.list_schedules()
        await agent.cancel_schedule(mine.id)

    Worker.plans["note"] = cancel
    await work_place.act(lambda agent: agent.schedule_every(10, "note"))
    await work_place.advance(60)
    assert len(Worker.calls) == 1
    assert work_place.stored(space="schedules-due") == {}


async def test_a_paused_schedule_waits_until_it_is_resumed(
    work_place: WorkPlace,
) -> None:
    ids: list[str] = []

    async def plan(agent: Worker) -> None:
        ids.append((await agent.schedule_every(10, "note", "i")).id)
        ids.append((await agent.schedule(10, "note", "once")).id)
        for id in ids:
            assert await agent.pause_schedule(id)
            assert await agent.pause_schedule(id)
        assert [s.paused for s in await agent.list_schedules()] == [True, True]

    async def resume(agent: Worker) -> None:
        for id in ids:
            assert await agent.resume_schedule(id)
        assert not await agent.resume_schedule("nothing")

    await work_place.act(plan)
    await work_place.advance(100)
    assert payloads() == []
    await work_place.act(resume)
    await work_place.advance(15)
    assert Worker.calls == [("a", "once", 100), ("a", "i", 110)]


# --- failures


async def test_a_one_shot_that_fails_is_tried_three_times_and_becomes_a_dead_letter(
    work_place: WorkPlace,
) -> None:
    def fail(agent: Worker) -> None:
        raise KeyError("no such flight")

    Worker.plans["note"] = fail
    await work_place.act(lambda agent: agent.schedule(1, "note", {"flight": 7}))
    await work_place.advance(10)
    assert len(Worker.calls) == 3
    assert sorted(work_place.clock.pauses) == [0.1, 0.2, 30.0]
    assert Worker.errors == ["KeyError: 'no such flight'"]

    async def look(agent: Worker) -> None:
        (letter,) = await agent.list_dead_letters()
        assert (letter.kind, letter.callback) == ("schedule", "note")
        assert letter.payload == {"flight": 7}
        assert "no such flight" in letter.error
        (run,) = await agent.list_runs()
        assert (run.due, run.error) == (START + 1, letter.error)
        assert await agent.list_schedules() == []
        Worker.plans.clear()
        assert await agent.replay_dead_letter(letter.id)
        assert await agent.list_dead_letters() == []
        assert not await agent.replay_dead_letter(letter.id)

    await work_place.act(look)
    await work_place.advance(1)
    assert len(Worker.calls) == 4


async def test_a_recurring_one_that_fails_stays(work_place: WorkPlace) -> None:
    def fail(agent: Worker) -> None:
        raise ValueError("no")

    Worker.plans["note"] = fail
    await work_place.act(
        lambda agent: agent.schedule_every(10, "note", retry={"max_attempts": 1})
    )
    await work_place.advance(35)
    assert [moment for _, _, moment in Worker.calls] == [10, 20, 30]
    assert Worker.errors == ["ValueError: no"] * 3

    async def look(agent: Worker) -> None:
        assert await agent.list_dead_letters() == []
        assert [run.error for run in await agent.list_runs()] == ["ValueError: no"] * 3

    await work_place.act(look)


async def test_a_callback_that_a_deploy_renamed_is_kept_as_a_dead_letter(
    work_place: WorkPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def plan(agent: Worker) -> None:
        await agent.schedule(1, "note", "once")
        await agent.schedule("* * * * *", "note", "cron")

    await work_place.act(plan)
    note = Worker.note
    monkeypatch.delattr(Worker, "note")
    await work_place.advance(61)
    letters: list[Any] = []

    async def look(agent: Worker) -> None:
        letters.extend(await agent.list_dead_letters())
        assert await agent.list_schedules() == []
        with pytest.raises(AttributeError, match="no method 'note'"):
            await agent.replay_dead_letter(letters[0].id)
        assert len(await agent.list_dead_letters()) == 2

    await work_place.act(look)
    assert [letter.payload for letter in letters] == ["once", "cron"]
    assert all("no method 'note' any more" in letter.error for letter in letters)
    monkeypatch.setattr(Worker, "note", note, raising=False)

    async def replay(agent: Worker) -> None:
        for letter in letters:
            assert await agent.replay_dead_letter(letter.id)

    await work_place.act(replay)
    await work_place.advance(120)
    assert sorted(payloads()[:2]) == ["cron", "once"]
    assert payloads()[2:] == ["cron", "cron"]


async def test_a_hung_callback_holds_up_the_others_for_30_seconds_only(
    work_place: WorkPlace,
) -> None:
    hanging = asyncio.Event()

    async def hang(agent: Worker) -> None:
        if payloads()[-1] == "hangs":
            await hanging.wait()

    Worker.plans["note"] = hang

    async def plan(agent: Worker) -> None:
        await agent.schedule_every(10, "note", "hangs")
        await agent.schedule(11, "note", "waits")

    await work_place.act(plan)
    await work_place.advance(39)
    assert payloads() == ["hangs"]
    await work_place.advance(100)
    assert Worker.calls == [("a", "hangs", 10), ("a", "waits", 40)]
    hanging.set()
    await work_place.advance(0)
    await work_place.advance(11)
    assert payloads() == ["hangs", "waits", "hangs"]


async def test_a_run_in_which_the_process_ended_is_begun_once_more_only(
    work_place: WorkPlace,
) -> None:
    Worker.plans["note"] = lambda agent: asyncio.Event().wait()
    await work_place.act(lambda agent: agent.schedule(10, "note", "poison"))
    await work_place.act(lambda agent: agent.schedule(20, "plain", "innocent"))
    await work_place.advance(10)
    for runs in (1, 2):
        assert len(Worker.calls) == runs
        await work_place.crash()
        await work_place.advance(1)
    await work_place.advance(20)
    assert payloads() == ["poison", "poison", "innocent"]

    async def look(agent: Worker) -> None:
        (letter,) = await agent.list_dead_letters()
        assert "the process ended in 2 runs" in letter.error

    await work_place.act(look)


async def test_a_run_that_is_reset_in_a_living_process_is_begun_five_times(
    work_place: WorkPlace,
) -> None:
    Worker.plans["note"] = lambda agent: asyncio.Event().wait()
    await work_place.act(lambda agent: agent.schedule_every(10, "note"))
    await work_place.advance(10)
    for runs in range(1, 6):
        assert len(Worker.calls) == runs
        await work_place.reset()
        await work_place.advance(1)
    assert len(Worker.calls) == 5
    Worker.plans.clear()
    await work_place.advance(10)
    assert len(Worker.calls) == 6, "what recurs goes on with its next time"


async def test_a_failed_commit_loses_no_schedule(work_place: WorkPlace) -> None:
    await work_place.act(lambda agent: agent.schedule(10, "note", "kept"))
    work_place.clock.time += 10
    work_place.lane.hold()
    ((object_id, alarm),) = work_place._waiting_alarms()
    run = asyncio.create_task(work_place.dispatcher.alarm(object_id, alarm))
    await turns()
    work_place.lane.fail(CommitFailed("refused"))
    with pytest.raises(CommitFailed):
        await run
    assert Worker.calls == [], "what isn't written down isn't begun"
    await work_place.advance(0)
    assert payloads() == ["kept"]


async def test_a_schedule_that_is_rolled_back_was_never_made(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        with suppress(ZeroDivisionError):
            async with agent.ctx.storage.transaction():
                await agent.schedule(10, "note")
                raise ZeroDivisionError
        assert await agent.list_schedules() == []
        async with agent.ctx.storage.transaction():
            await agent.schedule(10, "note", "kept")

    await work_place.act(plan)
    await work_place.advance(20)
    assert payloads() == ["kept"]
    assert work_place.stored(space="work")["schedules"] == "0"


async def test_nothing_is_left_of_an_agent_that_its_callback_destroys(
    work_place: WorkPlace,
) -> None:
    Worker.plans["note"] = lambda agent: agent.destroy()

    async def plan(agent: Worker) -> None:
        await agent.schedule(10, "note")
        await agent.schedule(20, "note")

    await work_place.act(plan)
    await work_place.advance(60)
    assert len(Worker.calls) == 1
    assert work_place.rows.kv == {} or not any(work_place.rows.kv.values())
    assert work_place.due() is None


# --- what is refused


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (math.nan, {}, ValueError, "finite"),
    (math.inf, {}, ValueError, "finite"),
    (1e300, {}, ValueError, "9999"),
    (True, {}, TypeError, "not a bool"),
    (None, {}, TypeError, "not a NoneType"),
    (b"* * * * *", {}, TypeError, "not a bytes"),
    ("0 0 31 2 *", {}, ValueError, "0 0 31 2"),
    ("0 0 31 4,6,9,11 *", {}, ValueError, "cron"),
    ("61 * * * *", {}, ValueError, "cron"),
    ("* * * *", {}, ValueError, "cron"),
    ("", {}, ValueError, "cron"),
    ("tomorrow", {}, ValueError, "cron"),
    ("* * * * *", {"timezone": "Mars/Olympus"}, ValueError, "no time zone"),
    ("* * * * *", {"timezone": "../../etc/passwd"}, ValueError, "no time zone"),
    ("* * * * *", {"missed": "sometimes"}, ValueError, "skip, fire_once, fire_all"),
    ("* * * * *", {"until": START - 1}, ValueError, "before the first run"),
    (5, {"timezone": "Europe/Berlin"}, ValueError, "for cron"),
    (5, {"missed": "skip"}, ValueError, "for cron"),
    (5, {"until": START + 9}, ValueError, "recurs"),
    (5, {"retry": {"attempts": 3}}, ValueError, "no option 'attempts'"),
    (5, {"retry": {"max_attempts": 0}}, ValueError, "max_attempts"),
    (5, {"retry": {"base_delay": 9}}, ValueError, "base_delay"),
]


@pytest.mark.parametrize(("when", "options", "error", "text"), BAD, ids=repr)
async def test_what_can_not_be_planned_is_refused_at_once(
    work_place: WorkPlace,
    when: Any,
    options: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    async def plan(agent: Worker) -> None:
        with pytest.raises(error, match=text.replace("*", r"\*")):
            await agent.schedule(when, "note", **options)

    await work_place.act(plan)
    assert work_place.rows.kv == {}


async def test_payloads_and_callbacks_are_checked_when_it_is_planned(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        with pytest.raises(ValueRefused, match=r"payload\.a\[1\]"):
            await agent.schedule(5, "note", {"a": [1, {1, 2}]})
        with pytest.raises(ValueRefused, match="2000000 bytes"):
            await agent.schedule(5, "note", "x" * 2_000_000)
        with pytest.raises(AttributeError, match="Worker has no method 'nothing'"):
            await agent.schedule(5, "nothing")
        with pytest.raises(AttributeError, match="no method 'errors'"):
            await agent.schedule(5, "errors")
        with pytest.raises(TypeError, match="name of a method"):
            await agent.schedule(5, lambda payload: None)
        for every in (0, -1, 30 * 86400 + 1):
            with pytest.raises(ValueError, match="30 days"):
                await agent.schedule_every(every, "note")

    await work_place.act(plan)
    assert work_place.rows.kv == {}


async def test_the_cap_names_itself_and_counts_what_is_there(
    work_place: WorkPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "max_schedules", 3)

    async def plan(agent: Worker) -> None:
        made = [await agent.schedule(n, "note", n) for n in range(1, 4)]
        with pytest.raises(TooManySchedules, match="max_schedules"):
            await agent.schedule(5, "note")
        await agent.cancel_schedule(made[0].id)
        await agent.schedule(5, "note", "fits")

    await work_place.act(plan)
    await work_place.advance(10)
    assert payloads() == [2, 3, "fits"]


def test_an_alarm_of_its_own_is_an_error_in_an_agent() -> None:
    with pytest.raises(TypeError, match=r"self\.schedule"):
        type("Own", (Agent,), {"alarm": lambda self, info: None})


# --- many


async def test_ten_thousand_schedules_in_one_agent_need_few_reads(
    work_place: WorkPlace,
) -> None:
    async def plan(agent: Worker) -> None:
        for number in range(10_000):
            await agent.schedule(1000 + number, "note", number)
        with pytest.raises(TooManySchedules):
            await agent.schedule(1, "note")

    await work_place.act(plan)
    await turns()
    assert await work_place.evict() == 1
    work_place.rows.reads.clear()
    await work_place.advance(1003)
    assert payloads() == [0, 1, 2, 3]
    assert len(work_place.rows.reads) < 60


async def test_the_history_keeps_the_last_runs_only(work_place: WorkPlace) -> None:
    await work_place.act(lambda agent: agent.schedule_every(1, "note"))
    await work_place.advance(130)
    assert len(work_place.stored(space="work-runs")) == 100

    async def look(agent: Worker) -> None:
        runs = await agent.list_runs(limit=2)
        assert [run.due - START for run in runs] == [130, 129]

    await work_place.act(look)
