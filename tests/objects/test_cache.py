"""What an activation knows of its rows, and what it must ask for."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from durable.domain.ports import KeyRange
from durable.objects.cache import UNKNOWN, Cache, in_order
from durable.objects.storage import _after_prefix, _key_range


def slot(key: str) -> tuple[str, str]:
    return "user", key


def test_up_to_the_last_row_read_all_is_known_beyond_it_nothing() -> None:
    cache = Cache({slot("b"): "1", slot("d"): "2"}, complete=False)
    assert cache.get(slot("b")) == "1"
    assert cache.get(slot("c")) is None
    assert cache.get(("agent", "z")) is None
    assert cache.get(slot("e")) is UNKNOWN
    assert Cache({}, complete=False).get(slot("a")) is UNKNOWN
    assert Cache({}, complete=True).get(slot("a")) is None


def test_a_write_hides_what_a_read_brings_later() -> None:
    cache = Cache({}, complete=False)
    cache.set(slot("a"), None)
    cache.learn(slot("a"), "old")
    assert cache.get(slot("a")) is None
    cache.clear()
    cache.learn(slot("b"), "old")
    assert cache.get(slot("b")) is None
    assert dict(cache.rows_of("user")) == {}


KEYS = st.sampled_from("abcd")
VALUES = st.none() | st.sampled_from(["1", "2"])
MOVES = st.lists(st.tuples(KEYS, VALUES))


def view(cache: Cache) -> list[Any]:
    return [cache.get(slot(key)) for key in "abcd"]


@given(st.dictionaries(KEYS, st.just("0")), st.booleans(), MOVES, MOVES)
def test_a_roll_back_restores_what_was_known(
    rows: dict[str, str], complete: bool, before: Any, inside: Any
) -> None:
    cache = Cache({slot(k): v for k, v in rows.items()}, complete=complete)
    for key, value in before:
        cache.set(slot(key), value)
    expected = view(cache)
    cache.begin()
    for key, value in inside:
        cache.set(slot(key), value, inside=True)
    cache.roll_back()
    assert view(cache) == expected


@given(MOVES, st.lists(st.tuples(st.booleans(), KEYS, VALUES)))
def test_a_roll_back_keeps_what_others_wrote(before: Any, moves: Any) -> None:
    cache, model = Cache({}, complete=True), Cache({}, complete=True)
    for key, value in before:
        cache.set(slot(key), value)
        model.set(slot(key), value)
    cache.begin()
    for inside, key, value in moves:
        cache.set(slot(key), value, inside=inside)
        if not inside:
            model.set(slot(key), value)
    cache.roll_back()
    assert view(cache) == view(model)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(TEXT), TEXT.filter(bool))
def test_a_prefix_is_a_range_in_utf8_order(keys: list[str], prefix: str) -> None:
    keys = [*keys, *(prefix + key for key in keys)]
    wanted = _key_range(None, None, None, prefix, False, None)
    assert wanted is not None
    found = in_order([(key, "1") for key in keys], wanted)
    expected = sorted({k for k in keys if k.startswith(prefix)}, key=str.encode)
    assert list(found) == expected


@given(st.lists(TEXT), TEXT)
def test_start_after_leaves_out_just_that_key(keys: list[str], after: str) -> None:
    wanted = _key_range(None, after, None, None, False, None)
    assert wanted is not None
    found = in_order([(key, "1") for key in keys], wanted)
    assert list(found) == sorted({key for key in keys if key > after})


def test_after_the_last_prefix_comes_nothing() -> None:
    assert _after_prefix("\U0010ffff") is None
    assert _after_prefix("a\U0010ffff") == "b"
    assert _after_prefix("\ud7ff") == "\ue000"
    assert _key_range("z", None, "a", None, False, None) is None
    assert _key_range(None, None, None, None, True, 2) == KeyRange(
        reverse=True, limit=2
    )
