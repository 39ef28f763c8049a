"""Strict JSON for clients: what isn't JSON is refused, and the message says where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from pydantic import BaseModel

from durable import ValueRefused, json_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


@dataclass
class Point:
    x: float


class Struct(msgspec.Struct):
    y: int


class Model(BaseModel):
    z: datetime


NOW = datetime(2026, 1, 2, tzinfo=UTC)


@given(JSON)
def test_json_goes_through_unchanged(value: Any) -> None:
    assert json_text.loads(json_text.dumps_strict(value)) == value
    assert json.loads(json_text.dumps(value)) == value


def test_a_result_may_be_typed_or_hold_times() -> None:
    value = {"p": Point(1.5), "s": Struct(2), "m": Model(z=NOW), "t": NOW, "n": None}
    assert json.loads(json_text.dumps(value)) == {
        "p": {"x": 1.5},
        "s": {"y": 2},
        "m": {"z": "2026-01-02T00:00:00Z"},
        "t": "2026-01-02T00:00:00+00:00",
        "n": None,
    }


def itself() -> Any:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    return loop


BAD = [
    ({"a": [0, float("nan")]}, r"value\.a\[1\] is nan"),
    ({"a": float("-inf")}, r"value\.a is -inf"),
    ({"a": {1: 2}}, r"value\.a has a key that isn't a string: 1"),
    ([[{1, 2}]], r"value\[0\]\[0\] is a set"),
    ({"a": 1 << 64}, r"value\.a is an integer over 64 bits"),
    ({"a": "\ud800"}, r"value\.a contains a lone surrogate"),
    (itself(), "contains itself"),
    ({"ok": "x", "bad": object()}, r"value\.bad is a object"),
]


@pytest.mark.parametrize(("value", "said"), BAD)
def test_what_is_no_json_is_refused_with_its_path(value: Any, said: str) -> None:
    with pytest.raises(ValueRefused, match=said):
        json_text.dumps(value)
    with pytest.raises(ValueRefused, match=said):
        json_text.dumps_strict(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": "\0"}, r"value\.a contains the NUL"),
        ({"a\0": 1}, "a key of value contains the NUL"),
        ({"a": NOW}, r"value\.a is a datetime"),
        ({"a": Point(1)}, r"value\.a is a Point"),
    ],
)
def test_what_is_stored_is_stricter(value: Any, said: str) -> None:
    json_text.dumps(value)
    with pytest.raises(ValueRefused, match=said):
        json_text.dumps_strict(value)


def test_the_path_is_that_of_what_is_wrong_not_of_what_is_merely_no_json() -> None:
    with pytest.raises(ValueRefused, match=r"value\.bad\[0\] is a object"):
        json_text.dumps({"when": NOW, "point": Point(1), "bad": [object()]})
    with pytest.raises(ValueRefused, match=r"value\.p\.x is nan"):
        json_text.dumps({"when": NOW, "p": Point(float("nan"))})
