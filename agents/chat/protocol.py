"""The frames of the chat protocol, as text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agents.chat.transcript_rules import Message, readable
from durable import json_text

REQUEST = "cf_agent_use_chat_request"
CANCEL = "cf_agent_chat_request_cancel"
CLEAR = "cf_agent_chat_clear"
MESSAGES = "cf_agent_chat_messages"
RESUME_REQUEST = "cf_agent_stream_resume_request"
RESUME_ACK = "cf_agent_stream_resume_ack"
TOOL_RESULT = "cf_agent_tool_result"
TOOL_APPROVAL = "cf_agent_tool_approval"

_RESPONSE = b'{"type":"cf_agent_use_chat_response","id":'
CLEARED = orjson.dumps({"type": CLEAR})

REGENERATE = "regenerate-message"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A turn that a client asks for."""

    id: str
    messages: list[Message]
    is_submit: bool
    client_tools: list[Any] | None
    # What else was in the body, if anything.
    body: dict[str, Any] | None


def chat_request(frame: Mapping[str, Any]) -> ChatRequest | None:
    """Read a request; None if it is none, which is ignored in silence."""
    init = frame.get("init")
    if not isinstance(frame.get("id"), str) or not isinstance(init, dict):
        return None
    text = init.get("body")
    if init.get("method") != "POST" or not isinstance(text, str):
        return None
    try:
        body = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        return None
    known = {"messages", "clientTools", "trigger"}
    rest = {key: value for key, value in body.items() if key not in known}
    return ChatRequest(
        id=frame["id"],
        messages=readable(body["messages"]),
        is_submit=body.get("trigger") != REGENERATE,
        client_tools=tools_of(body),
        body=rest or None,
    )


def tools_of(frame: Mapping[str, Any]) -> list[Any] | None:
    """The client's own tools, if it told any."""
    tools = frame.get("clientTools")
    return tools if isinstance(tools, list) and tools else None


def chunk(
    turn_id: str, raw: bytes, seq: int, *, continuation: bool, replay: bool = False
) -> bytes:
    """One chunk, which is JSON already."""
    head = _RESPONSE + orjson.dumps(turn_id) + b',"body":' + orjson.dumps(raw.decode())
    tail = b',"done":false,"seq":' + str(seq).encode()
    if continuation:
        tail += b',"continuation":true'
    if replay:
        tail += b',"replay":true'
    return head + tail + b"}"


def response(turn_id: str, body: str = "", *, done: bool = True, **more: Any) -> bytes:
    """A frame of a turn that is no chunk; members that are None or False are left out.

    ``more``: error, outcome, messageIds, continuation, replay, replayComplete.
    """
    frame = {"id": turn_id, "body": body, "done": done}
    given = {key: value for key, value in more.items() if value}
    return _dumped({"type": "cf_agent_use_chat_response", **frame, **given})


def messages(raws: Iterable[bytes]) -> bytes:
    """The whole transcript, whose messages are JSON already."""
    return b'{"type":"cf_agent_chat_messages","messages":[' + b",".join(raws) + b"]}"


def message_updated(raw: bytes) -> bytes:
    """One message has changed."""
    return b'{"type":"cf_agent_message_updated","message":' + raw + b"}"


def resuming(turn_id: str, probe: Any = None) -> bytes:
    """There is a stream: acknowledge to get it."""
    return _probed({"type": "cf_agent_stream_resuming", "id": turn_id}, probe)


def pending(turn_id: str, probe: Any = None) -> bytes:
    """There will be a stream: wait."""
    return _probed({"type": "cf_agent_stream_pending", "id": turn_id}, probe)


def resume_none(reason: str, probe: Any = None) -> bytes:
    """There is no stream: ``idle``, or ``continuation-owned`` by another."""
    return _probed({"type": "cf_agent_stream_resume_none", "reason": reason}, probe)


def recovering(turn_id: str, *, recovering: bool) -> bytes:
    """A turn that was cut off is being run again, or isn't any more."""
    frame = {"type": "cf_agent_chat_recovering", "recovering": recovering}
    return _dumped({**frame, "id": turn_id})


def stored(value: Any, what: str = "message") -> bytes:
    """JSON as it is stored and sent: what can't be is replaced, or refused.

    Raises:
        ValueRefused: it isn't JSON.
    """
    raw = json_text.dumps(value, what)
    # Postgres keeps no NUL in text; a model may have said one.
    return json_text.dumps(_without_nul(value), what) if b"\\u0000" in raw else raw


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {_without_nul(k): _without_nul(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_without_nul(item) for item in value]
    return value


def _probed(frame: dict[str, Any], probe: Any) -> bytes:
    if isinstance(probe, str) and probe:
        frame["probeId"] = probe
    return _dumped(frame)


def _dumped(frame: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(frame)
    except orjson.JSONEncodeError:
        # A lone surrogate in an error's text must not hide the error.
        clean = {
            key: value.encode("utf-8", "replace").decode()
            if isinstance(value, str)
            else value
            for key, value in frame.items()
        }
        return orjson.dumps(clean)
