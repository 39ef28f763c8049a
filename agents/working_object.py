"""A durable object with work of its own: schedules, queue, fibers. Delegation only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast
from zoneinfo import ZoneInfo

from agents import work_clock
from agents.dead_letters import DeadLetter
from agents.fibers import Fiber
from agents.keep_alive import KeepAlive
from agents.queue_store import QueueItem
from agents.retries import RetryOptions, Seconds, retry, retry_options
from agents.run_history import RUNS_KEPT, Run
from agents.schedule_store import Schedule
from agents.schedule_times import interval_of, timing_of
from agents.work import Work
from durable import DurableObject, must_await

if TYPE_CHECKING:
    from agents.agent import Agent
    from durable import AlarmInfo, DurableObjectState

log = logging.getLogger(__name__)

Retry = RetryOptions | Mapping[str, Any]
Callback = str | Callable[..., Any]


class WorkingObject(DurableObject):
    """What ``Agent`` does without being asked; the object's alarm belongs to this."""

    # How planned calls, and ``self.retry``, are tried again.
    retry_options: ClassVar[RetryOptions] = RetryOptions()
    # Seconds after which a run no longer holds up the others.
    hung_schedule_timeout_seconds: ClassVar[float] = 30.0
    # More are refused.
    max_schedules: ClassVar[int] = 10_000

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.alarm is not WorkingObject.alarm:
            raise TypeError(
                f"{cls.__name__} has an alarm() of its own, but the alarm of an agent "
                "is its schedules': use self.schedule(when, callback), or a "
                "DurableObject"
            )
        cls.retry_options = retry_options(cls.retry_options)

    def __init__(self, ctx: DurableObjectState, env: Any) -> None:
        super().__init__(ctx, env)
        self._work = Work(cast("Agent[Any, Any]", self))

    def alarm(self, info: AlarmInfo) -> Any:
        """Do what is due; not to be overridden."""
        return self._work.alarm(info)

    # --- schedules

    async def schedule(
        self,
        when: float | timedelta | datetime | str,
        callback: Callback,
        payload: Any = None,
        *,
        retry: Retry | None = None,
        idempotent: bool | None = None,
        timezone: str | ZoneInfo | None = None,
        missed: str = "fire_once",
        until: datetime | float | None = None,
    ) -> Schedule:
        """Call a method later, with ``(payload, schedule)``, at least once.

        Args:
            when: seconds or a timedelta from now, a datetime (a naive one is in UTC),
                or a cron expression. A past time is as soon as possible.
            callback: the name of a method of this agent, or the method.
            payload: JSON, up to 2 MB.
            retry: instead of the class's ``retry_options``.
            idempotent: a schedule of the same type, callback, payload and expression is
                returned instead of a second one. Default: only for cron.
            timezone: of a cron expression. Default: UTC.
            missed: what becomes of cron times that passed while no node was there:
                ``fire_once`` (default), ``skip`` or ``fire_all``.
            until: nothing recurs after this datetime (or seconds since the epoch).

        Raises:
            AttributeError: no such method.
            ValueError: an impossible time, expression, zone or option.
            ValueRefused: the payload isn't JSON, or too large.
            TooManySchedules: there are ``max_schedules``.
        """
        timing = timing_of(when, work_clock.now(), timezone)
        return await self._work.schedules.add(
            timing,
            callback,
            payload,
            retry=retry,
            idempotent=timing.cron is not None if idempotent is None else idempotent,
            missed=missed,
            until=until,
        )

    async def schedule_every(
        self,
        every: Seconds,
        callback: Callback,
        payload: Any = None,
        *,
        retry: Retry | None = None,
        until: datetime | float | None = None,
    ) -> Schedule:
        """Call a method again and again, ``every`` (up to 30 days) after each run.

        The same interval, callback and payload is the schedule that is there already.
        Raises as ``schedule`` does.
        """
        timing = interval_of(every, work_clock.now())
        return await self._work.schedules.add(
            timing, callback, payload, retry=retry, idempotent=True, until=until
        )

    async def get_schedule(self, id: str) -> Schedule | None:
        """The schedule with this id, None if there is none (any more)."""
        return await self._work.schedules.get(id)

    async def list_schedules(
        self,
        *,
        id: str | None = None,
        type: str | None = None,
        callback: str | None = None,
        time_range: tuple[datetime | float | None, datetime | float | None]
        | None = None,
    ) -> list[Schedule]:
        """Schedules in the order of their times: all, or those that fit.

        ``time_range``: first and last moment, either may be None.
        """
        return await self._work.schedules.list(
            id=id, type=type, callback=callback, time_range=time_range
        )

    # Cloudflare's newer name, and its older one.
    get_schedule_by_id = get_schedule
    get_schedules = list_schedules

    async def cancel_schedule(self, id: str) -> bool:
        """Cancel a schedule; False if there is none. A run in progress goes on."""
        return await self._work.schedules.cancel(id)

    async def pause_schedule(self, id: str) -> bool:
        """Hold a schedule back until it is resumed; False if there is none."""
        return await self._work.schedules.pause(id)

    async def resume_schedule(self, id: str) -> bool:
        """Let a schedule go on from now; False if there is none."""
        return await self._work.schedules.resume(id)

    async def list_runs(
        self, id: str | None = None, limit: int = RUNS_KEPT
    ) -> list[Run]:
        """The last runs (100 are kept), the newest first; or those of one id."""
        return await self._work.history.last(id, limit)

    # --- dead letters

    async def list_dead_letters(
        self, *, after: str = "", limit: int = 100
    ) -> list[DeadLetter]:
        """Work that failed for good, the oldest first; page with the last one's id."""
        return await self._work.dead.list(after, limit)

    async def replay_dead_letter(self, id: str) -> bool:
        """Plan it again, to run at once; False if there is none of this id.

        Raises:
            AttributeError: the class still lacks its callback.
        """
        return await self._work.dead.replay(id)

    async def delete_dead_letter(self, id: str) -> bool:
        """Forget a dead letter; False if there is none of this id."""
        return await self._work.dead.delete(id)

    # --- queue

    async def queue(
        self,
        callback: Callback,
        payload: Any = None,
        *,
        retry: Retry | None = None,
        id: str | None = None,
    ) -> str:
        """Call a method soon, with ``(payload, item)``, in order and one at a time.

        Returns the item's id; with an ``id`` that waits already nothing is added.
        Raises as ``schedule`` does.
        """
        return await self._work.queue.add(callback, payload, retry, id)

    async def dequeue(self, id: str) -> bool:
        """Take an item out of the queue; False if there is none of this id."""
        return await self._work.queue.remove(id)

    async def dequeue_all(self) -> int:
        """Empty the queue; how many items it had."""
        return await self._work.queue.clear()

    async def dequeue_all_by_callback(self, callback: Callback) -> int:
        """Take out all items of a callback; how many."""
        return await self._work.queue.clear(callback)

    async def get_queue(self, id: str) -> QueueItem | None:
        """The item of this id, None if it isn't there (any more)."""
        return await self._work.queue.get(id)

    async def get_queues(
        self, key: str | None = None, value: Any = None
    ) -> list[QueueItem]:
        """All items in order; or those whose payload has this value under this key."""
        return await self._work.queue.list(key, value)

    # --- messages to other agents

    async def send(self, other: Any, method: str, *args: Any) -> str:
        """Have another agent's method called once, if what is written now commits.

        ``other`` is a stub; ``args`` are JSON, up to 2 MB. The method runs in a
        transaction, after all that was sent to that agent before. Returns the id of the
        message. What the method returns is lost; if it raises, it is tried again as
        ``retry_options`` says, and is a dead letter of this agent then.

        Raises:
            TypeError: ``other`` is no stub.
            ValueRefused: the arguments aren't JSON, or too large.
        """
        return await self._work.outbox.add(other, method, args)

    async def deliver_message(
        self, sender: str, epoch: str, number: int, method: str, args: list[Any]
    ) -> None:
        """Take a message that another agent's ``send`` made; for the SDK alone."""
        await self._work.inbox.receive(sender, epoch, number, method, args)

    # --- now, but with patience

    async def retry(
        self,
        fn: Callable[[int], Any],
        *,
        max_attempts: int | None = None,
        base_delay: Seconds | None = None,
        max_delay: Seconds | None = None,
        should_retry: Callable[[Exception, int], Any] | None = None,
    ) -> Any:
        """Call ``fn(attempt)`` until it succeeds; returns its result.

        What isn't given is of the class's ``retry_options``: 3 attempts, 0.1 s doubled
        up to 3 s, full jitter. ``should_retry(error, next_attempt)`` may say no.

        Raises:
            Exception: the last attempt's.
        """
        default = type(self).retry_options
        options = RetryOptions(
            default.max_attempts if max_attempts is None else max_attempts,
            default.base_delay if base_delay is None else base_delay,
            default.max_delay if max_delay is None else max_delay,
        )
        return await retry(fn, options, should_retry)

    def keep_alive(self) -> KeepAlive:
        """Don't let the agent sleep until the result is called, or its block ends."""
        return KeepAlive(self.ctx)

    async def keep_alive_while(self, fn: Callable[[], Any]) -> Any:
        """Call a function; the agent doesn't sleep meanwhile. Returns its result."""
        with self.keep_alive():
            result = fn()
            return await result if must_await(result) else result

    # --- fibers

    async def run_fiber(self, name: str, fn: Callable[..., Any]) -> Any:
        """Run ``fn(fiber)`` with checkpoints; returns its result.

        If the process ends meanwhile, ``on_fiber_recovered`` hears of it.
        """
        return await self._work.fibers.run(name, fn)

    def stash(self, data: Any) -> None:
        """Keep a checkpoint (JSON, up to 2 MB) of the fiber whose code calls this.

        Raises:
            RuntimeError: not inside of ``run_fiber``.
            ValueRefused: it isn't JSON, or too large.
        """
        self._work.fibers.stash(data)

    def on_fiber_recovered(self, fiber: Fiber) -> Any:
        """A fiber was cut off; call ``run_fiber`` with its name to go on.

        When this ends the fiber has ended; if it raises it is called again, for a day.
        """
        log.warning(
            "fiber was cut off, and on_fiber_recovered isn't overridden",
            extra={"agent": type(self).__name__, "fiber": fiber.name},
        )
