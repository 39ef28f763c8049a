"""Sockets whose objects are another node's, over a real link, when shards leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from durable.domain.ids import shard_of
from durable.objects.websocket import SocketRecord
from server.held_socket import HeldSocket
from tests.server.link_nodes import SHARDS, TARGET, Node, linked
from tests.server.test_held_sockets import ClientPort, Owner

SHARD = shard_of(TARGET.value, SHARDS)
HEADERS = CIMultiDictProxy(CIMultiDict[str]())


@dataclass
class Place:
    """``front`` holds a client's socket, ``owner`` has its object."""

    front: Node
    owner: Node
    client: ClientPort
    held: HeldSocket
    record: SocketRecord

    async def next_owner(self) -> list[Any]:
        """What another owner gets when it serves the shard."""
        following = Owner()
        for held in self.front.held.attach(following, [SHARD]):
            held.attached(following)
        self.front.held.serves(following, [SHARD])
        return [message for _, message in following.got]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with linked() as (front, owner):
        client = ClientPort()
        held = front.held.hold(
            client,
            TARGET,
            front.peer,
            socket_id="s",
            url="http://x/",
            headers=HEADERS,
        )
        port = owner.peer.sockets.port(held.number)
        record = SocketRecord("s", port=port, url="http://x/", headers=HEADERS)
        owner.this.table.add(TARGET.value, record)
        port.belong(TARGET, record)
        yield Place(front, owner, client, held, record)


async def test_what_is_done_in_the_turn_in_which_a_shard_leaves_is_still_told(
    place: Place,
) -> None:
    place.held.heard("a")
    assert await place.owner.events.said.get() == "a"
    place.record.port.acknowledged()
    await place.owner.peer.part([SHARD])
    assert place.client.closed is None
    assert await place.next_owner() == []


async def test_a_message_that_crosses_the_parting_is_the_next_owners(
    place: Place,
) -> None:
    parting = asyncio.create_task(place.owner.peer.part([SHARD]))
    place.held.heard("crossing")
    await parting
    place.held.heard("later")
    assert place.client.closed is None
    assert await place.next_owner() == ["crossing", "later"]
    assert place.owner.events.said.empty()


async def test_a_message_that_was_taken_and_is_not_done_closes_its_socket(
    place: Place,
) -> None:
    place.held.heard("a")
    await place.owner.events.said.get()
    await place.owner.peer.part([SHARD])
    assert place.client.closed == (1012, "The object's owner was lost")
