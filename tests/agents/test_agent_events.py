"""Server-Sent Events and frames of the protocol, byte by byte."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agents import event_stream, protocol
from agents.server_sent_events import encode_event


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        ("a", "data: a\n\n"),
        ("a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ("", "data: \n\n"),
        ({"data": {"n": 1}}, 'data: {"n":1}\n\n'),
        (
            {"data": "x", "id": "7", "event": "tick", "retry": 5},
            "event: tick\nid: 7\nretry: 5\ndata: x\n\n",
        ),
        ({"n": 1}, 'data: {"n":1}\n\n'),
        ({"data": 1, "other": 2}, 'data: {"data":1,"other":2}\n\n'),
        ([1, None], "data: [1,null]\n\n"),
    ],
)
def test_an_event_on_the_wire(event: Any, wire: str) -> None:
    assert encode_event(event).decode() == wire


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("bad", ["a\ndata: forged", "a\rb", "a\0"])
def test_a_field_is_one_line(field: str, bad: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        encode_event({"data": "x", field: bad})


async def test_the_source_of_a_stream_is_closed_with_it() -> None:
    log: list[str] = []

    async def source() -> Any:
        try:
            yield "one"
            yield "two"
        finally:
            log.append("closed")

    response = event_stream(source(), headers={"X-A": "1"})
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["X-A"] == "1"
    pieces: Any = response.body
    assert await anext(pieces) == b"data: one\n\n"
    await pieces.aclose()
    assert log == ["closed"]


def test_frames_omit_what_is_undefined() -> None:
    assert orjson.loads(protocol.rpc_result("1", None, done=True)) == {
        "type": "rpc",
        "id": "1",
        "success": True,
        "done": True,
    }
    assert b"stateFollows" not in protocol.identity("a", "b", state_follows=False)


@pytest.mark.parametrize("bad", ["\ud800", "it failed: \udfff"])
def test_an_error_with_a_lone_surrogate_is_told_all_the_same(bad: str) -> None:
    assert "?" in orjson.loads(protocol.rpc_error("1", bad))["error"]
    assert "?" in orjson.loads(protocol.setup_error(bad))["error"]


@pytest.mark.parametrize(
    "message",
    ["", "x", "[1]", "{", '"{}"', " " * 16 + "{}", "1", '{"a":NaN}', "{" * 100_000],
)
def test_what_is_no_json_object_is_the_applications(message: str) -> None:
    assert protocol.parse(message) is None


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "rpc", "id": 1, "method": "m", "args": []},
        {"type": "rpc", "id": "1", "method": None, "args": []},
        {"type": "rpc", "id": "1", "method": "m", "args": {}},
        {"type": "rpc", "id": "1", "method": "m"},
        {"type": "RPC", "id": "1", "method": "m", "args": []},
    ],
)
def test_a_malformed_call_is_no_call(frame: dict[str, Any]) -> None:
    assert not protocol.is_call(frame)
