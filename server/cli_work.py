"""``durable schedules|queue|dead-letters``: what agents planned, and what failed."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from server.cli_agent import (
    add_agent,
    add_common,
    claimed_agent,
    classes_of,
    count,
    opened_agent,
    opened_connection,
)
from server.cli_database import (
    CommandError,
    Site,
    confirm,
    print_json,
    print_table,
    run_command,
)

if TYPE_CHECKING:
    from agents.offline_work import OfflineWork
    from server.cli_agent import Claimed, Found

# The classes' tags; an agent's id, or NULL for all; at most so many.
_SCHEDULES = """
SELECT class, name, id, callback, type, due, cron, timezone, paused, payload
FROM durable.schedules WHERE tag = ANY ($1::bigint[])
  AND ($2::uuid IS NULL OR agent = $2) ORDER BY due, id LIMIT $3
"""
_QUEUE = """
SELECT class, name, id, callback, created, started, payload
FROM durable.queue WHERE tag = ANY ($1::bigint[])
  AND ($2::uuid IS NULL OR agent = $2) ORDER BY created, number LIMIT $3
"""
_DEAD_LETTERS = """
SELECT class, name, id, kind, callback, failed, error, payload
FROM durable.dead_letters WHERE tag = ANY ($1::bigint[])
  AND ($2::uuid IS NULL OR agent = $2) ORDER BY id LIMIT $3
"""
_PAYLOAD_SHOWN = 60

Act = Callable[["OfflineWork", str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class _Change:
    """One thing to do with one entry; ``ask`` and ``done`` take its id."""

    act: Act
    ask: str
    done: str
    plans: bool = False


def add_commands(commands: Any) -> None:
    """Adds the three commands and what is below them."""
    schedules = _group(
        commands, "schedules", _SCHEDULES, "what agents will do, and when"
    )
    _add_change(
        schedules,
        "cancel",
        "cancel a schedule",
        _Change(_cancel, "Cancel the schedule {}?", "the schedule {} is cancelled"),
    )
    queue = _group(commands, "queue", _QUEUE, "what waits in agents' queues")
    _add_change(
        queue,
        "cancel",
        "take an item out",
        _Change(_dequeue, "Take {} out of the queue?", "{} is taken out of the queue"),
    )
    dead = _group(commands, "dead-letters", _DEAD_LETTERS, "what failed for good")
    _add_change(
        dead,
        "replay",
        "plan one again, to run at once",
        _Change(_replay, "Plan {} again?", "{} is planned again", plans=True),
    )
    _add_change(
        dead,
        "cancel",
        "delete one",
        _Change(_forget, "Delete the dead letter {}?", "the dead letter {} is deleted"),
    )


def _group(commands: Any, word: str, query: str, text: str) -> Any:
    below = commands.add_parser(word, help=text).add_subparsers(
        required=True, metavar="COMMAND"
    )
    listed = below.add_parser("list", help=text)
    listed.add_argument("agent", nargs="?", metavar="CLASS/NAME", help="of this agent")
    listed.add_argument(
        "--id", action="store_true", help="what follows CLASS/ is an id, not a name"
    )
    listed.add_argument("--class", dest="class_name", help="of this class only")
    listed.add_argument("--limit", type=count, default=100, help="at most so many")
    add_common(listed, _list)
    listed.set_defaults(query=query, word=word)
    return below


def _add_change(below: Any, word: str, text: str, change: _Change) -> None:
    parser = below.add_parser(word, help=text)
    add_agent(parser, writes=True)
    parser.add_argument("entry", metavar="ID", help="as `list` shows it")
    add_common(parser, _change)
    parser.set_defaults(change=change)


def _list(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        if options.agent is None:
            async with opened_connection(site) as connection:
                classes = await classes_of(
                    connection, options, site, options.class_name
                )
                tags = [entry.tag for entry in classes]
                rows = await connection.fetch(
                    options.query, tags, None, options.limit + 1
                )
        else:
            async with (
                opened_agent(options, site) as found,
                found.database.connection() as connection,
            ):
                rows = await connection.fetch(
                    options.query, [found.tag], found.row.id, options.limit + 1
                )
        _print(options, [dict(row) for row in rows])

    return run_command(work)


def _print(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    more, rows = len(rows) > options.limit, rows[: options.limit]
    if options.json:
        for row in rows:
            row["payload"] = json.loads(row["payload"])
        print_json({options.word: rows, "more": more})
        return
    if not rows:
        print("nothing")
        return
    for row in rows:
        text = row["payload"]
        long = len(text) > _PAYLOAD_SHOWN
        row["payload"] = f"{text[: _PAYLOAD_SHOWN - 1]}…" if long else text
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    if more:
        print(f"there are more than {options.limit}: --limit")


def _change(options: argparse.Namespace) -> int:
    change: _Change = options.change

    async def work(site: Site) -> None:
        async with opened_agent(options, site) as found:
            confirm(change.ask.format(options.entry), yes=options.yes)
            async with claimed_agent(found) as claimed:
                await _apply(change, options.entry, found, claimed)
        if options.json:
            print_json({"id": options.entry})
        else:
            print(change.done.format(options.entry))

    return run_command(work)


async def _apply(change: _Change, entry: str, found: Found, claimed: Claimed) -> None:
    from agents.offline_work import SPACES, OfflineWork
    from durable.domain.alarms import Alarm
    from durable.domain.ports import KeyRange
    from durable.domain.writes import WriteSet
    from durable.store.reads import Reads

    claim, row = claimed.target.claim, found.row
    reads = Reads(claimed.database)
    rows = {
        (space, key): stored
        for space in SPACES
        for key, stored in (
            await reads.scan(claim.shard, row.id, space, KeyRange())
        ).items()
    }
    now = time.time()
    offline = OfflineWork(rows, int(now * 1000))
    if not await change.act(offline, entry):
        raise CommandError(
            f"there is no {entry} in this agent: `list` shows what there is"
        )
    writes = WriteSet()
    for slot, stored in offline.writes.items():
        if stored is None:
            writes.delete(slot)
        else:
            writes.put(slot, stored)
    if change.plans:
        writes.alarm = Alarm(now)
    await claimed.database.commit(row.id, claim, writes)


def _cancel(work: OfflineWork, entry: str) -> Awaitable[bool]:
    return work.cancel_schedule(entry)


def _dequeue(work: OfflineWork, entry: str) -> Awaitable[bool]:
    return work.dequeue(entry)


def _replay(work: OfflineWork, entry: str) -> Awaitable[bool]:
    return work.replay(entry)


def _forget(work: OfflineWork, entry: str) -> Awaitable[bool]:
    return work.forget(entry)
