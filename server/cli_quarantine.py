"""``durable agents quarantined|release``: what took nodes down, and letting it wake."""

from __future__ import annotations

import argparse
from typing import Any

from server.cli_agent import (
    add_agent,
    add_common,
    classes_of,
    count,
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

_LIST = """
SELECT class, name, id, shard, owners, last_fall FROM durable.quarantine
WHERE tag = ANY ($1::bigint[]) ORDER BY last_fall DESC, id LIMIT $2
"""
# Whoever owns the shard asks for the row whenever an event comes for the object.
_RELEASE = "DELETE FROM durable.trial WHERE shard = $1 AND object = $2 RETURNING wakes"


def add_commands(agents: Any) -> None:
    """Adds the two below ``agents``."""
    listed = agents.add_parser(
        "quarantined", help="agents that took three nodes down and aren't woken"
    )
    listed.add_argument("--class", dest="class_name", help="of this class only")
    listed.add_argument("--limit", type=count, default=100, help="at most so many")
    add_common(listed, _quarantined)
    release = agents.add_parser("release", help="let a quarantined agent wake again")
    add_agent(release, writes=True)
    add_common(release, _release)


def _quarantined(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        async with opened_connection(site) as connection:
            classes = await classes_of(connection, options, site, options.class_name)
            tags = [entry.tag for entry in classes]
            found = await connection.fetch(_LIST, tags, options.limit + 1)
        rows = [dict(row) | {"id": row["id"].hex} for row in found[: options.limit]]
        if options.json:
            more = len(found) > options.limit
            print_json({"quarantined": rows, "more": more})
        elif rows:
            print_table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            print("nothing is quarantined")

    return run_command(work)


def _release(options: argparse.Namespace) -> int:
    async def work(site: Site) -> None:
        from durable.domain.ids import id_from_name, id_from_string, shard_of

        # Not by its row: what takes nodes down may never have stored anything.
        name, _, rest = options.agent.partition("/")
        if not (name and rest):
            raise CommandError(f"{options.agent!r} isn't CLASS/NAME, as in Counter/a")
        async with opened_connection(site) as connection:
            (found,) = await classes_of(connection, options, site, name)
            make = id_from_string if options.id else id_from_name
            try:
                object_id = make(found.tag, rest).value
            except ValueError as error:
                raise CommandError(str(error)) from error
            confirm(f"Let {options.agent} wake again?", yes=options.yes)
            shard = shard_of(object_id, site.shards)
            if await connection.fetchval(_RELEASE, shard, object_id) is None:
                raise CommandError(
                    f"{options.agent} is not quarantined: see `durable agents "
                    "quarantined`"
                )
        if options.json:
            print_json({"released": options.agent})
        else:
            print(f"{options.agent} is released: its next event wakes it")

    return run_command(work)
