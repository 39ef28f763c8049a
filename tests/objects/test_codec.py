"""Values come back as they were; what can't be kept is refused with its path."""

from __future__ import annotations

import enum
import json
import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given

from durable import ValueRefused
from durable.objects import codec

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ZONES = st.none() | st.integers(-1439, 1439).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary()
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
KEYS = TEXT | st.just("$") | st.integers() | st.tuples(TEXT, st.integers())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(st.integers() | TEXT, max_size=4)
        | st.frozensets(st.tuples(TEXT), max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, two: Any) -> bool:
    if type(one) is not type(two):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(map(same, one.values(), two.values()))
    return bool(one == two)


@given(VALUES)
def test_a_value_comes_back_with_its_types_and_order(value: Any) -> None:
    assert same(codec.decode(codec.encode(value)), value)
    assert same(codec.decode(codec.encode_text(value)), value)


@given(VALUES)
def test_text_is_json_that_postgres_takes(value: Any) -> None:
    stored = codec.encode(value)
    if isinstance(stored, str):
        json.loads(stored)
        assert "\\u0000" not in stored


@pytest.mark.parametrize("value", [1, "a", [1, {"b": None}], {"a": "$"}, ["$"], True])
def test_what_json_can_say_is_plain_json(value: Any) -> None:
    stored = codec.encode(value)
    assert isinstance(stored, str)
    assert json.loads(stored) == value


def test_nan_is_kept() -> None:
    assert math.isnan(codec.decode(codec.encode(float("nan"))))


def test_a_subclass_is_kept_as_what_it_extends() -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Number(enum.IntEnum):
        ONE = 1

    assert codec.decode(codec.encode([Colour.RED, Number.ONE])) == ["red", 1]
    assert codec.decode(codec.encode(bytearray(b"x"))) == b"x"


def test_what_comes_back_is_a_copy() -> None:
    stored = codec.encode({"list": [1]})
    codec.decode(stored)["list"].append(2)
    assert codec.decode(stored) == {"list": [1]}


def itself() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, object()]}, r"value\.a\[1\] is a object"),
        ({1: {"b": print}}, r"value\[1\]\.b is a builtin"),
        ({(1, object()): 1}, "a key of value"),
        (itself(), "contains itself"),
        (timedelta(1), "timedelta"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_path(value: Any, said: str) -> None:
    with pytest.raises(ValueRefused, match=said):
        codec.encode(value)


def test_every_kind_of_tag() -> None:
    values = [
        (1,),
        {1},
        frozenset({1}),
        b"x",
        datetime(2026, 1, 2),  # noqa: DTZ001  # naive ones are kept, too
        date(2026, 1, 2),
        Decimal("1.10"),
        UUID(int=1),
        1 << 70,
        -(1 << 70),
        float("inf"),
        {"$": 1},
    ]
    assert same(codec.decode(codec.encode(values)), values)
