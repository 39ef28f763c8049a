"""Objects with alarms and agents with schedules that write each run into a ledger.

The ledger is a table beside the runtime: a row is there, with the database's time, as
soon as a run has begun, whatever becomes of it. Run by tests/faults/timely.py.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg

from agents import Agent, Request, Response
from durable import AlarmInfo, DurableObject

_pool: asyncio.Future[Any] | None = None


async def ledger(kind: str, number: int) -> None:
    """Write down that a run has begun."""
    global _pool
    if _pool is None:
        _pool = asyncio.ensure_future(
            asyncpg.create_pool(os.environ["LEDGER_URL"], min_size=1, max_size=4)
        )
    pool = await asyncio.shield(_pool)
    await pool.execute("INSERT INTO ledger VALUES ($1, $2)", kind, number)


class Bell(DurableObject):
    """Has one alarm; its name is its number."""

    async def fetch(self, request: Request) -> Response:
        """POST ?due= plans, POST ?cancel=1 cancels, POST ?spin= blocks the node."""
        if "spin" in request.query:
            # As a defect in user code would: nothing else runs meanwhile.
            time.sleep(float(request.query["spin"]))  # noqa: ASYNC251
            return Response("spun")
        if "cancel" in request.query:
            await self.ctx.storage.delete_alarm()
            return Response("cancelled")
        await self.ctx.storage.set_alarm(float(request.query["due"]))
        return Response("planned")

    async def alarm(self, info: AlarmInfo) -> None:
        """Count the run, outside and inside."""
        await ledger("alarm", int(self.ctx.id.name or -1))
        count = await self.ctx.storage.get("runs") or 0
        self.ctx.storage.put("runs", count + 1)


class Clerk(Agent[Any, Any]):
    """Has many schedules; each payload is a number."""

    async def on_request(self, request: Request) -> Response:
        """POST ?numbers=1,2&dues=… plans all in one commit; ?cancel=ID cancels."""
        if "cancel" in request.query:
            done = await self.cancel_schedule(request.query["cancel"])
            return Response("cancelled" if done else "gone")
        numbers = request.query["numbers"].split(",")
        dues = request.query["dues"].split(",")
        ids = []
        async with self.ctx.storage.transaction():
            for number, due in zip(numbers, dues, strict=True):
                when = datetime.fromtimestamp(float(due), UTC)
                task = await self.schedule(when, "run", int(number), idempotent=True)
                ids.append(task.id)
        return Response(",".join(ids))

    async def run(self, number: int) -> None:
        """Count the run, outside and inside."""
        await ledger("schedule", number)
        key = f"ran:{number:06}"
        self.ctx.storage.put(key, (await self.ctx.storage.get(key) or 0) + 1)


async def fetch(request: Request, env: Any) -> Response:
    """``/bell/N`` and ``/clerk/NAME``."""
    _, kind, name = request.path.split("/")
    binding = env.Bell if kind == "bell" else env.Clerk
    answer: Response = await binding.get_by_name(name).fetch(request)
    return answer
