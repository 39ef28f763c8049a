"""``orm()`` on a real Postgres: SQLAlchemy behind the fence, the guard and the role."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    Identity,
    Numeric,
    func,
    select,
    text,
    update,
)
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from durable.domain.errors import CommitFailed, SqlError
from durable.domain.ports import SqlTarget
from durable.store.agent_sql import AgentSql
from durable.store.sql_login import AgentSqlSettings
from tests.store.sql_targets import new_target, one_value, stored


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    todos: Mapped[list[Todo]] = relationship(lazy="selectin", back_populates="owner")


class Todo(Base):
    __tablename__ = "todo"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship(back_populates="todos")
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    due: Mapped[date | None]
    made: Mapped[datetime] = mapped_column(
        default=lambda: datetime(2024, 5, 6, tzinfo=UTC).replace(tzinfo=None)
    )
    key: Mapped[UUID | None]
    doc: Mapped[dict[str, Any] | None] = mapped_column(JSON)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[AgentSql]:
    """One connection only, so that every test would see what another user left."""
    settings = AgentSqlSettings(database_url=database_url, connections=1)
    async with AgentSql(settings) as agent_sql:
        yield agent_sql


@pytest.fixture
async def target(sql: AgentSql, database_url: str) -> SqlTarget:
    """An agent with the tables of ``Base``."""
    fresh = new_target(database_url)
    async with sql.transaction(fresh) as transaction, transaction.orm() as session:
        await _create_all(session)
        await _create_all(session)  # finds them
    return dataclasses.replace(fresh, schema=transaction.schema)


async def _create_all(session: AsyncSession) -> None:
    connection = await session.connection()
    await connection.run_sync(Base.metadata.create_all)


async def test_objects_are_stored_and_found_with_pythons_own_types(
    sql: AgentSql, target: SqlTarget
) -> None:
    async with sql.transaction(target) as transaction, transaction.orm() as session:
        todo = Todo(
            title="buy milk",
            price=Decimal("1.50"),
            due=date(2024, 5, 7),
            key=UUID(int=7),
            doc={"tags": ["a", None]},
        )
        session.add(Owner(name="ann", todos=[todo, Todo(title="fly")]))
        session.add_all(Owner(name=f"o{n}") for n in range(450))
    async with sql.transaction(target) as transaction, transaction.orm() as session:
        ann = (await session.scalars(select(Owner).where(Owner.name == "ann"))).one()
        milk, fly = sorted(ann.todos, key=lambda todo: todo.title)
        assert (milk.title, milk.price, milk.due) == (
            *("buy milk", Decimal("1.50"), date(2024, 5, 7)),
        )
        assert (milk.key, milk.doc) == (UUID(int=7), {"tags": ["a", None]})
        assert fly.made == datetime(2024, 5, 6)  # noqa: DTZ001  # a naive column
        assert await session.scalar(select(func.count()).select_from(Owner)) == 451
        fly.title = "fly kites"
        await session.execute(update(Todo).values(price=2).where(Todo.id == milk.id))
    rows = await sql.run(target, "SELECT title, price FROM todo ORDER BY title")
    assert rows == [
        {"title": "buy milk", "price": 2.0},
        {"title": "fly kites", "price": None},
    ]


async def test_session_write_set_and_sql_commit_together_or_not_at_all(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    transaction = await sql.begin(target)
    async with transaction.orm() as session:
        session.add(Owner(name="ann"))
        await session.commit()  # only as far as the block
        await transaction.run("INSERT INTO owner (name) VALUES ($1)", ["bob"])
        assert await session.scalar(select(func.count()).select_from(Owner)) == 2
    await transaction.roll_back()
    assert (await sql.run(target, "SELECT name FROM owner")).rows == []

    transaction = await sql.begin(target)
    async with transaction.orm() as session:
        session.add(Owner(name="ann"))
    assert stored(database_url, target.object_id) == {}
    await transaction.commit(one_value("k", "1"))
    assert stored(database_url, target.object_id) == {"k": 1}
    assert await sql.run(target, "SELECT name FROM owner") == [{"name": "ann"}]


async def test_the_sessions_own_roll_back_undoes_what_it_did_only(
    sql: AgentSql, target: SqlTarget
) -> None:
    async with sql.transaction(target) as transaction:
        await transaction.run("INSERT INTO owner (name) VALUES ('before')")
        async with transaction.orm() as session:
            session.add(Owner(name="kept"))
            await session.commit()
            session.add(Owner(name="kept"))
            with pytest.raises(IntegrityError, match="23505") as caught:
                await session.flush()
            assert caught.value.orig is not None
            assert isinstance(caught.value.orig.__cause__, SqlError)
            await session.rollback()
            async with session.begin_nested():
                session.add(Owner(name="nested"))
    found = await sql.run(target, "SELECT name FROM owner ORDER BY id")
    assert [row["name"] for row in found] == ["before", "kept", "nested"]


HOSTILE = (
    "SELECT * FROM durable.kv",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT set_config('role', 'postgres', true)",
    "COMMIT",
    "SELECT ('SELECT 1'::text).ts_stat",
)


async def test_every_statement_of_a_session_passes_the_parser_and_the_role(
    sql: AgentSql, database_url: str, target: SqlTarget
) -> None:
    victim = new_target(database_url)
    await sql.run(victim, "CREATE TABLE secrets (a TEXT)")
    theirs = f"SELECT * FROM agent_{victim.object_id.hex}.secrets"
    async with sql.transaction(target) as transaction, transaction.orm() as session:
        for statement in (*HOSTILE, theirs):
            with pytest.raises(ProgrammingError, match="not permitted"):
                await session.execute(text(statement))
            connection = await session.connection()
            with pytest.raises(ProgrammingError, match="not permitted"):
                await connection.exec_driver_sql(statement)
        name = "x'; DROP TABLE owner; --"
        session.add(Owner(name=name))
        await session.flush()
        with pytest.raises(DataError, match="22P02"):
            await session.execute(text("SELECT CAST(:v AS int)"), {"v": "x"})
        await session.execute(text("SELECT 1 FROM owner WHERE name = :n"), {"n": name})
    assert (await sql.run(target, "SELECT name FROM owner")).one() == {"name": name}


async def test_a_former_owners_session_reads_and_writes_nothing(
    sql: AgentSql, target: SqlTarget
) -> None:
    claim = dataclasses.replace(target.claim, epoch=6)
    stale = dataclasses.replace(target, claim=claim)

    async def late(*, read: bool) -> None:
        async with sql.transaction(stale) as transaction:
            async with transaction.orm() as session:
                if read:
                    await session.scalar(select(Owner))
                session.add(Owner(name="late"))

    for read in (True, False):
        with pytest.raises(CommitFailed, match="no longer owned"):
            await late(read=read)
    assert await sql.run(target, "SELECT name FROM owner") == []


async def test_ending_the_connections_transaction_inside_is_refused(
    sql: AgentSql, target: SqlTarget
) -> None:
    async def end() -> None:
        async with sql.transaction(target) as transaction:
            async with transaction.orm() as session:
                session.add(Owner(name="ann"))
                await session.flush()
                await (await session.connection()).rollback()

    with pytest.raises(SqlError, match="use the session's commit and rollback"):
        await end()
    assert await sql.run(target, "SELECT name FROM owner") == []


async def test_a_cancelled_block_leaves_nothing_to_the_next_user(
    sql: AgentSql, target: SqlTarget
) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with sql.transaction(target) as transaction:
            async with transaction.orm() as session:
                session.add(Owner(name="ann"))
                await session.flush()
                inside.set()
                await session.execute(
                    text("SELECT count(*) FROM generate_series(1, 100000000)")
                )

    running = asyncio.ensure_future(work())
    await inside.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await sql.run(target, "SELECT 'mine' AS whose") == [{"whose": "mine"}]
    assert await sql.run(target, "SELECT name FROM owner") == []
