"""The input gate: who may enter an object now.

While it is locked (a storage read or a critical section is in progress) no new event
enters; events wait in order. An event that gets in runs up to its first suspension
before the next one is let in, so that it can lock the gate again. Who waited for what
locked the gate goes on first, even if it waits through a task, a gather or a TaskGroup.
A broken gate lets nobody in, ever: its activation is being reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# The end of a read reaches the code that awaits it over so many turns of the loop, at
# most: one for a task, two for a gather or a TaskGroup, twice that for one in another.
SETTLING_TURNS = 5


class InputGate:
    """Lets events into one activation, one after another, unless locked."""

    __slots__ = ("_broken", "_handing_over", "_locks", "_waiters")

    def __init__(self) -> None:
        self._locks = 0
        self._handing_over = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._broken: Exception | None = None

    @property
    def is_open(self) -> bool:
        """Whether an event that can't suspend may run right now."""
        return not (self._locks or self._handing_over or self._waiters or self._broken)

    @property
    def waiting(self) -> int:
        """How many events queue at the gate."""
        return len(self._waiters)

    async def enter(self) -> None:
        """Wait for one's turn. The caller must go on without suspending in between.

        Raises:
            Exception: the one the gate was broken with.
        """
        if self._broken is not None:
            raise self._broken
        if not (self._locks or self._handing_over or self._waiters):
            return
        await self._turn(self._waiters.append)
        while self._locks and self._broken is None:
            # Code that was inside has shut the gate since the turn was given.
            self._handing_over = False
            await self._turn(self._waiters.appendleft)
        self._turn_taken()
        if self._broken is not None:
            raise self._broken

    def lock(self) -> None:
        """Shut the gate; each lock needs its unlock."""
        self._locks += 1

    def unlock(self, turns: int = SETTLING_TURNS) -> None:
        """Undo one lock in so many turns of the loop; the last lets the next event in.

        ``turns`` may be 0 if no code of the object waits for what locked the gate.
        """
        if turns and self._broken is None:
            asyncio.get_running_loop().call_soon(self.unlock, turns - 1)
            return
        self._locks -= 1
        self._let_next_in()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The gate is shut inside the block."""
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def break_(self, error: Exception) -> None:
        """Refuse everybody from now on, those who wait included."""
        if self._broken is not None:
            return
        self._broken = error
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_exception(error)
                turn.exception()

    async def _turn(self, queue: Callable[[asyncio.Future[None]], None]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiters:
                self._waiters.remove(turn)
            else:
                self._turn_taken()
            raise

    def _turn_taken(self) -> None:
        self._handing_over = False
        if self._waiters:
            # After the event that just got in has run to its first suspension.
            asyncio.get_running_loop().call_soon(self._let_next_in)

    def _let_next_in(self) -> None:
        if self._locks or self._handing_over:
            return
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                self._handing_over = True
                turn.set_result(None)
                return
