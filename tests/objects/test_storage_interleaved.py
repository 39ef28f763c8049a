"""Storage against a plain dict: tasks of one object at the same time, and accidents.

Calls come in while others run, commits are held, refused or lost, reads come late, the
object is evicted, forgets what it has read, and its owner is replaced in the middle.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from itertools import count
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from durable.domain.errors import CommitFailed, DurableError, ResetError
from tests.objects.dict_model import Life, Performer, Step
from tests.objects.scripted import Place, turns
from tests.objects.thing import Thing

BOUND = st.none() | st.sampled_from(["", "a", "b", "bb", "\U0001f600"])
PAUSE = st.tuples(st.just("pause"), st.integers(1, 6))
ACCIDENTS = st.sampled_from(
    [
        ("hold",),
        ("release",),
        ("refused",),
        ("lost",),
        ("landed",),
        ("reset",),
        ("evict",),
        ("hold reads",),
        ("release reads",),
    ]
)


def histories(keys: list[str]) -> st.SearchStrategy[list[Any]]:
    """What happens to an object: calls of some tasks each, and accidents."""
    key = st.sampled_from(keys)
    some = st.lists(key, min_size=1, max_size=3)
    writes = st.tuples(st.sampled_from(["put", "put", "put passing", "delete"]), some)
    reads = (
        st.tuples(st.sampled_from(["get", "get passing"]), key)
        | st.tuples(st.just("get many"), some)
        | st.tuples(
            st.just("list"),
            BOUND,
            BOUND,
            st.none() | st.sampled_from(["a", "b"]),
            st.booleans(),
            st.none() | st.integers(1, 3),
        )
    )
    inside = writes | reads | PAUSE | st.just(("delete all",))
    transaction = st.tuples(
        st.just("transaction"),
        st.lists(inside, min_size=2, max_size=5),
        st.booleans(),
    )
    steps = writes | reads | PAUSE | transaction
    steps |= st.sampled_from([("sync",), ("delete all",)])
    tasks = st.lists(st.lists(steps, min_size=2, max_size=6), min_size=1, max_size=4)
    call = st.tuples(st.just("call"), tasks)
    events = st.one_of(
        call,
        call,
        call,
        st.tuples(st.just("turns"), st.integers(1, 12)),
        st.tuples(st.just("crash"), st.booleans()),
        ACCIDENTS,
    )
    return st.lists(events, min_size=8, max_size=40)


class World:
    """An object, whoever owns it, and what it may have stored."""

    def __init__(self, first: int, latency: int, cache_bytes: int) -> None:
        self._first = first
        self._latency = latency
        self._cache_bytes = cache_bytes
        self._numbers = count(1)
        self._calls: list[asyncio.Task[None]] = []
        self._reads = ExitStack()
        self.life = Life({})
        # What went wrong inside of the object: it must be seen outside, too.
        self.wrong: list[BaseException] = []
        self._names = count(1)
        self.place = self._new_place()

    def _new_place(self) -> Place:
        # A class of its own: what starts at a former owner is no life.
        self._works: dict[str, Any] = {"start": self._start}
        cls = type("Thing", (Thing,), {"works": self._works})
        place = Place(cls, cache_bytes=self._cache_bytes)
        place.rows.first, place.rows.latency = self._first, self._latency
        return place

    def _start(self, thing: Any) -> None:
        """A new life begins: with what the one before has left."""
        stored = self.stored()
        try:
            self.life.check_end(stored)
        except AssertionError as error:
            self.wrong.append(error)
        self.life = Life(stored)

    def stored(self) -> dict[str, int]:
        return {key: int(value) for key, value in self.place.stored().items()}

    def call(self, tasks: list[list[Step]]) -> None:
        name = f"run {next(self._names)}"
        moments: list[tuple[Life, int]] = []

        async def run(thing: Any) -> None:
            life = self.life
            performer = Performer(thing.storage, life, self._numbers)
            try:
                done = await asyncio.gather(*(performer.run(steps) for steps in tasks))
            except AssertionError as error:
                if not life.is_over:
                    self.wrong.append(error)
                raise
            moments.append((life, max(done)))

        self._works[name] = run
        self._calls.append(asyncio.create_task(self._acknowledged(name, moments)))

    async def _acknowledged(self, name: str, moments: list[tuple[Life, int]]) -> None:
        try:
            await self.place.stub().do(name)
        except DurableError:
            return
        [(life, moment)] = moments
        life.acknowledge(moment)

    def crash(self, landed: bool) -> None:
        """The owner is gone, with all that it had not handed over."""
        old = self.place
        # What it still does nobody hears, and it may read what its successor wrote.
        self.life.is_over = True
        self._reads.close()
        for source, writes in old.lane.in_flight:
            if landed:
                old.rows.apply(source.object_id, writes)
        old.lane.in_flight.clear()
        old.lane.hold()
        for call in self._calls:
            call.cancel()
        self._works.clear()
        for activation in old.dispatcher.activations():
            activation.deactivate()
        self.place = self._new_place()
        self.place.rows.kv, self.place.rows.names = old.rows.kv, old.rows.names
        self._calls.clear()

    def happen(self, event: tuple[Any, ...]) -> None:
        lane = self.place.lane
        if event[0] == "call":
            self.call(event[1])
        elif event[0] == "crash":
            self.crash(event[1])
        elif event[0] == "hold":
            lane.hold()
        elif event[0] == "release":
            lane.release()
        elif event[0] == "hold reads":
            self._reads.close()
            self._reads.enter_context(self.place.rows.held())
        elif event[0] == "release reads":
            self._reads.close()
        elif event[0] == "reset":
            # As by ``ctx.abort``: a commit may be under way, and land later.
            for activation in self.place.dispatcher.activations():
                activation.reset(ResetError("the test's wish"))
        elif lane.in_flight:
            if event[0] == "refused":
                lane.fail(CommitFailed("refused"))
            else:
                lane.lose(landed=event[0] == "landed")

    async def evict(self) -> None:
        """Put the object to sleep, if it is idle: then all of it is durable."""
        if await self.place.evict():
            self.life.acknowledge(self.life.suspended())

    async def end(self) -> None:
        """All that can go on does; then the object sleeps and is woken once more."""
        self._reads.close()
        self.place.lane.release()
        for call in self._calls:
            async with asyncio.timeout(5):
                await call
        await turns()
        await self.evict()
        self.call([[]])
        await self._calls[-1]
        assert self.wrong == [], [str(error) for error in self.wrong]


async def check(events: list[Any], first: int, latency: int, cache_bytes: int) -> None:
    world = World(first, latency, cache_bytes)
    for event in events:
        if event[0] == "turns":
            await turns(event[1])
        elif event[0] == "evict":
            await world.evict()
        else:
            world.happen(event)
    await world.end()


MANY = ["a", "a\x01", "b", "\uffff", "\U0001f600"]
FEW = ["a", "b"]  # more of what happens meets


@settings(max_examples=200, deadline=None)
@given(
    histories(MANY) | histories(FEW),
    st.sampled_from([0, 1, 3, 64]),
    st.sampled_from([0, 3]),
    st.sampled_from([0, 250, 1 << 20]),
)
def test_whatever_happens_meanwhile_storage_is_a_dict(
    events: list[Any], first: int, latency: int, cache_bytes: int
) -> None:
    asyncio.run(check(events, first, latency, cache_bytes))


# --- what it has found


@pytest.mark.parametrize(
    ("reverse", "gone", "new"), [(True, "c", ""), (False, "a", ""), (False, "a", "z")]
)
async def test_a_page_whose_rows_are_deleted_while_it_is_read_has_the_next_ones(
    reverse: bool, gone: str, new: str
) -> None:
    """It was empty, or skipped what lies before a row that was written meanwhile."""
    place = Place(Thing, cache_bytes=0)
    place.rows.first = 0
    place.keep({"a": 1, "b": 2, "c": 3})

    async def page(thing: Any) -> list[str]:
        with place.rows.held():
            listing = asyncio.create_task(thing.storage.list(limit=1, reverse=reverse))
            await turns(3)
            deleting = thing.storage.delete(gone)
            if new:
                thing.storage.put(new, 9)
            assert not listing.done()
        await deleting
        return list(await listing)

    Thing.works = {"page": page}
    assert await place.stub().do("page") == ["b"]


async def test_what_others_delete_stays_deleted_when_a_transaction_rolls_back() -> None:
    """It had deleted the same key: their deletion did nothing."""
    place = Place(Thing)
    place.keep({"a": 1})

    async def both(thing: Any) -> None:
        entered, left = asyncio.Event(), asyncio.Event()

        async def inside() -> None:
            async with thing.storage.transaction():
                thing.storage.delete("a")
                entered.set()
                await left.wait()
                raise LookupError

        rolled_back = asyncio.create_task(inside())
        await entered.wait()
        thing.storage.delete("a")
        left.set()
        with pytest.raises(LookupError):
            await rolled_back
        assert await thing.storage.get("a") is None

    Thing.works = {"both": both}
    await place.stub().do("both")
    assert place.stored() == {}


async def test_what_a_transaction_deleted_stays_hidden_when_others_are_forgotten() -> (
    None
):
    """A row put with ``no_cache`` was let go, and all absent rows seemed unknown."""
    place = Place(Thing)

    async def both(thing: Any) -> None:
        thing.storage.put("a", 1)
        thing.storage.put("b", 2, no_cache=True)
        async with thing.storage.transaction():
            thing.storage.delete("a")
            await turns()  # the puts are durable, and "b" is forgotten
            assert place.stored() == {"a": "1", "b": "2"}
            assert await thing.storage.get("a") is None
            assert await thing.storage.delete("a") is False

    Thing.works = {"both": both}
    await place.stub().do("both")
    assert place.stored() == {"b": "2"}
