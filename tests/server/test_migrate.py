from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psycopg
import pytest

from server.migrate import SchemaError, check_schema, head, migrate

ROOT = Path(__file__).parents[2]


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement)


async def test_a_migrated_database_is_accepted(database_url: str) -> None:
    await check_schema(database_url, 1024)


async def test_an_empty_database_is_refused_with_what_to_run(
    empty_database_url: str,
) -> None:
    with pytest.raises(SchemaError, match="run `durable migrate`"):
        await check_schema(empty_database_url, 1024)


async def test_another_number_of_shards_is_refused_with_the_right_one(
    database_url: str,
) -> None:
    with pytest.raises(SchemaError, match="DURABLE_SHARDS=1024"):
        await check_schema(database_url, 64)


async def test_an_older_schema_is_refused_with_what_to_run(database_url: str) -> None:
    execute(database_url, "UPDATE durable.alembic_version SET version_num = '0001'")
    if head() == "0001":
        execute(database_url, "DELETE FROM durable.alembic_version")
    with pytest.raises(SchemaError, match="run `durable migrate`"):
        await check_schema(database_url, 1024)


async def test_a_newer_schema_is_refused_and_never_migrated(database_url: str) -> None:
    execute(database_url, "UPDATE durable.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match="upgrade durable-agents"):
        await check_schema(database_url, 1024)
    with pytest.raises(SchemaError, match="upgrade durable-agents"):
        migrate(database_url, 1024)


async def test_nodes_may_migrate_an_empty_database_at_once(
    empty_database_url: str,
) -> None:
    async def node() -> tuple[int | None, bytes]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "migrate"),
            cwd=ROOT,
            env={
                **os.environ,
                "DURABLE_DATABASE_URL": empty_database_url,
                "DURABLE_SHARDS": "16",
            },
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        return process.returncode, said

    done = f"The schema is up to date (revision {head()}).\n".encode()
    assert await asyncio.gather(*(node() for _ in range(3))) == [(0, done)] * 3
    await check_schema(empty_database_url, 16)


def test_migrating_again_keeps_the_number_of_shards(database_url: str) -> None:
    assert migrate(database_url, 64) == head()
    with psycopg.connect(database_url) as connection:
        count = connection.execute("SELECT count(*) FROM durable.shard").fetchone()
    assert count == (1024,)


async def test_an_unreachable_database_is_named_without_its_password() -> None:
    dsn = "postgresql://me:secret@127.0.0.1:1/nowhere"
    with pytest.raises(SchemaError, match="can't be reached") as caught:
        await check_schema(dsn, 1024)
    assert "secret" not in str(caught.value)
    with pytest.raises(SchemaError, match="can't be reached") as caught:
        migrate(dsn, 1024)
    assert "secret" not in str(caught.value)
