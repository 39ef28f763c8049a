"""Chunks of a UI message stream: helpers that make them, and ``UIStream`` that orders.

What ``on_chat_message`` yields is text, a chunk, or what one of these helpers returns;
``UIStream`` makes a whole stream of it: a start, steps, opened and closed text, an end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

Chunk = dict[str, Any]
Chunks = list[Chunk]


def new_part_id() -> str:
    """An id for a part, a call or a message."""
    return secrets.token_urlsafe(12)


# --- helpers


def text(value: str, id: str | None = None) -> Chunks:
    """A text part, whole."""
    return _block("text", value, id)


def reasoning(value: str, id: str | None = None) -> Chunks:
    """A part of what the model thought, whole."""
    return _block("reasoning", value, id)


def tool_input_start(call_id: str, tool: str, *, dynamic: bool = False) -> Chunk:
    """A model begins to call a tool; its input follows."""
    chunk = {"type": "tool-input-start", "toolCallId": call_id, "toolName": tool}
    return {**chunk, "dynamic": True} if dynamic else chunk


def tool_input_delta(call_id: str, delta: str) -> Chunk:
    """A piece of a tool's input, which is JSON text."""
    return {
        "type": "tool-input-delta",
        "toolCallId": call_id,
        "inputTextDelta": delta,
    }


def tool_call(call_id: str, tool: str, input: Any, *, dynamic: bool = False) -> Chunk:
    """A call of a tool with its whole input."""
    chunk = {
        "type": "tool-input-available",
        "toolCallId": call_id,
        "toolName": tool,
        "input": input,
    }
    return {**chunk, "dynamic": True} if dynamic else chunk


def tool_approval(call_id: str, approval_id: str | None = None) -> Chunk:
    """A call waits until a person approves or denies it."""
    return {
        "type": "tool-approval-request",
        "toolCallId": call_id,
        "approvalId": approval_id or new_part_id(),
    }


def tool_output(call_id: str, output: Any, *, preliminary: bool = False) -> Chunk:
    """What a tool returned; ``preliminary``: more will come."""
    chunk = {"type": "tool-output-available", "toolCallId": call_id, "output": output}
    return {**chunk, "preliminary": True} if preliminary else chunk


def tool_error(call_id: str, error: str) -> Chunk:
    """A tool failed."""
    return {"type": "tool-output-error", "toolCallId": call_id, "errorText": error}


def tool_denied(call_id: str) -> Chunk:
    """A tool was not allowed to run."""
    return {"type": "tool-output-denied", "toolCallId": call_id}


def data(
    name: str, value: Any, id: str | None = None, *, transient: bool = False
) -> Chunk:
    """Data of the application: ``data-NAME``; a later one of the same id replaces it.

    ``transient`` data is shown and not kept in the message.
    """
    chunk: Chunk = {"type": f"data-{name}", "data": value}
    if id is not None:
        chunk["id"] = id
    return {**chunk, "transient": True} if transient else chunk


def file(url: str, media_type: str) -> Chunk:
    """A file by its URL, which may be a ``data:`` one."""
    return {"type": "file", "url": url, "mediaType": media_type}


def source_url(url: str, title: str | None = None, id: str | None = None) -> Chunk:
    """A page that the answer rests on."""
    chunk = {"type": "source-url", "sourceId": id or new_part_id(), "url": url}
    return chunk if title is None else {**chunk, "title": title}


def source_document(
    title: str, media_type: str, filename: str | None = None, id: str | None = None
) -> Chunk:
    """A document that the answer rests on."""
    chunk = {
        "type": "source-document",
        "sourceId": id or new_part_id(),
        "mediaType": media_type,
        "title": title,
    }
    return chunk if filename is None else {**chunk, "filename": filename}


def metadata(value: Mapping[str, Any]) -> Chunk:
    """Metadata of the message, merged into what it has."""
    return {"type": "message-metadata", "messageMetadata": dict(value)}


def new_step() -> Chunks:
    """The model is asked once more: what follows is another step."""
    return [{"type": "finish-step"}, {"type": "start-step"}]


def error(message: str) -> Chunk:
    """The answer fails; what was said is kept."""
    return {"type": "error", "errorText": message}


def _block(kind: str, value: str, id: str | None) -> Chunks:
    at = id or new_part_id()
    return [
        {"type": f"{kind}-start", "id": at},
        {"type": f"{kind}-delta", "id": at, "delta": value},
        {"type": f"{kind}-end", "id": at},
    ]


# --- a whole stream


class UIStream:
    """Makes a well-formed stream of what a handler yields.

    A stream whose first chunk is a ``start`` is somebody else's and goes through as it
    is, but for text that is put in between. ``bare``: plain text, no start and no end.
    """

    __slots__ = ("_bare", "_foreign", "_in_step", "_started", "_text", "_text_id")

    def __init__(self, *, bare: bool = False, text_id: str | None = None) -> None:
        self._bare = bare
        self._text_id = text_id
        self._foreign = self._started = self._in_step = False
        # The id of the text part that is open.
        self._text: str | None = None

    def take(self, item: Any) -> Chunks:
        """The chunks for one item.

        Raises:
            TypeError: it is no text, no chunk and no list of chunks.
        """
        if isinstance(item, str):
            return self._said(item) if item else []
        if isinstance(item, Mapping):
            return self._chunk(dict(item))
        if isinstance(item, Iterable) and not isinstance(item, (bytes, bytearray)):
            return [chunk for one in item for chunk in self.take(one)]
        raise TypeError(
            "on_chat_message yields text or chunks of a UI message stream, not "
            f"{type(item).__name__}"
        )

    def end(self) -> Chunks:
        """The chunks that are missing at the end; none after an ``error``."""
        chunks = self._close_text()
        if self._bare or self._foreign:
            return chunks
        chunks = [*self._begin(), *chunks]
        if self._in_step:
            chunks.append({"type": "finish-step"})
        self._in_step = False
        return [*chunks, {"type": "finish"}]

    def _said(self, piece: str) -> Chunks:
        chunks = self._begin(step=True)
        if self._text is None:
            self._text = self._text_id or new_part_id()
            self._text_id = None
            chunks.append({"type": "text-start", "id": self._text})
        return [*chunks, {"type": "text-delta", "id": self._text, "delta": piece}]

    def _chunk(self, chunk: Chunk) -> Chunks:
        kind = chunk.get("type")
        if kind == "start" and not self._started:
            self._foreign = self._started = True
            return [chunk]
        if kind in ("error", "abort"):
            # What is open stays open: it was cut off.
            self._foreign, self._text = True, None
            return [*self._begin(), chunk]
        step = kind not in ("start-step", "finish-step", "finish", "message-metadata")
        chunks = [*self._begin(step=step), *self._close_text()]
        if kind == "start-step":
            self._in_step = True
        elif kind == "finish-step":
            self._in_step = False
        elif kind == "finish":
            if self._in_step and not self._foreign:
                chunks.append({"type": "finish-step"})
            self._foreign = True
        return [*chunks, chunk]

    def _begin(self, *, step: bool = False) -> Chunks:
        if self._bare or self._foreign:
            return []
        chunks: Chunks = []
        if not self._started:
            self._started = True
            chunks.append({"type": "start"})
        if step and not self._in_step:
            self._in_step = True
            chunks.append({"type": "start-step"})
        return chunks

    def _close_text(self) -> Chunks:
        at, self._text = self._text, None
        return [] if at is None else [{"type": "text-end", "id": at}]
