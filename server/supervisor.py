"""Several node processes of one machine: who dies is started again.

Promise: while the supervisor lives, each of its nodes does, or is started again after a
back-off; SIGTERM and SIGINT drain them all, and it ends when the last one has. A node
that doesn't start at all is no matter for back-off: in the beginning the first such
failure ends the supervisor, later START_ATTEMPTS in a row.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from server.child import Child, Spawn

log = logging.getLogger(__name__)

# A node that can't be started again so many times in a row ends the supervisor.
START_ATTEMPTS: Final = 10
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
# Who served for so long has recovered: its next end is the first one again.
CALM_SECONDS: Final = 10.0
# How long a node may take to end, beyond three times its drain; then it is killed.
GRACE_SECONDS: Final = 10.0


class StartError(Exception):
    """A node can't be started; ``said`` is what it said itself, if it did."""

    def __init__(self, text: str, ended: Child) -> None:
        super().__init__(f"{text}: {ended.why()}")
        self.said = ended.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How patient a supervisor is; seconds. ``attempts`` None: for ever."""

    patience: float
    attempts: int | None = START_ATTEMPTS
    first_pause: float = FIRST_PAUSE
    longest_pause: float = LONGEST_PAUSE
    calm: float = CALM_SECONDS

    def pause(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        # The exponent is bounded: 2.0 ** 2000 has no value.
        return min(self.first_pause * 2.0 ** min(failures - 1, 20), self.longest_pause)


class Slot:
    """The place of one node: it is taken by one process after another."""

    def __init__(
        self,
        spawn: Spawn,
        limits: Limits,
        orders: asyncio.Future[dict[str, Any]] | None = None,
    ) -> None:
        """``orders``: what each process is told first, when it is known."""
        self.spawn = spawn
        self._limits = limits
        self._orders = orders
        self._hurry = asyncio.Event()
        self._stopping = False
        self._leaving: dict[Child, asyncio.Task[None]] = {}
        self.child: Child | None = None

    async def keep(self, served: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Start it over and over, until ``stop``; ``ready`` hears where it serves.

        Raises:
            StartError: it can't be started.
        """
        limits, loop = self._limits, asyncio.get_running_loop()
        failures = unstarted = 0
        while not self._stopping:
            self.child = await self._start()
            if self._stopping:
                await self.child.stop(limits.patience)
                return
            text = await self.child.ready
            began = loop.time()
            if text is not None:
                unstarted = 0
                ready(text)
            ended = await self._end()
            if self._stopping:
                return
            if text is None:
                unstarted += 1
                self._check(ended, unstarted, first=not served.is_set())
            failures = 1 if loop.time() - began > limits.calm else failures + 1
            pause = 0.0 if ended.process.returncode == 0 else limits.pause(failures)
            log.error(
                "%s ended (%s): it is started again in %.2f s",
                self.spawn.name,
                ended.why(),
                pause,
            )
            await self._pause(pause)

    async def _start(self) -> Child:
        child = await Child.start(self.spawn)
        if self._orders is not None:
            self._orders.add_done_callback(child.follow)
        return child

    def _check(self, ended: Child, unstarted: int, *, first: bool) -> None:
        attempts = self._limits.attempts
        if first:
            raise StartError(f"{self.spawn.name} could not start", ended)
        if attempts is not None and unstarted >= attempts:
            raise StartError(
                f"{self.spawn.name} could not be started again, {unstarted} times in a "
                "row; the last time",
                ended,
            )

    async def _end(self) -> Child:
        """The process that has the place when it ends."""
        while True:
            child = self.child
            assert child is not None  # it was started
            await child.wait()
            if child is self.child:
                return child

    async def _pause(self, seconds: float) -> None:
        self._hurry.clear()
        if not self._stopping:
            try:
                async with asyncio.timeout(seconds):
                    await self._hurry.wait()
            except TimeoutError:
                return

    async def replace(self) -> str | None:
        """Start a successor, and end the process when that serves.

        Returns why it doesn't start, if it doesn't: then nothing has changed.
        """
        before = self.child
        if before is None or not before.alive or not before.ready.done():
            # Nobody to take over from: the next start is the new one.
            self._hurry.set()
            return None
        child = await self._start()
        if await child.ready is None:
            await child.wait()
            return child.why()
        if self._stopping:
            await child.stop(self._limits.patience)
            return None
        self.child = child
        leaving = asyncio.create_task(before.stop(self._limits.patience))
        self._leaving[before] = leaving
        leaving.add_done_callback(lambda _: self._leaving.pop(before))
        return None

    async def stop(self) -> None:
        """Drain it for good."""
        self._stopping = True
        self._hurry.set()
        if self.child is not None:
            await self.child.stop(self._limits.patience)
        if self._leaving:
            await asyncio.wait(self._leaving.values())

    def signal(self, number: int) -> None:
        """Send its process a signal, and those that still leave the place."""
        for child in (self.child, *self._leaving):
            if child is not None:
                child.signal(number)


class Supervisor:
    """Keeps slots; ``run`` ends when they have."""

    def __init__(self, slots: Sequence[Slot], say: Callable[[str], None]) -> None:
        self._slots = slots
        self._say = say
        self._ready: dict[Slot, str] = {}
        self.served = asyncio.Event()
        """Set once all have been ready: from then on who fails is tried again."""

    async def run(self) -> None:
        """Start all, say the first one's text when all are ready, keep them.

        Ends after SIGTERM or SIGINT, when all have drained; a second one kills them.

        Raises:
            StartError: one can't be started; the others have been stopped.
        """
        stopped = self._on_signals()
        keeping = [
            asyncio.create_task(self._keep(slot), name=slot.spawn.name)
            for slot in self._slots
        ]
        stopping = asyncio.create_task(stopped.wait())
        try:
            await asyncio.wait(
                [*keeping, stopping], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopping.cancel()
            await asyncio.gather(*(slot.stop() for slot in self._slots))
            ends = await asyncio.gather(*keeping, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end

    async def _keep(self, slot: Slot) -> None:
        def ready(text: str) -> None:
            self._ready[slot] = text
            if len(self._ready) == len(self._slots) and not self.served.is_set():
                self.served.set()
                self._say(self._ready[self._slots[0]])

        await slot.keep(self.served, ready)

    def _on_signals(self) -> asyncio.Event:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()

        def send(number: int) -> None:
            for slot in self._slots:
                slot.signal(number)

        def asked() -> None:
            if stopped.is_set():
                send(signal.SIGKILL)
            stopped.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked)
        loop.add_signal_handler(signal.SIGUSR1, send, signal.SIGUSR1)
        return stopped
