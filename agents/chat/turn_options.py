"""What a chat handler is given, and what is told of a turn's end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

from agents.chat.transcript_rules import Message


class AbortSignal:
    """Whether a turn is to stop; ``aborted`` once it is, and ``wait`` returns.

    A handler needn't look: it is cancelled where it waits.
    """

    __slots__ = ("_event", "_scope", "reason")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._scope: asyncio.Timeout | None = None
        self.reason: str | None = None

    @property
    def aborted(self) -> bool:
        """Whether the turn is to stop."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when the turn is to stop."""
        await self._event.wait()

    def bind(self, scope: asyncio.Timeout) -> None:
        """Let ``abort`` end what runs in a scope."""
        self._scope = scope
        if self.aborted:
            scope.reschedule(0)

    def unbind(self) -> None:
        """What runs from now on isn't ended."""
        self._scope = None

    def abort(self, reason: str | None = None) -> None:
        """Stop the turn."""
        if self.aborted:
            return
        self.reason = reason
        self._event.set()
        if self._scope is not None:
            self._scope.reschedule(0)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What a turn is about: ``on_chat_message(options)``.

    ``body`` is what the client sent beside the messages; ``client_tools`` are its own
    tools (name, description, parameters); ``continuation``: the answer goes on after a
    tool's result; ``recoveries``: how often this turn was cut off before.
    """

    request_id: str
    abort_signal: AbortSignal
    client_tools: list[Any] | None
    body: dict[str, Any] | None
    continuation: bool
    recoveries: int = 0


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """How a turn ended: ``on_chat_response(response)``.

    ``status`` is ``completed``, ``error`` or ``aborted``; ``message`` is None if
    nothing was said.
    """

    message: Message | None
    request_id: str
    continuation: bool
    status: str
    error: str | None = None


class SavedTurn(NamedTuple):
    """A turn of the agent's own: its request's id, and how it ended.

    ``status`` is ``completed``, ``error``, ``aborted`` or ``skipped``.
    """

    request_id: str
    status: str
