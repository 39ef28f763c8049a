"""Objects that take their node down with it, and neighbours of theirs.

Run by tests/faults/test_quarantine.py. ``MENDED`` in the environment mends them.
"""

from __future__ import annotations

import os
import time
from typing import Any

from agents import Request, Response
from durable import AlarmInfo, DurableObject


class Bomb(DurableObject):
    """Its alarm ends the process, or blocks it for good, as its name says."""

    async def fetch(self, request: Request) -> Response:
        """GET tells whether its alarm has run; POST sets it."""
        if request.method == "POST":
            await self.ctx.storage.set_alarm(time.time() + 0.1)
        return Response(str(await self.ctx.storage.get("ran")))

    async def alarm(self, info: AlarmInfo) -> None:
        """As a defect in a C library would."""
        if "MENDED" not in os.environ:
            if self.ctx.id.name == "spins":
                while True:
                    pass
            os._exit(1)
        self.ctx.storage.put("ran", True)


class Neighbour(DurableObject):
    """Has an alarm at the same moment as the bomb, and again and again."""

    async def fetch(self, request: Request) -> Response:
        """GET tells how often its alarm has run; POST sets it."""
        if request.method == "POST":
            await self.ctx.storage.set_alarm(time.time() + 0.1)
        return Response(str(await self.ctx.storage.get("runs") or 0))

    async def alarm(self, info: AlarmInfo) -> None:
        """Count, and set it anew."""
        self.ctx.storage.put("runs", int(await self.ctx.storage.get("runs") or 0) + 1)
        await self.ctx.storage.set_alarm(time.time() + 0.1)


async def fetch(request: Request, env: Any) -> Response:
    """``/Bomb/NAME`` and ``/Neighbour/NAME``."""
    _, kind, name = request.path.split("/")
    answer: Response = await getattr(env, kind).get_by_name(name).fetch(request)
    return answer
