"""``self.sql`` and ``self.orm()`` of an agent that runs, on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from agents import Agent, get_agent_by_name
from durable import RemoteError
from server.embed import DurableRuntime


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


class Writer(Agent):
    initial_state = {"notes": 0}

    async def on_start(self) -> None:
        async with self.orm() as session:
            connection = await session.connection()
            await connection.run_sync(Base.metadata.create_all)

    async def write(self, *texts: str) -> None:
        async with self.orm() as session:
            session.add_all(Note(text=text) for text in texts)
            self.set_state({"notes": self.state["notes"] + len(texts)})
            await self.ctx.storage.put("last", texts[-1])
            await session.flush()
            await self.sql("UPDATE note SET text = text || $1", "!")

    async def write_in_a_transaction(self, text: str) -> None:
        async with self.ctx.storage.transaction():
            await self.sql("INSERT INTO note (text) VALUES ($1)", text)
            async with self.orm() as session:
                found = (await session.scalars(select(Note))).one()
                found.text = found.text.upper()
            self.set_state({"notes": 1})
            raise LookupError(text)

    async def seen(self) -> dict[str, Any]:
        notes = await self.sql("SELECT text FROM note ORDER BY id")
        return {
            "notes": [row["text"] for row in notes],
            "state": self.state["notes"],
            "last": await self.ctx.storage.get("last"),
        }

    async def cursor(self) -> list[Any]:
        result = await self.sql(
            "CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');"
            "SELECT a, b FROM t WHERE b = $1",
            "y",
        )
        return [
            *(result, result.one(), result.raw(), list(result.column_names)),
            *(result.rows_read, result.rows_written),
        ]


@pytest.fixture
async def writer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    monkeypatch.setenv("DURABLE_DATABASE_URL", database_url)
    async with DurableRuntime([Writer]) as runtime:
        yield await get_agent_by_name(Writer, "a", env=runtime.env)


async def test_a_session_the_state_and_sql_commit_together_or_not_at_all(
    writer: Any,
) -> None:
    await writer.write("one", "two")
    kept = {"notes": ["one!", "two!"], "state": 2, "last": "two"}
    assert await writer.seen() == kept
    with pytest.raises(RemoteError, match=r"UniqueViolation.*23505"):
        await writer.write("three", "three")
    assert await writer.seen() == kept


async def test_a_session_joins_the_open_transaction_and_ends_with_it(
    writer: Any,
) -> None:
    with pytest.raises(RemoteError, match="new"):
        await writer.write_in_a_transaction("new")
    assert await writer.seen() == {"notes": [], "state": 0, "last": None}


async def test_a_statements_result_is_a_list_with_a_cursors_methods(
    writer: Any,
) -> None:
    assert await writer.cursor() == [
        *([{"a": 2, "b": "y"}], {"a": 2, "b": "y"}, [(2, "y")], ["a", "b"]),
        *(1, 2),
    ]
