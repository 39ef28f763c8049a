"""What operators see: agents, their keys, tables and state; workers and shards.

Only reads, and only of what is committed. Lists are read in pages, by an index.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from psycopg import AsyncConnection, errors

from durable.domain.errors import SqlError
from durable.store.sql_errors import error_of, sent_position, sql_error
from durable.store.sql_guard import GuardedStatement, SqlGuard
from durable.store.sql_login import AgentSqlSettings, prepare_login
from durable.store.sql_values import RESULT_ADAPTERS

if TYPE_CHECKING:
    from durable.store.classes import StoredClass

_AGENT = """
SELECT app, class, name, id, shard, owner, owner_address, epoch, created_at,
    sql_schema, kv_rows, kv_bytes::bigint FROM durable.agents
"""
# The expression of the index object_of_class: '' stands for no name.
_PAGE = f"""
{_AGENT} WHERE tag = $1
  AND (coalesce(name COLLATE "C", ''), id) > ($2::text COLLATE "C", $3::uuid)
  AND coalesce(name COLLATE "C", '') >= $4::text
  AND ($5::text IS NULL OR coalesce(name COLLATE "C", '') < $5::text)
  AND ($6::uuid[] IS NULL OR owner = ANY ($6))
ORDER BY coalesce(name COLLATE "C", ''), id LIMIT $7
"""
_ONE = f"{_AGENT} WHERE tag = $1 AND shard = $2 AND id = $3"
_KEYS = """
SELECT space, key, CASE WHEN blob IS NULL THEN 'json' ELSE 'blob' END AS kind,
    coalesce(octet_length(value::text), octet_length(blob)) AS bytes
FROM durable.kv WHERE shard = $1 AND object = $2 AND (space, key) > ($3, $4)
ORDER BY space, key LIMIT $5
"""
_STATE = """
SELECT value::text FROM durable.kv
WHERE shard = $1 AND object = $2 AND space = 'agent' AND key = 'state'
"""
_TABLES = """
SELECT c.relname::text AS name,
    CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
        ELSE 'table' END AS kind,
    nullif(c.reltuples, -1)::bigint AS about_rows,
    pg_total_relation_size(c.oid) AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1
"""
_WORKERS = """
SELECT id, address, version, live, draining, shards, held, started_at, beat, stale
FROM durable.worker_status ORDER BY live DESC, address, id
"""
_SHARDS = """
SELECT owner, owner_address, count(*) AS shards, count(*) FILTER (WHERE held) AS held,
    min(epoch) AS least_epoch, max(epoch) AS greatest_epoch
FROM durable.shard_owner GROUP BY owner, owner_address
ORDER BY owner IS NULL, count(*) DESC, owner
"""
_OWNERS = """
SELECT id FROM durable.worker WHERE starts_with(id::text, $1) OR address = $1
UNION SELECT owner FROM durable.shard WHERE starts_with(owner::text, $1)
"""


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent; ``owner`` is who has, or last had, its shard."""

    app: str
    class_name: str
    name: str | None
    id: UUID
    shard: int
    owner: UUID | None
    owner_address: str | None
    epoch: int
    created_at: datetime
    sql_schema: str | None
    kv_rows: int
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the next one begins after this agent."""

    tag: int
    name: str
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFilter:
    """Which agents: of these classes, in this order."""

    classes: Sequence[StoredClass]
    prefix: str = ""
    owners: Sequence[UUID] | None = None


@dataclass(frozen=True, slots=True)
class SqlRead:
    """The rows of a query; ``more``: there were more than asked for."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


async def agents(
    connection: Any, wanted: AgentFilter, limit: int, after: Place | None = None
) -> tuple[list[AgentRow], Place | None]:
    """A page, and where it ended if there are more.

    Raises:
        ValueError: ``after`` is in none of the classes.
    """
    tags = [found.tag for found in wanted.classes]
    if after is not None and after.tag not in tags:
        raise ValueError("the cursor is from another list of classes")
    found: list[tuple[int, AgentRow]] = []
    for tag in tags[tags.index(after.tag) if after else 0 :]:
        here = after if after is not None and after.tag == tag else None
        rows = await connection.fetch(
            _PAGE,
            tag,
            here.name if here else "",
            here.id if here else UUID(int=0),
            wanted.prefix,
            _after_prefix(wanted.prefix),
            None if wanted.owners is None else list(wanted.owners),
            limit + 1 - len(found),
        )
        found += [(tag, AgentRow(*row)) for row in rows]
        if len(found) > limit:
            tag, last = found[limit - 1]
            page = [row for _, row in found[:limit]]
            return page, Place(tag, last.name or "", last.id)
    return [row for _, row in found], None


def _after_prefix(prefix: str) -> str | None:
    """The first text after all that start with the prefix, by code points."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # Surrogates are no characters: the next one is beyond them.
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None


async def agent(
    connection: Any, tag: int, shard: int, object_id: UUID
) -> AgentRow | None:
    """One agent, None if it never stored anything."""
    row = await connection.fetchrow(_ONE, tag, shard, object_id)
    return None if row is None else AgentRow(*row)


async def keys(
    connection: Any, found: AgentRow, limit: int, after: tuple[str, str] = ("", "")
) -> tuple[list[dict[str, Any]], tuple[str, str] | None]:
    """Keys of an agent in all its spaces, and where the page ended if there are more.

    Each has space, key, kind, bytes; ``after`` is a space and a key.
    """
    rows = await connection.fetch(_KEYS, found.shard, found.id, *after, limit + 1)
    page = [dict(row) for row in rows[:limit]]
    more = len(rows) > limit
    return page, (page[-1]["space"], page[-1]["key"]) if more else None


async def state(connection: Any, found: AgentRow) -> str | None:
    """An agent's state as JSON text, None if it has none."""
    text: str | None = await connection.fetchval(_STATE, found.shard, found.id)
    return text


async def tables(connection: Any, schema: str) -> list[dict[str, Any]]:
    """What an agent made with SQL: name, kind, about_rows (an estimate), bytes."""
    return [dict(row) for row in await connection.fetch(_TABLES, schema)]


async def workers(connection: Any) -> list[dict[str, Any]]:
    """Every worker that is known, live ones first."""
    return [dict(row) for row in await connection.fetch(_WORKERS)]


async def shards(connection: Any) -> list[dict[str, Any]]:
    """How many shards each owner has; ``held``: how many of their locks."""
    return [dict(row) for row in await connection.fetch(_SHARDS)]


async def owners(connection: Any, text: str) -> list[UUID]:
    """The workers with this address, or whose id begins so."""
    return [row[0] for row in await connection.fetch(_OWNERS, text)]


async def read_sql(
    settings: AgentSqlSettings, found: AgentRow, query: str, limit: int
) -> SqlRead:
    """Run a query in an agent's schema, unable to write.

    Three walls: the guard that every agent's statement passes, the agent's own role,
    and a READ ONLY transaction, which is rolled back. It needs no claim: it sees what
    is committed, while the agent goes on.

    Raises:
        SqlError: refused by the guard or by Postgres.
        SettingsError, Unavailable: no login.
    """
    login = await prepare_login(settings)
    guarded = SqlGuard(login.server_names).check(query)
    if guarded.parameters:
        raise sql_error("no placeholders here: write the values", query)
    current = guarded.statements[0]
    path = f"{found.sql_schema or f'agent_{found.id.hex}'}, pg_temp"
    connection = await AsyncConnection.connect(
        login.conninfo, autocommit=True, context=RESULT_ADAPTERS
    )
    async with connection:
        try:
            await connection.execute("BEGIN TRANSACTION READ ONLY")
            await connection.execute(
                "SELECT set_config('search_path', %s, true), "
                "set_config('role', %s, true)",
                (path, login.role_prefix + found.id.hex),
            )
            for current in guarded.statements[:-1]:
                await connection.execute(current.text.encode())
            current = guarded.statements[-1]
            return await _some_rows(connection, current.text.encode(), limit)
        except errors.ReadOnlySqlTransaction as error:
            raise sql_error(
                "the statement writes, and this is a read-only transaction",
                query,
                hint="--write, while no worker owns the agent",
                sqlstate=error.sqlstate,
            ) from error
        except errors.Error as error:
            raise _refused(error, query, current) from error


def _refused(error: errors.Error, query: str, statement: GuardedStatement) -> SqlError:
    if error.pgresult is None:
        return sql_error(str(error), query)
    sent = sent_position(error.pgresult)
    position = None if sent is None else statement.position(sent)
    return error_of(error.pgresult, query, position)


async def _some_rows(
    connection: AsyncConnection[Any], statement: bytes, limit: int
) -> SqlRead:
    rows: list[tuple[Any, ...]] = []
    async with connection.cursor() as cursor:
        # Closing the stream early cancels the statement.
        stream = cast("AsyncGenerator[Any, None]", cursor.stream(statement))
        async with aclosing(stream):
            async for row in stream:
                if len(rows) == limit:
                    return SqlRead(_columns(cursor), rows, True)
                rows.append(row)
        return SqlRead(_columns(cursor), rows, False)


def _columns(cursor: Any) -> tuple[str, ...]:
    return tuple(column.name for column in cursor.description or ())
