"""What there is to know about a Postgres before agents are trusted to it.

``examine`` only looks: it changes nothing, and needs no schema of ours. It connects as
a lane does, so what stops a lane stops it, too. ``server/cli_doctor.py`` judges.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from durable.domain.errors import Unavailable
from durable.store.database import DRIVER_ERRORS, session_settings

_NAME = "durable doctor"
_CONNECT_SECONDS = 10.0
# A class of advisory locks that nothing else of ours uses.
_LOCK_CLASS = 17499
_SETTINGS = """
SELECT name, setting FROM pg_settings WHERE name = ANY ($1)
"""
_ASKED = (
    "autovacuum",
    "fsync",
    "full_page_writes",
    "idle_session_timeout",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "superuser_reserved_connections",
    "reserved_connections",
)
# The value that holds where a session sets nothing: ours ask for "on" themselves.
_SYNCHRONOUS = """
SELECT coalesce(
    (SELECT split_part(c, '=', 2) FROM pg_db_role_setting s, unnest(s.setconfig) c
     WHERE c LIKE 'synchronous_commit=%'
       AND s.setdatabase IN (0, (SELECT oid FROM pg_database
                                 WHERE datname = current_database()))
       AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
     ORDER BY s.setrole DESC, s.setdatabase DESC LIMIT 1),
    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'))
"""
_NUMBERS = """
SELECT
    pg_is_in_recovery() AS in_recovery,
    inet_server_addr() IS NULL AS unix_socket,
    (SELECT count(*) FROM pg_stat_activity
     WHERE backend_type = 'client backend') AS connections,
    (SELECT count(*) FROM pg_namespace
     WHERE nspname ~ '^agent_[0-9a-f]{32}$') AS agent_schemas,
    (SELECT age(datfrozenxid) FROM pg_database
     WHERE datname = current_database()) AS transaction_age,
    (SELECT mxid_age(datminmxid) FROM pg_database
     WHERE datname = current_database()) AS multixact_age,
    pg_notification_queue_usage() AS notifications,
    (SELECT count(*) FROM pg_prepared_xacts) AS prepared_transactions,
    (SELECT rolsuper OR rolcreaterole FROM pg_roles
     WHERE rolname = current_user) AS may_make_roles,
    (SELECT NOT EXISTS (
        SELECT FROM pg_proc p,
            aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE p.oid = 'pg_catalog.set_config(text,text,boolean)'::regprocedure
          AND a.grantee = 0 AND a.privilege_type = 'EXECUTE')) AS hardened
"""
_OLDEST = """
SELECT pid, application_name, state,
    extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
FROM pg_stat_activity
WHERE xact_start IS NOT NULL AND backend_type = 'client backend'
  AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1
"""
_WORKERS = """
SELECT version, count(*) AS workers FROM durable.worker_status WHERE live GROUP BY 1
"""
_STOPPED = """
SELECT EXISTS (SELECT FROM durable.cluster WHERE test_time IS NOT NULL)
"""
_HOLDS = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND classid = $1::oid AND objid = $2::oid AND objsubid = 2
    AND pid = pg_backend_pid())
"""


@dataclass(frozen=True, slots=True)
class OldTransaction:
    """The transaction that is open for longest."""

    pid: int
    application: str
    state: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found. ``clock_ahead``: the node's clock minus the database's, in s."""

    version: int
    settings: Mapping[str, str]
    synchronous_commit: str
    pooler: str | None
    clock_ahead: float
    # A test kit has stopped the clock of alarms.
    clock_stopped: bool
    round_trip: float
    in_recovery: bool
    unix_socket: bool
    connections: int
    agent_schemas: int
    transaction_age: int
    multixact_age: int
    notifications: float
    prepared_transactions: int
    may_make_roles: bool
    hardened: bool
    oldest: OldTransaction | None
    worker_versions: Mapping[str, int]

    def number(self, name: str) -> int:
        """A setting of Postgres; 0 where this version doesn't have it."""
        return int(self.settings.get(name, "0"))


async def examine(dsn: str, lease: float) -> Facts:
    """Look at a database.

    Raises:
        Unavailable: it can't be reached, or doesn't answer.
    """
    refused: str | None = None
    try:
        try:
            connection = await _connect(dsn, session_settings(lease, _NAME))
        except asyncpg.ProtocolViolationError as error:
            # "unsupported startup parameter": that wasn't Postgres.
            refused = str(error)
            connection = await _connect(dsn, {})
        try:
            return await _facts(connection, dsn, refused)
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)
    except (*DRIVER_ERRORS, OSError, TimeoutError) as error:
        raise Unavailable(f"Postgres can't be examined: {error}") from error


async def _connect(dsn: str, server_settings: Mapping[str, str]) -> Any:
    return await asyncpg.connect(
        dsn,
        timeout=_CONNECT_SECONDS,
        command_timeout=_CONNECT_SECONDS * 3,
        server_settings=dict(server_settings),
        # A pooler forgets prepared statements: it must get as far as the diagnosis.
        statement_cache_size=0,
    )


async def _facts(connection: Any, dsn: str, refused: str | None) -> Facts:
    ahead, round_trip = await _clock(connection)
    pooler = refused or await _pooler(connection, dsn)
    oldest = await connection.fetchrow(_OLDEST)
    return Facts(
        version=connection.get_server_version().major,
        settings=dict(
            [tuple(row) for row in await connection.fetch(_SETTINGS, list(_ASKED))]
        ),
        synchronous_commit=await connection.fetchval(_SYNCHRONOUS),
        pooler=pooler,
        clock_ahead=ahead,
        clock_stopped=await _clock_stopped(connection),
        round_trip=round_trip,
        oldest=None if oldest is None else OldTransaction(*oldest),
        worker_versions=await _worker_versions(connection),
        **dict(await connection.fetchrow(_NUMBERS)),
    )


async def _clock(connection: Any) -> tuple[float, float]:
    """How far the node's clock is ahead, by the fastest of a few round trips."""
    best: tuple[float, float] | None = None
    for _ in range(5):
        sent, begun = time.time(), time.perf_counter()
        theirs = await connection.fetchval(
            "SELECT extract(epoch FROM clock_timestamp())::float8"
        )
        took = time.perf_counter() - begun
        if best is None or took < best[1]:
            best = (sent + took / 2 - theirs, took)
    assert best is not None
    return best


async def _clock_stopped(connection: Any) -> bool:
    try:
        stopped: bool = await connection.fetchval(_STOPPED)
    except (
        asyncpg.UndefinedTableError,
        asyncpg.InvalidSchemaNameError,
        asyncpg.UndefinedColumnError,
    ):
        return False
    return stopped


async def _pooler(connection: Any, dsn: str) -> str | None:
    """What betrays something between us and Postgres; None: nothing does."""
    shown = await connection.fetchval("SHOW application_name")
    if shown != _NAME:
        return f"the session's application_name is {shown!r}, not the one we set"
    key = secrets.randbelow(2**31)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    await connection.execute("SELECT pg_advisory_lock($1, $2)", _LOCK_CLASS, key)
    other = await _connect(dsn, {})
    try:
        # A pooler by transaction gives the idle session away to whoever comes.
        async with other.transaction():
            theirs = await other.fetchval("SELECT pg_backend_pid()")
            ours = await connection.fetchval("SELECT pg_backend_pid()")
            held = await connection.fetchval(_HOLDS, _LOCK_CLASS, key)
    finally:
        await other.close(timeout=_CONNECT_SECONDS)
        await connection.execute("SELECT pg_advisory_unlock($1, $2)", _LOCK_CLASS, key)
    if theirs == backend or ours != backend:
        return "two statements of one connection came from different backends"
    if not held:
        return "an advisory lock was gone with the next statement"
    return None


async def _worker_versions(connection: Any) -> dict[str, int]:
    try:
        rows = await connection.fetch(_WORKERS)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return {}
    return {row["version"]: row["workers"] for row in rows}
