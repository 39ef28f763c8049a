"""Faults that bring about the races which the ownership protocol is there for.

Each is a bad network that a fleet may well have, at a bad moment: the last packet of a
commit comes late, a connection ends for one side only, a node reaches its clients but
not Postgres. They are aimed: at agents that are quiet otherwise, so that what happens
to them is all in one history, and at the moment at which one rule of the protocol is
all that helps (tests/faults/mutants.py takes the rules away, one at a time).
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.faults.fleet_clients import Clients
from tests.faults.fleet_nodes import LEASE, Node
from tests.faults.history import Kind
from tests.faults.tap import Hold
from tests.faults.tap_readers import is_commit

# How long something is held back at most; less than what the fleet's sessions bear.
HELD_SECONDS = 1.2
# A handler takes so long: more than all hand-overs of a node, less than their grace.
LINGERING_SECONDS = 1.5
LOOKS_SECONDS = 0.02
CLAIM_CALL = "durable.claim("
_FENCE_WAITERS = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND classid = 17490 AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def is_lane(application: str) -> bool:
    """Whether that is how lanes call themselves."""
    return application.startswith("durable lane")


def is_off_lane(application: str) -> bool:
    """Whether it is a session that writes off the lane."""
    return application in ("durable agent sql", "durable reads")


OFF_LANE = Hold(is_off_lane, is_commit)
CLAIMS = Hold(is_lane, lambda text: CLAIM_CALL in text)


@dataclass(slots=True, kw_only=True)
class Race:
    """A fleet under load, and the quiet agents that a race is about."""

    dsn: str
    nodes: Sequence[Node]
    clients: Clients
    quiet: Sequence[str]
    random: random.Random
    _tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    async def run(self, fault: str) -> None:
        """Bring one about; afterwards the network is as good as ever."""
        try:
            await RACES[fault](self)
        finally:
            for node in self.nodes:
                node.tap.heal()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what races are made of

    async def owners(self, space: str) -> dict[str, Node]:
        """The quiet agents of a kind and who has them, in memory from now on."""
        found = {}
        for name in self.quiet:
            answer = await self.clients.read(name) if name.startswith(space) else None
            for node in self.nodes:
                if answer is not None and answer["pid"] == node.server.pid:
                    found[name] = node
        return found

    async def sides(self, space: str) -> tuple[Node, dict[str, Node]]:
        """A node that will be left alone with its lane; agents of the others."""
        async with asyncio.timeout(20):
            while True:
                owners = await self.owners(space)
                survivor = self.random.choice(self.nodes)
                others = {n: o for n, o in owners.items() if o is not survivor}
                if others:
                    return survivor, others

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something beside; it ends with the race."""
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    @property
    def is_over(self) -> bool:
        """Whether all that was started has ended."""
        return all(task.done() for task in self._tasks)

    def writes(self, kind: Kind, at: Mapping[str, Node]) -> list[str]:
        """Begin a write to each of these agents, at these front ends; the tokens."""
        tokens = []
        for name, node in at.items():
            token = self.clients.token()
            tokens.append(token)
            url = node.server.url
            self.start(self.clients.write(name, kind, token, url))
        return tokens

    async def answered_by(self, name: str, node: Node, seconds: float) -> bool:
        """Ask there until an instance of that very process answers, or time is up."""
        answered = asyncio.Event()

        async def ask() -> None:
            if await self.clients.peek(name, node.server.url) == node.server.pid:
                answered.set()

        until = time.monotonic() + seconds
        while not answered.is_set() and time.monotonic() < until:
            self.start(ask())
            with suppress(TimeoutError):
                async with asyncio.timeout(0.04):
                    await answered.wait()
        return answered.is_set()

    async def taken_over(self, names: Sequence[str], node: Node, kind: Kind) -> None:
        """Have a node that owns them next write to these, if it does in time."""

        async def write(name: str) -> None:
            if await self.answered_by(name, node, HELD_SECONDS):
                token = self.clients.token()
                await self.clients.write(name, kind, token, node.server.url)

        writing = [self.start(write(name)) for name in names]
        await asyncio.wait(writing, timeout=HELD_SECONDS + 0.3)

    async def held(self, nodes: Sequence[Node], tokens: Sequence[str]) -> None:
        """Wait until the commits that carry these are held back, but not for long."""

        def there() -> bool:
            sent = b"".join(link.before for n in nodes for link in n.tap.held)
            return all(token.encode() in sent for token in tokens)

        await until(there, 0.5)


async def until(happens: Callable[[], bool], seconds: float) -> bool:
    """Look again and again; whether it happened in time."""
    limit = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > limit:
            return False
        await asyncio.sleep(LOOKS_SECONDS)
    return True


# --- the races


async def held_commit(race: Race) -> None:
    """A writer off the lane is past the fence, its lane ends, its COMMIT comes late."""
    survivor, others = await race.sides("sql")
    victims = [node for node in race.nodes if node is not survivor]
    for node in victims:
        node.tap.hold = OFF_LANE
    tokens = race.writes(Kind.APPEND, others)
    await race.held(victims, tokens)
    for node in victims:
        node.tap.hold = None
        node.tap.strand(is_lane)
    await race.taken_over(list(others), survivor, Kind.APPEND)


async def held_claim(race: Race) -> None:
    """Writers meet the fence in the middle of the claim that makes them former ones."""
    survivor, others = await race.sides("sql")
    victims = [node for node in race.nodes if node is not survivor]
    survivor.tap.hold = CLAIMS
    for node in victims:
        node.tap.strand(is_lane)
    await until(lambda: bool(survivor.tap.held), HELD_SECONDS)
    for node in victims:
        node.tap.hold = OFF_LANE
    race.writes(Kind.APPEND, others)
    await _until_they_wait(race.dsn, len(others))
    survivor.tap.let_go()
    await race.taken_over(list(others), survivor, Kind.APPEND)


async def _until_they_wait(dsn: str, writers: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        limit = time.monotonic() + 0.6
        while time.monotonic() < limit:
            if await connection.fetchval(_FENCE_WAITERS) >= writers:
                return
            await asyncio.sleep(LOOKS_SECONDS)
    finally:
        await connection.close()


async def late_commit(race: Race) -> None:
    """A connection breaks in a COMMIT off the lane, which reaches Postgres later."""
    owners = await race.owners("sql")
    if not owners:
        return
    node = race.random.choice(list(owners.values()))
    at = {name: node for name, owner in owners.items() if owner is node}
    node.tap.hold = OFF_LANE
    await race.held([node], race.writes(Kind.APPEND, at))
    node.tap.hold = None
    for link in node.tap.held:
        link.forsake()
    race.writes(Kind.APPEND, at)
    await until(lambda: race.is_over, HELD_SECONDS)
    node.tap.let_go()
    await until(lambda: race.is_over, HELD_SECONDS)


async def lingering(race: Race) -> None:
    """Handlers take longer than a node that drains would like.

    What they write is refused later than it should be, if their shard has left, by the
    fence and by the claim's id; that they still answer is what nothing else prevents.
    """
    owners = await race.owners("key")
    if not owners:
        return
    victim = race.random.choice(list(owners.values()))
    names = [name for name, owner in owners.items() if owner is victim]
    other = race.random.choice([n for n in race.nodes if n is not victim])
    for name in names:
        race.start(race.clients.peek(name, victim.server.url, LINGERING_SECONDS))
    await asyncio.sleep(race.random.uniform(0.05, 0.15))
    victim.signal(signal.SIGTERM)
    restarting = asyncio.create_task(victim.restart())
    asked = [race.answered_by(name, other, 2 * LINGERING_SECONDS) for name in names]
    await asyncio.wait([race.start(each) for each in asked])
    await restarting


async def deaf(race: Race) -> None:
    """All nodes but one lose Postgres, which ends their lanes; clients still ask."""
    survivor, others = await race.sides("key")
    for node in race.nodes:
        if node is not survivor:
            node.tap.is_cut = True
            node.tap.strand(is_lane)

    async def keep_asking(name: str, node: Node) -> None:
        while True:
            if await race.clients.peek(name, node.server.url) is None:
                await asyncio.sleep(LOOKS_SECONDS)

    for name, node in others.items():
        race.start(keep_asking(name, node))
    await race.taken_over(list(others), survivor, Kind.INCREMENT)
    # Until the others notice: they have been asked all the time.
    for name in others:
        await race.answered_by(name, survivor, HELD_SECONDS)


async def there_and_back(race: Race) -> None:
    """A node has its shards again after another one had them, before it gave up."""
    survivor, others = await race.sides("key")
    began = time.monotonic()
    for node in race.nodes:
        if node is not survivor:
            node.tap.refuses = True
            node.tap.end(is_lane)
    await race.taken_over(list(others), survivor, Kind.INCREMENT)
    survivor.tap.refuses = True
    survivor.tap.end(is_lane)
    for node in race.nodes:
        if node is not survivor:
            node.tap.refuses = False
    left = LEASE + 0.5 - (time.monotonic() - began)
    asked = [race.answered_by(name, node, left) for name, node in others.items()]
    await asyncio.wait([race.start(each) for each in asked])


RACES: dict[str, Callable[[Race], Awaitable[None]]] = {
    "held-commit": held_commit,
    "held-claim": held_claim,
    "late-commit": late_commit,
    "lingering": lingering,
    "deaf": deaf,
    "there-and-back": there_and_back,
}
