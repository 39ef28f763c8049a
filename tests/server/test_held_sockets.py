"""Sockets on their way through owners: in order, at most once, closed when in doubt."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from multidict import CIMultiDict, CIMultiDictProxy

from durable import DurableObjectId, Overloaded
from durable.domain.errors import Moved
from durable.domain.ids import shard_of
from durable.domain.ports import Kept, SocketOptions
from server.held_socket import HeldSocket, Message
from server.held_sockets import HeldSockets
from tests.objects.scripted import Port, turns

SHARDS = 16
OBJECT = DurableObjectId(UUID(int=5))
SHARD = shard_of(OBJECT.value, SHARDS)
LIMIT = 100


class Owner:
    """Another node: gets numbered messages; says what the test has it say."""

    def __init__(self) -> None:
        self.got: list[tuple[int, Message]] = []
        self.goodbyes: list[tuple[int, str, bool]] = []
        self.answers: list[float] = []

    def heard(self, held: HeldSocket, message: Message) -> None:
        self.got.append((held.sending(message), message))

    def gone(self, held: HeldSocket, code: int, reason: str, was_clean: bool) -> None:
        self.goodbyes.append((code, reason, was_clean))

    def parted(self, held: HeldSocket) -> None:
        pass

    def answered(self, held: HeldSocket, at: float) -> None:
        self.answers.append(at)


class Here:
    """This node: takes a message at once, or raises."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.got: list[Message] = []
        self.goodbyes = 0
        self.answers: list[float] = []

    def heard(self, held: HeldSocket, message: Message) -> None:
        if self.error is not None:
            raise self.error
        self.got.append(message)

    def gone(self, held: HeldSocket, code: int, reason: str, was_clean: bool) -> None:
        if self.error is not None:
            raise self.error
        self.goodbyes += 1

    def parted(self, held: HeldSocket) -> None:
        pass

    def answered(self, held: HeldSocket, at: float) -> None:
        self.answers.append(at)


class ClientPort(Port):
    held: HeldSocket | None = None


class Holder:
    def __init__(self, owner: Any) -> None:
        self.time = 0.0
        self.sockets = HeldSockets(SHARDS, LIMIT, clock=lambda: self.time)
        self.port = ClientPort()
        self.held = self.sockets.hold(
            self.port,
            OBJECT,
            owner,
            socket_id="s",
            url="http://x/",
            headers=CIMultiDictProxy(CIMultiDict()),
        )

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.held.heard(message)

    def attach(self, owner: Any) -> None:
        for held in self.sockets.attach(owner, [SHARD]):
            held.attached(owner)


async def test_messages_wait_while_shards_move_and_come_in_order() -> None:
    old, new = Owner(), Owner()
    holder = Holder(old)
    holder.say("a", "b", "c")
    holder.held.taken(1)
    holder.held.unacknowledged -= 1
    holder.held.bounced(2)
    holder.say("d")
    holder.held.bounced(3)
    holder.sockets.part(old, [SHARD])
    holder.attach(new)
    holder.say("e")
    assert new.got == []
    holder.sockets.serves(new, [SHARD])
    holder.say("f")
    assert new.got == [(1, "b"), (2, "c"), (3, "d"), (4, "e"), (5, "f")]
    assert holder.port.closed is None


async def test_an_owner_that_goes_on_gets_what_it_bounced() -> None:
    owner = Owner()
    holder = Holder(owner)
    holder.say("a", "b")
    holder.held.bounced(1)
    holder.sockets.serves(owner, [SHARD])
    assert owner.got[2:] == [(1, "a"), (2, "b")]


async def test_a_socket_with_a_message_in_flight_is_closed_when_its_owner_is_lost() -> (
    None
):
    owner = Owner()
    idle, busy = Holder(owner), Holder(owner)
    for holder in (idle, busy):
        holder.say("a")
        holder.held.taken(1)
    idle.held.unacknowledged -= 1
    for holder in (idle, busy):
        holder.sockets.lost(owner)
    assert idle.port.closed is None
    assert busy.port.closed == (1012, "The object's owner was lost")
    assert not idle.held.clean


async def test_who_claims_the_shards_has_the_sockets_though_the_old_owner_lives() -> (
    None
):
    old, new = Owner(), Owner()
    holder = Holder(old)
    number = holder.held.number
    assert holder.sockets.find(number, old) is holder.held
    holder.attach(new)
    assert holder.sockets.find(number, old) is None
    assert holder.sockets.find(number, new) is holder.held
    holder.sockets.part(old, [SHARD])
    holder.sockets.lost(old)
    holder.sockets.serves(new, [SHARD])
    holder.say("a")
    assert new.got == [(1, "a")]


async def test_what_was_not_attached_in_time_is_closed() -> None:
    holder = Holder(Owner())
    holder.sockets.serves(Owner(), [SHARD])
    assert holder.port.closed == (1012, "The object has moved")


async def test_a_socket_that_nobody_attaches_is_closed() -> None:
    owner = Owner()
    holder = Holder(owner)
    holder.sockets.lost(owner)
    holder.time = 10.0
    holder.sockets.give_up(10.0)
    assert holder.port.closed is None
    holder.time = 10.1
    holder.sockets.give_up(10.0)
    assert holder.port.closed == (1012, "The object has moved")
    holder.held.gone(1012, "", True)
    holder.sockets.give_up(10.0)
    assert len(holder.sockets) == 0


async def test_a_goodbye_comes_behind_what_was_said_before() -> None:
    old, new = Owner(), Owner()
    holder = Holder(old)
    holder.sockets.part(old, [SHARD])
    holder.say("last words")
    holder.held.gone(1000, "bye", True)
    holder.attach(new)
    assert new.goodbyes == []
    holder.sockets.serves(new, [SHARD])
    assert (new.got, new.goodbyes) == ([(1, "last words")], [(1000, "bye", True)])
    assert len(holder.sockets) == 0


async def test_here_a_message_that_nobody_takes_waits_too() -> None:
    here = Here()
    holder = Holder(here)
    here.error = Moved("leaving")
    holder.say("a", "b")
    here.error = None
    holder.say("c")
    assert here.got == []
    holder.sockets.serves(here, [SHARD])
    assert here.got == ["a", "b", "c"]
    here.error = Moved("leaving")
    holder.held.gone(1000, "", True)
    here.error = None
    holder.sockets.serves(here, [SHARD])
    assert (here.goodbyes, len(holder.sockets)) == (1, 0)


async def test_an_overloaded_object_closes_with_1013() -> None:
    here = Here()
    holder = Holder(here)
    here.error = Overloaded("too many")
    holder.say("a")
    assert holder.port.closed == (1013, "The object is overloaded")


async def test_a_client_that_says_too_much_while_nobody_listens_is_not_read() -> None:
    old, new = Owner(), Owner()
    holder = Holder(old)
    holder.sockets.part(old, [SHARD])
    holder.say("x" * (LIMIT + 1))
    assert holder.held.is_full
    reading = asyncio.create_task(holder.held.room())
    await turns()
    assert not reading.done()
    holder.attach(new)
    holder.sockets.serves(new, [SHARD])
    await turns()
    assert not reading.done(), "the new owner hasn't taken it yet"
    holder.held.taken(1)
    await reading


async def test_an_automatic_response_is_given_here_and_its_owner_told_of_it() -> None:
    owner = Owner()
    holder = Holder(owner)
    held, port = holder.held, holder.port
    held.kept = Kept(options=SocketOptions(auto_response=("ping", "pong")))
    holder.say("ping", b"ping", "ping ")
    assert port.said == ["pong"]
    assert [message for _, message in owner.got] == [b"ping", "ping "]
    assert owner.answers == [held.answered]
    holder.sockets.part(owner, [SHARD])
    holder.say("ping")
    assert port.said == ["pong", "pong"], "whoever owns it"
    assert len(owner.answers) == 1
