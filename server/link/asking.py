"""The objects of another node, for ours: calls and requests over the link.

Exchanges are many at a time. What the other node raises before it has begun (Moved) may
be sent elsewhere; when the link is lost nobody knows what became of those under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from durable import DurableObjectId, Request, Response
from durable.domain.errors import LinkLost
from durable.objects import codec
from durable.objects.activation import current_activation
from durable.objects.call_chain import blocked_objects
from server.link import frames
from server.link.errors import error_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.domain.ports import SocketPort
    from durable.routing.objects import Returned
    from server.link.streams import Bodies

# A whole body is sent with its head up to here, else in pieces.
WHOLE_BYTES = 1 << 18


class Asking:
    """The exchanges that this node began on one link (``Objects`` of a router)."""

    def __init__(
        self,
        say: Callable[[frames.Frame], None],
        bodies: Bodies,
        *,
        first: int,
        offer: Callable[[SocketPort, Request], int],
        withdraw: Callable[[int], None],
    ) -> None:
        self._say = say
        self._bodies = bodies
        self._next = first
        self._offer = offer
        self._withdraw = withdraw
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._lost: LinkLost | None = None

    async def call(
        self, target: DurableObjectId, method: str, sent: str, props: Any
    ) -> Returned:
        """Call a method of an object there; the codec's text goes and comes."""
        call = frames.Call(
            self.new_id(),
            target.value.bytes,
            target.name,
            method,
            sent,
            codec.encode_text(props),
            current_activation.get() is not None,
            _blocked(),
        )
        returned: frames.Returned = await self.ask(call.id, call)
        if returned.streams:
            return Results(call.id, self._bodies)
        return returned.result

    async def fetch(
        self, target: DurableObjectId, request: Request, props: Any
    ) -> Response:
        """Send a request to an object there."""
        port = request.socket_port
        whole, streams = split(request)
        fetch = frames.Fetch(
            self.new_id(),
            target.value.bytes,
            target.name,
            codec.encode_text(props),
            current_activation.get() is not None,
            request.method,
            request.url,
            head_of(request),
            whole,
            streams,
            None if port is None else self._offer(port, request),
            _blocked(),
        )
        if streams:
            self._bodies.send_later(fetch.id, request.body, up=True)
        answer: frames.Answer | None = None
        try:
            answer = await self.ask(fetch.id, fetch)
        finally:
            if fetch.socket is not None and (answer is None or answer.status != 101):
                self._withdraw(fetch.socket)
            if answer is None or not answer.streams:
                # Answered: what is left of the request's body isn't wanted.
                self._bodies.stop_sending(fetch.id, up=True)
        body: bytes | AsyncIterator[bytes] | None = answer.body
        if answer.streams:
            body = self._streamed(fetch.id)
        return Response(body, status=answer.status, headers=answer.headers)

    async def _streamed(self, id: int) -> AsyncIterator[bytes]:
        try:
            async for piece in self._bodies.read(id, up=False):
                yield piece
        finally:
            self._bodies.stop_sending(id, up=True)

    async def ask(self, id: int, frame: frames.Frame) -> Any:
        """Send a frame and wait for the one that answers it.

        Raises:
            LinkLost: the link is gone.
        """
        if self._lost is not None:
            raise self._lost
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        self._say(frame)
        try:
            return await answer
        except asyncio.CancelledError:
            self._say(frames.Cancel(id))
            raise
        finally:
            self._answers.pop(id, None)

    def answered(
        self,
        frame: frames.Returned
        | frames.Answer
        | frames.Failed
        | frames.Attached
        | frames.Parted,
    ) -> None:
        """Take an answer."""
        answer = self._answers.get(frame.id)
        waits = answer is not None and not answer.done()
        if isinstance(frame, frames.Answer | frames.Returned) and frame.streams:
            self._bodies.expect(frame.id, up=False)
            if not waits:
                self._bodies.ignore(frame.id, up=False)
        if answer is None or not waits:
            return
        if isinstance(frame, frames.Failed):
            answer.set_exception(error_of(frame.fault))
        else:
            answer.set_result(frame)

    def lost(self, error: LinkLost) -> None:
        """The link is gone."""
        self._lost = error
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
                # Whoever waited may be gone: that is no failure of ours.
                answer.exception()

    def new_id(self) -> int:
        """A number for an exchange that this node begins."""
        id, self._next = self._next, self._next + 2
        return id


class Results:
    """What a method there returns one after the other, each as the codec's text."""

    def __init__(self, id: int, bodies: Bodies) -> None:
        self._id = id
        self._bodies = bodies
        self._lines = _lines(bodies.read(id, up=False))

    def __aiter__(self) -> Results:
        return self

    async def __anext__(self) -> str:
        return await anext(self._lines)

    async def aclose(self) -> None:
        """Want no more of them, also if none was read."""
        await self._lines.aclose()
        self._bodies.ignore(self._id, up=False)


async def _lines(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[str]:
    """The lines of a body, which comes in pieces of any size."""
    line = bytearray()
    try:
        async for piece in pieces:
            *ends, begun = piece.split(b"\n")
            for end in ends:
                line += end
                yield line.decode()
                line.clear()
            line += begun
    finally:
        await pieces.aclose()


def _blocked() -> list[bytes]:
    return [object_id.bytes for object_id in blocked_objects()]


def head_of(message: Request | Response) -> list[tuple[str, str]]:
    """Headers as they cross; multidict's keys are of a class of their own."""
    return [(str(name), value) for name, value in message.headers.items()]


def split(message: Request | Response) -> tuple[bytes | None, bool]:
    """What of a body goes with the head, and whether the rest follows in pieces."""
    content = message.content
    if content is None:
        return None, False
    if isinstance(content, bytes) and len(content) <= WHOLE_BYTES:
        return content, False
    return None, True
