"""Events to a worker's objects: finds the live activation, or makes one, just one.

Every event of every object enters here: requests, calls, socket messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from durable.domain.errors import Moved, Overloaded
from durable.domain.ids import DurableObjectId, shard_of
from durable.domain.writes import ObjectRow
from durable.objects.activation import Activation
from durable.objects.activation_context import ActivationContext
from durable.objects.alarm_run import run_alarm

if TYPE_CHECKING:
    from durable.domain.alarms import Alarm
    from durable.domain.ports import CommitLog
    from durable.domain.writes import Claim
    from durable.objects.durable_object import DurableObject
    from durable.objects.http import Request
    from durable.objects.websocket import SocketRecord
    from durable.objects.write_back import WriteBack


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
        # Of activations that are gone while a commit of theirs may still land.
        self._unsettled: dict[UUID, WriteBack] = {}
        self._context = make_context(self._gone)
        self._draining = False
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

    def socket_message(
        self, object_id: DurableObjectId, record: SocketRecord, message: str | bytes
    ) -> None:
        """Deliver a client's message.

        Raises:
            Moved: the object's shard isn't owned here (any more).
            Overloaded: too many events wait for the object.
        """
        live = self._live.get(object_id.value)
        if live is None or live.input_gate.waiting >= self._max_waiting:
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
        """Deliver the end of a client's socket, also to an object with much to do."""
        self._context.sockets.remove(object_id.value, record)
        live = self._live.get(object_id.value) or self._activate(object_id, None)
        live.used = self._round
        live.socket_events.closed(record, code, reason, was_clean)

    def activations(self) -> list[Activation]:
        """All that are live."""
        return list(self._live.values())

    def evict_idle(self, rounds: int) -> int:
        """One round of the evictor: end what was idle for so many; returns how many."""
        self._round += 1
        oldest = self._round - rounds
        idle = [a for a in self._live.values() if a.used < oldest and a.is_idle]
        for activation in idle:
            activation.deactivate()
        for object_id, rows in list(self._unsettled.items()):
            if not rows.is_unsettled:
                del self._unsettled[object_id]
        return len(idle)

    def reset_all(self, error: Exception) -> None:
        """The lane is lost: nothing of these lives may leave or be written."""
        for activation in self.activations():
            activation.reset(error)

    def stop_activating(self) -> None:
        """This worker drains: what is not live stays asleep."""
        self._draining = True

    def _enter(self, object_id: DurableObjectId, props: Any) -> Activation:
        live = self._live.get(object_id.value)
        if live is None:
            live = self._activate(object_id, props)
        elif live.input_gate.waiting >= self._max_waiting:
            raise Overloaded("Durable Object is overloaded. Too many requests queued.")
        live.used = self._round
        return live

    def _activate(self, object_id: DurableObjectId, props: Any) -> Activation:
        shard = shard_of(object_id.value, self._ownership.shards)
        claim = self._ownership.claim_of(shard)
        if claim is None or self._draining:
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
        return activation

    def _gone(self, activation: Activation) -> None:
        if self._live.get(activation.id.value) is activation:
            del self._live[activation.id.value]
        if activation.rows.is_unsettled:
            self._unsettled[activation.id.value] = activation.rows
