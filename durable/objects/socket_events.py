"""Brings socket events into an activation, in order, at once where that is possible.

A message is acknowledged when its handler has ended and its effects have left; sockets
with unacknowledged messages are closed when the activation is reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from durable.domain.ports import NO_OPTIONS
from durable.objects.awaiting import must_await

if TYPE_CHECKING:
    from durable.objects.activation import Activation
    from durable.objects.websocket import SocketRecord

log = logging.getLogger(__name__)

RESTARTED = 1012


class SocketEvents:
    """The socket events of one activation."""

    __slots__ = ("_activation", "_unstarted", "options")

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        # Events that have a task which hasn't come to its first step: later ones must
        # not overtake them.
        self._unstarted = 0
        # What the object wants of its sockets.
        self.options = NO_OPTIONS

    def message(self, record: SocketRecord, message: str | bytes) -> None:
        """Deliver a client's message; in this very call if nothing is in its way."""
        if self._activation.input_gate.is_open and not self._unstarted:
            self._deliver_now(record, message)
        else:
            self._deliver_later(record, "websocket_message", message, of_client=True)

    def closed(
        self, record: SocketRecord, code: int, reason: str, was_clean: bool
    ) -> None:
        """Deliver the end of a client's socket."""
        how = (code, reason, was_clean)
        self._deliver_later(record, "websocket_close", *how, of_client=False)

    def restored(self, record: SocketRecord) -> None:
        """Deliver that a socket's last owner was lost."""
        self._deliver_later(record, "websocket_restored", of_client=False)

    def reset(self, records: list[SocketRecord]) -> None:
        """The activation was reset: close the sockets that have lost something."""
        for record in records:
            if record.unacknowledged:
                record.unacknowledged = 0
                record.port.close(RESTARTED, "The object was reset")

    def _deliver_now(self, record: SocketRecord, message: str | bytes) -> None:
        activation = self._activation
        # So that a reset in the handler, an abort, closes this socket, too.
        record.unacknowledged += 1
        try:
            result = activation.enter_now("websocket_message", record, message)
        except Exception as error:  # noqa: BLE001  # the user's handler
            self._failed(error)
            result = None
        if activation.output_gate.broken is not None:
            if isinstance(result, Coroutine):
                result.close()
        elif result is not None:
            self._start(record, self._resumed(result), of_client=True)
        elif activation.output_gate.is_idle:
            _acknowledge(record, of_client=True)
        else:
            activation.output_gate.emit(lambda: _acknowledge(record, of_client=True))

    def _deliver_later(
        self, record: SocketRecord, hook: str, *args: Any, of_client: bool
    ) -> None:
        def enter() -> Any:
            return self._activation.enter_now(hook, record, *args)

        record.unacknowledged += 1
        self._start(record, self._entered(enter), of_client=of_client)

    def _start(
        self, record: SocketRecord, work: Coroutine[Any, Any, Any], *, of_client: bool
    ) -> None:
        self._unstarted += 1
        self._activation.background(self._run(record, work, of_client=of_client))

    async def _run(
        self, record: SocketRecord, work: Coroutine[Any, Any, Any], *, of_client: bool
    ) -> None:
        try:
            await self._activation.run(lambda: work)
        except Exception as error:  # noqa: BLE001  # the user's handler
            self._failed(error)
        finally:
            work.close()
        if self._activation.output_gate.broken is None:
            _acknowledge(record, of_client=of_client)

    def _failed(self, error: Exception) -> None:
        if self._activation.output_gate.broken is None:
            log.error(
                "socket handler failed",
                exc_info=error,
                extra={"object": str(self._activation.id)},
            )
        else:
            log.info("socket handler ended with its activation: %s", error)

    async def _resumed(self, handler: Awaitable[Any]) -> Any:
        self._unstarted -= 1
        async with asyncio.timeout(self.options.event_seconds):
            return await handler

    async def _entered(self, enter: Callable[[], Any]) -> Any:
        self._unstarted -= 1
        result = enter()
        if not must_await(result):
            return result
        async with asyncio.timeout(self.options.event_seconds):
            return await result


def _acknowledge(record: SocketRecord, *, of_client: bool) -> None:
    if record.unacknowledged:
        record.unacknowledged -= 1
        # Who holds the socket counts the client's messages, and no other events.
        if of_client:
            record.port.acknowledged()
