"""The log of a stream, on a lane that the test holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agents.chat.chunk_log import (
    GATHER_SECONDS,
    MAX_GATHERED_BYTES,
    ChunkLog,
    delete_chunks,
    read_chunks,
)
from agents.chat.turn_store import TURNS_KEPT, TurnRow, TurnStore
from durable import Frame, ResetError
from tests.objects.scripted import Place, Port, turns
from tests.objects.thing import Thing

STREAM = "000000000007"


class Timers:
    """``call_later`` that the test fires."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def call_later(self, delay: float, act: Callable[[], object]) -> Any:
        assert delay == GATHER_SECONDS
        self.waiting.append(act)
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for act in waiting:
            act()


class Talker(Thing):
    """Gives out what its log gives out, to its sockets."""

    def fetch(self, request: Any) -> Any:
        from durable import Response

        return Response.upgrade(self.ctx.accept_websocket(request))

    def open_log(self, timers: Timers) -> ChunkLog:
        def give_out(first: int, raws: Sequence[bytes]) -> None:
            for number, raw in enumerate(raws, first):
                frame = Frame(f"{number}:{raw.decode()}".encode())
                self.ctx.send_frame(frame, self.ctx.get_websockets())

        return ChunkLog(self.ctx.storage, STREAM, give_out, timers.call_later)


@pytest.fixture
def place() -> Place:
    Talker.works = {}
    return Place(Talker)


@pytest.fixture
def timers() -> Timers:
    return Timers()


async def opened(place: Place, timers: Timers) -> tuple[ChunkLog, Port]:
    logs: list[ChunkLog] = []
    Talker.works["open"] = lambda talker: logs.append(talker.open_log(timers))
    port = await place.connect()
    await place.stub().do("open")
    return logs[0], port


async def test_a_chunk_leaves_when_it_is_durable_and_not_before(
    place: Place, timers: Timers
) -> None:
    log, port = await opened(place, timers)
    place.lane.hold()
    log.append(b"1")
    log.append(b"2")
    assert place.lane.in_flight == []
    timers.fire()
    await turns()
    assert port.said == []
    place.lane.release()
    await turns()
    assert port.said == ["0:1", "1:2"]
    assert place.stored(space="chat-chunks") == {f"{STREAM}-000000000": "[1,2]"}


async def test_chunks_that_come_together_are_one_row_and_one_commit(
    place: Place, timers: Timers
) -> None:
    log, port = await opened(place, timers)
    before = len(place.lane.commits)
    for round in range(3):
        for number in range(50):
            log.append(f"{round * 50 + number}".encode())
        timers.fire()
        await turns()
    assert len(place.lane.commits) - before == 3
    assert port.said == [f"{n}:{n}" for n in range(150)]


async def test_a_failed_commit_takes_its_chunks_with_it(
    place: Place, timers: Timers
) -> None:
    log, port = await opened(place, timers)
    log.append(b"1")
    timers.fire()
    await turns()
    place.lane.hold()
    log.append(b"2")
    timers.fire()
    await turns()
    place.lane.lose(landed=False)
    log.append(b"3")
    timers.fire()
    await turns()
    assert port.said == ["0:1"]
    assert place.stored(space="chat-chunks") == {f"{STREAM}-000000000": "[1]"}


async def test_a_flush_at_once_and_one_for_size(place: Place, timers: Timers) -> None:
    log, port = await opened(place, timers)
    log.append(b"1")
    log.flush()
    log.flush()
    assert timers.waiting == []
    big = b'"' + b"x" * MAX_GATHERED_BYTES + b'"'
    log.append(big)
    assert timers.waiting == []
    await turns()
    assert [len(text) for text in port.said] == [3, len(big) + 2]
    assert log.chunks == [b"1", big]


async def test_a_producer_inside_a_transaction_that_rolls_back_has_spoken(
    place: Place, timers: Timers
) -> None:
    log, port = await opened(place, timers)

    async def speak(talker: Any) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with talker.storage.transaction():
                talker.storage.put("kept", 1)
                log.append(b"1")
                log.flush()
                raise ZeroDivisionError

    Talker.works["speak"] = speak
    await place.stub().do("speak")
    await turns()
    assert port.said == ["0:1"]
    assert place.stored() == {}
    assert place.stored(space="chat-chunks") == {f"{STREAM}-000000000": "[1]"}


async def test_a_log_is_read_by_the_next_owner_page_by_page(
    place: Place, timers: Timers
) -> None:
    log, _ = await opened(place, timers)
    for number in range(300):
        log.append(str(number).encode())
        if number % 2:
            log.flush()
            await turns(4)
    await turns()
    object_id = place.things.id_from_name("a").value
    place.rows.first = 1
    place.dispatcher._live[object_id].reset(ResetError("moved"))
    found: list[Any] = []

    async def read(talker: Any) -> None:
        found.append(await read_chunks(talker.storage, STREAM))
        found.append(await read_chunks(talker.storage, "000000000008"))
        await delete_chunks(talker.storage, STREAM)

    Talker.works["read"] = read
    await place.stub().do("read")
    assert found == [[str(number).encode() for number in range(300)], []]
    assert place.stored(space="chat-chunks") == {}


async def test_turns_are_kept_until_there_are_too_many(
    place: Place, timers: Timers
) -> None:
    kept: list[Any] = []

    async def fill(talker: Any) -> None:
        store = TurnStore(talker.storage)
        await store.load()
        for number in range(TURNS_KEPT + 3):
            key = store.add(TurnRow(id=f"t{number}"))
            log = ChunkLog(talker.storage, key, lambda *_: None, timers.call_later)
            log.append(b"1")
            log.flush()
            if number:
                store.rows[key].state = "completed"
                store.put(key)
        await store.trim()
        kept.append(store)

    Talker.works["fill"] = fill
    await place.stub().do("fill")
    [store] = kept
    assert [row.id for row in store.rows.values()] == [
        "t0",
        *(f"t{n}" for n in range(3, 13)),
    ]
    assert len(place.stored(space="chat-turns")) == TURNS_KEPT + 1
    assert len(place.stored(space="chat-chunks")) == TURNS_KEPT + 1
    assert [row.id for row in store.unfinished().values()] == ["t0"]
    assert store.find("t1") is None
    found, last = store.find("t12"), store.last_ended()
    assert found == last
    assert found is not None
    assert found[1].state == "completed"
