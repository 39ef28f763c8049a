"""What users extend: one class, and a live instance for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from durable.objects.http import Request, Response

if TYPE_CHECKING:
    from durable.domain.alarms import AlarmInfo
    from durable.objects.state import DurableObjectState
    from durable.objects.websocket import WebSocket


class DurableObject:
    """Base of all durable objects; every hook may be plain or ``async``.

    The constructor runs on each wake, before the event that woke the object. Other
    objects call its public methods through a stub.
    """

    def __init__(self, ctx: DurableObjectState, env: Any) -> None:
        self.ctx = ctx
        self.env = env

    async def fetch(self, request: Request) -> Response:
        """Answer an HTTP request."""
        return Response("Not implemented", status=404)

    def alarm(self, info: AlarmInfo) -> Any:
        """The time of ``ctx.storage.set_alarm`` has come; override it to be woken."""
        raise TypeError(f"{type(self).__name__} has no alarm() method to wake")

    def on_deactivate(self, reason: str) -> Any:
        """This instance is about to end: ``"idle"``, or ``"moved"`` to another worker.

        What it writes here is durable. No event enters the instance any more; one that
        comes meanwhile waits for the next. It may take 5 s. Not called when the object
        is reset or aborts, or the process dies: so never rely on it.
        """

    def call_method(self, method: str, args: Sequence[Any], kwargs: Any) -> Any:
        """Run a public method for another object; "" only wakes.

        Raises:
            AttributeError: there is no public method of this name.
        """
        if not method:
            return None
        found = getattr(self, method, None)
        if method.startswith("_") or not callable(found):
            raise AttributeError(
                f"{type(self).__name__} has no method {method!r} to call"
            )
        return found(*args, **kwargs)

    def fire_alarm(self, info: AlarmInfo) -> Any:
        """Run ``alarm``; for SDKs that have something to set around it."""
        return self.alarm(info)

    def websocket_message(self, websocket: WebSocket, message: str | bytes) -> Any:
        """A client sent a message on a socket that was accepted."""

    def websocket_close(
        self, websocket: WebSocket, code: int, reason: str, was_clean: bool
    ) -> Any:
        """A client's socket has closed; 1006 without a closing handshake."""

    def websocket_restored(self, websocket: WebSocket) -> Any:
        """The worker that had this object was lost, and with it perhaps what it sent.

        Called for each socket that goes on with the object's new owner. A class that
        has this hook is woken to say again what its clients must know.
        """

    def websocket_error(self, websocket: WebSocket, error: Exception) -> Any:
        """For ported classes: never called. A socket that fails closes with 1006."""
