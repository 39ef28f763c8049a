"""``block_concurrency_while``: code during which no other event enters its object.

A failure, or taking too long, resets the object: what the code was to do may be half
done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from durable.domain.errors import DurableError, ResetError, StartFailed, ValueRefused
from durable.objects.call_chain import blocking

if TYPE_CHECKING:
    from durable.objects.activation import Activation

log = logging.getLogger(__name__)

# Critical sections in critical sections.
MAX_NESTED = 64
_depth: ContextVar[int] = ContextVar("_depth", default=0)


class CriticalSections:
    """Those of one activation; ``name`` is its class's, ``limit`` in seconds."""

    __slots__ = ("_activation", "_limit", "_name")

    def __init__(self, activation: Activation, name: str, limit: float) -> None:
        self._activation = activation
        self._name = name
        self._limit = limit

    def start(self, fn: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
        """Run ``fn`` with the input gate shut.

        Raises:
            ValueRefused: 64 of them are around this one.
        """
        if _depth.get() >= MAX_NESTED:
            raise ValueRefused(
                f"block_concurrency_while is nested over {MAX_NESTED} deep"
            )
        gate = self._activation.input_gate
        gate.lock()
        running = self._activation.scope.start(self._run(fn))
        running.add_done_callback(lambda _: gate.unlock())
        return running

    async def _run(self, fn: Callable[[], Awaitable[Any]]) -> Any:
        # The task's own context: nothing to set back.
        _depth.set(_depth.get() + 1)
        activation = self._activation
        failed: Exception
        try:
            with blocking(activation.id.value):
                async with asyncio.timeout(self._limit) as limited:
                    return await fn()
        except DurableError as error:
            failed = error
        except Exception as error:  # the user's code
            if limited.expired():
                failed = StartFailed(self._overdue())
            else:
                log.exception(
                    "critical section failed", extra={"object": str(activation.id)}
                )
                failed = self.start_failed(error)
        except asyncio.CancelledError:
            # By whoever waited for it: what it was to do may be half done.
            activation.reset(ResetError("a critical section was cancelled"))
            raise
        activation.reset(failed)
        raise failed

    def start_failed(self, error: Exception) -> StartFailed:
        """The error of an object whose code raised before it was there."""
        failed = StartFailed(f"{self._name} did not start: {error}")
        failed.__cause__ = error
        return failed

    def _overdue(self) -> str:
        said = (
            f"{self._name} was blocked for over {self._limit:g} s "
            "(on_start or block_concurrency_while) and was reset"
        )
        waiting = self._activation.input_gate.waiting
        if waiting:
            said += (
                f"; {waiting} events waited to enter: a deadlock, if the block awaits "
                "one of them, or what was begun outside of it"
            )
        return said
