"""What clients ask of a chat: turns, cancelling, clearing, messages of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agents import work_clock
from agents.chat import protocol
from agents.chat.transcript_rules import (
    Message,
    readable,
    reconcile,
    to_delete,
    trailing_users,
)
from agents.chat.turn_order import Turn

if TYPE_CHECKING:
    from agents.chat.chat_agent import AIChatAgent
    from agents.chat.delivery import Delivery
    from agents.chat.tools import Tools
    from agents.chat.transcript import Transcript
    from agents.chat.turn_store import TurnStore
    from agents.chat.turns import Turns
    from agents.connection import Connection

REFUSALS = {
    "reject": "Another message is being answered.",
    "full": "Too many messages wait to be answered.",
}


class Requests:
    """The requests of one chat's clients, and the agent's own."""

    __slots__ = ("_agent", "_delivery", "_store", "_tools", "_transcript", "_turns")

    def __init__(
        self,
        agent: AIChatAgent[Any, Any],
        transcript: Transcript,
        store: TurnStore,
        turns: Turns,
        tools: Tools,
        delivery: Delivery,
    ) -> None:
        self._agent = agent
        self._transcript = transcript
        self._store = store
        self._turns = turns
        self._tools = tools
        self._delivery = delivery

    async def asked(self, connection: Connection, frame: Mapping[str, Any]) -> None:
        """A client asks for a turn."""
        request = protocol.chat_request(frame)
        if request is None:
            return
        # Read first: from admitting the turn to writing it down nothing is awaited.
        stored = await self._transcript.read_all()
        ids, known = trailing_users(request.messages), {m["id"] for m in stored}
        turn = Turn(
            request.id,
            message_ids=ids,
            new_ids=[id for id in ids if id not in known],
            is_submit=request.is_submit,
            connection=connection,
            body=request.body,
            client_tools=request.client_tools,
        )
        admission = self._turns.order.admit(
            turn, self._agent.chat_concurrency, work_clock.now()
        )
        if not admission.accepted:
            await self._refuse(connection, turn, admission.refusal)
            return
        messages = request.messages
        undone: set[str] = set()
        if admission.undo and admission.stop is not None:
            undone = self._traces(admission.stop)
            messages = [m for m in messages if m["id"] not in undone]
        self._tools.forget()
        self._turns.admitted(admission)
        self._transcript.delete(undone)
        kept = [m for m in stored if m["id"] not in undone]
        self.store(messages, kept, is_request=True)
        await self._turns.accept(turn)
        # Who was made to forget a message of his own must hear of it, too.
        await self.tell_transcript(None if undone else connection)

    def cancelled(self, connection: Connection, frame: Mapping[str, Any]) -> None:
        """A client stops a turn."""
        id = frame.get("id")
        turn = self._turns.order.find(id) if isinstance(id, str) else None
        if turn is not None:
            self._turns.abort(turn, "a client cancelled it")

    async def cleared(
        self, connection: Connection | None, frame: Mapping[str, Any] | None = None
    ) -> None:
        """Forget everything that was said."""
        self._tools.forget()
        self._turns.forget()
        await self._transcript.clear()
        await self._store.clear()
        self._delivery.all(protocol.CLEARED, connection)

    async def sent(self, connection: Connection, frame: Mapping[str, Any]) -> None:
        """A client has changed its transcript: store it, and tell the others."""
        if isinstance(frame.get("messages"), list):
            await self.persist(readable(frame["messages"]), connection)

    async def persist(
        self, messages: Sequence[Message], without: Connection | None = None
    ) -> None:
        """Store messages by their ids, and tell everybody but one."""
        self.store(messages, await self._transcript.read_all())
        await self.tell_transcript(without)

    def store(
        self,
        messages: Sequence[Message],
        stored: Sequence[Message],
        *,
        is_request: bool = False,
    ) -> None:
        """Write what differs from what is stored."""
        gone = to_delete(messages, stored) if is_request else []
        known = {message["id"]: message for message in stored}
        for message in reconcile(messages, stored):
            if known.get(message["id"]) != message:
                self._transcript.put(message)
        self._transcript.delete(gone)
        self._transcript.trim(self._agent.max_persisted_messages)

    async def tell_transcript(self, without: Connection | None = None) -> None:
        """Send the whole transcript to all but one."""
        if self._delivery.others(without):
            frame = protocol.messages(await self._transcript.all_raw())
            self._delivery.all(frame, without)

    async def _refuse(
        self, connection: Connection, turn: Turn, refusal: str | None
    ) -> None:
        """The client forgets the message that it shows already."""
        frame = protocol.messages(await self._transcript.all_raw())
        self._delivery.one(connection, frame)
        text = REFUSALS.get(refusal or "")
        end = protocol.response(
            turn.id,
            text or "",
            error=text is not None,
            outcome=None if text else "skipped",
            messageIds=turn.message_ids,
        )
        self._delivery.one(connection, end)

    def _traces(self, turn: Turn) -> set[str]:
        """The ids of what a turn that is rolled back was asked and has said."""
        ids = {*turn.new_ids}
        if self._turns.stream is not None and not turn.continuation:
            ids.add(self._turns.stream.message_id)
        return ids - {""}
