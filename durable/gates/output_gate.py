"""The output gate: what an object says leaves when what it wrote before is durable.

Every effect (response, frame, call) passes here, in order. An effect leaves when all
write sets issued before it are committed *and* the lane is fresh (a statement sent a
moment ago was acknowledged, so nobody else can own the object). A broken gate drops
every effect, for ever: its activation is being reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from durable.domain.clock import boottime

if TYPE_CHECKING:
    from durable.domain.meter import Distribution
    from durable.domain.ports import Freshness

log = logging.getLogger(__name__)

Effect = Callable[[], object]


class OutputGate:
    """Holds back the effects of one activation until they may leave."""

    __slots__ = (
        "_durable",
        "_effects",
        "_fresh",
        "_issued",
        "_since",
        "_waiters",
        "_waits",
        "broken",
    )

    def __init__(self, freshness: Freshness, waits: Distribution | None = None) -> None:
        self._fresh = freshness
        self._waits = waits
        # Since when something is held back, if anything is.
        self._since = 0.0
        self._issued = 0
        self._durable = 0
        self._effects: deque[tuple[int, Effect]] = deque()
        self._waiters: set[asyncio.Future[None]] = set()
        self.broken: Exception | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be committed or to leave."""
        return self._issued == self._durable and not self._effects

    def issue(self) -> None:
        """A new write set has begun: effects from now on wait for its commit."""
        self._issued += 1

    def opened(self, issues: int) -> None:
        """The oldest ``issues`` are durable: let out what waited for them."""
        self._durable += issues
        self._release()

    def emit(self, effect: Effect) -> None:
        """Let an effect out: now if it may leave, else when it may. Never raises."""
        if self.broken is not None:
            return
        if (
            self._issued == self._durable
            and not self._effects
            and self._fresh.is_fresh()
        ):
            _let_out(effect)
            return
        if not self._effects and self._waits is not None:
            self._since = boottime()
        self._effects.append((self._issued, effect))
        if self._durable >= self._effects[0][0]:
            self._fresh.when_fresh(self._release)

    async def wait(self) -> None:
        """Return once an effect emitted now would have left.

        Raises:
            Exception: the one the gate was broken with.
        """
        if self.broken is not None:
            raise self.broken
        if (
            self._issued == self._durable
            and not self._effects
            and self._fresh.is_fresh()
        ):
            return
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(left)
        self.emit(lambda: None if left.done() else left.set_result(None))
        try:
            await left
        finally:
            self._waiters.discard(left)

    def break_(self, error: Exception) -> None:
        """Drop what waits, refuse what comes; those who wait get the error."""
        if self.broken is not None:
            return
        self.broken = error
        self._effects.clear()
        for left in self._waiters:
            if not left.done():
                left.set_exception(error)
                left.exception()
        self._waiters.clear()

    def _release(self) -> None:
        effects = self._effects
        if not effects or effects[0][0] > self._durable:
            return
        if not self._fresh.is_fresh():
            self._fresh.when_fresh(self._release)
            return
        while effects and effects[0][0] <= self._durable:
            _let_out(effects.popleft()[1])
        if not effects and self._waits is not None:
            self._waits.add(boottime() - self._since)


def _let_out(effect: Effect) -> None:
    # Whoever opens the gate works for many objects: one's bad effect is not theirs.
    try:
        effect()
    except Exception:
        log.exception("an effect failed")
