"""What an object wants of all its sockets: automatic responses, limits of handlers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable import DurableObject, Request, Response, ValueRefused
from durable.domain.ports import NO_OPTIONS, Kept, SocketOptions
from tests.objects.scripted import Place, Port, turns

AUTO = SocketOptions(auto_response=("ping", "pong"))


class Room(DurableObject):
    """Does what a message says to its sockets' options."""

    at_start: Any = None
    seen: list[Any] = []

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        if self.at_start is not None:
            type(self).at_start(ctx)

    async def fetch(self, request: Request) -> Response:
        return Response.upgrade(self.ctx.accept_websocket(request))

    async def websocket_message(self, websocket: Any, message: Any) -> None:
        ctx = self.ctx
        if message == "set":
            ctx.set_websocket_auto_response("ping", "pong")
        elif message == "unset":
            ctx.set_websocket_auto_response(None)
        elif message == "slow":
            ctx.set_hibernatable_websocket_event_timeout(0.02)
        elif message == "wait":
            await asyncio.Event().wait()
        elif message == "late":
            await asyncio.sleep(0)
            await asyncio.Event().wait()
        self.seen.append(
            (
                ctx.get_websocket_auto_response(),
                ctx.get_hibernatable_websocket_event_timeout(),
                ctx.get_websocket_auto_response_timestamp(websocket),
            )
        )


@pytest.fixture
def place() -> Place:
    Room.seen = []
    Room.at_start = None
    return Place(Room)


async def test_what_is_set_holds_for_open_sockets_and_for_those_to_come(
    place: Place,
) -> None:
    first = await place.connect()
    assert first.kept == Kept()
    place.message(first, "set")
    await turns()
    second = await place.connect()
    assert first.kept.options == second.kept.options == AUTO
    place.message(second, "unset")
    await turns()
    assert first.kept.options == second.kept.options == NO_OPTIONS
    assert [seen[0] for seen in Room.seen] == [("ping", "pong"), None]


async def test_it_is_still_known_when_the_object_has_slept(place: Place) -> None:
    port = await place.connect()
    place.message(port, "set")
    await turns()
    await place.evict()
    port.record.answered = 1000.0
    place.message(port, "look")
    await turns()
    assert Room.seen[-1] == (
        ("ping", "pong"),
        None,
        datetime.fromtimestamp(1000, UTC),
    )
    assert (await place.connect()).kept.options == AUTO


async def test_a_constructor_may_set_it_before_there_are_sockets(place: Place) -> None:
    Room.at_start = lambda ctx: ctx.set_websocket_auto_response("ping", "pong")
    assert (await place.connect()).kept.options == AUTO


@pytest.mark.parametrize("message", ["wait", "late"])
async def test_a_handler_that_takes_too_long_is_cancelled_and_the_socket_lives_on(
    place: Place, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = await place.connect()
    for text in ("slow", message):
        place.message(port, text)
    (live,) = place.dispatcher.activations()
    await live.settle()
    assert "socket handler failed" in caplog.text
    place.message(port, "look")
    await turns()
    assert [seen[1] for seen in Room.seen] == [0.02, 0.02]
    assert port.closed is None


def refused(make: Any, kind: type[Exception]) -> Any:
    def at_start(ctx: Any) -> None:
        with pytest.raises(kind):
            make(ctx)

    return at_start


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda ctx: ctx.set_websocket_auto_response("x" * 2049, "y"), ValueRefused),
        (lambda ctx: ctx.set_websocket_auto_response("x", "é" * 1025), ValueRefused),
        (lambda ctx: ctx.set_websocket_auto_response(b"x", "y"), ValueRefused),
        (lambda ctx: ctx.set_hibernatable_websocket_event_timeout(0), ValueError),
        (
            lambda ctx: ctx.set_hibernatable_websocket_event_timeout(
                timedelta(days=7, seconds=1)
            ),
            ValueError,
        ),
    ],
)
async def test_what_is_too_long_is_refused(
    place: Place, make: Any, kind: type[Exception]
) -> None:
    Room.at_start = refused(make, kind)
    port: Port = await place.connect()
    assert port.kept.options == NO_OPTIONS
