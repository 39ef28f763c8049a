"""The chat in the words of the AI SDK 4, for pages of June 2025: the only such file.

Their ``useAgentChat`` (``agents/ai-react`` with ``ai`` 4) reads a *data stream*: lines
of a code, a colon and JSON. Which one a page reads isn't negotiated, so the class says
it: ``ai_sdk = 4``. What is stored is the same for all; what such pages send, every
class reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from agents.chat.message_builder import is_tool_part, tool_name

if TYPE_CHECKING:
    from agents.chat.transcript_rules import Message

_NO_USAGE = {"promptTokens": None, "completionTokens": None}


class Dialect:
    """How chunks and messages are sent; this one leaves them as they are."""

    def chunk(self, raw: bytes) -> bytes:
        """The body of a chunk's frame."""
        return raw

    def message(self, raw: bytes) -> bytes:
        """A stored message."""
        return raw


class DataStream(Dialect):
    """The AI SDK 4's."""

    def chunk(self, raw: bytes) -> bytes:
        """Lines of the data stream; empty if it has no such chunk."""
        said = _line(orjson.loads(raw))
        if said is None:
            return b""
        code, value = said
        return code.encode() + b":" + orjson.dumps(value) + b"\n"

    def message(self, raw: bytes) -> bytes:
        """With a ``content``, and parts of that time."""
        return orjson.dumps(as_v4(orjson.loads(raw)))


DIALECTS: Mapping[int, Dialect] = {4: DataStream(), 5: Dialect()}


def _line(chunk: Mapping[str, Any]) -> tuple[str, Any] | None:
    kind = chunk["type"]
    if kind in _TEXTS:
        return _TEXTS[kind], chunk.get("delta", chunk.get("errorText", ""))
    if kind.startswith("tool-"):
        return _tool_line(kind, chunk)
    if kind.startswith("data-"):
        return "2", [{"type": kind, "data": chunk.get("data")}]
    if kind == "start":
        return "f", {"messageId": chunk.get("messageId", "")}
    if kind == "finish-step":
        return "e", {"finishReason": "stop", "usage": _NO_USAGE, "isContinued": False}
    if kind == "finish":
        metadata = chunk.get("messageMetadata") or {}
        reason = metadata.get("finishReason", "stop")
        return "d", {"finishReason": reason, "usage": _NO_USAGE}
    if kind == "source-url":
        return "h", _source(chunk)
    if kind == "file":
        return "k", _file(chunk)
    return None


_TEXTS = {"text-delta": "0", "reasoning-delta": "g", "error": "3"}


def _tool_line(kind: str, chunk: Mapping[str, Any]) -> tuple[str, Any] | None:
    id = {"toolCallId": chunk.get("toolCallId", "")}
    name = {"toolName": chunk.get("toolName", "")}
    if kind == "tool-input-start":
        return "b", id | name
    if kind == "tool-input-delta":
        return "c", id | {"argsTextDelta": chunk.get("inputTextDelta", "")}
    if kind == "tool-input-available":
        return "9", id | name | {"args": chunk.get("input")}
    if kind == "tool-output-available":
        return "a", id | {"result": chunk.get("output")}
    if kind in ("tool-output-error", "tool-input-error"):
        return "a", id | {"result": chunk.get("errorText", "")}
    if kind == "tool-output-denied":
        return "a", id | {"result": "Tool execution denied by user"}
    return None


def as_v4(message: Message) -> dict[str, Any]:
    """A stored message for a page of that time."""
    parts: list[dict[str, Any]] = []
    for part in message["parts"]:
        kind = part["type"]
        if kind == "text":
            parts.append({"type": "text", "text": part.get("text", "")})
        elif kind == "reasoning":
            text = part.get("text", "")
            details = [{"type": "text", "text": text}]
            parts.append({"type": kind, "reasoning": text, "details": details})
        elif is_tool_part(part):
            call = _invocation(part)
            parts.append({"type": "tool-invocation", "toolInvocation": call})
        elif kind == "source-url":
            parts.append({"type": "source", "source": _source(part)})
        elif kind == "file":
            parts.append({"type": kind, **_file(part)})
        elif kind == "step-start":
            parts.append({"type": kind})
    content = "".join(part["text"] for part in parts if part["type"] == "text")
    head = {"id": message["id"], "role": message["role"]}
    return {**head, "content": content, "parts": parts}


def _invocation(part: Mapping[str, Any]) -> dict[str, Any]:
    call = {
        "toolCallId": part.get("toolCallId"),
        "toolName": tool_name(part),
        "args": part.get("input"),
    }
    state = part.get("state", "")
    if state == "input-streaming":
        return {"state": "partial-call", **call}
    if not state.startswith("output-"):
        return {"state": "call", **call}
    result = part.get("output", part.get("errorText", "Tool execution denied by user"))
    return {"state": "result", **call, "result": result}


def _source(given: Mapping[str, Any]) -> dict[str, Any]:
    source = {
        "sourceType": "url",
        "id": given.get("sourceId", ""),
        "url": given.get("url", ""),
    }
    return source if given.get("title") is None else {**source, "title": given["title"]}


def _file(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"mimeType": given.get("mediaType", ""), "data": given.get("url", "")}


def from_v4(given: Mapping[str, Any], content: str) -> Message | None:
    """A message of such a page as it is stored; None if its parts are none."""
    message = {key: given[key] for key in ("id", "role", "metadata") if key in given}
    parts = given.get("parts")
    if parts is None:
        return {**message, "parts": [{"type": "text", "text": content}]}
    if not isinstance(parts, list) or not all(isinstance(p, dict) for p in parts):
        return None
    read = [_read(part) for part in parts if isinstance(part.get("type"), str)]
    return {**message, "parts": read}


def _read(part: dict[str, Any]) -> dict[str, Any]:
    kind = part["type"]
    call, source = part.get("toolInvocation"), part.get("source")
    if kind == "tool-invocation" and isinstance(call, dict):
        return _read_call(call)
    if kind == "reasoning" and "reasoning" in part:
        return {"type": kind, "text": part["reasoning"]}
    if kind == "source" and isinstance(source, dict):
        id, url = source.get("id"), source.get("url")
        title = {"title": source["title"]} if "title" in source else {}
        return {"type": "source-url", "sourceId": id, "url": url, **title}
    if kind == "file" and "mimeType" in part:
        return {"type": kind, "mediaType": part["mimeType"], "url": part.get("data")}
    return part


def _read_call(call: Mapping[str, Any]) -> dict[str, Any]:
    states = {"partial-call": "input-streaming", "result": "output-available"}
    part = {
        "type": f"tool-{call.get('toolName')}",
        "toolCallId": call.get("toolCallId"),
        "state": states.get(str(call.get("state")), "input-available"),
        "input": call.get("args"),
    }
    return {**part, "output": call["result"]} if "result" in call else part
