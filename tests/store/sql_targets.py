"""Agents for tests of agent SQL: claimed shards, and statements under another role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg

from durable.domain.ports import SqlTarget
from durable.domain.writes import Claim, ObjectRow, WriteSet


def administrator(database_url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(database_url, autocommit=True)


def new_target(database_url: str, *, shard: int = 5, name: str = "room") -> SqlTarget:
    """An agent that never issued SQL, in a shard that is claimed for it."""
    with administrator(database_url) as connection:
        row = connection.execute(
            "UPDATE durable.shard SET epoch = 7, owner = gen_random_uuid(), "
            "claim_id = coalesce(claim_id, gen_random_uuid()) "
            "WHERE id = %s RETURNING claim_id",
            (shard,),
        ).fetchone()
    assert row is not None
    return SqlTarget(Claim(shard, 7, row[0]), uuid4(), ObjectRow(1, name), None)


def one_value(key: str, value: str) -> WriteSet:
    writes = WriteSet()
    writes.create = ObjectRow(1, "room")
    writes.put(("user", key), value)
    return writes


def stored(database_url: str, object_id: UUID) -> dict[str, Any]:
    with administrator(database_url) as connection:
        rows = connection.execute(
            "SELECT key, value FROM durable.kv WHERE object = %s", (object_id,)
        ).fetchall()
    return dict(rows)


@contextmanager
def as_agent(
    database_url: str, login: str, target: SqlTarget
) -> Iterator[psycopg.Connection[Any]]:
    """A session as the pool makes it, in the agent's role: no parser in between."""
    with psycopg.connect(login, autocommit=True) as connection:
        with connection.transaction(force_rollback=True):
            prefix = connection.execute("SELECT durable.agent_role_prefix()").fetchone()
            assert prefix is not None
            role = prefix[0] + target.object_id.hex
            connection.execute(
                "SELECT set_config('search_path', %s, true), "
                "set_config('role', %s, true)",
                (f"agent_{target.object_id.hex}, pg_temp", role),
            )
            yield connection
