"""Agents that plan work and write down, in their storage, what of it was run.

Run by tests/faults/test_work.py in a node that is killed again and again.
"""

from __future__ import annotations

import os
import time
from typing import Any

from agents import Agent, Request, Response, Schedule, work

# What a killed node leaves is taken up almost at once, so that the next kill hits it.
work.HEARTBEAT_SECONDS = 0.2


class Source(Agent):
    """Plans ``count`` schedules, queue items and messages, and cancels some."""

    async def on_request(self, request: Request) -> Response:
        """All that is planned is one commit: answered, it is there."""
        count, seconds = int(request.query["count"]), float(request.query["seconds"])
        sink = self.env.Sink.get_by_name("sink")
        async with self.ctx.storage.transaction():
            if await self.ctx.storage.get("planned"):
                return Response("planned before")
            self.ctx.storage.put("planned", count)
            for number in range(count):
                delay = seconds * number / count
                await self.schedule(delay, "run", ["schedule", number, delay])
                cancelled = await self.schedule(delay, "run", ["cancelled", number, 0])
                await self.cancel_schedule(cancelled.id)
                await self.queue("run", ["queue", number, 0])
                await self.send(sink, "enter", self.name, number)
        return Response("planned")

    async def run(self, payload: list[Any], told: Any) -> None:
        """Count the run; note one that came too early."""
        kind, number, _ = payload
        key = f"ran:{kind}:{number:06}"
        self.ctx.storage.put(key, (await self.ctx.storage.get(key) or 0) + 1)
        if isinstance(told, Schedule) and time.time() < told.time:
            self.ctx.storage.put(f"early:{number}", True)


class Poison(Agent):
    """Takes its node down, and has something else to do."""

    async def on_request(self, request: Request) -> Response:
        if "replay" in request.query:
            letters = await self.list_dead_letters()
            done = [await self.replay_dead_letter(letter.id) for letter in letters]
            return Response(str(done.count(True)))
        await self.schedule(0.2, "die")
        await self.schedule(0.3, "live")
        return Response("planned")

    def die(self) -> None:
        """As a defect in a C library would, until it is mended."""
        if "MENDED" not in os.environ:
            os._exit(1)
        self.ctx.storage.put("mended", True)

    def live(self) -> None:
        self.ctx.storage.put("lived", True)


class Sink(Agent):
    """Writes down the messages of each sender, in the order in which they came."""

    async def enter(self, sender: str, number: int) -> None:
        """The second time that a number came would show."""
        place = await self.ctx.storage.get(f"length:{sender}") or 0
        self.ctx.storage.put(f"entry:{sender}:{place:06}", number)
        self.ctx.storage.put(f"length:{sender}", place + 1)
