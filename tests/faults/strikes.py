"""When a node is killed: at a random moment, or right where it hurts a commit."""

from __future__ import annotations

import asyncio
import enum
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.tap import PostgresTap

PATIENCE = 10.0
LONGEST_DELAY = 0.004


class NothingToHitError(Exception):
    """Under load the node did not commit: it hangs, or commits by another path."""


class Moment(enum.Enum):
    """What the killer waits for after its random delay."""

    ANY = "whatever is going on"
    COMMIT_SENT = "a commit was handed to Postgres"
    SOON_AFTER = "some ms after a commit was handed to Postgres"
    COMMIT_ANSWERED = "a commit is durable and the node doesn't know"


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One kill, as it happened."""

    moment: Moment
    commits_in_flight: int


async def strike(
    tap: PostgresTap, chance: random.Random, moment: Moment, kill: Callable[[], None]
) -> Strike:
    """Wait for a random time under load, then for ``moment``, and ``kill``.

    Commits in flight are counted in the same step of the event loop as the kill, so
    that no byte is forwarded between them.
    """
    loop = asyncio.get_running_loop()
    struck: asyncio.Future[int] = loop.create_future()

    def hit() -> None:
        if not struck.done():
            in_flight = tap.commits_in_flight
            kill()
            struck.set_result(in_flight)

    def hit_soon() -> None:
        tap.on_commit_sent = None
        loop.call_later(chance.uniform(0, LONGEST_DELAY), hit)

    await asyncio.sleep(chance.uniform(0.03, 0.45))
    if moment is Moment.ANY:
        hit()
    elif moment is Moment.COMMIT_SENT:
        tap.on_commit_sent = hit
    elif moment is Moment.SOON_AFTER:
        tap.on_commit_sent = hit_soon
    else:
        tap.on_commit_answered = hit
    try:
        async with asyncio.timeout(PATIENCE):
            in_flight = await struck
    except TimeoutError:
        raise NothingToHitError(f"waited {PATIENCE:g} s: {moment.value}") from None
    finally:
        tap.on_commit_sent = tap.on_commit_answered = None
    return Strike(moment=moment, commits_in_flight=in_flight)
