"""A UI message out of the chunks of a stream, as the ``ai`` package makes it.

Pure. The parts are plain JSON values. What the stock client shows after the same chunks
is what is stored here: only so do the screen and the history agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from agents.chat.partial_json import parse_partial

Part = dict[str, Any]
Chunk = Mapping[str, Any]

# A tool part in one of these waits for somebody; in one of those it is settled.
OPEN_STATES = frozenset({"input-streaming", "input-available", "approval-requested"})
SETTLED_STATES = frozenset({"output-available", "output-error", "output-denied"})


class ChunkRefused(ValueError):
    """A chunk doesn't fit what came before it."""


def is_tool_part(part: Mapping[str, Any]) -> bool:
    """Whether a part is a call of a tool."""
    kind = part.get("type")
    return isinstance(kind, str) and (
        kind.startswith("tool-") or kind == "dynamic-tool"
    )


def tool_name(part: Mapping[str, Any]) -> str:
    """The name of a tool part's tool."""
    kind = str(part.get("type"))
    named = part.get("toolName") if kind == "dynamic-tool" else kind[5:]
    return str(named or "")


class MessageBuilder:
    """Takes chunks one after another; ``message`` is what they make up so far."""

    __slots__ = ("_inputs", "_reasonings", "_texts", "message")

    def __init__(self, message: dict[str, Any]) -> None:
        # Changed in place: a continuation goes on with the parts that are there.
        self.message = message
        self._texts: dict[str, Part] = {}
        self._reasonings: dict[str, Part] = {}
        # Tool calls whose input still streams: its text so far.
        self._inputs: dict[str, str] = {}

    @property
    def parts(self) -> list[Part]:
        """The parts so far."""
        parts: list[Part] = self.message["parts"]
        return parts

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk; one of an unknown kind changes nothing.

        Raises:
            ChunkRefused: a delta or an end without its start, an unknown tool call.
        """
        kind = chunk.get("type")
        if not isinstance(kind, str):
            raise ChunkRefused(f"a chunk has a type, this is {chunk!r}")
        act = self._ACTS.get(kind)
        try:
            if act is not None:
                act(self, chunk)
            elif kind.startswith("data-") and not chunk.get("transient"):
                self._data(chunk)
        except KeyError as error:
            raise ChunkRefused(f"a {kind} chunk lacks {error}") from None

    # --- text and reasoning

    def _start_text(self, chunk: Chunk) -> None:
        part = _part(chunk, "text", text="", state="streaming")
        self._texts[chunk["id"]] = part
        self.parts.append(part)

    def _start_reasoning(self, chunk: Chunk) -> None:
        part = _part(chunk, "reasoning", id=chunk["id"], text="", state="streaming")
        self._reasonings[chunk["id"]] = part
        self.parts.append(part)

    def _text(self, chunk: Chunk) -> None:
        _grow(_running(self._texts, chunk), chunk)

    def _reasoning(self, chunk: Chunk) -> None:
        _grow(_running(self._reasonings, chunk), chunk)

    def _end_text(self, chunk: Chunk) -> None:
        _finish(self._texts, chunk)

    def _end_reasoning(self, chunk: Chunk) -> None:
        _finish(self._reasonings, chunk)

    # --- tools

    def _tool_input_start(self, chunk: Chunk) -> None:
        call_id = chunk["toolCallId"]
        self._inputs[call_id] = ""
        self._update_tool(chunk, self._current_tool(call_id), "input-streaming")

    def _tool_input_delta(self, chunk: Chunk) -> None:
        call_id = chunk["toolCallId"]
        if call_id not in self._inputs:
            raise ChunkRefused(f"tool call {call_id!r} gets input without a start")
        self._inputs[call_id] += chunk["inputTextDelta"]
        part = self.tool(call_id)
        part["rawInput"] = self._inputs[call_id]
        given = parse_partial(self._inputs[call_id])
        if given is not None:
            part["input"] = given

    def _tool_input(self, chunk: Chunk) -> None:
        call_id = chunk["toolCallId"]
        self._inputs.pop(call_id, None)
        part = self._update_tool(chunk, self._current_tool(call_id), "input-available")
        part["input"] = chunk.get("input")
        part.pop("rawInput", None)

    def _tool_input_error(self, chunk: Chunk) -> None:
        call_id = chunk["toolCallId"]
        self._inputs.pop(call_id, None)
        part = self._update_tool(chunk, self._current_tool(call_id), "output-error")
        part["input"] = chunk.get("input")
        part["errorText"] = chunk["errorText"]
        part.pop("rawInput", None)

    def _approval_request(self, chunk: Chunk) -> None:
        part = self.tool(chunk["toolCallId"])
        part["state"] = "approval-requested"
        part["approval"] = {"id": chunk["approvalId"]}
        if chunk.get("reason") is not None:
            part["approval"]["requestReason"] = chunk["reason"]
        if chunk.get("isAutomatic") is True:
            part["approval"]["isAutomatic"] = True

    def _approval_response(self, chunk: Chunk) -> None:
        wanted = chunk["approvalId"]
        for part in filter(is_tool_part, self.parts):
            approval = part.get("approval") or {}
            if approval.get("id") == wanted:
                part["state"] = "approval-responded"
                part["approval"] = {**approval, "approved": chunk["approved"]}
                if chunk.get("reason") is not None:
                    part["approval"]["reason"] = chunk["reason"]
                return
        raise ChunkRefused(f"nothing asks for an approval {wanted!r}")

    def _tool_output(self, chunk: Chunk) -> None:
        part = self.tool(chunk["toolCallId"])
        self._update_tool(chunk, part, "output-available")
        part["output"] = chunk.get("output")
        part.pop("errorText", None)
        if chunk.get("preliminary") is None:
            part.pop("preliminary", None)
        else:
            part["preliminary"] = chunk["preliminary"]

    def _tool_output_error(self, chunk: Chunk) -> None:
        part = self.tool(chunk["toolCallId"])
        self._update_tool(chunk, part, "output-error")
        part["errorText"] = chunk["errorText"]
        part.pop("output", None)

    def _tool_output_denied(self, chunk: Chunk) -> None:
        self.tool(chunk["toolCallId"])["state"] = "output-denied"

    def tool(self, call_id: str) -> Part:
        """The part of a tool call: that of this step, else the last one.

        Raises:
            ChunkRefused: there is none.
        """
        part = self._current_tool(call_id)
        if part is None:
            for other in reversed(self.parts):
                if is_tool_part(other) and other.get("toolCallId") == call_id:
                    return other
            raise ChunkRefused(f"there is no tool call {call_id!r}")
        return part

    def _current_tool(self, call_id: str) -> Part | None:
        for part in reversed(self.parts):
            if part.get("type") == "step-start":
                return None
            if is_tool_part(part) and part.get("toolCallId") == call_id:
                return part
        return None

    def _update_tool(self, chunk: Chunk, part: Part | None, state: str) -> Part:
        if part is None:
            part = _new_tool(chunk)
            self.parts.append(part)
        part["state"] = state
        for name in ("title", "toolMetadata", "providerExecuted"):
            if chunk.get(name) is not None:
                part[name] = chunk[name]
        metadata = chunk.get("providerMetadata")
        if metadata is not None:
            settled = state in ("output-available", "output-error")
            kind = "resultProviderMetadata" if settled else "callProviderMetadata"
            part[kind] = metadata
        return part

    # --- the rest

    def _file(self, chunk: Chunk) -> None:
        part = _part(
            chunk, chunk["type"], mediaType=chunk["mediaType"], url=chunk["url"]
        )
        self.parts.append(part)

    def _source(self, chunk: Chunk) -> None:
        names = ("sourceId", "url", "mediaType", "title", "filename")
        given = {name: chunk[name] for name in names if chunk.get(name) is not None}
        self.parts.append(_part(chunk, chunk["type"], **given))

    def _data(self, chunk: Chunk) -> None:
        kind, given = chunk["type"], chunk.get("id")
        for part in self.parts:
            if given is not None and (part["type"], part.get("id")) == (kind, given):
                part["data"] = chunk["data"]
                return
        part = {"type": kind, "data": chunk["data"]}
        if given is not None:
            part["id"] = given
        self.parts.append(part)

    def _start_step(self, chunk: Chunk) -> None:
        self.parts.append({"type": "step-start"})

    def _start(self, chunk: Chunk) -> None:
        if chunk.get("messageId") is not None:
            self.message["id"] = chunk["messageId"]
        self._metadata(chunk)

    def _metadata(self, chunk: Chunk) -> None:
        given = chunk.get("messageMetadata")
        if given is not None:
            self.message["metadata"] = _merged(self.message.get("metadata"), given)

    _ACTS: ClassVar[dict[str, Callable[[MessageBuilder, Chunk], None]]] = {
        "start": _start,
        "start-step": _start_step,
        "finish": _metadata,
        "message-metadata": _metadata,
        "text-start": _start_text,
        "text-delta": _text,
        "text-end": _end_text,
        "reasoning-start": _start_reasoning,
        "reasoning-delta": _reasoning,
        "reasoning-end": _end_reasoning,
        "tool-input-start": _tool_input_start,
        "tool-input-delta": _tool_input_delta,
        "tool-input-available": _tool_input,
        "tool-input-error": _tool_input_error,
        "tool-approval-request": _approval_request,
        "tool-approval-response": _approval_response,
        "tool-output-available": _tool_output,
        "tool-output-error": _tool_output_error,
        "tool-output-denied": _tool_output_denied,
        "file": _file,
        "reasoning-file": _file,
        "source-url": _source,
        "source-document": _source,
    }


def _part(chunk: Chunk, kind: str, **fields: Any) -> Part:
    part: Part = {"type": kind, **fields}
    if chunk.get("providerMetadata") is not None:
        part["providerMetadata"] = chunk["providerMetadata"]
    return part


def _new_tool(chunk: Chunk) -> Part:
    name = chunk["toolName"]
    if chunk.get("dynamic"):
        return {
            "type": "dynamic-tool",
            "toolName": name,
            "toolCallId": chunk["toolCallId"],
        }
    return {"type": f"tool-{name}", "toolCallId": chunk["toolCallId"]}


def _running(running: dict[str, Part], chunk: Chunk) -> Part:
    part = running.get(chunk["id"])
    if part is None:
        raise ChunkRefused(f"{chunk['type']} of {chunk['id']!r} comes without a start")
    return part


def _grow(part: Part, chunk: Chunk) -> None:
    part["text"] += chunk["delta"]
    if chunk.get("providerMetadata") is not None:
        part["providerMetadata"] = chunk["providerMetadata"]


def _finish(running: dict[str, Part], chunk: Chunk) -> None:
    part = _running(running, chunk)
    del running[chunk["id"]]
    part["state"] = "done"
    if chunk.get("providerMetadata") is not None:
        part["providerMetadata"] = chunk["providerMetadata"]


def _merged(old: Any, new: Any) -> Any:
    """Objects are merged at any depth; everything else is replaced."""
    if not isinstance(old, dict) or not isinstance(new, Mapping):
        return new
    merged = dict(old)
    for key, value in new.items():
        merged[key] = _merged(old.get(key), value)
    return merged
