"""``durable drain``: let a worker give its shards to the others, while it goes on."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any, Final

from server.cli_agent import opened_connection, opened_database
from server.cli_database import CommandError, Site, print_json, run_command

if TYPE_CHECKING:
    from uuid import UUID

# How often it looks whether the shards are gone.
LOOK_SECONDS: Final = 0.5


def add_commands(commands: Any) -> None:
    """Adds the command to the parser's."""
    drain = commands.add_parser(
        "drain",
        help="let a worker hand its shards over, so that it may be ended",
    )
    drain.add_argument(
        "worker", metavar="WORKER", help="its address, or the start of its id"
    )
    drain.add_argument("--undo", action="store_true", help="let it have shards again")
    drain.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="wait so long for the last shard (default: 300); 0: don't wait",
    )
    drain.add_argument("--json", action="store_true", help="as JSON")
    drain.set_defaults(command=_drain)


def _drain(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.store import registry

        worker, others = await _found(options.worker, site)
        if not options.undo and not others:
            raise CommandError(
                f"no other live worker could take the shards of {options.worker}: "
                "start one first, or end it with SIGTERM"
            )
        async with opened_database(site) as database:
            await registry.drain(database, worker, draining=not options.undo)
        left = 0
        if not options.undo and options.timeout > 0:
            left = await _gone(worker, site, options)
        if options.json:
            print_json({"worker": worker, "draining": not options.undo, "shards": left})
        elif options.undo:
            print(f"{worker} gets shards again")
        else:
            print(
                f"{worker} drains" + ("" if options.timeout == 0 else ": all are gone")
            )

    return run_command(work)


async def _found(text: str, site: Site) -> tuple[UUID, list[UUID]]:
    """The worker that is meant, and the others that could own shards.

    Raises:
        CommandError: there is none, or there are several.
    """
    from durable.store import registry

    async with opened_database(site) as database:
        live = await registry.live(database, site.settings.lease_seconds)
    meant = [row for row in live if str(row.id).startswith(text) or row.address == text]
    if len(meant) != 1:
        found = "no live worker" if not meant else f"{len(meant)} live workers"
        raise CommandError(f"there is {found} {text}: see `durable workers`")
    me = meant[0].id
    return me, [row.id for row in live if row.may_own and row.id != me]


async def _gone(worker: UUID, site: Site, options: argparse.Namespace) -> int:
    """Wait until it owns nothing.

    Raises:
        CommandError: it still does when the time is up.
    """
    from durable.store import inspect

    deadline = asyncio.get_running_loop().time() + options.timeout
    async with opened_connection(site) as connection:
        while True:
            rows = await inspect.workers(connection)
            left = sum(int(row["shards"]) for row in rows if row["id"] == worker)
            if not left:
                return 0
            if asyncio.get_running_loop().time() > deadline:
                raise CommandError(
                    f"{worker} still has {left} shards after {options.timeout:g} s; "
                    "it goes on handing over"
                )
            await asyncio.sleep(LOOK_SECONDS)
