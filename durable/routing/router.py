"""Brings a call to its object's owner: the Invoker behind every stub.

What a caller passes is copied, as if the object were elsewhere. A call made by an
object waits at that object's output gate before it leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from durable.domain.errors import DurableError, Moved, RemoteError, Unavailable
from durable.domain.ids import DurableObjectId, shard_of
from durable.objects import codec
from durable.objects.activation import current_activation
from durable.tasks import TaskScope

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from durable.domain.writes import Claim
    from durable.objects.http import Request


class LocalObjects(Protocol):
    """The dispatcher of this process, as the router sees it."""

    async def fetch(
        self, object_id: DurableObjectId, request: Request, props: Any
    ) -> Any:
        """Deliver an HTTP request; Moved if the object isn't owned here."""

    async def call(
        self,
        object_id: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        """Deliver a call; Moved if the object isn't owned here."""


class Router:
    """Delivers to the owner, waiting a bounded time for there to be one."""

    def __init__(
        self,
        local: LocalObjects,
        *,
        shards: int,
        wait_for_claim: Callable[[int, float], Awaitable[Claim | None]],
        owner_address: Callable[[int], Awaitable[str | None]],
        patience: float,
    ) -> None:
        self._local = local
        self._shards = shards
        self._wait_for_claim = wait_for_claim
        self._owner_address = owner_address
        self._patience = patience
        # The caller gets what a call raises, unless it is gone itself.
        self._calls = TaskScope("calls", lambda error: log.debug("%s", error))

    async def fetch(self, target: DurableObjectId, request: Request, props: Any) -> Any:
        """Send an HTTP request to an object."""
        caller = current_activation.get()
        if caller is None:
            return await self._to_owner(
                target, lambda: self._local.fetch(target, request, props)
            )
        await caller.output_gate.wait()
        return await self._apart(
            self._to_owner(target, lambda: self._local.fetch(target, request, props))
        )

    async def call(
        self,
        target: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        """Call a method of an object; arguments and result are copies."""
        sent = codec.encode_text([list(args), kwargs])
        caller = current_activation.get()
        if caller is not None:
            await caller.output_gate.wait()

        async def deliver() -> str:
            got_args, got_kwargs = codec.decode(sent)
            try:
                result = await self._local.call(
                    target, method, got_args, got_kwargs, props
                )
            except (DurableError, asyncio.CancelledError):
                raise
            except Exception as error:
                raise RemoteError(str(error), name=type(error).__name__) from error
            return codec.encode_text(result)

        return codec.decode(await self._apart(self._to_owner(target, deliver)))

    async def _apart(self, work: Any) -> Any:
        """In a task of its own: the end of one object is not that of the other."""
        return await asyncio.shield(self._calls.start(work))

    async def _to_owner(
        self, target: DurableObjectId, deliver: Callable[[], Awaitable[Any]]
    ) -> Any:
        try:
            return await deliver()
        except Moved:
            shard = shard_of(target.value, self._shards)
        # Moved is raised before anything ran: sending again is safe.
        if await self._wait_for_claim(shard, self._patience) is not None:
            try:
                return await deliver()
            except Moved:
                pass
        address = await self._owner_address(shard)
        raise Unavailable(
            f"shard {shard} is owned by the worker at {address}, not by this node"
            if address
            else f"shard {shard} has no owner at the moment; try again"
        )
