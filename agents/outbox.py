"""Messages from agent to agent that are applied exactly once.

Promise: a message commits with the sender's writes. It is delivered at least once, in
the order of sending to that agent, and applied once: the receiver runs it in a
transaction together with its high-water mark of this sender, and ignores what isn't
above the mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agents import work_clock
from agents.jobs import decoded, encoded_payload
from agents.outbox_store import MessageOrigin, MessageRow, OutboxStore, PairRow
from agents.work_clock import milliseconds
from agents.work_rows import Rows
from durable import DurableError, DurableObjectStub, StartFailed, must_await

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.work import Work

KIND = "message"
INBOX_SPACE = "work-inbox"
# An agent that can't be reached is tried again after 1 s, 2, 4 … at most so much later.
MAX_PAUSE_SECONDS = 300.0
# A message that can't be delivered for so long becomes a dead letter.
MAX_AGE_SECONDS = 24 * 3600.0


class MarkRow(msgspec.Struct):
    """The last message of a sender that was applied."""

    epoch: str
    number: int


class Outbox:
    """The messages that one agent sends."""

    __slots__ = ("_agent", "_sending", "_store", "_work")

    def __init__(self, agent: Agent[Any, Any], work: Work) -> None:
        self._agent = agent
        self._work = work
        self._store = OutboxStore(agent.ctx.storage)
        # Agents that something is being sent to right now.
        self._sending: set[str] = set()
        work.dead.replayed_by(KIND, self._replay)

    async def add(self, other: Any, method: str, args: Sequence[Any]) -> str:
        """Send a message with the next commit; returns its id."""
        if not isinstance(other, DurableObjectStub):
            raise TypeError(
                "send() takes a stub: of get_agent_by_name, or of a namespace in env, "
                f"not a {type(other).__name__}"
            )
        if not method or method.startswith("_"):
            raise ValueError(f"{method!r} is no public method")
        message = MessageOrigin(
            tag=other.id.tag,
            id=str(other.id),
            name=other.id.name,
            method=method,
            args=encoded_payload([*args]),
        )
        key = await self._store.append(message, milliseconds(work_clock.now()))
        await self._wake(message.id)
        return key

    # --- what the alarm does

    async def start(self, now: int) -> None:
        """Begin to send what waits."""
        for pair in await self._store.waiting():
            if pair.id not in self._sending and pair.again <= now:
                self._sending.add(pair.id)
                self._agent.ctx.wait_until(self._send(pair))

    async def next_due(self) -> int | None:
        """When the alarm must come."""
        beat = self._work.heartbeat()
        return min(
            (
                beat if pair.id in self._sending else pair.again
                for pair in await self._store.waiting()
            ),
            default=None,
        )

    async def _send(self, pair: PairRow) -> None:
        """Send one agent what there is for it, one message after another."""
        try:
            while keys := await self._store.to(pair.id):
                for key in keys:
                    if not await self._deliver(pair, key):
                        return
        finally:
            self._sending.discard(pair.id)

    async def _deliver(self, pair: PairRow, key: str) -> bool:
        """Send a message until it is settled; False if the agent can't be reached."""
        row = await self._store.messages.get(key)
        options = type(self._agent).retry_options
        while row is not None:
            try:
                await self._call(pair, key, row)
            except Exception as error:  # noqa: BLE001  # the receiver's, or the way to it
                if _is_unreachable(error) and _age(row) < MAX_AGE_SECONDS:
                    await self._put_off(pair)
                    return False
                row.attempts += 1
                final = isinstance(error, LookupError) or _is_unreachable(error)
                if final or row.attempts >= options.max_attempts:
                    await self._bury(pair, key, row, error)
                    return True
                self._store.messages.put(key, row)
                await work_clock.clock.sleep(options.pause(row.attempts))
            else:
                self._store.messages.delete(key)
                break
        if pair.failures:
            await self._reached(pair)
        return True

    async def _call(self, pair: PairRow, key: str, row: MessageRow) -> None:
        number = int(key.partition(":")[2])
        sender = str(self._agent.ctx.id)
        args = decoded(row.args)
        # A call leaves behind all writes before it: the message is durable.
        stub = self._stub(pair)
        await stub.deliver_message(sender, pair.epoch, number, row.method, args)

    def _stub(self, pair: PairRow) -> Any:
        for namespace in self._agent.env.namespaces.values():
            if namespace.tag == pair.tag:
                # By its name if it has one: it may never have been awake.
                if pair.name is not None:
                    return namespace.get_by_name(pair.name)
                return namespace.get(namespace.id_from_string(pair.id))
        raise LookupError("the class of the receiver isn't bound here any more")

    async def _put_off(self, pair: PairRow) -> None:
        pause = min(2.0 ** min(pair.failures, 30), MAX_PAUSE_SECONDS)
        pair.failures += 1
        pair.again = milliseconds(work_clock.now() + pause)
        self._note(pair)
        await self._work.wake_by(pair.again)

    async def _reached(self, pair: PairRow) -> None:
        pair.failures, pair.again = 0, 0
        self._note(pair)

    def _note(self, pair: PairRow) -> None:
        # More may have been sent meanwhile: only what is ours is changed.
        current = self._store.pairs.known(pair.id)
        if current is not None:
            current.failures, current.again = pair.failures, pair.again
            self._store.pairs.put(pair.id, current)

    async def _bury(
        self, pair: PairRow, key: str, row: MessageRow, error: Exception
    ) -> None:
        origin = MessageOrigin(
            tag=pair.tag, id=pair.id, name=pair.name, method=row.method, args=row.args
        )
        if await self._store.messages.get(key) is not None:
            await self._work.dead.add(
                kind=KIND,
                id=key,
                callback=row.method,
                payload=row.args,
                origin=origin,
                error=error,
            )
            self._store.messages.delete(key)
        await self._agent.report(error)

    async def _replay(self, origin: msgspec.Raw) -> None:
        await self._store.restore(origin, milliseconds(work_clock.now()))
        message = msgspec.json.decode(origin, type=MessageOrigin)
        await self._wake(message.id)

    async def _wake(self, id: str) -> None:
        await self._work.wake_by(
            self._work.heartbeat()
            if id in self._sending
            else milliseconds(work_clock.now())
        )


class Inbox:
    """The messages that one agent receives."""

    __slots__ = ("_agent", "_marks")

    def __init__(self, agent: Agent[Any, Any]) -> None:
        self._agent = agent
        self._marks = Rows(agent.ctx.storage, INBOX_SPACE, MarkRow)

    async def receive(
        self, sender: str, epoch: str, number: int, method: str, args: Sequence[Any]
    ) -> None:
        """Apply a message, unless it was applied; all it writes, or nothing."""
        async with self._agent.ctx.storage.transaction():
            mark = await self._marks.get(sender)
            if mark is not None and (epoch, number) <= (mark.epoch, mark.number):
                return
            result = self._agent.call_method(method, args, {})
            if must_await(result):
                await result
            self._marks.put(sender, MarkRow(epoch, number))


def _is_unreachable(error: Exception) -> bool:
    """Whether the message may be applied yet, or was: it must be sent again."""
    return isinstance(error, DurableError) and (
        error.retryable or error.overloaded or isinstance(error, StartFailed)
    )


def _age(row: MessageRow) -> float:
    return work_clock.now() - row.created / 1000
