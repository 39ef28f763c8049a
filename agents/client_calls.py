"""Calls on their way: which frame answers which caller.

Invariant: every call that was begun is settled exactly once, by its answer, its
time limit, its caller's leaving, or the end of the socket that carried it. A call
that was settled before it was sent is never sent.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from agents.client_callbacks import Callbacks
from agents.client_socket import Frame
from agents.client_timers import Timer, Timers

logger = logging.getLogger(__name__)

CONNECTION_CLOSED: Final = "Connection closed"


class AgentCallError(Exception):
    """The agent refused or failed a call; the message is the one it sent."""

    def __init__(self, message: str, *, method: str) -> None:
        super().__init__(message)
        self.method = method


class CallTimeout(enum.Enum):
    """A time limit that isn't a number of seconds."""

    DEFAULT = "default"


class PendingCall:
    """One call that waits for its answer."""

    def __init__(self, method: str, on_chunk: Callable[[Any], object] | None) -> None:
        self.id = str(uuid.uuid4())
        self.method = method
        self.on_chunk = on_chunk
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.timer: Timer | None = None
        self.frame: Frame | None = None
        self.is_transmitted = False
        # An outcome nobody looks at (an abandoned stream) is not worth a warning.
        self.outcome.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )


class PendingCalls:
    """All calls of one client that wait for their answers."""

    def __init__(self, *, callbacks: Callbacks, withdraw: Callable[[Frame], None]):
        self._callbacks = callbacks
        self._withdraw = withdraw
        self._calls: dict[str, PendingCall] = {}

    def begin(
        self, call: PendingCall, *, timeout: float | None, timers: Timers
    ) -> None:
        """Enter a call, and let its time run."""
        self._calls[call.id] = call
        if timeout:
            text = (
                f"RPC call to {call.method} timed out after {round(timeout * 1000)}ms"
            )
            call.timer = timers.call_later(
                timeout, lambda: self._settle(call, error=TimeoutError(text))
            )

    def abandon(self, call: PendingCall) -> None:
        """Forget a call whose caller has gone."""
        if call.id in self._calls:
            self._settle(call, error=asyncio.CancelledError())

    def receive(self, answer: dict[str, Any]) -> None:
        """Settle, or feed, the call that a frame answers."""
        call = self._calls.get(str(answer.get("id")))
        if call is None:
            if answer.get("done", True):
                logger.warning(
                    "discarded an answer that no call waits for; it timed out, was "
                    "given up, or its connection closed before",
                    extra={"call": answer.get("id")},
                )
        elif not answer.get("success"):
            text = str(answer.get("error"))
            self._settle(call, error=AgentCallError(text, method=call.method))
        elif answer.get("done", True):
            self._settle(call, result=answer.get("result"))
        else:
            self._callbacks.emit(call.on_chunk, answer.get("result"))

    def transmitted(self) -> None:
        """Note that all of them are on the socket that has just opened."""
        for call in self._calls.values():
            call.is_transmitted = True

    def reject(self, *, only_transmitted: bool) -> None:
        """Fail those whose answers can't come any more."""
        for call in list(self._calls.values()):
            if call.is_transmitted or not only_transmitted:
                self._settle(call, error=ConnectionError(CONNECTION_CLOSED))

    def _settle(
        self,
        call: PendingCall,
        *,
        result: object = None,
        error: BaseException | None = None,
    ) -> None:
        del self._calls[call.id]
        if call.timer is not None:
            call.timer.cancel()
        if call.frame is not None and not call.is_transmitted:
            self._withdraw(call.frame)
        if call.outcome.done():
            return
        if error is None:
            call.outcome.set_result(result)
        elif isinstance(error, asyncio.CancelledError):
            call.outcome.cancel()
        else:
            call.outcome.set_exception(error)


class CallStream(AsyncIterator[Any]):
    """The chunks of a streamed call, and after them its final value.

    The call is sent when the stream is made. The protocol has no way to tell the
    agent to stop: leaving early (`aclose`) only ends the listening.
    """

    def __init__(
        self,
        begin: Callable[[Callable[[Any], object]], PendingCall],
        abandon: Callable[[PendingCall], None],
    ) -> None:
        # None is the end. It comes from a callback of the outcome, which the loop
        # runs in a later turn, hence always after the last chunk.
        self._arrived: asyncio.Queue[tuple[Any] | None] = asyncio.Queue()
        self._abandon = abandon
        self._call = begin(lambda value: self._arrived.put_nowait((value,)))
        self._call.outcome.add_done_callback(lambda _: self._arrived.put_nowait(None))

    @property
    def result(self) -> Any:
        """The final value.

        Raises:
            RuntimeError: the stream has not ended, or was left before its end.
            AgentCallError: the agent reported an error.
        """
        if not self._call.outcome.done():
            raise RuntimeError("the stream has not ended yet")
        if self._call.outcome.cancelled():
            raise RuntimeError("the stream was left before its end")
        return self._call.outcome.result()

    async def __anext__(self) -> Any:
        """Wait for the next chunk.

        Raises:
            AgentCallError: the agent reported an error.
            ConnectionError: the connection closed before the end.
        """
        if self._call.outcome.cancelled():
            raise StopAsyncIteration
        chunk = await self._arrived.get()
        if chunk is not None:
            return chunk[0]
        self._arrived.put_nowait(None)
        if not self._call.outcome.cancelled():
            self._call.outcome.result()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop listening; what still arrives is dropped."""
        self._abandon(self._call)
