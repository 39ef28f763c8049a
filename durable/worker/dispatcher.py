"""Events to a worker's objects: finds the live activation, or makes one, just one.

Every event of every object enters here: requests, calls, socket messages. While a shard
is handed over only what running handlers call still enters its objects; afterwards
nothing does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.errors import Deadlock, Moved, Overloaded, Unavailable
from durable.domain.ids import DurableObjectId, shard_of
from durable.domain.writes import ObjectRow
from durable.objects.activation import Activation, current_activation
from durable.objects.activation_context import ActivationContext
from durable.objects.alarm_run import run_alarm
from durable.objects.call_chain import blocked_objects
from durable.objects.durable_object import DurableObject
from durable.objects.retirement import has_hook, retire
from durable.tasks import TaskScope

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.ports import CommitLog
    from durable.domain.writes import Claim
    from durable.objects.http import Request
    from durable.objects.websocket import SocketRecord
    from durable.objects.write_back import WriteBack

log = logging.getLogger(__name__)

EVICTED_IN_A_ROW = 50

# Whether a handler on another worker waits for the call that is delivered.
is_awaited_elsewhere: ContextVar[bool] = ContextVar(
    "is_awaited_elsewhere", default=False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What the dispatcher must know of shards: whose they are, and their lane."""

    shards: int
    claim_of: Callable[[int], Claim | None]
    lane: Callable[[], CommitLog]


class Dispatcher:
    """The live activations of a worker, and the way to them."""

    def __init__(
        self,
        *,
        classes: Mapping[int, type[DurableObject]],
        ownership: Ownership,
        make_context: Callable[[Callable[[Activation], None]], ActivationContext],
        max_waiting: int,
    ) -> None:
        self._classes = classes
        self._ownership = ownership
        self._max_waiting = max_waiting
        self._live: dict[UUID, Activation] = {}
        self._of_shard: dict[int, dict[UUID, Activation]] = {}
        # Of activations that are gone while a commit of theirs may still land.
        self._unsettled: dict[UUID, WriteBack] = {}
        self._context = make_context(self._gone)
        # Shards that are being handed over, and activations whose lane is lost.
        self._leaving: set[int] = set()
        self._suspended: set[Activation] = set()
        # No event enters these any more: they do what is left to do, and end.
        self._retiring: dict[Activation, asyncio.Task[None]] = {}
        self._scope = TaskScope("retiring")
        # Counts the evictor's rounds; an activation remembers the one of its last use.
        self._round = 0

    def __len__(self) -> int:
        return len(self._live)

    async def fetch(
        self, object_id: DurableObjectId, request: Request, props: Any
    ) -> Any:
        """Deliver an HTTP request."""
        return await self._enter(object_id, props).fetch(request)

    async def call(
        self,
        object_id: DurableObjectId,
        method: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        props: Any,
    ) -> Any:
        """Deliver a call."""
        return await self._enter(object_id, props).call(method, args, kwargs)

    async def alarm(self, object_id: UUID, alarm: Alarm) -> None:
        """Deliver an alarm."""
        await run_alarm(self._enter(DurableObjectId(object_id), None), alarm)

    def warm(self, object_id: UUID) -> None:
        """Wake an object that has work in a moment."""
        try:
            live = self._live.get(object_id)
            if live is None:
                live = self._activate(DurableObjectId(object_id), None)
            live.used = self._round
        except Moved:
            log.debug("not woken: its shard has left")

    def socket_message(
        self, object_id: DurableObjectId, record: SocketRecord, message: str | bytes
    ) -> None:
        """Deliver a client's message.

        Raises:
            Moved: the object's shard isn't owned here (any more).
            Overloaded: too many events wait for the object.
        """
        live = self._live.get(object_id.value)
        if (
            live is None
            or self._leaving
            or live.input_gate.waiting >= self._max_waiting
        ):
            live = self._enter(object_id, None)
        live.used = self._round
        live.socket_events.message(record, message)

    def socket_closed(
        self,
        object_id: DurableObjectId,
        record: SocketRecord,
        code: int,
        reason: str,
        was_clean: bool,
    ) -> None:
        """Deliver the end of a client's socket, also to an object with much to do.

        Raises:
            Moved: the object sleeps, and its shard isn't owned here (any more).
        """
        self._context.sockets.remove(object_id.value, record)
        live = self._live.get(object_id.value) or self._activate(object_id, None)
        live.used = self._round
        live.socket_events.closed(record, code, reason, was_clean)

    def socket_restored(self, object_id: DurableObjectId, record: SocketRecord) -> None:
        """The last owner of a socket was lost: let its object say again what it must.

        Raises:
            Moved: the object's shard isn't owned here (any more).
            Overloaded: too many events wait for the object.
        """
        hook = self._classes[object_id.tag].websocket_restored
        if hook is not DurableObject.websocket_restored:
            self._enter(object_id, None).socket_events.restored(record)

    def activations(self) -> list[Activation]:
        """All that are live."""
        return [*self._live.values(), *self._retiring]

    async def evict_idle(self, rounds: int) -> int:
        """One round of the evictor: end what was idle for so many; returns how many."""
        self._round += 1
        oldest = self._round - rounds
        evicted = 0
        for activation in [a for a in self._live.values() if a.used < oldest]:
            if activation.used < oldest and activation.is_idle:
                self._retire(activation, "idle")
                evicted += 1
                if evicted % EVICTED_IN_A_ROW == 0:
                    # Whoever waits for the loop goes first.
                    await asyncio.sleep(0)
        for object_id, rows in list(self._unsettled.items()):
            if not rows.is_unsettled:
                del self._unsettled[object_id]
        return evicted

    async def evict(self, activation: Activation) -> None:
        """End one that is idle; returns when its hook has ended."""
        self._retire(activation, "idle")
        if activation in self._retiring:
            await asyncio.wait([self._retiring[activation]])

    def reset_all(self, error: Exception) -> None:
        """The lane is lost: nothing of these lives may leave or be written."""
        for activation in self.activations():
            activation.reset(error)

    # --- shards that come and go

    def admit(self, shards: Collection[int]) -> None:
        """These shards are served here: let events in."""
        self._leaving.difference_update(shards)

    def suspend(self, shards: Collection[int]) -> None:
        """The lane is lost: events wait at the gates, effects at theirs."""
        for activation in self._in(shards):
            if activation not in self._suspended:
                activation.input_gate.lock()
                self._suspended.add(activation)

    def resume(self, claims: Sequence[Claim]) -> None:
        """Nobody was in between: activations go on under their new claims."""
        for claim in claims:
            for activation in self._in([claim.shard]):
                activation.claim = activation.rows.claim = claim
                if activation in self._suspended:
                    self._suspended.discard(activation)
                    activation.input_gate.unlock(0)

    def reset(self, shards: Collection[int], error: Exception) -> None:
        """These are lost: nothing of their objects' lives may leave or be written."""
        self._leaving.difference_update(shards)
        for activation in self._in(shards):
            activation.reset(error)

    async def hand_over(self, shards: Collection[int], grace: float) -> None:
        """End the activations of shards that go elsewhere.

        New root events get Moved from now on. What runs gets ``grace`` seconds, and
        what it calls still enters; then all is durable, or reset. Nothing is alive
        when this returns, and late writes raise.
        """
        self._leaving.update(shards)
        try:
            async with asyncio.timeout(grace):
                while live := self._in(self._leaving.intersection(shards)):
                    for activation in live:
                        if activation not in self._retiring:
                            await activation.settle()
                            # In the same turn: nothing can have entered since.
                            self._retire(activation, "moved")
                    if retiring := [
                        self._retiring[a] for a in live if a in self._retiring
                    ]:
                        await asyncio.wait(retiring)
        except TimeoutError:
            log.warning("handlers outlasted the hand-over and were cancelled")
        for activation in self._in(self._leaving.intersection(shards)):
            activation.reset(Unavailable("the object moves to another worker"))

    def _in(self, shards: Collection[int]) -> list[Activation]:
        none: dict[UUID, Activation] = {}
        live = [a for s in shards for a in self._of_shard.get(s, none).values()]
        return live + [a for a in self._retiring if a.claim.shard in shards]

    def _enter(self, object_id: DurableObjectId, props: Any) -> Activation:
        blocked = blocked_objects()
        if object_id.value in blocked:
            raise Deadlock(_circle(object_id, blocked))
        live = self._live.get(object_id.value)
        if live is None:
            live = self._activate(object_id, props)
        elif self._leaving and live.claim.shard in self._leaving and _is_root():
            raise Moved(f"shard {live.claim.shard} moves to another worker")
        elif live.input_gate.waiting >= self._max_waiting:
            raise Overloaded("Durable Object is overloaded. Too many requests queued.")
        live.used = self._round
        return live

    def _activate(self, object_id: DurableObjectId, props: Any) -> Activation:
        shard = shard_of(object_id.value, self._ownership.shards)
        claim = self._ownership.claim_of(shard)
        if claim is None or (shard in self._leaving and _is_root()):
            raise Moved(f"shard {shard} is not owned by this worker")
        activation = Activation(
            object_id,
            ObjectRow(object_id.tag, object_id.name),
            self._classes[object_id.tag],
            claim,
            self._ownership.lane(),
            self._context,
            props,
            self._unsettled.get(object_id.value),
        )
        self._live[object_id.value] = activation
        self._of_shard.setdefault(shard, {})[object_id.value] = activation
        return activation

    def _retire(self, activation: Activation, reason: str) -> None:
        """End an activation that is idle; its hook runs while the next one waits."""
        if not has_hook(activation):
            activation.deactivate()
            return
        activation.rows.retiring = True
        self._forget(activation)
        self._unsettled[activation.id.value] = activation.rows
        self._retiring[activation] = self._scope.start(retire(activation, reason))

    def _forget(self, activation: Activation) -> None:
        if self._live.get(activation.id.value) is activation:
            del self._live[activation.id.value]
            of_shard = self._of_shard[activation.claim.shard]
            del of_shard[activation.id.value]
            if not of_shard:
                del self._of_shard[activation.claim.shard]

    def _gone(self, activation: Activation) -> None:
        self._forget(activation)
        self._retiring.pop(activation, None)
        self._suspended.discard(activation)
        if activation.rows.is_unsettled:
            self._unsettled[activation.id.value] = activation.rows


def _circle(object_id: DurableObjectId, blocked: tuple[UUID, ...]) -> str:
    chain = blocked[blocked.index(object_id.value) :]
    called = " → ".join(each.hex for each in (*chain, object_id.value))
    return (
        f"{object_id.name or object_id} lets nobody in while it waits for this call "
        f"(block_concurrency_while, on_start or a transaction): {called}"
    )


def _is_root() -> bool:
    """Whether the event comes from outside, not from a handler that runs."""
    return current_activation.get() is None and not is_awaited_elsewhere.get()
