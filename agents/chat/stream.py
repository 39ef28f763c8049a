"""The stream of a turn that runs: chunks go to the log, and make up the message."""

from __future__ import annotations

import asyncio
import copy
import secrets
from typing import TYPE_CHECKING, Any

from agents import work_clock
from agents.chat import protocol
from agents.chat.chunk_log import ChunkLog
from agents.chat.message_builder import MessageBuilder
from agents.work_clock import milliseconds
from durable import json_text

if TYPE_CHECKING:
    from agents.chat.transcript_rules import Message
    from agents.chat.ui_stream import Chunk


class StreamFailed(Exception):
    """The handler said ``error``: what was said before is kept."""


def new_message_id() -> str:
    """An id for an answer that was given none."""
    return f"assistant_{milliseconds(work_clock.now())}_{secrets.token_hex(5)}"


def builder_for(before: Message | None) -> MessageBuilder:
    """What makes a new answer, or goes on with the one before."""
    if before is not None:
        return MessageBuilder(copy.deepcopy(before))
    return MessageBuilder({"id": "", "role": "assistant", "parts": []})


class Stream:
    """A stream from its first chunk to its last."""

    __slots__ = ("_builder", "_is_continuation", "_moved", "log", "turn_id")

    def __init__(self, turn_id: str, log: ChunkLog, before: Message | None) -> None:
        self.turn_id = turn_id
        self.log = log
        self._moved = asyncio.Event()
        self._is_continuation = before is not None
        self._builder = builder_for(before)

    @property
    def moved(self) -> asyncio.Event:
        """Set when chunks were given out since, or the stream has ended."""
        return self._moved

    def move(self) -> None:
        """Wake those who follow the log."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    @property
    def message(self) -> Message:
        """The answer so far."""
        message = self._builder.message
        if not message["id"]:
            message["id"] = new_message_id()
        return message

    @property
    def message_id(self) -> str:
        """The answer's id; empty if it has none yet."""
        return str(self._builder.message["id"])

    @property
    def said_something(self) -> bool:
        """Whether there is an answer to keep."""
        return bool(self._builder.parts) or "metadata" in self._builder.message

    def take(self, given: Chunk) -> None:
        """Take the next chunk.

        Raises:
            StreamFailed: it is an error.
            ChunkRefused: it doesn't fit.
            ValueRefused: it isn't JSON.
        """
        if given.get("type") == "error":
            raise StreamFailed(str(given.get("errorText", "")))
        # Made JSON first: what is stored and sent is what is built of.
        raw = protocol.stored(self._adjusted(given), "chunk")
        self._builder.add(json_text.loads(raw))
        self.log.append(raw)

    def _adjusted(self, chunk: Chunk) -> Chunk:
        kind = chunk.get("type")
        if kind == "start":
            if self._is_continuation:
                return {k: v for k, v in chunk.items() if k != "messageId"}
            return {**chunk, "messageId": chunk.get("messageId") or self.message["id"]}
        if kind == "finish" and chunk.get("finishReason") is not None:
            rest = {k: v for k, v in chunk.items() if k != "finishReason"}
            known: Any = chunk.get("messageMetadata") or {}
            reason = {"finishReason": chunk["finishReason"]}
            return {**rest, "messageMetadata": {**known, **reason}}
        return chunk
