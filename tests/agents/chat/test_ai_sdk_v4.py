"""Pages of the AI SDK 4: what they are sent is theirs, what they send is read."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from agents.chat import ui_stream as ui
from agents.chat.ai_sdk_v4 import DIALECTS, as_v4
from agents.chat.transcript_rules import readable
from tests.agents.chat.chatting import Chat, Room, Speech, user
from tests.wire.process import NPM, need_node

V4 = DIALECTS[4]
TOOL = {"toolCallId": "c", "toolName": "t"}


class OldChat(Chat):
    ai_sdk = 4


LINES: list[tuple[dict[str, Any], str, Any]] = [
    ({"type": "start", "messageId": "a"}, "start_step", {"messageId": "a"}),
    ({"type": "text-delta", "id": "1", "delta": 'a "b"\n'}, "text", 'a "b"\n'),
    ({"type": "reasoning-delta", "id": "1", "delta": "hm"}, "reasoning", "hm"),
    ({"type": "tool-input-start", **TOOL}, "tool_call_streaming_start", TOOL),
    (
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": "{"},
        "tool_call_delta",
        {"toolCallId": "c", "argsTextDelta": "{"},
    ),
    (
        {"type": "tool-input-available", **TOOL, "input": {"x": 1}},
        "tool_call",
        {**TOOL, "args": {"x": 1}},
    ),
    (
        {"type": "tool-output-available", "toolCallId": "c", "output": [1]},
        "tool_result",
        {"toolCallId": "c", "result": [1]},
    ),
    (
        {"type": "tool-output-error", "toolCallId": "c", "errorText": "no"},
        "tool_result",
        {"toolCallId": "c", "result": "no"},
    ),
    (
        {"type": "source-url", "sourceId": "s", "url": "http://x/", "title": "X"},
        "source",
        {"sourceType": "url", "id": "s", "url": "http://x/", "title": "X"},
    ),
    (
        {"type": "file", "mediaType": "image/png", "url": "data:,"},
        "file",
        {"mimeType": "image/png", "data": "data:,"},
    ),
    ({"type": "data-n", "data": 1}, "data", [{"type": "data-n", "data": 1}]),
    ({"type": "error", "errorText": "broken"}, "error", "broken"),
]


def test_the_ai_sdk_4_reads_what_it_is_sent() -> None:
    need_node()
    ends: list[dict[str, Any]] = [
        {"type": "finish-step"},
        {"type": "finish", "messageMetadata": {"finishReason": "length"}},
    ]
    chunks = [chunk for chunk, _, _ in LINES] + ends
    lines = b"".join(V4.chunk(json.dumps(chunk).encode()) for chunk in chunks)
    read = subprocess.run(
        ["node", "data_stream.mjs"],
        input=lines,
        cwd=NPM,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    *parts, step, end = json.loads(read.stdout)
    assert [(part["type"], part["value"]) for part in parts] == [
        (kind, value) for _, kind, value in LINES
    ]
    assert (step["type"], step["value"]["finishReason"]) == ("finish_step", "stop")
    assert (end["type"], end["value"]["finishReason"]) == ("finish_message", "length")


@pytest.mark.parametrize("kind", ["text-start", "text-end", "start-step", "abort"])
def test_chunks_that_it_does_not_know_say_nothing(kind: str) -> None:
    assert V4.chunk(json.dumps({"type": kind, "id": "1"}).encode()) == b""


def test_a_message_goes_out_and_comes_back_as_it_is_stored() -> None:
    tool = {"toolCallId": "c", "input": {"x": 1}}
    stored = {
        "id": "a",
        "role": "assistant",
        "parts": [
            {"type": "step-start"},
            {"type": "reasoning", "text": "hm"},
            {"type": "text", "text": "one "},
            {"type": "tool-t", **tool, "state": "output-available", "output": 2},
            {"type": "tool-u", **tool, "state": "input-available"},
            {"type": "tool-v", **tool, "state": "input-streaming"},
            {"type": "source-url", "sourceId": "s", "url": "http://x/", "title": "X"},
            {"type": "file", "mediaType": "image/png", "url": "data:,"},
            {"type": "text", "text": "two"},
        ],
    }
    sent = as_v4(stored)
    assert sent["content"] == "one two"
    states = [
        part["toolInvocation"]["state"]
        for part in sent["parts"]
        if part["type"] == "tool-invocation"
    ]
    assert states == ["result", "call", "partial-call"]
    assert readable([{**sent, "createdAt": "2025-06-01"}]) == [stored]
    assert readable([{"id": "a", "role": "user", "content": "", "parts": [1]}]) == []


async def test_a_class_that_says_so_speaks_it_and_stores_what_all_do(
    room: Room, speech: Speech
) -> None:
    OldChat.handler = Chat.handler
    old = Room(OldChat)
    try:
        author = await old.client()
        other = await old.client()
        author.ask("r1", {"id": "u1", "role": "user", "content": "hi"})
        speech.say("Well", " then", ui.tool_call("c", "t", {"x": 1}))
        speech.end()
        await old.settle()
        bodies = "".join(f["body"] for f in author.frames if "seq" in f)
        assert '0:"Well"\n' in bodies
        assert '9:{"toolCallId":"c","toolName":"t","args":{"x":1}}\n' in bodies
        told = [f for f in other.frames if f["type"] == "cf_agent_chat_messages"]
        asked, answer = told[-1]["messages"]
        assert (asked["content"], answer["content"]) == ("hi", "Well then")
        author.send(
            "cf_agent_tool_result", toolCallId="c", toolName="t", output={"ok": 1}
        )
        await old.settle()
        [updated] = [f for f in other.frames if f["type"] == "cf_agent_message_updated"]
        call = updated["message"]["parts"][-1]["toolInvocation"]
        assert (call["state"], call["result"]) == ("result", {"ok": 1})
        [first, second] = await old.stored()
        assert first == user("u1")
        assert second["parts"][-1]["type"] == "tool-t"
    finally:
        await old.close()


def test_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="ai_sdk is 4 or 5, not 3"):
        type("Older", (Chat,), {"ai_sdk": 3})
