"""The backlog of a slow reader: bounded, in order, superseded frames left out."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from durable import Frame
from server.backlog import Backlog, closing, encode, frame_head


def frames(backlog: Backlog) -> list[bytes]:
    return [frame.payload for frame in backlog.drain()]


def test_a_newer_state_replaces_the_older_one_and_keeps_the_rest_in_order() -> None:
    backlog = Backlog(100)
    for text, coalesce in [("a", False), ("s1", True), ("b", False), ("s2", True)]:
        backlog.push(Frame(text.encode(), coalesce=coalesce))
    assert frames(backlog) == [b"a", b"b", b"s2"]


@given(st.lists(st.tuples(st.binary(max_size=5), st.booleans())), st.integers(0, 20))
def test_it_is_over_when_what_it_holds_is(
    moves: list[tuple[bytes, bool]], n: int
) -> None:
    backlog = Backlog(n)
    for payload, coalesce in moves:
        backlog.push(Frame(payload, coalesce=coalesce))
        held = backlog._frames
        assert backlog.is_over is (sum(len(frame.payload) for frame in held) > n)
        assert sum(frame.coalesce for frame in held) <= 1
    backlog.clear()
    assert not backlog.is_over
    assert len(backlog) == 0


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_is_whole_and_unmasked(size: int, head: bytes) -> None:
    assert frame_head(0x81, size) == head
    frame = Frame(b"x" * size)
    assert encode(frame) == head + b"x" * size
    assert encode(frame) is encode(frame), "made once for all receivers"
    assert encode(Frame(b"", text=False)) == b"\x82\x00"


def test_a_closing_frame_has_its_code_unless_there_is_none() -> None:
    assert encode(closing(1001, "bye")) == b"\x88\x05\x03\xe9bye"
    assert encode(closing(1005, "")) == b"\x88\x00"
