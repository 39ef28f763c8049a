"""``ctx``: what an object is given."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from durable.domain.errors import ValueRefused
from durable.objects.storage import DurableObjectStorage

if TYPE_CHECKING:
    import asyncio

    from durable.domain.ids import DurableObjectId
    from durable.domain.ports import Frame
    from durable.objects.activation import Activation
    from durable.objects.http import Request
    from durable.objects.websocket import WebSocket

T = TypeVar("T")

# A text that is answered automatically, and the answer.
MAX_AUTO_BYTES = 2048
MAX_EVENT_SECONDS = 7 * 86400.0


class DurableObjectState:
    """An object's id, storage, sockets, and what it may do to its own life.

    ``props`` are those of the call that woke it, if that gave any.
    """

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self.id: DurableObjectId = activation.id
        self.props: Any = activation.props
        self.storage = DurableObjectStorage(activation)

    def block_concurrency_while(
        self, fn: Callable[[], Awaitable[T]]
    ) -> asyncio.Task[T]:
        """Run ``fn`` while no other event enters; the result may be awaited.

        If it raises, or takes over 30 s, the object is reset. It must not await what
        can't enter meanwhile: a call that comes back to the object raises ``Deadlock``.
        """
        return self._activation.critical.start(fn)

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Let work go on after the reply; the object isn't evicted before it ends.

        Failures are logged.
        """
        self._activation.background(_await(work))

    def abort(self, reason: str = "the object aborted itself") -> None:
        """End this activation now: callers get ``reason``, unwritten state is lost."""
        self._activation.abort(reason)

    def accept_websocket(
        self,
        request: Request,
        tags: Iterable[str] = (),
        *,
        id: str | None = None,  # the public name
    ) -> WebSocket:
        """Accept an upgrade request; answer it with ``Response.upgrade(websocket)``.

        The socket survives the object's sleep. Frames that the client sends wait until
        the request is answered.

        Raises:
            ValueError: the request isn't an upgrade, or was accepted already.
            ValueRefused: over 10 tags, or one over 256 characters.
        """
        return self._activation.accept_websocket(request, tags, id)

    def get_websockets(self, tag: str | None = None) -> list[WebSocket]:
        """The open sockets, or those with a tag."""
        sockets = self._activation.websockets()
        return sockets if tag is None else [s for s in sockets if tag in s.tags]

    def get_tags(self, websocket: WebSocket) -> list[str]:
        """The tags of a socket."""
        return list(websocket.tags)

    def set_websocket_auto_response(
        self, request: str | None, response: str = ""
    ) -> None:
        """Answer a client's text at its front end; the object isn't woken.

        For pings: just this text, on every socket of the object, is answered with
        ``response``. ``None`` undoes it. It lasts as long as a socket is open, or the
        object is awake: so set it in the constructor.

        Raises:
            ValueRefused: no text, or one over 2,048 bytes.
        """
        pair = None if request is None else (request, response)
        texts: tuple[Any, ...] = pair or ()
        for text in texts:
            if not isinstance(text, str) or len(text.encode()) > MAX_AUTO_BYTES:
                raise ValueRefused(
                    f"an automatic response is text of up to {MAX_AUTO_BYTES} bytes, "
                    "and so is what it answers"
                )
        self._set_options(auto_response=pair)

    def get_websocket_auto_response(self) -> tuple[str, str] | None:
        """(request, response) as they were set; None if none is."""
        return self._activation.socket_events.options.auto_response

    def get_websocket_auto_response_timestamp(
        self, websocket: WebSocket
    ) -> datetime | None:
        """When this socket was last answered automatically; None if never."""
        answered = websocket.record.answered
        return None if answered is None else datetime.fromtimestamp(answered, UTC)

    def set_hibernatable_websocket_event_timeout(
        self, timeout: float | timedelta | None
    ) -> None:
        """How long a handler of a socket may take; beyond, it is cancelled and logged.

        ``timeout``: seconds, or a timedelta, up to seven days; None: no limit.

        Raises:
            ValueError: not positive, or over seven days.
        """
        if isinstance(timeout, timedelta):
            seconds: float | None = timeout.total_seconds()
        else:
            seconds = timeout
        if seconds is not None and not 0 < seconds <= MAX_EVENT_SECONDS:
            raise ValueError(
                f"a handler's limit is over 0 and up to {MAX_EVENT_SECONDS:g} s"
            )
        self._set_options(event_seconds=seconds)

    def get_hibernatable_websocket_event_timeout(self) -> float | None:
        """The limit in seconds; None if there is none."""
        return self._activation.socket_events.options.event_seconds

    def _set_options(self, **changes: Any) -> None:
        options = replace(self._activation.socket_events.options, **changes)
        self._activation.set_socket_options(options)

    def send_frame(self, frame: Frame, websockets: Sequence[WebSocket]) -> None:
        """Send one frame to many sockets."""
        ports = [websocket.record.port for websocket in websockets]

        def send() -> None:
            for port in ports:
                port.send(frame)

        self._activation.emit(send)

    def end_when_idle(self) -> None:
        """End this activation once its running handlers have ended."""
        self._activation.end_when_idle()

    def emit(self, effect: Callable[[], object]) -> None:
        """Do something outside the object when all that was written before is durable.

        For SDKs; ``effect`` must not raise. It never runs if the commit fails.
        """
        self._activation.emit(effect)


async def _await(work: Awaitable[Any]) -> Any:
    if isinstance(work, Coroutine) or inspect.isawaitable(work):
        return await work
    raise TypeError("wait_until() takes an awaitable")
