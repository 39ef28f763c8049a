"""All the ways to plan: seconds, a date, cron, an interval; and to look and cancel.

Run: durable dev examples/schedules/reminders.py
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from agents import Agent, Schedule, callable
from durable import now


class Reminders(Agent):
    """Reminds its clients of things."""

    @callable()
    async def remind_me(self, text: str, seconds: float) -> str:
        """Once, so many seconds from now."""
        task = await self.schedule(seconds, self.send_reminder, {"text": text})
        return task.id

    @callable()
    async def remind_in_two_hours(self, text: str) -> str:
        """Once, at a date."""
        at = now() + timedelta(hours=2)
        task = await self.schedule(at, "send_reminder", {"text": text})
        return task.id

    @callable()
    async def remind_every_monday(self, text: str) -> str:
        """At 9 o'clock in Berlin, in summer and in winter; Monday is 1."""
        task = await self.schedule(
            "0 9 * * 1", "send_reminder", {"text": text}, timezone="Europe/Berlin"
        )
        return task.id

    @callable()
    async def remind_every(self, seconds: float, text: str) -> str:
        """Again and again, so many seconds after the last time."""
        task = await self.schedule_every(seconds, "send_reminder", {"text": text})
        return task.id

    @callable()
    async def upcoming(self, hours: float = 24) -> list[dict[str, Any]]:
        """What is planned for the next hours."""
        moment = now()
        tasks = await self.list_schedules(
            time_range=(moment, moment + timedelta(hours=hours))
        )
        return [{"id": task.id, "time": task.time, **task.payload} for task in tasks]

    @callable()
    async def cancel(self, id: str) -> bool:
        """Whether there was something to cancel."""
        return await self.cancel_schedule(id)

    def send_reminder(self, payload: dict[str, str], task: Schedule) -> None:
        """Run when the time has come; a mail or a push would leave from here."""
        self.broadcast(f"{payload['text']} ({task.type})")
