"""Schedules: planned calls of an agent's methods, over its one alarm.

Promise: each planned call is run at least once, never early, one after another in the
order in which they are due; what is due is found without looking at what isn't. A run
is written down before it begins, so one in which the process ends is counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from agents import work_clock
from agents.jobs import (
    CallbackGone,
    RunCutOff,
    callback_name,
    encoded_payload,
    new_id,
    run_job,
)
from agents.retries import RetryOptions, retry_options
from agents.schedule_store import (
    RECURRING,
    Schedule,
    ScheduleRow,
    ScheduleStore,
    public,
    same_id,
)
from agents.schedule_times import Timing, cron_next, moment_of
from agents.work_clock import milliseconds, not_before

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.work import Work

log = logging.getLogger(__name__)

KIND = "schedule"
MISSED_POLICIES = ("skip", "fire_once", "fire_all")
# A cron time whose run begins so much later was missed.
MISSED_AFTER_SECONDS = 60.0
# One alarm runs what is due so long; then it is set again, for its 15 minutes.
MAX_ALARM_SECONDS = 60.0


class TooManySchedules(RuntimeError):
    """The agent has as many schedules as ``max_schedules`` allows."""


class Schedules:
    """The schedules of one agent."""

    __slots__ = ("_agent", "_running", "_store", "_work")

    def __init__(self, agent: Agent[Any, Any], work: Work) -> None:
        self._agent = agent
        self._work = work
        self._store = ScheduleStore(agent.ctx.storage)
        # The tokens of those that run right now.
        self._running: set[str] = set()
        work.dead.replayed_by(KIND, self._replay)

    # --- what the agent asks for

    async def add(
        self,
        timing: Timing,
        callback: Any,
        payload: Any,
        *,
        retry: RetryOptions | Mapping[str, Any] | None,
        idempotent: bool,
        missed: str = "fire_once",
        until: Any = None,
    ) -> Schedule:
        """Plan a call; a duplicate of one that is there is that one."""
        if missed not in MISSED_POLICIES:
            raise ValueError(
                f"missed is one of {', '.join(MISSED_POLICIES)}, not {missed!r}"
            )
        if timing.cron is None and missed != "fire_once":
            raise ValueError("missed= is for cron expressions")
        if timing.type not in RECURRING and until is not None:
            raise ValueError("until= is for what recurs: cron and schedule_every")
        end = None if until is None else not_before(moment_of(until, "until"))
        if end is not None and end < timing.due:
            raise ValueError("until is before the first run")
        row = ScheduleRow(
            id=new_id(),
            token=new_id(),
            callback=callback_name(self._agent, callback),
            payload=encoded_payload(payload),
            type=timing.type,
            due=timing.due,
            at=timing.due,
            delay=timing.delay,
            cron=timing.cron,
            timezone=timing.timezone,
            interval=timing.interval,
            missed=missed,
            until=end,
            retry=None if retry is None else retry_options(retry),
        )
        if idempotent:
            row.id = same_id(row)
        found = await self._store.get(row.id)
        # One that runs for the last time makes room for the next.
        if found is not None and (found.is_recurring or found.started is None):
            return public(found)
        if found is None:
            await self._check_cap()
        await self._store.put(row)
        await self._work.wake_by(row.due)
        return public(row)

    async def get(self, id: str) -> Schedule | None:
        """One by its id."""
        row = await self._store.get(id)
        return None if row is None else public(row)

    async def list(
        self,
        *,
        id: str | None,
        type: str | None,
        callback: str | None,
        time_range: tuple[Any, Any] | None,
    ) -> list[Schedule]:
        """Those that fit, in the order of their times."""
        low, high = (None, None) if time_range is None else time_range
        first = None if low is None else moment_of(low, "time_range")
        last = None if high is None else moment_of(high, "time_range")
        found: list[Schedule] = []
        after = ""
        while page := await self._store.page(after):
            after = next(reversed(page))
            found += [
                public(row)
                for row in page.values()
                if id in (None, row.id)
                and type in (None, row.type)
                and callback in (None, row.callback)
                and (first is None or row.due >= first * 1000)
                and (last is None or row.due <= last * 1000)
            ]
        return sorted(found, key=lambda schedule: (schedule.time, schedule.id))

    async def cancel(self, id: str) -> bool:
        """Forget one; whether it was there. A run in progress goes on."""
        row = await self._store.get(id)
        if row is None:
            return False
        await self._store.delete(row)
        return True

    async def pause(self, id: str) -> bool:
        """Hold one back until it is resumed; whether it is there."""
        row = await self._store.get(id)
        if row is None:
            return False
        row.paused = True
        await self._store.put(row)
        return True

    async def resume(self, id: str) -> bool:
        """Let one go on: a recurring one with its next time from now."""
        row = await self._store.get(id)
        if row is None:
            return False
        if row.paused:
            row.paused = False
            await self._advance(row, work_clock.now())
        return True

    # --- what the alarm does

    async def run_due(self, now: int) -> None:
        """Run what is due, one after another."""
        stop = work_clock.now() + MAX_ALARM_SECONDS
        while due := await self._store.due(now):
            for entry in due:
                row = await self._store.at_entry(entry)
                if row is not None:
                    await self._run(row, now)
                if work_clock.now() > stop:
                    return

    async def next_due(self) -> int | None:
        """When the alarm must come."""
        return await self._store.next_due()

    async def _run(self, row: ScheduleRow, now: int) -> None:
        if row.token in self._running:
            # It takes long: a run doesn't overlap the next.
            await self._store.put(row, at=self._look_again())
            return
        began = row.started
        error = row.cut_off()
        if error is not None and began is not None:
            await self._ended(row, error, began)
            return
        if row.missed == "skip" and now - row.due > MISSED_AFTER_SECONDS * 1000:
            await self._advance(row, work_clock.now())
            return
        row.begin()
        await self._store.put(row, at=row.at)
        # Durable before it begins, or a run that ends the process would not count.
        await self._agent.ctx.storage.sync()
        await self._run_or_leave(row)

    async def _run_or_leave(self, row: ScheduleRow) -> None:
        """Return when it has run, or is taken for hung: then it goes on by itself."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Its failure is told twice, to who waits and in the log: one may be missed.
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._running.add(row.token)
        self._agent.ctx.wait_until(self._perform(row, done))
        limit = type(self._agent).hung_schedule_timeout_seconds
        patience = asyncio.ensure_future(work_clock.clock.sleep(limit))
        try:
            await asyncio.wait({done, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
        if done.done():
            done.result()
            return
        log.warning(
            "schedule takes long: others no longer wait for it",
            extra={"callback": row.callback, "schedule": row.id},
        )
        current = await self._store.get(row.id)
        if current is not None and current.token == row.token and not current.paused:
            await self._store.put(current, at=self._look_again())

    async def _perform(self, row: ScheduleRow, done: asyncio.Future[None]) -> None:
        """Run one and write down how it ended; ``done`` hears of it."""
        failed: Exception | None = None
        try:
            try:
                told = public(row)
                await run_job(self._agent, row.callback, row.payload, told, row.retry)
            except Exception as error:  # noqa: BLE001  # the user's callback
                failed = error
            assert row.started is not None  # it was written before
            await self._ended(row, failed, row.started)
        except BaseException as error:
            if not done.done():
                done.set_exception(_as_exception(error))
            raise
        else:
            if not done.done():
                done.set_result(None)
        finally:
            self._running.discard(row.token)

    async def _ended(
        self, ran: ScheduleRow, error: Exception | None, began: int
    ) -> None:
        now = work_clock.now()
        row = await self._store.get(ran.id)
        # If it was cancelled meanwhile, or all was deleted, nothing is left of it.
        if row is not None and row.token == ran.token:
            await self._work.history.add(
                kind=KIND,
                id=ran.id,
                callback=ran.callback,
                due=ran.due,
                began=began,
                ended=milliseconds(now),
                error=error,
            )
            if row.is_recurring and not isinstance(error, CallbackGone):
                await self._advance(row, now)
            else:
                if error is not None:
                    await self._bury(row, error)
                await self._store.delete(row)
        if error is not None:
            await self._agent.report(error)

    async def _bury(self, row: ScheduleRow, error: Exception) -> None:
        await self._work.dead.add(
            kind=KIND,
            id=row.id,
            callback=row.callback,
            payload=row.payload,
            origin=row,
            error=error,
        )

    async def _advance(self, row: ScheduleRow, now: float) -> None:
        """Go on to the next time, or end."""
        base = row.due / 1000 if row.missed == "fire_all" else now
        following = self._following(row, now, base)
        if following is None:
            await self._store.delete(row)
            return
        row.settle()
        row.due = following
        await self._store.put(row)
        await self._work.wake_by(following)

    def _following(self, row: ScheduleRow, now: float, base: float) -> int | None:
        """The next time; None if that is after its end."""
        if row.cron is not None:
            due = cron_next(row.cron, row.timezone or "UTC", base)
        elif row.interval is not None:
            due = not_before(now + row.interval)
        else:
            due = row.due
        return None if row.until is not None and due > row.until else due

    # --- inside

    async def _check_cap(self) -> None:
        cap = type(self._agent).max_schedules
        if await self._store.count() >= cap:
            raise TooManySchedules(
                f"{type(self._agent).__name__} has {cap} schedules, the most that "
                "max_schedules allows: cancel some, raise it, or spread the work over "
                "several agents"
            )

    async def _replay(self, origin: msgspec.Raw) -> None:
        planned = msgspec.json.decode(origin, type=ScheduleRow)
        callback_name(self._agent, planned.callback)
        await self._check_cap()
        # What failed is run at once, whatever it was planned for.
        row = await self._store.restore(origin, milliseconds(work_clock.now()))
        await self._work.wake_by(row.due)

    def _look_again(self) -> int:
        limit = type(self._agent).hung_schedule_timeout_seconds
        return not_before(work_clock.now() + limit)


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RunCutOff(repr(error))
