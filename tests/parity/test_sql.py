"""Section 3: SQL."""

from __future__ import annotations

from typing import Any

import pytest

from durable import DurableError, RemoteError, SqlError, ValueRefused
from durable.testing import Fleet
from tests.parity.probe import Probe, inside, sleep

pytestmark = pytest.mark.asyncio(loop_scope="module")

PEOPLE = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);"
    "INSERT INTO people VALUES (1, 'ann'), (2, 'bob')"
)


@pytest.mark.rule("S3.1", "S3.2")
async def test_a_result_has_what_a_cursor_has(stub: Any) -> None:
    async def work(it: Probe) -> str:
        made = await it.storage.sql(PEOPLE)
        assert made.rows_written == 2
        found = await it.storage.sql("SELECT id, name FROM people ORDER BY id")
        assert list(found) == [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}]
        assert found.to_array() == found
        assert found.raw() == [(1, "ann"), (2, "bob")]
        assert found.column_names == ("id", "name")
        assert (found.rows_read, found.rows_written) == (2, 0)
        one = await it.storage.sql("SELECT name FROM people WHERE id = $1", [2])
        assert one.one() == {"name": "bob"}
        for none_or_two in (found, await it.storage.sql("SELECT 1 AS x LIMIT 0")):
            with pytest.raises(SqlError, match="exactly one"):
                none_or_two.one()
        return "all of it"

    assert await inside(stub, work) == "all of it"


@pytest.mark.rule("S3.2")
async def test_a_result_does_not_change_under_its_reader(stub: Any) -> None:
    async def work(it: Probe) -> Any:
        await it.storage.sql(PEOPLE)
        found = await it.storage.sql("SELECT * FROM people")
        await it.storage.sql("DELETE FROM people")
        return len(found)

    assert await inside(stub, work) == 2


@pytest.mark.rule("S3.3")
async def test_several_statements_are_one_and_parameters_belong_to_the_last(
    stub: Any,
) -> None:
    async def work(it: Probe) -> Any:
        await it.storage.sql(PEOPLE)
        with pytest.raises(SqlError):
            await it.storage.sql("DELETE FROM people; SELECT * FROM nothing")
        return await it.storage.sql(
            "INSERT INTO people VALUES (3, 'cy');"
            "SELECT name FROM people WHERE id >= $1 ORDER BY id",
            [2],
        )

    assert await inside(stub, work) == [{"name": "bob"}, {"name": "cy"}]


@pytest.mark.rule("S3.4")
@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s"])
async def test_transactions_by_statement_are_refused(stub: Any, statement: str) -> None:
    with pytest.raises(SqlError, match="not permitted"):
        await inside(stub, lambda it: it.storage.sql(statement))


@pytest.mark.rule("S3.5")
async def test_a_statement_commits_with_what_was_written_before_it(
    fleet: Fleet, stub: Any
) -> None:
    async def work(it: Probe) -> None:
        it.storage.put("a", 1)
        await it.storage.sql("INSERT INTO people VALUES (3, 'cy')")

    async def refused(it: Probe) -> Any:
        it.storage.put("b", 2)
        with pytest.raises(SqlError, match="duplicate"):
            await it.storage.sql("INSERT INTO people VALUES (3, 'cy')")
        # It goes with the next commit.
        return await it.storage.get("b")

    await inside(stub, lambda it: it.storage.sql(PEOPLE))
    await inside(stub, work)
    assert await inside(stub, refused) == 2
    await sleep(fleet, stub)
    kept = await inside(stub, lambda it: it.storage.list())
    rows = await inside(stub, lambda it: it.storage.sql("SELECT id FROM people"))
    assert (kept, len(rows)) == ({"a": 1, "b": 2}, 3)


@pytest.mark.rule("S3.6")
async def test_booleans_and_integers_of_64_bits_are_right(stub: Any) -> None:
    async def work(it: Probe) -> Any:
        await it.storage.sql("CREATE TABLE t (flag BOOLEAN, n INTEGER)")
        await it.storage.sql("INSERT INTO t VALUES ($1, $2)", [True, 2**62 + 1])
        row = (await it.storage.sql("SELECT * FROM t")).one()
        assert row["flag"] is True
        return row["n"]

    assert await inside(stub, work) == 2**62 + 1


@pytest.mark.rule("S3.7")
async def test_a_statement_has_up_to_100_kb(stub: Any) -> None:
    def statement(size: int) -> str:
        return f"SELECT '{'x' * (size - 9)}'"

    await inside(stub, lambda it: it.storage.sql(statement(100_000)))
    with pytest.raises(SqlError):
        await inside(stub, lambda it: it.storage.sql(statement(100_001)))


@pytest.mark.rule("S3.8")
async def test_more_columns_parameters_and_larger_values_than_in_sqlite(
    stub: Any,
) -> None:
    async def work(it: Probe) -> Any:
        columns = ", ".join(f"c{n} TEXT" for n in range(150))
        await it.storage.sql(f"CREATE TABLE wide ({columns})")
        places = ", ".join(f"${n + 1}" for n in range(150))
        values = ["x" * 30_000] * 150
        await it.storage.sql(f"INSERT INTO wide VALUES ({places})", values)
        row = (await it.storage.sql("SELECT * FROM wide")).one()
        return sum(map(len, row.values()))

    assert await inside(stub, work) == 150 * 30_000


@pytest.mark.rule("S3.13")
async def test_database_size_counts_keys_and_tables(fleet: Fleet, stub: Any) -> None:
    async def size(it: Probe) -> int:
        return int(await it.storage.database_size())

    async def in_transaction(it: Probe) -> None:
        async with it.storage.transaction():
            await it.storage.database_size()

    sizes = [await inside(stub, size)]
    await inside(stub, lambda it: it.storage.put("a", b"x" * 100_000))
    sizes.append(await inside(stub, size))
    await inside(stub, lambda it: it.storage.sql(PEOPLE))
    sizes.append(await inside(stub, size))
    assert sizes[0] == 0
    assert 100_000 <= sizes[1] <= 100_100
    assert sizes[2] >= sizes[1] + 16_384
    with pytest.raises(ValueRefused, match="transaction"):
        await inside(stub, in_transaction)
    await inside(stub, lambda it: it.storage.delete_all())
    assert await inside(stub, size) == 0


@pytest.mark.rule("S3.10")
async def test_an_object_sees_its_own_tables_only(stub: Any, other: Any) -> None:
    await inside(stub, lambda it: it.storage.sql(PEOPLE))
    with pytest.raises(DurableError, match="people"):
        await inside(other, lambda it: it.storage.sql("SELECT * FROM people"))


@pytest.mark.rule("S3.11")
async def test_a_statement_that_fails_in_a_transaction_leaves_it_usable(
    stub: Any,
) -> None:
    async def work(it: Probe) -> Any:
        async with it.storage.transaction():
            await it.storage.sql(PEOPLE)
            with pytest.raises(SqlError, match="duplicate"):
                await it.storage.sql("INSERT INTO people VALUES (1, 'dup')")
            await it.storage.sql("INSERT INTO people VALUES (3, 'cy')")
        return len(await it.storage.sql("SELECT * FROM people"))

    assert await inside(stub, work) == 3


@pytest.mark.rule("S3.12")
async def test_what_raises_after_a_statement_does_not_undo_it(stub: Any) -> None:
    async def work(it: Probe) -> None:
        await it.storage.sql(PEOPLE)
        raise ValueError("no")

    with pytest.raises(RemoteError):
        await inside(stub, work)
    rows = await inside(stub, lambda it: it.storage.sql("SELECT * FROM people"))
    assert len(rows) == 2
