"""Brings a call to its object's owner: the Invoker behind every stub.

What a caller passes is copied, wherever the object is. A call made by an object waits
at that object's output gate before it leaves. While nobody owns the object's shard, or
it moves, the call waits; what an owner has begun is never sent to another one, but for
requests that only read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from durable.domain.clock import Clock, boottime
from durable.domain.errors import DurableError, LinkLost, Moved, Unavailable
from durable.domain.ids import DurableObjectId, shard_of
from durable.objects import codec
from durable.objects.activation import current_activation
from durable.objects.call_chain import blocked_objects, continue_chain
from durable.objects.http import aclose
from durable.routing.objects import Dispatching, LocalObjects, Objects, Returned
from durable.routing.shard_map import ShardMap
from durable.tasks import TaskScope

log = logging.getLogger(__name__)
T = TypeVar("T")

if TYPE_CHECKING:
    from durable.objects.http import Request, Response

_ONLY_READ = ("GET", "HEAD")


class Router:
    """Delivers to the owner, waiting up to ``patience`` seconds for there to be one.

    ``reach`` gives the objects of another node while there is a link to it.
    """

    def __init__(
        self,
        dispatcher: Dispatching,
        shard_map: ShardMap,
        *,
        shards: int,
        patience: float,
        reach: Callable[[UUID], Objects | None] = lambda _: None,
        clock: Clock = boottime,
    ) -> None:
        self.local = LocalObjects(dispatcher)
        self._map = shard_map
        self._shards = shards
        self._patience = patience
        self._reach = reach
        self._clock = clock
        # The caller gets what a call raises, unless it is gone itself.
        self._calls = TaskScope("calls", lambda error: log.debug("%s", error))

    async def fetch(
        self, target: DurableObjectId, request: Request, props: Any
    ) -> Response:
        """Send an HTTP request to an object."""

        def send(objects: Objects) -> Awaitable[Response]:
            return objects.fetch(target, request, props)

        # An upgrade may be sent again too: its socket is still ours.
        twice = request.method in _ONLY_READ and request.content is None
        caller = current_activation.get()
        if caller is None:
            return await self._to_owner(target, send, may_repeat=twice)
        await caller.output_gate.wait()
        sending = self._to_owner(target, send, may_repeat=twice)
        response: Response = await self._apart(sending)
        return response

    async def call(
        self,
        target: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        """Call a method of an object; arguments and result are copies.

        Of a method that streams an async iterator is returned.
        """
        sent = codec.encode_text([list(args), kwargs])
        caller = current_activation.get()
        if caller is not None:
            await caller.output_gate.wait()

        def send(objects: Objects) -> Awaitable[Returned]:
            return objects.call(target, method, sent, props)

        returned = await self._apart(self._to_owner(target, send))
        if isinstance(returned, str):
            return codec.decode(returned)
        results = _results(returned, target)
        # Begun, it is closed also when the caller drops it unread.
        await anext(results)
        return results

    async def _apart(self, work: Awaitable[T]) -> T:
        """In a task of its own: the end of one object is not that of the other."""
        blocked = blocked_objects()

        async def run() -> T:
            continue_chain(blocked)
            return await work

        return await asyncio.shield(self._calls.start(run()))

    async def _to_owner(
        self,
        target: DurableObjectId,
        send: Callable[[Objects], Awaitable[T]],
        *,
        may_repeat: bool = False,
    ) -> T:
        try:
            return await send(self.local)
        except Moved:
            # Raised before anything ran: sending again is safe.
            shard = shard_of(target.value, self._shards)
        until = self._clock() + self._patience
        while True:
            # Taken before we look: no change is missed.
            change = self._map.change()
            owner = self._map.owner(shard)
            objects = None if owner is None else self._reach(owner)
            if objects is not None:
                try:
                    return await send(objects)
                except Moved:
                    self._map.refresh()
                except LinkLost:
                    if not may_repeat:
                        raise
                    may_repeat = False
            await self._until_changed(change, until, shard)
            try:
                return await send(self.local)
            except Moved:
                continue

    async def _until_changed(
        self, change: asyncio.Future[None], until: float, shard: int
    ) -> None:
        left = until - self._clock()
        if left > 0:
            await asyncio.wait({change}, timeout=left)
        if not change.done():
            raise Unavailable(
                f"no owner of shard {shard} was reached within {self._patience:g} s; "
                "try again"
            )


async def _results(
    texts: AsyncIterator[str], target: DurableObjectId
) -> AsyncIterator[Any]:
    try:
        yield None
        async for text in texts:
            yield codec.decode(text)
    except DurableError as error:
        error.is_about(target)
        raise
    finally:
        await aclose(texts)
