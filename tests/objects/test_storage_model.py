"""Storage against a plain dict: random operations, evictions and failed commits."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from durable.domain.errors import CommitFailed, ResetError
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing

KEYS = st.sampled_from(["a", "a\x01", "b", "bb", "c", "é", "\uffff", "\U0001f600"])
VALUES = st.integers(0, 99)
BOUNDS = st.none() | st.sampled_from(["", "a", "b", "bb", "d", "\U0001f600"])

PUT = st.tuples(st.just("put"), KEYS, VALUES)
WRITES = (
    PUT
    | st.tuples(st.just("put passing"), KEYS, VALUES)
    | st.tuples(st.just("put many"), st.dictionaries(KEYS, VALUES))
    | st.tuples(st.just("delete"), KEYS)
    | st.tuples(st.just("delete many"), st.lists(KEYS))
)
READS = (
    st.tuples(st.just("get"), KEYS)
    | st.tuples(st.just("get passing"), KEYS)
    | st.tuples(st.just("get many"), st.lists(KEYS))
    | st.tuples(
        st.just("list"),
        BOUNDS,
        BOUNDS,
        st.none() | st.sampled_from(["a", "b"]),
        st.booleans(),
        st.none() | st.integers(1, 4),
    )
)
STEPS = (
    WRITES
    | READS
    | st.tuples(st.just("delete all"))
    | st.tuples(st.just("sync"))
    | st.tuples(st.just("transaction"), st.lists(WRITES | READS), st.booleans())
)
EVENTS = st.tuples(
    st.lists(STEPS, max_size=8),
    st.sampled_from(["ok", "ok", "ok", "refused", "lost", "landed", "evict"]),
)


def listed(model: dict[str, int], step: tuple[Any, ...]) -> dict[str, int]:
    _, start, end, prefix, reverse, limit = step
    keys = sorted(model, reverse=reverse)
    found = [
        key
        for key in keys
        if (start is None or key >= start)
        and (end is None or key < end)
        and (prefix is None or key.startswith(prefix))
    ]
    return {key: model[key] for key in found[:limit]}


class RollBack(Exception):
    pass


async def perform(storage: Any, model: dict[str, int], step: tuple[Any, ...]) -> None:
    """Do a step to both, and compare what it says."""
    kind = step[0]
    if kind == "put":
        await storage.put(step[1], step[2])
        model[step[1]] = step[2]
    elif kind == "put passing":
        await storage.put(step[1], step[2], no_cache=True)
        model[step[1]] = step[2]
    elif kind == "put many":
        await storage.put(step[1])
        model.update(step[1])
    elif kind == "delete":
        assert await storage.delete(step[1]) is (model.pop(step[1], None) is not None)
    elif kind == "delete many":
        removed = [model.pop(k) for k in dict.fromkeys(step[1]) if k in model]
        assert await storage.delete(step[1]) == len(removed)
    elif kind == "get":
        assert await storage.get(step[1]) == model.get(step[1])
    elif kind == "get passing":
        found = await storage.get(step[1], no_cache=True, allow_concurrency=True)
        assert found == model.get(step[1])
    elif kind == "get many":
        expected = {key: model[key] for key in sorted(step[1]) if key in model}
        assert list((await storage.get(step[1])).items()) == list(expected.items())
    elif kind == "list":
        _, start, end, prefix, reverse, limit = step
        found = await storage.list(
            start=start, end=end, prefix=prefix, reverse=reverse, limit=limit
        )
        assert list(found.items()) == list(listed(model, step).items())
    elif kind == "delete all":
        await storage.delete_all()
        model.clear()
    elif kind == "sync":
        await storage.sync()
    else:
        await transaction(storage, model, step[1], rolls_back=step[2])


async def transaction(
    storage: Any, model: dict[str, int], steps: list[Any], *, rolls_back: bool
) -> None:
    inside = dict(model)
    try:
        async with storage.transaction():
            for step in steps:
                await perform(storage, inside, step)
            if rolls_back:
                raise RollBack
    except RollBack:
        return
    model.clear()
    model.update(inside)


async def check(events: list[Any], first: int, cache_bytes: int) -> None:
    place = Place(Thing, cache_bytes=cache_bytes)
    place.rows.first = first
    model: dict[str, int] = {}
    Thing.works = {}
    for steps, end in events:
        before = dict(model)
        writes = end in ("refused", "lost", "landed")
        if writes:
            # What it says before its end is not to be held up by the lane.
            steps = [step for step in steps if step[0] != "sync"]
            place.lane.hold()

        async def run(
            thing: Thing, steps: list[Any] = steps, model: dict[str, int] = model
        ) -> None:
            for step in steps:
                await perform(thing.storage, model, step)

        Thing.works["run"] = run
        event = asyncio.create_task(place.stub().do("run"))
        if not writes:
            await event
            if end == "evict":
                await turns()
                assert await place.evict() == 1
            continue
        await turns(200)
        failed = bool(place.lane.in_flight)
        # Writes after a read that suspended may be a second commit: it never lands.
        landing = dict(place.lane.in_flight[0][1].rows) if failed else {}
        wiped = failed and place.lane.in_flight[0][1].wipe
        if end == "refused":
            place.lane.fail(CommitFailed("refused"))
        else:
            place.lane.lose(landed=end == "landed")
        if not failed:
            await event
            continue
        try:
            await event
        except ResetError:
            pass
        else:
            raise AssertionError("acknowledged, but not written")
        model = {} if wiped and end == "landed" else before
        if end == "landed":
            for (_, key), value in landing.items():
                model.pop(key, None)
                if value is not None:
                    model[key] = int(value)
    await turns()
    assert {k: int(v) for k, v in place.stored().items()} == model


@settings(max_examples=150, deadline=None)
@given(
    st.lists(EVENTS, max_size=8),
    st.sampled_from([0, 1, 3, 64]),
    st.sampled_from([0, 250, 1 << 20]),
)
def test_storage_does_what_a_dict_does(
    events: list[Any], first: int, cache_bytes: int
) -> None:
    asyncio.run(check(events, first, cache_bytes))


async def count_together(
    moves: list[tuple[str, bool]], first: int, cache_bytes: int, ends: list[str]
) -> None:
    Thing.works = {}
    place = Place(Thing, cache_bytes=cache_bytes)
    place.rows.first = first

    async def add(thing: Thing, key: str, inside: bool) -> None:
        async def increment() -> None:
            count = await thing.storage.get(key) or 0
            other = await thing.storage.get("other") or 0
            thing.storage.put({key: count + 1, "other": other + 1})

        if inside:
            async with thing.storage.transaction():
                await increment()
        else:
            await increment()

    for move in set(moves):
        Thing.works[f"{move[0]}{move[1]}"] = partial(add, key=move[0], inside=move[1])
    acknowledged: dict[str, int] = {}
    unknown: dict[str, int] = {}

    async def call(key: str, transactional: bool) -> None:
        try:
            await place.stub().do(f"{key}{transactional}")
        except ResetError:
            unknown[key] = unknown.get(key, 0) + 1
        else:
            acknowledged[key] = acknowledged.get(key, 0) + 1

    calls = [asyncio.create_task(call(*move)) for move in moves]
    for end in ends:
        await turns(3)
        if end == "hold":
            place.lane.hold()
        elif end == "evict":
            await place.evict()
        elif place.lane.in_flight:
            place.lane.lose(landed=end == "landed")
    place.lane.release()
    await asyncio.gather(*calls)
    await turns()
    stored = {key: int(value) for key, value in place.stored().items()}
    total = stored.pop("other", 0)
    assert total == sum(stored.values())
    for key in {key for key, _ in moves}:
        least = acknowledged.get(key, 0)
        assert least <= stored.get(key, 0) <= least + unknown.get(key, 0)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.booleans()), max_size=30),
    st.sampled_from([0, 64]),
    st.sampled_from([0, 250, 1 << 20]),
    st.lists(st.sampled_from(["hold", "evict", "lost", "landed"]), max_size=12),
)
def test_no_acknowledged_increment_is_lost_and_none_is_there_twice(
    moves: list[tuple[str, bool]], first: int, cache_bytes: int, ends: list[str]
) -> None:
    asyncio.run(count_together(moves, first, cache_bytes, ends))
