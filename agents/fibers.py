"""Fibers: work with checkpoints, which the next owner hears of after a crash.

Promise: from the start of a fiber until its function has ended there is a row of it,
with what was stashed last. A row whose function isn't running here is one that was cut
off: the alarm, which is set as long as there are rows, gives it to
``on_fiber_recovered``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agents import work_clock
from agents.jobs import call_fitting, decoded, encoded_payload, new_id
from agents.keep_alive import KeepAlive
from agents.work_clock import milliseconds
from agents.work_rows import Rows

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.work import Work

log = logging.getLogger(__name__)

KIND = "fiber"
SPACE = "work-fibers"
# Recovery that raises is tried again after 1 s, 2, 4 … at most so much later.
MAX_RECOVERY_PAUSE_SECONDS = 300.0
# A fiber that isn't recovered so long after its start becomes a dead letter.
MAX_RECOVERY_AGE_SECONDS = 24 * 3600.0


class RecoveryGivenUp(Exception):
    """``on_fiber_recovered`` failed until the fiber was too old."""


NOTHING = msgspec.Raw(b"null")


class FiberRow(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A fiber as stored; times are milliseconds since the epoch."""

    id: str
    name: str
    created: int
    snapshot: msgspec.Raw = NOTHING
    recoveries: int = 0
    again: int = 0


@dataclass(frozen=True, slots=True)
class Fiber:
    """A fiber; ``snapshot`` is what was stashed last, None if nothing was.

    ``created_at`` is seconds since the epoch; ``recoveries``: how often it was cut off.
    """

    id: str
    name: str
    snapshot: Any
    created_at: float
    recoveries: int


# The id of the fiber whose function, or recovery, runs.
_current: ContextVar[str | None] = ContextVar("current_fiber", default=None)


class Fibers:
    """The fibers of one agent."""

    __slots__ = ("_agent", "_recovering", "_rows", "_running", "_work")

    def __init__(self, agent: Agent[Any, Any], work: Work) -> None:
        self._agent = agent
        self._work = work
        self._rows = Rows(agent.ctx.storage, SPACE, FiberRow)
        self._running: dict[str, FiberRow] = {}
        self._recovering: set[str] = set()
        work.dead.replayed_by(KIND, self._replay)

    # --- what the agent asks for

    async def run(self, name: str, fn: Callable[..., Any]) -> Any:
        """Run a function as a fiber."""
        row = FiberRow(id=new_id(), name=name, created=milliseconds(work_clock.now()))
        resumed = await self._resumed(name)
        if resumed is not None:
            # It goes on as the same fiber.
            self._recovering.discard(resumed.id)
            row = resumed
        self._running[row.id] = row
        token = _current.set(row.id)
        try:
            with KeepAlive(self._agent.ctx):
                self._rows.put(row.id, row)
                await self._work.wake_by(self._work.heartbeat())
                result = await call_fitting(self._agent, fn, _public(row))
        except Exception:
            await self._end(row.id)
            raise
        else:
            await self._end(row.id)
            return result
        finally:
            # Cancelled: the row stays, for whoever owns the agent next.
            del self._running[row.id]
            _current.reset(token)

    def stash(self, data: Any) -> None:
        """Keep a checkpoint of the fiber that calls this."""
        row = self._running.get(_current.get() or "")
        if row is None:
            raise RuntimeError("stash() is for code that run_fiber() runs")
        row.snapshot = encoded_payload(data)
        self._rows.put(row.id, row)

    # --- what the alarm does

    async def recover(self, now: int) -> None:
        """Begin the recovery of fibers that were cut off."""
        for row in (await self._rows.all()).values():
            if row.id in self._running or row.id in self._recovering or row.again > now:
                continue
            if now - row.created > MAX_RECOVERY_AGE_SECONDS * 1000:
                await self._give_up(row)
                continue
            row.recoveries += 1
            pause = min(2.0 ** min(row.recoveries - 1, 30), MAX_RECOVERY_PAUSE_SECONDS)
            row.again = now + int(pause * 1000)
            self._rows.put(row.id, row)
            await self._agent.ctx.storage.sync()
            self._recovering.add(row.id)
            self._agent.ctx.wait_until(self._recover(row))

    async def next_due(self) -> int | None:
        """When the alarm must come."""
        beat = self._work.heartbeat()
        return min(
            (
                beat
                if row.id in self._running or row.id in self._recovering
                else row.again
                for row in (await self._rows.all()).values()
            ),
            default=None,
        )

    async def _recover(self, row: FiberRow) -> None:
        token = _current.set(row.id)
        try:
            await self._agent.run_hook(self._agent.on_fiber_recovered, _public(row))
        except Exception as error:  # noqa: BLE001  # the user's hook
            await self._agent.report(error)
            await self._work.wake_by(row.again)
        else:
            if row.id in self._recovering:
                await self._end(row.id)
        finally:
            self._recovering.discard(row.id)
            _current.reset(token)

    # --- inside

    async def _resumed(self, name: str) -> FiberRow | None:
        """The row of the fiber whose recovery calls ``run`` with its name."""
        id = _current.get()
        if id is None or id not in self._recovering:
            return None
        row = await self._rows.get(id)
        return row if row is not None and row.name == name else None

    async def _end(self, id: str) -> None:
        if await self._rows.get(id) is not None:
            self._rows.delete(id)

    async def _give_up(self, row: FiberRow) -> None:
        error = RecoveryGivenUp(f"not recovered in {row.recoveries} tries")
        await self._work.dead.add(
            kind=KIND,
            id=row.id,
            callback=row.name,
            payload=row.snapshot,
            origin=row,
            error=error,
        )
        await self._end(row.id)

    async def _replay(self, origin: msgspec.Raw) -> None:
        now = milliseconds(work_clock.now())
        restore_fiber(self._rows, origin, now)
        await self._work.wake_by(now)


def restore_fiber(rows: Rows[FiberRow], origin: msgspec.Raw, now: int) -> None:
    """Write a row that was removed once more, to be recovered at once."""
    row = msgspec.json.decode(origin, type=FiberRow)
    row.created, row.again = now, now
    rows.put(row.id, row)


def _public(row: FiberRow) -> Fiber:
    return Fiber(
        row.id, row.name, decoded(row.snapshot), row.created / 1000, row.recoveries
    )
