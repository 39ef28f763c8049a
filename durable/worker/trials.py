"""Who takes owners down is found, and isn't woken again.

Promise: in a shard whose former owner fell, a wake is durable before the object's code
runs, and forgotten when the object has ended an event there, or a ``sync``. An object
with ``MAX_WAKES`` of them, after three owners then, stays asleep until it is released.
Who was awake in a fall is woken one at a time, so that the next fall has one suspect,
and not before the owner has lived for a while: nodes that are killed in quick
succession must not put an innocent object aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from durable.domain.errors import DurableError, Moved, Quarantined
from durable.domain.ownership_steps import TRIAL_SECONDS
from durable.store.lane_statements import BEGIN_TRIALS, END_TRIALS
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.domain.clock import Clock
    from durable.domain.writes import Claim

log = logging.getLogger(__name__)

# The first owner's fall isn't counted: nothing is written down in a healthy shard.
MAX_WAKES = 2
# A shard's owner has had it for so long before a suspect is woken there.
SUSPECT_SECONDS = 2.0
# A suspect is alone for so long at most: an event of it may take its time.
ALONE_SECONDS = 5.0


class TrialTable(Protocol):
    """The lane that holds the shards' locks."""

    async def run(self, statement: str, *params: Any) -> list[Any]:
        """Send one of ``lane_statements``."""


class WakeTrials:
    """The trials of one worker's objects; what asks together is written together."""

    def __init__(
        self,
        table: Callable[[], TrialTable],
        claim_of: Callable[[int], Claim | None],
        clock: Clock,
    ) -> None:
        self._table = table
        self._claim_of = claim_of
        self._clock = clock
        self._scope = TaskScope("trials")
        self._begun: list[tuple[Claim, UUID, asyncio.Future[None]]] = []
        self._ended: list[tuple[Claim, UUID]] = []
        self._writing = False
        self._alone = asyncio.Lock()
        self._suspect: tuple[UUID, asyncio.TimerHandle] | None = None

    async def begin(self, claim: Claim, object_id: UUID, wakes: int) -> bool:
        """Return when the wake is written down; False: none need be.

        Raises:
            Quarantined: the object took three owners down.
            Moved: the shard has left.
            Unavailable: the lane is lost.
        """
        if wakes >= MAX_WAKES:
            raise Quarantined(
                f"this object took {MAX_WAKES + 1} nodes down and is not woken: see "
                "`durable agents quarantined`, and release it when it is mended"
            )
        if self._clock() >= claim.trials_until:
            # Its last owner gave it back, or the shard has been well for a while.
            return bool(wakes)
        if wakes:
            claimed = claim.trials_until - TRIAL_SECONDS
            await asyncio.sleep(max(claimed + SUSPECT_SECONDS - self._clock(), 0.0))
            await self._alone.acquire()
            loop = asyncio.get_running_loop()
            timer = loop.call_later(ALONE_SECONDS, self._let_others, object_id)
            self._suspect = (object_id, timer)
            log.warning("an owner fell with this object", extra={"object": object_id})
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun.append((claim, object_id, written))
        self._write_soon()
        try:
            await written
        except BaseException:
            self._let_others(object_id)
            raise
        return True

    def end(self, claim: Claim, object_id: UUID) -> None:
        """It has ended an event, or its life, and the owner lives."""
        self._let_others(object_id)
        self._ended.append((claim, object_id))
        self._write_soon()

    async def close(self) -> None:
        """Write what has ended; who begins gets nothing."""
        await self._scope.wait(ALONE_SECONDS)
        await self._scope.close()

    def _let_others(self, object_id: UUID) -> None:
        if self._suspect is not None and self._suspect[0] == object_id:
            self._suspect[1].cancel()
            self._suspect = None
            self._alone.release()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._scope.start(self._write())

    async def _write(self) -> None:
        try:
            while self._begun or self._ended:
                # An end before a begin: what lives again may be the same object.
                ended, self._ended = self._ended, []
                begun, self._begun = self._begun, []
                failed = await self._send(END_TRIALS, ended)
                begin = [(claim, object_id) for claim, object_id, _ in begun]
                failed = failed or await self._send(BEGIN_TRIALS, begin)
                for claim, _, written in begun:
                    wrong = failed
                    if self._claim_of(claim.shard) != claim:
                        wrong = Moved(f"shard {claim.shard} has left")
                    if not written.done():
                        _settle(written, wrong)
        finally:
            self._writing = False

    async def _send(
        self, statement: str, rows: list[tuple[Claim, UUID]]
    ) -> DurableError | None:
        # A shard that left since then is another owner's: its trials are, too.
        ours = {o: c.shard for c, o in rows if self._claim_of(c.shard) == c}
        try:
            if ours:
                await self._table().run(statement, list(ours.values()), list(ours))
        except DurableError as error:
            log.info("trials not written: %s", error)
            return error
        return None


def _settle(written: asyncio.Future[None], wrong: DurableError | None) -> None:
    if wrong is None:
        written.set_result(None)
    else:
        written.set_exception(wrong)
