"""Another node, over the link: its objects for ours, and ours for its.

Exchanges are many at a time. What the other node raises before it has begun (Moved) may
be sent elsewhere; when the link is lost nobody knows what became of those under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from multidict import CIMultiDict, CIMultiDictProxy

from durable import DurableError, DurableObjectId, Request, Response, Unavailable
from durable.domain.errors import LinkLost
from durable.objects import codec
from durable.tasks import TaskScope
from server.link import frames
from server.link.errors import failed, raised
from server.link.remote_sockets import HeldSockets, RemotePort, ServedSockets
from server.link.streams import Incoming, Outgoing

if TYPE_CHECKING:
    from durable.worker.dispatcher import Dispatcher
    from server.link.connection import LinkConnection

log = logging.getLogger(__name__)


class Peer:
    """One live link; ``lost`` ends it for all who use it."""

    def __init__(
        self,
        connection: LinkConnection,
        objects: Dispatcher,
        *,
        first: int,
        on_hint: Callable[[], None],
    ) -> None:
        self.id = connection.peer
        self._connection = connection
        self._say = connection.say
        self._objects = objects
        self._next = first
        self._scope = TaskScope(f"link {self.id.hex[:12]}")
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._incoming: dict[tuple[int, bool], Incoming] = {}
        self._outgoing: dict[tuple[int, bool], Outgoing] = {}
        self._held = HeldSockets(self._say, first)
        self._served = ServedSockets(objects)
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            frames.Ping: lambda _: None,
            frames.Hint: lambda _: on_hint(),
            frames.Call: self._called,
            frames.Fetch: self._fetched,
            frames.Returned: self._answered,
            frames.Answer: self._answered,
            frames.Failed: self._answered,
            frames.Piece: self._piece,
            frames.End: self._end,
            frames.Credit: self._credit,
            frames.Stop: self._stop,
            frames.Accepted: self._held.accepted,
            frames.Say: self._held.say,
            frames.TakeBack: self._held.take_back,
            frames.Close: self._held.close,
            frames.Heard: self._served.heard,
            frames.Gone: self._served.gone,
        }

    def on_frame(self, frame: frames.Frame) -> None:
        """Take what the other node says."""
        self._handlers[type(frame)](frame)

    def say(self, frame: frames.Frame) -> None:
        """Say something that wants no answer."""
        self._say(frame)

    def lost(self) -> None:
        """The link is gone."""
        error = LinkLost("the node of the object was lost; what it did is unknown")
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
        for incoming in tuple(self._incoming.values()):
            incoming.end(error)
        for outgoing in tuple(self._outgoing.values()):
            outgoing.stop()
        self._held.lost()
        self._served.lost()

    def uses(self, connection: LinkConnection) -> bool:
        """Whether this is its connection."""
        return self._connection is connection

    def hang_up(self) -> None:
        """End the link from here."""
        self._connection.close()

    async def close(self) -> None:
        """End what still runs for the other node."""
        await self._scope.close()

    # --- its objects, for ours

    async def call(
        self,
        object_id: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        """Call a method of an object there."""
        sent = frames.Call(
            self._new_id(),
            object_id.value.bytes,
            object_id.name,
            method,
            codec.encode_text([list(args), kwargs]),
            codec.encode_text(props),
        )
        returned = await self._ask(sent.id, sent)
        return codec.decode(returned.result)

    async def fetch(
        self, object_id: DurableObjectId, request: Request, props: Any
    ) -> Response:
        """Send a request to an object there."""
        port, content = request.socket_port, request.content
        whole = content if isinstance(content, bytes) else None
        id = self._new_id()
        sent = frames.Fetch(
            id,
            object_id.value.bytes,
            object_id.name,
            codec.encode_text(props),
            request.method,
            request.url,
            list(request.headers.items()),
            whole,
            streams=content is not None and whole is None,
            socket=None if port is None else self._held.offer(port),
        )
        if sent.streams:
            self._outgoing[id, True] = Outgoing(id, up=True, say=self._say)
            # Not before the other side reads: until then the body is untouched.
            self._scope.start(self._pump((id, True), request.body, wait=True))
        answer: frames.Answer | None = None
        try:
            answer = await self._ask(id, sent)
        finally:
            if sent.socket is not None and (answer is None or answer.status != 101):
                self._held.forget(sent.socket)
            if answer is None or not answer.streams:
                self._uploaded(id)
        body: bytes | AsyncIterator[bytes] | None = answer.body
        if answer.streams:
            body = self._reading((id, False))
        return Response(body, status=answer.status, headers=answer.headers)

    def _uploaded(self, id: int) -> None:
        """The request is answered: what is left of its body isn't sent."""
        upload = self._outgoing.get((id, True))
        if upload is not None:
            upload.stop()

    async def _ask(self, id: int, frame: frames.Frame) -> Any:
        if not self._connection.is_ready:
            raise Unavailable("the link to the object's node is down")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[id] = answer
        self._say(frame)
        try:
            return await answer
        finally:
            self._answers.pop(id, None)

    def _answered(
        self, frame: frames.Returned | frames.Answer | frames.Failed
    ) -> None:
        answer = self._answers.get(frame.id)
        waits = answer is not None and not answer.done()
        if isinstance(frame, frames.Answer) and frame.streams:
            body = Incoming(frame.id, up=False, say=self._say)
            if waits:
                self._incoming[frame.id, False] = body
            else:
                self._say(frames.Stop(frame.id, up=False))
        if answer is None or answer.done():
            return
        if isinstance(frame, frames.Failed):
            answer.set_exception(raised(frame))
        else:
            answer.set_result(frame)

    def _new_id(self) -> int:
        id, self._next = self._next, self._next + 2
        return id

    # --- our objects, for its

    def _called(self, frame: frames.Call) -> None:
        self._scope.start(self._run(frame.id, self._call_here(frame)))

    async def _call_here(self, frame: frames.Call) -> None:
        args, kwargs = codec.decode(frame.args)
        result = await self._objects.call(
            _target(frame), frame.method, args, kwargs, codec.decode(frame.props)
        )
        self._say(frames.Returned(frame.id, codec.encode_text(result)))

    def _fetched(self, frame: frames.Fetch) -> None:
        if frame.streams:
            body = Incoming(frame.id, up=True, say=self._say)
            self._incoming[frame.id, True] = body
        self._scope.start(self._run(frame.id, self._fetch_here(frame)))

    async def _fetch_here(self, frame: frames.Fetch) -> None:
        body: bytes | AsyncIterator[bytes] | None = frame.body
        if frame.streams:
            body = self._reading((frame.id, True))
        headers = CIMultiDictProxy(CIMultiDict(frame.headers))
        request = Request(frame.method, frame.url, headers=headers, body=body)
        if frame.socket is not None:
            connection = self._connection
            request.socket_port = RemotePort(frame.socket, connection, self._served)
        props = codec.decode(frame.props)
        response = await self._objects.fetch(_target(frame), request, props)
        content = response.content
        whole = content if isinstance(content, bytes) else None
        streams = content is not None and whole is None
        if streams:
            key = (frame.id, False)
            self._outgoing[key] = Outgoing(frame.id, up=False, say=self._say)
        self._say(
            frames.Answer(
                frame.id,
                response.status,
                list(response.headers.items()),
                whole,
                streams,
            )
        )
        if streams:
            await self._pump((frame.id, False), response.body)

    async def _run(self, id: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            self._say(failed(id, Unavailable("the object's node is shutting down")))
            raise
        except DurableError as error:
            self._say(failed(id, error))
        except Exception as error:  # the user's code
            log.exception("an object failed", extra={"peer": self.id.hex})
            self._say(failed(id, error))
        finally:
            unread = self._incoming.pop((id, True), None)
            if unread is not None:
                unread.end(None)

    # --- bodies

    async def _pump(
        self, key: tuple[int, bool], body: AsyncIterator[bytes], *, wait: bool = False
    ) -> None:
        outgoing = self._outgoing[key]
        try:
            if not wait or await outgoing.wanted():
                await outgoing.pump(body)
        except Exception:
            log.exception("streamed body failed", extra={"peer": self.id.hex})
        finally:
            self._outgoing.pop(key, None)

    async def _reading(self, key: tuple[int, bool]) -> AsyncIterator[bytes]:
        incoming = self._incoming[key]
        pieces = incoming.pieces()
        try:
            async for piece in pieces:
                yield piece
        finally:
            self._incoming.pop(key, None)
            self._uploaded(key[0])
            await pieces.aclose()  # type: ignore[attr-defined]  # it is a generator

    def _piece(self, frame: frames.Piece) -> None:
        incoming = self._incoming.get((frame.id, frame.up))
        if incoming is not None:
            incoming.push(frame.data)

    def _end(self, frame: frames.End) -> None:
        incoming = self._incoming.get((frame.id, frame.up))
        if incoming is not None:
            incoming.end(None if frame.error is None else Unavailable(frame.error))

    def _credit(self, frame: frames.Credit) -> None:
        outgoing = self._outgoing.get((frame.id, frame.up))
        if outgoing is not None:
            outgoing.credited(frame.bytes)

    def _stop(self, frame: frames.Stop) -> None:
        outgoing = self._outgoing.get((frame.id, frame.up))
        if outgoing is not None:
            outgoing.stop()


def _target(frame: frames.Call | frames.Fetch) -> DurableObjectId:
    return DurableObjectId(UUID(bytes=frame.object), frame.name)
