"""What commands on agents share: arguments, finding an agent, taking its shard."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from server.cli_database import CommandError, Site

if TYPE_CHECKING:
    from durable.domain.ports import SqlTarget
    from durable.store.classes import StoredClass
    from durable.store.database import Database
    from durable.store.inspect import AgentRow
    from durable.store.sql_login import AgentSqlSettings

# Counting an app's agents may take longer than a request.
_QUERY_SECONDS = 600.0


def add_common(
    parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]
) -> None:
    """What every command on agents understands."""
    parser.add_argument(
        "--app", help="the app (default: name of durable.toml, or main)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=command)


def add_agent(parser: argparse.ArgumentParser, *, writes: bool = False) -> None:
    """The agent that is meant; ``writes``: the command asks first."""
    parser.add_argument("agent", metavar="CLASS/NAME")
    parser.add_argument(
        "--id", action="store_true", help="what follows CLASS/ is an id, not a name"
    )
    if writes:
        parser.add_argument("--yes", action="store_true", help="don't ask")


def count(text: str) -> int:
    """A number of things to show.

    Raises:
        ArgumentTypeError: it isn't one.
    """
    if not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 100000")
    return int(text)


@dataclass(frozen=True, slots=True)
class Found:
    """An agent, and what it takes to work on it."""

    site: Site
    database: Database
    row: AgentRow
    tag: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """An agent whose shard is ours, and the database for what a commit needs."""

    target: SqlTarget
    database: Database


@asynccontextmanager
async def opened_database(site: Site) -> AsyncIterator[Database]:
    """A small pool for reading."""
    from durable.store.database import Database

    async with Database(
        site.dsn, limit=_QUERY_SECONDS, size=2, name="durable operator"
    ) as database:
        yield database


@asynccontextmanager
async def opened_connection(site: Site) -> AsyncIterator[Any]:
    """One connection for reading."""
    async with opened_database(site) as database, database.connection() as connection:
        yield connection


async def classes_of(
    connection: Any, options: argparse.Namespace, site: Site, name: str | None
) -> list[StoredClass]:
    """The class of this name, or all of the app.

    Raises:
        ClassesError: there is none of this name.
    """
    from durable.store import classes as store
    from server.classes import app_of, no_such_class

    app = options.app or app_of(site.settings.project)
    listed = await store.listed(connection)
    found = [
        entry
        for entry in listed
        if entry.app == app and not entry.doomed and name in (None, entry.name)
    ]
    if name is not None and not found:
        raise no_such_class(listed, app, name)
    return found


@asynccontextmanager
async def opened_agent(options: argparse.Namespace, site: Site) -> AsyncIterator[Found]:
    """The agent that the command line names.

    Raises:
        CommandError: there is none.
    """
    from durable.domain.ids import id_from_name, id_from_string, shard_of
    from durable.store import inspect

    name, _, rest = options.agent.partition("/")
    if not (name and rest):
        raise CommandError(f"{options.agent!r} isn't CLASS/NAME, as in Counter/lobby")
    async with opened_database(site) as database:
        async with database.connection() as connection:
            (found,) = await classes_of(connection, options, site, name)
            make = id_from_string if options.id else id_from_name
            try:
                object_id = make(found.tag, rest).value
            except ValueError as error:
                raise CommandError(str(error)) from error
            shard = shard_of(object_id, site.shards)
            row = await inspect.agent(connection, found.tag, shard, object_id)
        if row is None:
            raise CommandError(
                f"the class {name} has no agent {rest}, or it never stored anything; "
                f"`durable agents list --class {name}` shows those that did"
            )
        yield Found(site, database, row, found.tag)


@asynccontextmanager
async def claimed_agent(found: Found) -> AsyncIterator[Claimed]:
    """The agent, its shard in our hands as long as the block lasts.

    Raises:
        ShardTaken: a live worker owns it.
    """
    from durable.domain.ports import SqlTarget
    from durable.domain.writes import ObjectRow
    from durable.store.database import Database
    from durable.store.operator_claim import claimed_shard

    settings, row, dsn = found.site.settings, found.row, found.site.dsn
    lease = settings.lease_seconds
    # A writer off the lane has the limits of every other one: claims wait for it.
    async with (
        Database(dsn, limit=lease, size=1, name="durable operator writes") as database,
        claimed_shard(
            dsn,
            database,
            row.shard,
            lease=lease,
            freshness=settings.freshness_seconds,
        ) as claim,
    ):
        known = ObjectRow(found.tag, row.name)
        yield Claimed(SqlTarget(claim, row.id, known, row.sql_schema), database)


def sql_settings(site: Site) -> AgentSqlSettings:
    """How agents' SQL reaches this database."""
    from durable.store.sql_login import AgentSqlSettings

    return AgentSqlSettings(
        database_url=site.dsn,
        login_url=site.settings.sql_url,
        connections=1,
        lease_seconds=site.settings.lease_seconds,
    )
