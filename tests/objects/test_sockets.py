"""Socket events of an object: order, acknowledgement, reset, sleep; scripted floors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import DurableObject, Request, Response, Unavailable, ValueRefused
from durable.domain.errors import CommitFailed
from tests.objects.scripted import Place, Port, turns


class Room(DurableObject):
    log: list[Any] = []
    go_on: asyncio.Event

    async def fetch(self, request: Request) -> Response:
        return Response.upgrade(self.ctx.accept_websocket(request))

    def websocket_message(self, websocket: Any, message: Any) -> Any:
        self.log.append(message)
        if message == "abort":
            self.ctx.abort("enough")
        if message == "raise":
            raise RuntimeError("a bad message")
        if message.startswith("slow"):
            return self.slowly(message)
        if message.startswith("put"):
            self.ctx.storage.put("last", message)
        if message == "read":
            return self.read(websocket)
        for socket in self.ctx.get_websockets():
            socket.send(message)
        return None

    async def slowly(self, message: str) -> None:
        await self.go_on.wait()
        self.log.append(f"{message} done")

    async def read(self, websocket: Any) -> None:
        websocket.send(str(await self.ctx.storage.get("absent")))

    def websocket_close(self, websocket: Any, *how: Any) -> None:
        self.log.append(("closed", *how))


@pytest.fixture
def place() -> Place:
    Room.log = []
    Room.go_on = asyncio.Event()
    return Place(Room)


async def test_messages_are_delivered_in_the_call_and_answered_in_order(
    place: Place,
) -> None:
    port = await place.connect()
    for word in ("a", "b", "put c"):
        place.message(port, word)
    assert Room.log == ["a", "b", "put c"]
    assert port.said == ["a", "b"], "the last one waits for its commit"
    await turns()
    assert port.said == ["a", "b", "put c"]
    assert port.record.unacknowledged == 0


class Restoring(Room):
    def websocket_restored(self, websocket: Any) -> None:
        websocket.send("again")


async def test_only_what_the_client_sent_is_acknowledged_to_who_holds_its_socket() -> (
    None
):
    Room.log = []
    place = Place(Restoring)
    port = await place.connect()
    place.message(port, "a")
    await turns()
    assert port.done == 1
    # Else its holder would count one too few, and keep it when an owner is lost with
    # a message of it.
    assert port.object_id is not None
    place.dispatcher.socket_restored(port.object_id, port.record)
    await turns()
    assert port.said == ["a", "again"]
    assert (port.done, port.record.unacknowledged) == (1, 0)


async def test_messages_wait_behind_a_shut_gate_and_keep_their_order(
    place: Place,
) -> None:
    place.rows.first = 0
    place.keep({"x": 1})
    port = await place.connect()
    with place.rows.held():
        place.message(port, "read")
        await turns()
        for word in ("a", "b"):
            place.message(port, word)
        await turns()
        assert Room.log == ["read"]
        assert port.done == 0
    await turns()
    assert Room.log == ["read", "a", "b"]
    assert port.said == ["None", "a", "b"]
    assert port.done == 3, "each is acknowledged, however it came in"


async def test_a_message_wakes_an_object_whose_sockets_slept_with_it(
    place: Place,
) -> None:
    ports = [await place.connect() for _ in range(2)]
    ports[0].record.attachment = '{"kept":1}'
    assert await place.evict() == 1
    assert [port.closed for port in ports] == [None, None]
    place.message(ports[0], "hello")
    await turns()
    assert [port.said for port in ports] == [["hello"], ["hello"]]
    assert ports[0].record.handle.deserialize_attachment() == {"kept": 1}


async def test_a_reset_closes_only_sockets_with_something_unacknowledged(
    place: Place,
) -> None:
    idle, busy, waiting = [await place.connect() for _ in range(3)]
    place.message(busy, "slow")
    place.lane.hold()
    place.message(waiting, "put it")
    await turns()
    place.lane.fail(CommitFailed("refused"))
    assert idle.closed is None
    assert busy.closed == waiting.closed == (1012, "The object was reset")
    await turns()
    place.message(idle, "still here")
    await turns()
    assert idle.said[-1] == "still here"


@pytest.mark.parametrize("behind", ["", "slow"])
async def test_a_message_whose_handler_aborts_closes_its_socket(
    place: Place, behind: str
) -> None:
    """Else its sender would wait for an answer that never comes."""
    other, port = [await place.connect() for _ in range(2)]
    if behind:
        place.message(port, behind)
    place.message(port, "abort")
    await turns()
    assert (port.closed, other.closed) == ((1012, "The object was reset"), None)
    place.message(other, "hello")
    await turns()
    assert other.said == ["hello"]


async def test_a_handler_that_raises_is_logged_and_the_socket_lives_on(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    port = await place.connect()
    place.message(port, "raise")
    place.message(port, "hello")
    await turns()
    assert (port.said, port.closed) == (["hello"], None)
    assert port.record.unacknowledged == 0
    assert "a bad message" in caplog.text


async def test_a_close_is_told_behind_the_messages_also_when_asleep(
    place: Place,
) -> None:
    port, stays = [await place.connect() for _ in range(2)]
    place.message(port, "hello")
    assert port.object_id is not None
    place.dispatcher.socket_closed(port.object_id, port.record, 1006, "", False)
    await turns()
    assert Room.log == ["hello", ("closed", 1006, "", False)]
    assert await place.evict() == 1
    assert stays.object_id is not None
    place.dispatcher.socket_closed(stays.object_id, stays.record, 1000, "bye", True)
    await turns()
    assert Room.log[-1] == ("closed", 1000, "bye", True)
    assert len(place.sockets) == 0


async def test_a_close_is_told_to_an_overloaded_object_too() -> None:
    Room.log, Room.go_on = [], asyncio.Event()
    place = Place(Room, max_waiting=1)
    place.rows.first = 0
    place.keep({"x": 1})
    port, other = [await place.connect() for _ in range(2)]
    with place.rows.held():
        place.message(other, "read")
        await turns()
        place.message(other, "waits")
        await turns()
        assert port.object_id is not None
        place.dispatcher.socket_closed(port.object_id, port.record, 1006, "", False)
    await turns()
    assert Room.log[-1] == ("closed", 1006, "", False)


async def test_messages_to_a_shard_that_moved_are_refused(place: Place) -> None:
    port = await place.connect()
    place.owned = False
    place.dispatcher.reset_all(Unavailable("lane lost"))
    with pytest.raises(Exception, match="not owned"):
        place.message(port, "hello")


async def test_an_old_activations_handle_says_nothing_any_more(place: Place) -> None:
    port = await place.connect()
    handle = port.record.handle
    await place.evict()
    handle.send("from the past")
    assert port.said == []


async def test_what_cannot_be_sent_or_kept_is_refused(place: Place) -> None:
    port: Port = await place.connect()
    socket = port.record.handle
    with pytest.raises(TypeError, match=r"json\.dumps"):
        socket.send({"a": 1})
    for code in (999, 1005, 1006, 5000):
        with pytest.raises(ValueError, match="close code"):
            socket.close(code)
    with pytest.raises(ValueError, match="123 bytes"):
        socket.close(1000, "é" * 62)
    with pytest.raises(ValueRefused, match="16384"):
        socket.serialize_attachment("x" * 16_384)
    with pytest.raises(ValueRefused, match="at most 10 tags"):
        socket.add_tags([str(number) for number in range(11)])
    with pytest.raises(ValueRefused, match="256"):
        socket.add_tags(["x" * 257])
    with pytest.raises(ValueError, match="accepted already"):
        socket.record.handle._emit.__self__.accept_websocket(
            Request("GET", "http://x/"), (), None
        )
