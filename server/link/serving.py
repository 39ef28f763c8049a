"""Our objects, for another node: calls and requests that came over the link."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any
from uuid import UUID

from multidict import CIMultiDict, CIMultiDictProxy

from durable import DurableError, DurableObjectId, Request, Unavailable, ValueRefused
from durable.objects import codec
from durable.objects.call_chain import continue_chain
from durable.objects.http import aclose
from durable.objects.log_context import note_request
from durable.worker.dispatcher import is_awaited_elsewhere
from server.link import frames
from server.link.asking import head_of, split
from server.link.errors import fault_of

if TYPE_CHECKING:
    from durable.domain.ports import SocketPort
    from durable.routing.objects import Objects
    from durable.tasks import TaskScope
    from server.link.streams import Bodies

log = logging.getLogger(__name__)

# What a call returns crosses in one frame, or each part of it in one line.
MAX_RESULT_BYTES = 1 << 26


class Serving:
    """The exchanges that the other node began on one link."""

    def __init__(
        self,
        say: Callable[[frames.Frame], None],
        bodies: Bodies,
        scope: TaskScope,
        objects: Objects,
        port: Callable[[int], SocketPort],
    ) -> None:
        self._say = say
        self._bodies = bodies
        self._scope = scope
        self._objects = objects
        self._port = port
        self._running: dict[int, asyncio.Task[None]] = {}

    def called(self, frame: frames.Call) -> None:
        """Begin a call."""
        self._start(frame.id, self._call(frame))

    def fetched(self, frame: frames.Fetch) -> None:
        """Begin a request."""
        if frame.streams:
            self._bodies.expect(frame.id, up=True)
        self._start(frame.id, self._fetch(frame))

    def cancelled(self, frame: frames.Cancel) -> None:
        """Nobody waits for it any more."""
        running = self._running.get(frame.id)
        if running is not None:
            running.cancel()

    async def _call(self, frame: frames.Call) -> None:
        _continue(frame)
        result = await self._objects.call(
            _target(frame), frame.method, frame.args, codec.decode(frame.props)
        )
        if isinstance(result, str):
            self._say(frames.Returned(frame.id, _limited(result)))
            return
        self._say(frames.Returned(frame.id, "", streams=True))
        await self._bodies.send(frame.id, _lines(result), up=False)

    async def _fetch(self, frame: frames.Fetch) -> None:
        _continue(frame)
        body: bytes | AsyncIterator[bytes] | None = frame.body
        if frame.streams:
            body = self._bodies.read(frame.id, up=True)
        headers = CIMultiDictProxy(CIMultiDict(frame.headers))
        request = Request(frame.method, frame.url, headers=headers, body=body)
        note_request(request)
        if frame.socket is not None:
            request.socket_port = self._port(frame.socket)
        props = codec.decode(frame.props)
        response = await self._objects.fetch(_target(frame), request, props)
        whole, streams = split(response)
        self._say(
            frames.Answer(frame.id, response.status, head_of(response), whole, streams)
        )
        if streams:
            await self._bodies.send(frame.id, response.body, up=False)

    def _start(self, id: int, work: Coroutine[Any, Any, None]) -> None:
        running = self._scope.start(self._run(id, work))
        self._running[id] = running
        running.add_done_callback(lambda _: self._running.pop(id, None))

    async def _run(self, id: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            error = Unavailable("the object's node is shutting down")
            self._say(frames.Failed(id, fault_of(error)))
            raise
        except DurableError as error:
            self._say(frames.Failed(id, fault_of(error)))
        except Exception as error:  # the user's code
            log.exception("an object failed")
            self._say(frames.Failed(id, fault_of(error)))
        finally:
            self._bodies.ignore(id, up=True)


def _limited(result: str) -> str:
    if len(result) > MAX_RESULT_BYTES:
        raise ValueRefused(
            f"a result is at most {MAX_RESULT_BYTES} bytes as text, this has "
            f"{len(result)}: return a part, or yield one after the other"
        )
    return result


async def _lines(results: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Results as a body; the codec's text has no line feeds."""
    try:
        async for result in results:
            yield _limited(result).encode() + b"\n"
    finally:
        await aclose(results)


def _continue(frame: frames.Call | frames.Fetch) -> None:
    """What this task runs is awaited elsewhere."""
    is_awaited_elsewhere.set(frame.nested)
    if frame.blocked:
        continue_chain(tuple(UUID(bytes=value) for value in frame.blocked))


def _target(frame: frames.Call | frames.Fetch) -> DurableObjectId:
    return DurableObjectId(UUID(bytes=frame.object), frame.name)
