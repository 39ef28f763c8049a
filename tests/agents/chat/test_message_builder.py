"""Parts out of chunks, and values out of JSON that has not come whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.chat.message_builder import ChunkRefused, MessageBuilder
from agents.chat.partial_json import MAX_OPEN_BRACKETS, parse_partial


def built(*chunks: dict[str, Any]) -> dict[str, Any]:
    builder = MessageBuilder({"id": "m", "role": "assistant", "parts": []})
    for chunk in chunks:
        builder.add(chunk)
    return builder.message


def kind(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, **fields}


def test_text_and_reasoning_grow_by_their_ids_and_end() -> None:
    message = built(
        kind("start", messageId="mine", messageMetadata={"a": {"b": 1}}),
        kind("start-step"),
        kind("reasoning-start", id="r"),
        kind("text-start", id="t"),
        kind("reasoning-delta", id="r", delta="hm"),
        kind("text-delta", id="t", delta="Hel"),
        kind("text-delta", id="t", delta="lo"),
        kind("reasoning-end", id="r", providerMetadata={"p": 1}),
        kind("text-end", id="t"),
        kind("text-start", id="t"),
        kind("finish-step"),
        kind("finish", messageMetadata={"a": {"c": 2}}),
    )
    assert message == {
        "id": "mine",
        "role": "assistant",
        "metadata": {"a": {"b": 1, "c": 2}},
        "parts": [
            {"type": "step-start"},
            {
                "type": "reasoning",
                "id": "r",
                "text": "hm",
                "state": "done",
                "providerMetadata": {"p": 1},
            },
            {"type": "text", "text": "Hello", "state": "done"},
            {"type": "text", "text": "", "state": "streaming"},
        ],
    }


def test_a_tool_call_from_its_first_letter_to_its_output() -> None:
    builder = MessageBuilder({"id": "m", "role": "assistant", "parts": []})
    builder.add(kind("tool-input-start", toolCallId="c", toolName="weather"))
    builder.add(kind("tool-input-delta", toolCallId="c", inputTextDelta='{"ci'))
    [part] = builder.parts
    assert part == {
        "type": "tool-weather",
        "toolCallId": "c",
        "state": "input-streaming",
        "input": {},
        "rawInput": '{"ci',
    }
    builder.add(kind("tool-input-delta", toolCallId="c", inputTextDelta='ty": "Rom'))
    assert part["input"] == {"city": "Rom"}
    builder.add(
        kind(
            "tool-input-available",
            toolCallId="c",
            toolName="weather",
            input={"city": "Rome"},
        )
    )
    builder.add(kind("tool-approval-request", toolCallId="c", approvalId="a"))
    assert (part["state"], part["approval"]) == ("approval-requested", {"id": "a"})
    builder.add(kind("tool-approval-response", approvalId="a", approved=True))
    assert part["approval"] == {"id": "a", "approved": True}
    builder.add(kind("start-step"))
    builder.add(
        kind("tool-output-available", toolCallId="c", output=1, preliminary=True)
    )
    assert part["preliminary"] is True
    builder.add(kind("tool-output-available", toolCallId="c", output={"t": 20}))
    assert builder.parts == [
        {
            "type": "tool-weather",
            "toolCallId": "c",
            "state": "output-available",
            "input": {"city": "Rome"},
            "approval": {"id": "a", "approved": True},
            "output": {"t": 20},
        },
        {"type": "step-start"},
    ]


def test_calls_of_one_id_in_two_steps_are_two_calls() -> None:
    call = kind("tool-input-available", toolCallId="c", toolName="t", input=1)
    message = built(
        kind("start-step"),
        call,
        kind("tool-output-available", toolCallId="c", output="first"),
        kind("start-step"),
        {**call, "input": 2, "dynamic": True},
        kind("tool-output-error", toolCallId="c", errorText="second"),
    )
    assert [p.get("state") for p in message["parts"]] == [
        None,
        "output-available",
        None,
        "output-error",
    ]
    assert message["parts"][3]["type"] == "dynamic-tool"
    assert message["parts"][3]["toolName"] == "t"


def test_files_sources_and_data() -> None:
    message = built(
        kind("file", mediaType="image/png", url="data:x"),
        kind("source-url", sourceId="s", url="http://x", title="X"),
        kind("source-document", sourceId="d", mediaType="text/plain", title="D"),
        kind("data-chart", id="1", data=[1]),
        kind("data-chart", data=[0]),
        kind("data-note", data="gone", transient=True),
        kind("data-chart", id="1", data=[2]),
        kind("something-new", id="x"),
    )
    assert message["parts"] == [
        {"type": "file", "mediaType": "image/png", "url": "data:x"},
        {"type": "source-url", "sourceId": "s", "url": "http://x", "title": "X"},
        {
            "type": "source-document",
            "sourceId": "d",
            "mediaType": "text/plain",
            "title": "D",
        },
        {"type": "data-chart", "data": [2], "id": "1"},
        {"type": "data-chart", "data": [0]},
    ]


@pytest.mark.parametrize(
    "chunk",
    [
        kind("text-delta", id="t", delta="x"),
        kind("text-end", id="t"),
        kind("text-start"),
        kind("reasoning-delta", id="t", delta="x"),
        kind("tool-input-delta", toolCallId="c", inputTextDelta="{"),
        kind("tool-output-available", toolCallId="c", output=1),
        kind("tool-approval-response", approvalId="a", approved=True),
        {"id": "x"},
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(chunk: dict[str, Any]) -> None:
    with pytest.raises(ChunkRefused):
        built(chunk)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 10**6) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def begins(part: Any, whole: Any) -> bool:
    """Whether one value is what there is of another one."""
    if isinstance(whole, dict) and isinstance(part, dict):
        keys = list(whole)[: len(part)]
        return list(part) == keys and all(begins(part[k], whole[k]) for k in keys)
    if isinstance(whole, list) and isinstance(part, list):
        return len(part) <= len(whole) and all(map(begins, part, whole))
    if isinstance(whole, str) and isinstance(part, str):
        return whole.startswith(part)
    if type(whole) is int and type(part) is int:
        return str(whole).startswith(str(part))
    return bool(part == whole)


@given(JSON, st.data())
def test_a_piece_of_json_is_a_beginning_of_its_value(
    value: Any, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    piece = text[: data.draw(st.integers(0, len(text)))]
    found = parse_partial(piece)
    assert found is None or begins(found, value), (piece, found)
    assert parse_partial(text) == value


def test_what_is_no_json_is_nothing() -> None:
    for text in ("", "  ", "}", "hello", "[" * (MAX_OPEN_BRACKETS + 1)):
        assert parse_partial(text) is None
    assert parse_partial('{"a": [1, {"b": "c') == {"a": [1, {"b": "c"}]}
    assert parse_partial('{"a": tr') == {"a": True}
    assert parse_partial('{"a": -') == {}
