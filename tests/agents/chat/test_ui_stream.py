"""Whole streams out of what a handler yields."""

from __future__ import annotations

from typing import Any

import pytest

from agents.chat import ui_stream as ui
from agents.chat.message_builder import MessageBuilder
from agents.chat.ui_stream import UIStream


def streamed(*items: Any, **options: Any) -> list[dict[str, Any]]:
    stream = UIStream(**options)
    chunks = [chunk for item in items for chunk in stream.take(item)]
    return [*chunks, *stream.end()]


def kinds(chunks: list[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in chunks]


def parts(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    builder = MessageBuilder({"id": "m", "role": "assistant", "parts": []})
    for chunk in chunks:
        builder.add(chunk)
    return builder.parts


def test_pieces_of_text_are_one_part_of_a_whole_stream() -> None:
    chunks = streamed("Hel", "", "lo")
    assert kinds(chunks) == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert parts(chunks)[1] == {"type": "text", "text": "Hello", "state": "done"}


def test_nothing_is_a_stream_too() -> None:
    assert kinds(streamed()) == ["start", "finish"]


def test_everything_between_texts_parts_them() -> None:
    chunks = streamed(
        "one",
        ui.reasoning("hm"),
        ui.tool_call("c", "add", {"a": 1}),
        ui.tool_output("c", 2),
        ui.new_step(),
        "two",
        ui.data("chart", [1], "x"),
        ui.file("data:x", "image/png"),
        ui.source_url("http://x", "X", "s"),
        ui.source_document("D", "text/plain", "d.txt", "t"),
        ui.metadata({"model": "m"}),
    )
    shown = [(p["type"], p.get("text") or p.get("state")) for p in parts(chunks)]
    assert shown == [
        ("step-start", None),
        ("text", "one"),
        ("reasoning", "hm"),
        ("tool-add", "output-available"),
        ("step-start", None),
        ("text", "two"),
        ("data-chart", None),
        ("file", None),
        ("source-url", None),
        ("source-document", None),
    ]
    assert kinds(chunks)[-2:] == ["finish-step", "finish"]
    assert not [p for p in parts(chunks) if p.get("state") == "streaming"]


def test_tools_in_all_their_states() -> None:
    chunks = streamed(
        ui.tool_input_start("1", "t", dynamic=True),
        ui.tool_input_delta("1", "{}"),
        ui.tool_call("1", "t", {}, dynamic=True),
        ui.tool_error("1", "no"),
        ui.tool_call("2", "t", {}),
        ui.tool_approval("2", "a"),
        ui.tool_call("3", "t", {}),
        ui.tool_denied("3"),
        ui.tool_call("4", "t", {}),
        ui.tool_output("4", "50 %", preliminary=True),
    )
    assert [p["state"] for p in parts(chunks)[1:]] == [
        "output-error",
        "approval-requested",
        "output-denied",
        "output-available",
    ]


def test_a_stream_of_somebody_else_goes_through_as_it_is() -> None:
    theirs = [
        {"type": "start", "messageId": "x"},
        {"type": "start-step"},
        *ui.text("hi", "t"),
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "stop"},
    ]
    assert streamed(*theirs) == theirs


def test_a_finish_that_was_given_is_the_only_one() -> None:
    given = {"type": "finish", "finishReason": "length"}
    chunks = streamed("hi", given)
    assert kinds(chunks)[-3:] == ["text-end", "finish-step", "finish"]
    assert chunks[-1] is not given
    assert chunks[-1] == given


def test_an_error_leaves_open_what_was_open() -> None:
    chunks = streamed("hi", ui.error("broken"))
    assert kinds(chunks) == ["start", "start-step", "text-start", "text-delta", "error"]


def test_plain_text_has_neither_start_nor_end() -> None:
    chunks = streamed("a", "b", bare=True, text_id="req")
    assert chunks == [
        {"type": "text-start", "id": "req"},
        {"type": "text-delta", "id": "req", "delta": "a"},
        {"type": "text-delta", "id": "req", "delta": "b"},
        {"type": "text-end", "id": "req"},
    ]


@pytest.mark.parametrize("item", [7, b"bytes", None, [1]])
def test_what_is_no_chunk_is_refused(item: Any) -> None:
    with pytest.raises(TypeError, match="on_chat_message yields"):
        streamed(item)
