"""What an activation knows of its rows, and what it must ask for."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from durable.domain.ports import KeyRange
from durable.objects import cache as cache_module
from durable.objects.cache import UNKNOWN, Cache, in_order
from durable.objects.cache_budget import CacheBudget
from durable.objects.keys import _after_prefix, key_range


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
    cache.learn("user", ["a"], {"a": "old"})
    assert cache.get(slot("a")) is None
    cache.clear()
    cache.learn("user", ["b"], {"b": "old"})
    assert cache.get(slot("b")) is None
    assert cache.scan("user", KeyRange()) == {}


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
    wanted = key_range(None, None, None, prefix, False, None)
    assert wanted is not None
    found = in_order([(key, "1") for key in keys], wanted)
    expected = sorted({k for k in keys if k.startswith(prefix)}, key=str.encode)
    assert list(found) == expected


@given(st.lists(TEXT), TEXT)
def test_start_after_leaves_out_just_that_key(keys: list[str], after: str) -> None:
    wanted = key_range(None, after, None, None, False, None)
    assert wanted is not None
    found = in_order([(key, "1") for key in keys], wanted)
    assert list(found) == sorted({key for key in keys if key > after})


def test_after_the_last_prefix_comes_nothing() -> None:
    assert _after_prefix("\U0010ffff") is None
    assert _after_prefix("a\U0010ffff") == "b"
    assert _after_prefix("\ud7ff") == "\ue000"
    assert key_range("z", None, "a", None, False, None) is None
    assert key_range(None, None, None, None, True, 2) == KeyRange(reverse=True, limit=2)


class Limited:
    """A cache that says what it was told to keep."""

    def __init__(self, budget: CacheBudget, *, stuck: int = 0) -> None:
        self.budget = budget
        self.used = 0
        self.stuck = stuck

    def grow(self, used: int) -> None:
        self.used += used
        self.budget.grown(self, self.used)

    def trim(self, keep: int) -> int:
        self.used = max(min(self.used, keep), self.stuck)
        return self.used


def test_an_object_with_too_much_is_trimmed_to_a_half() -> None:
    budget = CacheBudget(per_object=100, limit=1000)
    cache = Limited(budget)
    cache.grow(100)
    assert (cache.used, budget.total) == (100, 100)
    cache.grow(1)
    assert (cache.used, budget.total) == (50, 50)
    budget.gone(cache)
    assert budget.total == 0


def test_when_all_have_too_much_the_oldest_are_trimmed_until_a_half_is_left() -> None:
    budget = CacheBudget(per_object=200, limit=250)
    stuck = Limited(budget, stuck=10)
    first, second, third = (Limited(budget) for _ in range(3))
    for cache, used in ((stuck, 10), (first, 60), (second, 70), (third, 70)):
        cache.grow(used)
    first.grow(50)
    assert [c.used for c in (stuck, first, second, third)] == [10, 110, 0, 0]
    assert budget.total == 120


def test_rows_that_are_let_go_are_unknown_and_dirty_ones_stay() -> None:
    cache = Cache({slot("a"): "1", slot("b"): "2"}, complete=True)
    cache.set(slot("c"), "3")
    cache.set(slot("gone"), None)
    cache.set(("agent", "state"), "{}")
    assert cache.knows_all("user")
    cache.trim(0, {slot("c"): "3", slot("gone"): None})
    assert not cache.knows_all("user")
    assert cache.get(slot("a")) is cache.get(slot("never there")) is UNKNOWN
    assert cache.get(slot("c")) == "3"
    assert cache.get(slot("gone")) is None
    assert cache.get(("agent", "state")) == "{}", "an SDK's rows are kept"
    assert cache.get(("agent", "none")) is None
    cache.clear()
    assert cache.knows_all("user")
    assert cache.bytes == 0


def test_what_a_transaction_would_come_back_to_is_not_let_go() -> None:
    cache = Cache({slot("a"): "1"}, complete=True)
    cache.begin()
    cache.set(slot("a"), None, inside=True)
    cache.set(slot("b"), "2", inside=True)
    cache.trim(0, {slot("a"): None, slot("b"): "2"})
    cache.roll_back()
    assert cache.get(slot("a")) == "1"
    assert cache.get(slot("b")) is None


RANGES = st.builds(
    KeyRange,
    start=st.sampled_from(["", "a", "b", "c"]),
    end=st.none() | st.sampled_from(["b", "d"]),
    reverse=st.booleans(),
    limit=st.none() | st.integers(1, 3),
)


@given(st.lists(MOVES | RANGES))
def test_a_scan_is_in_order_whatever_was_written_since_the_last(steps: Any) -> None:
    cache, model = Cache({("agent", "a"): "0"}, complete=True), dict[str, str | None]()
    for step in steps:
        if isinstance(step, KeyRange):
            assert list(cache.scan("user", step).items()) == list(
                in_order(model.items(), step).items()
            )
            continue
        for key, value in step:
            cache.set(slot(key), value)
            model[key] = value


def test_paging_sorts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts = 0

    def counted(*args: Any) -> Any:
        nonlocal sorts
        sorts += 1
        return sorted(*args)

    monkeypatch.setattr(cache_module, "sorted", counted, raising=False)
    cache = Cache({slot(f"{n:05}"): "1" for n in range(1000)}, complete=True)
    seen, after = 0, ""
    while page := cache.scan("user", KeyRange(start=after, limit=100)):
        seen += len(page)
        after = [*page][-1] + "\x01"
        cache.set(slot(f"{seen:05}+"), "2")
    assert seen > 1000
    assert sorts == 1
