"""Plans in every way, looks at all plans, and clears up: one by one, by type, by time.

Run: durable dev examples/schedules/daily_report.py
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypedDict

from agents import Agent, Schedule, callable
from durable import now


class Reminder(TypedDict):
    user: str
    message: str


class Overview(TypedDict):
    total: int
    tomorrow: list[str]
    types: list[str]


class ReportState(TypedDict):
    log: list[str]


class DailyReport(Agent[Any, ReportState]):
    """Reports each morning, and reminds people in two hours."""

    initial_state = ReportState(log=[])

    @callable()
    async def remind(self, user: str, message: str) -> str:
        """Once, at a date."""
        task = await self.schedule(
            now() + timedelta(hours=2),
            self.send_reminder,
            Reminder(user=user, message=message),
        )
        return task.id

    @callable()
    async def report_daily(self) -> str:
        """At 8 each morning (UTC), until the year ends."""
        task = await self.schedule(
            "0 8 * * *", "make_report", until=now().replace(month=12, day=31, hour=23)
        )
        return task.id

    @callable()
    async def overview(self) -> Overview:
        """All that is planned, and what begins within the next 24 hours."""
        tasks = await self.get_schedules()
        moment = now()
        soon = await self.get_schedules(
            time_range=(moment, moment + timedelta(hours=24))
        )
        return Overview(
            total=len(tasks),
            tomorrow=[task.callback for task in soon],
            types=sorted(task.type for task in tasks),
        )

    @callable()
    async def cancel_if_planned(self, id: str) -> bool:
        """Look for one by its id, and cancel it."""
        task = await self.get_schedule(id)
        if task is None:
            return False
        return await self.cancel_schedule(task.id)

    @callable()
    async def cancel_all(self, type: str) -> int:
        """Cancel all of a type; how many there were."""
        tasks = await self.get_schedules(type=type)
        for task in tasks:
            await self.cancel_schedule(task.id)
        return len(tasks)

    @callable()
    async def misspell(self) -> None:
        """What can't be called is refused here, not in two hours."""
        await self.schedule(60, "make_repotr")

    def send_reminder(self, reminder: Reminder) -> None:
        self.note(f"{reminder['user']}: {reminder['message']}")

    def make_report(self, payload: None, task: Schedule) -> None:
        self.note(f"report of {now():%d %B, %H:%M}")

    def note(self, text: str) -> None:
        self.set_state(ReportState(log=[*self.state["log"], text]))
