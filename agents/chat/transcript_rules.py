"""What becomes of the stored transcript when a client sends its own. Pure.

A message is stored by its id. A client may lack messages, or know the answer of the
agent under an id of its own: neither must lose or double anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from agents.chat.ai_sdk_v4 import from_v4
from agents.chat.message_builder import SETTLED_STATES, is_tool_part

Message = dict[str, Any]

ROLES = frozenset({"system", "user", "assistant"})
# States over which the agent's own, settled one stands.
_BEHIND = frozenset({"input-available", "approval-requested", "approval-responded"})
_SETTLED_FIELDS = ("state", "output", "errorText", "approval")


def readable(given: Any) -> list[Message]:
    """The messages of a client's list; what is none is left out.

    Messages of the AI SDK 4, with a text as ``content``, become ones of today.
    """
    if not isinstance(given, list):
        return []
    return [message for one in given if (message := _message(one)) is not None]


def _message(given: Any) -> Message | None:
    if not isinstance(given, dict) or given.get("role") not in ROLES:
        return None
    if not isinstance(given.get("id"), str) or not given["id"]:
        return None
    content = given.get("content")
    if isinstance(content, str):
        return from_v4(given, content)
    parts = given.get("parts")
    if not isinstance(parts, list):
        return None
    if all(isinstance(p, dict) and isinstance(p.get("type"), str) for p in parts):
        return given
    return None


def reconcile(incoming: Sequence[Message], stored: Sequence[Message]) -> list[Message]:
    """A client's messages as they may be stored: with our ids and our tools' outputs.

    An assistant message of an unknown id takes the id of the first stored one of the
    same tool calls, else of the same content, that no other message stands for.
    """
    by_id = {message["id"]: message for message in stored}
    # Made when it is needed: it looks at everything that is stored.
    free: _Free | None = None
    result = []
    for message in incoming:
        ours = by_id.get(message["id"])
        if ours is None and message["role"] == "assistant":
            free = free or _Free(stored, {m["id"] for m in incoming})
            ours = free.take(message)
            if ours is not None:
                message = {**message, "id": ours["id"]}
        result.append(message if ours is None else _with_outputs(message, ours))
    return result


def to_delete(incoming: Iterable[Message], stored: Iterable[Message]) -> list[str]:
    """The ids that a chat request removes: what it lacks, if it knows only stored ones.

    That is how a client takes back an answer, to have another one made.
    """
    ids = {message["id"] for message in incoming}
    known = [message["id"] for message in stored]
    if not ids or not ids <= set(known):
        return []
    return [id for id in known if id not in ids]


def trailing_users(messages: Sequence[Message]) -> list[str]:
    """The ids of the user messages at the end: those that a turn answers."""
    ids: list[str] = []
    for message in reversed(messages):
        if message["role"] != "user":
            break
        ids.append(message["id"])
    return ids[::-1]


def merged_users(messages: Sequence[Message], since: int) -> Message | None:
    """The user messages from a place on as one, under the last one's id."""
    users = [m for m in messages[since:] if m["role"] == "user"]
    if len(users) < 2:
        return None
    return {**users[-1], "parts": [part for m in users for part in m["parts"]]}


def open_tools(message: Message | None, states: Iterable[str]) -> list[dict[str, Any]]:
    """The tool parts of a message that are in one of some states."""
    wanted = frozenset(states)
    parts = () if message is None else message["parts"]
    return [p for p in parts if is_tool_part(p) and p.get("state") in wanted]


def find_tool(
    messages: Iterable[Message], call_id: str
) -> tuple[Message, dict[str, Any]] | None:
    """The message and part of a tool call; give the newest messages first."""
    for message in messages:
        if message["role"] != "assistant":
            continue
        for part in reversed(message["parts"]):
            if is_tool_part(part) and part.get("toolCallId") == call_id:
                return message, part
    return None


def settle_tool(
    part: dict[str, Any], *, output: Any, failed: bool, error_text: str | None
) -> bool:
    """Give a tool call its result; False if it has one, or can't have one yet."""
    if part.get("state") not in _BEHIND:
        return False
    if failed:
        part["state"] = "output-error"
        part["errorText"] = error_text or "Tool execution denied by user"
    else:
        part.update(state="output-available", output=output, preliminary=False)
    return True


def approve_tool(part: dict[str, Any], approved: bool) -> bool:
    """Write down what a person said to a tool call; False if nobody asks any more."""
    if part.get("state") not in ("input-available", "approval-requested"):
        return False
    approval = part.get("approval")
    known = approval if isinstance(approval, dict) else {}
    part["approval"] = {"id": part["toolCallId"], **known, "approved": approved}
    part["state"] = "approval-responded" if approved else "output-denied"
    return True


def with_settled(rebuilt: Message, stored: Message) -> Message:
    """A message made anew from its chunks, with the results that it was given since."""
    return _with_outputs(rebuilt, stored)


class _Free:
    """Stored answers that no message of a client stands for, by what they say."""

    def __init__(self, stored: Sequence[Message], taken: set[str]) -> None:
        self._taken = set(taken)
        self._same: dict[Any, deque[Message]] = {}
        for message in stored:
            if message["role"] == "assistant" and message["id"] not in taken:
                for key in filter(None, {_calls(message), _content(message)}):
                    self._same.setdefault(key, deque()).append(message)

    def take(self, message: Message) -> Message | None:
        """The first of the same tool calls, else of the same content."""
        same = self._same.get(_calls(message) or _content(message))
        while same:
            found = same.popleft()
            if found["id"] not in self._taken:
                self._taken.add(found["id"])
                return found
        return None


def _calls(message: Message) -> tuple[Any, ...]:
    return tuple(
        ("call", _raw(p.get("toolCallId")), p["type"], _raw(p.get("input")))
        for p in message["parts"]
        if is_tool_part(p)
    )


def _content(message: Message) -> tuple[bytes, ...]:
    """What a reader sees: not whether it streams, nor where a step begins."""
    hidden = {"state", "providerMetadata", "id"}
    return tuple(
        _raw({key: value for key, value in part.items() if key not in hidden})
        for part in message["parts"]
        if part["type"] != "step-start"
    )


def _raw(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _with_outputs(message: Message, ours: Message) -> Message:
    if message["role"] != "assistant":
        return message
    settled = {p.get("toolCallId"): p for p in open_tools(ours, SETTLED_STATES)}
    if not settled:
        return message
    parts = [
        _settled(part, settled.get(part.get("toolCallId")))
        if is_tool_part(part)
        else part
        for part in message["parts"]
    ]
    return {**message, "parts": parts}


def _settled(part: dict[str, Any], ours: Mapping[str, Any] | None) -> dict[str, Any]:
    if ours is None:
        return part
    kept = {key: value for key, value in part.items() if key not in _SETTLED_FIELDS}
    return {**kept, **{key: ours[key] for key in _SETTLED_FIELDS if key in ours}}
