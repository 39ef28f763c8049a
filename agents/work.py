"""What an agent does without being asked: schedules, queue and fibers over one alarm.

Promise: while there is work the alarm is set, at the earliest time that any of them
needs; a failure in here never drops it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agents import work_clock
from agents.dead_letters import DeadLetters
from agents.fibers import Fibers
from agents.outbox import Inbox, Outbox
from agents.queues import Queue
from agents.run_history import RunHistory
from agents.schedules import Schedules
from agents.work_clock import milliseconds, not_before
from durable import DurableError

if TYPE_CHECKING:
    from agents.agent import Agent
    from durable import AlarmInfo

log = logging.getLogger(__name__)

# Work that goes on in memory is looked after so often: so much later the next owner
# takes it up when this one is gone.
HEARTBEAT_SECONDS = 30.0


class Work:
    """The work of one agent. Nothing is read before it is needed."""

    __slots__ = (
        "_agent",
        "_asked",
        "_in_alarm",
        "_others",
        "dead",
        "fibers",
        "history",
        "inbox",
        "outbox",
        "queue",
        "schedules",
    )

    def __init__(self, agent: Agent[Any, Any]) -> None:
        storage = agent.ctx.storage
        self._agent = agent
        self._in_alarm = False
        self._others: list[Callable[[], Awaitable[int | None]]] = []
        # What was asked for while the alarm ran.
        self._asked: int | None = None
        self.history = RunHistory(storage)
        self.dead = DeadLetters(storage)
        self.schedules = Schedules(agent, self)
        self.queue = Queue(agent, self)
        self.fibers = Fibers(agent, self)
        self.outbox = Outbox(agent, self)
        self.inbox = Inbox(agent)

    def join(self, next_due: Callable[[], Awaitable[int | None]]) -> None:
        """Let the alarm come for something else, too: at the time it tells, if any."""
        self._others.append(next_due)

    def heartbeat(self) -> int:
        """When to look again after what goes on in memory."""
        return not_before(work_clock.now() + HEARTBEAT_SECONDS)

    async def wake_by(self, due: int) -> None:
        """Let the alarm come at this time, or before.

        Not in its own run: its row must stay for a crash, and it is set at the end.
        """
        if self._in_alarm:
            self._asked = due if self._asked is None else min(due, self._asked)
            return
        storage = self._agent.ctx.storage
        planned = await storage.get_alarm()
        if planned is None or milliseconds(planned.timestamp()) > due:
            await storage.set_alarm(max(due, 1) / 1000)

    async def alarm(self, info: AlarmInfo) -> None:
        """Do what is due, and set the alarm for what isn't."""
        # The alarm is due by the database's clock, even where ours is slow.
        planned = info.scheduled_time.timestamp()
        self._in_alarm, self._asked = True, None
        try:
            now = milliseconds(max(work_clock.now(), planned))
            await self.schedules.run_due(now)
            await self.queue.start()
            await self.outbox.start(now)
            await self.fibers.recover(now)
            due = await self._next_due()
        except Exception as error:  # the alarm must not be dropped, whatever happened
            log.log(
                logging.WARNING if isinstance(error, DurableError) else logging.ERROR,
                "work of an agent was interrupted",
                exc_info=error,
                extra={"agent": self._agent.name},
            )
            due = self.heartbeat()
        finally:
            self._in_alarm = False
        if self._asked is not None:
            due = self._asked if due is None else min(due, self._asked)
        if due is None:
            await self._agent.ctx.storage.delete_alarm()
        else:
            await self._agent.ctx.storage.set_alarm(max(due, 1) / 1000)

    async def _next_due(self) -> int | None:
        parts = (self.schedules, self.queue, self.outbox, self.fibers)
        asked = [*(part.next_due for part in parts), *self._others]
        times = [await next_due() for next_due in asked]
        return min((due for due in times if due is not None), default=None)
